package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/mqerr"
)

// Engine sizes.
const (
	maxExecShards  = 4
	applyShards    = 4
	snapshotShards = 4
)

// execShards is how many workers step the shards. Each has its own calls of the
// raft log, so more than there are processors only make these smaller and more.
// Nothing on disk depends on it.
func execShards() uint64 {
	return uint64(min(maxExecShards, max(2, runtime.GOMAXPROCS(0))))
}

// openHost starts raft.
func (n *Node) openHost() error {
	takeRaftLogger()
	takeRaftGauges()
	raftLog.Store(n.cfg.Logger)
	path, fs := n.path(raftDir), n.cfg.Test.RaftFS
	switch {
	case fs != nil:
	case n.inMemory():
		fs = lvfs.NewMem()
	default:
		fs = lvfs.Default
	}
	if err := errors.Join(adoptRaftDir(fs, path), removeTombstones(fs, path)); err != nil {
		return fmt.Errorf("raft directory %s: %w", path, err)
	}
	deployment := deploymentID(n.clusterID)
	n.rlog = raftlog.NewFactory(n.raftLogOptions(fs))
	host, err := newHost(config.NodeHostConfig{
		DeploymentID:        deployment,
		NodeHostDir:         path,
		RTTMillisecond:      uint64(tick / time.Millisecond),
		RaftAddress:         n.DirectoryID(),
		MaxSendQueueSize:    64 << 20,
		MaxReceiveQueueSize: 32 << 20,
		RaftEventListener:   &n.leaders,
		Expert: config.ExpertConfig{
			TransportFactory: n.link.Raft(),
			Engine: config.EngineConfig{
				ExecShards: execShards(), CommitShards: 1, ApplyShards: applyShards,
				SnapshotShards: snapshotShards, CloseShards: 2,
			},
			LogDB:        config.LogDBConfig{Shards: 1},
			LogDBFactory: n.rlog,
			// A file system of this type makes a raft worker that panics end by
			// itself, after the log has failed, and not take the process along.
			FS: lvfs.Wrap(newSnapshotFS(fs, n.log, n.mayCut), noInjector{}),
		},
	})
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	n.host = host
	return nil
}

// newHost is dragonboat.NewNodeHost without its panics. Some of them it answers
// itself, by giving neither a host nor an error.
func newHost(c config.NodeHostConfig) (host *dragonboat.NodeHost, err error) {
	defer func() {
		if why := recover(); why != nil {
			host, err = nil, fmt.Errorf("%w: %s: %v", mqerr.ErrCorruptLog, c.NodeHostDir, why)
		}
	}()
	host, err = dragonboat.NewNodeHost(c)
	if host == nil && err == nil {
		err = fmt.Errorf("%w: raft can't work with what is in %s", mqerr.ErrCorruptLog, c.NodeHostDir)
	}
	return host, err
}

func (n *Node) raftLogOptions(fs lvfs.FS) raftlog.Options {
	o := raftlog.Options{FS: fs, Logger: n.log, OnFailure: n.raftLogFailed, OnSync: n.cfg.Observe.LogSync, MustExist: n.dir.Meta().ClusterID != ""}
	if n.inMemory() {
		// The files are in memory already, and as large as the log may get.
		o.MemoryBudget, o.SegmentBytes, o.MaxBytes = -1, 4<<20, n.cfg.MaxMemory/4
	}
	return o
}

// noInjector injects no errors.
type noInjector struct{}

// MaybeError implements lvfs.Injector.
func (noInjector) MaybeError(lvfs.Op) error { return nil }

// deploymentID keeps raft messages of other clusters out.
func deploymentID(clusterID string) uint64 {
	sum := sha256.Sum256([]byte(clusterID))
	return max(1, binary.BigEndian.Uint64(sum[:])) // 0 means none
}

// raftFlagFiles are where raft notes to whom its directory belongs.
var raftFlagFiles = [...]string{"dragonboat.ds", "NODEHOST.ID"}

// adoptRaftDir takes the host's name out of what raft keeps: it puts everything
// below a folder with that name and refuses to start under another, which would
// tie data to a machine, or to one run of a container. What its flag files are to
// guard (identity, cluster, format) the data directory guards itself.
func adoptRaftDir(fs lvfs.FS, path string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	names, err := fs.List(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		full := fs.PathJoin(path, name)
		if slices.Contains(raftFlagFiles[:], name) {
			if err := fs.Remove(full); err != nil {
				return err
			}
			continue
		}
		info, err := fs.Stat(full)
		if err != nil {
			return err
		}
		if info.IsDir() && name != host {
			if err := fs.Rename(full, fs.PathJoin(path, host)); err != nil {
				return err
			}
		}
	}
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// removeTombstones removes the folders that raft keeps of removed replicas for
// ever, so that none comes back: numbers of replicas are never used again.
func removeTombstones(fs lvfs.FS, path string) error {
	const (
		levels    = 4 // host, deployment, part, replica
		tombstone = "DELETED.dragonboat"
	)
	dirs := []string{path}
	for range levels {
		var below []string
		for _, dir := range dirs {
			names, err := fs.List(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			for _, name := range names {
				full := fs.PathJoin(dir, name)
				if info, err := fs.Stat(full); err != nil {
					return err
				} else if info.IsDir() {
					below = append(below, full)
				}
			}
		}
		dirs = below
	}
	for _, dir := range dirs {
		if _, err := fs.Stat(fs.PathJoin(dir, tombstone)); err == nil {
			if err := fs.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// path gives a place inside the data directory.
func (n *Node) path(name string) string {
	dir := n.cfg.Dir
	if n.inMemory() {
		dir = "/mq"
	}
	return filepath.Join(dir, name)
}

// raftLogFailed is told once by the raft log that it can't go on. Only what it
// found damaged is called so: a disk that failed may be whole after a restart.
func (n *Node) raftLogFailed(cause error) {
	kind := mqerr.ErrInternal
	var damage *raftlog.DamageError
	switch {
	case errors.As(cause, &damage):
		kind = mqerr.ErrCorruptLog
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		kind = mqerr.ErrDiskFull
	}
	n.fail(n.advise(fmt.Errorf("%w: raft log: %w", kind, cause)))
}

// fail ends the node's work: what was acknowledged is safe, or what is lost is
// told, and nothing more will be acknowledged. Everything that waits has an
// unknown outcome. The owner has to close the node.
func (n *Node) fail(err error) {
	n.failed.Do(func() {
		if errors.Is(err, mqerr.ErrRemoved) {
			n.log.Info("broker has left its cluster and ends")
		} else {
			n.log.Error("broker failed: it stops acknowledging", "error", err)
		}
		n.failed.err = err
		close(n.failed.c)
		n.eachReplica(func(r *replica) { r.giveUp(err) })
		n.changed.broadcast()
	})
}

// Failed is closed when the node can't go on and has to be closed. Failure tells why.
func (n *Node) Failed() <-chan struct{} { return n.failed.c }

// Failure is nil until Failed is closed.
func (n *Node) Failure() error {
	select {
	case <-n.failed.c:
		return n.failed.err
	default:
		return nil
	}
}

// closeHost stops raft. After a failure its workers are held by the raft log and
// must be let go, also when it comes only now.
func (n *Node) closeHost() error {
	closed := make(chan struct{})
	var release sync.WaitGroup
	release.Go(func() {
		select {
		case <-n.failed.c:
			n.rlog.Log().Release()
			close(n.released)
		case <-closed:
		}
	})
	err := noPanic(func() error {
		n.host.Close()
		return nil
	})
	close(closed)
	release.Wait()
	raftLog.CompareAndSwap(n.cfg.Logger, nil)
	return err
}

// noPanic is for what panics in raft where it should return an error.
func noPanic(call func() error) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("%w: raft: %v", mqerr.ErrInternal, why)
		}
	}()
	return call()
}
