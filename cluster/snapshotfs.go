package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"sync"

	sm "github.com/lni/dragonboat/v4/statemachine"
	lvfs "github.com/lni/vfs"
)

// Names of the folders of raft: each replica has one, and in it one for each
// snapshot, also for those that are being made.
var (
	replicaFolder  = regexp.MustCompile(`^snapshot-([0-9]+)-[0-9]+$`)
	snapshotFolder = regexp.MustCompile(`^snapshot-[0-9A-F]{16}(-[0-9]+\.(generating|receiving))?$`)
	unfinished     = regexp.MustCompile(`\.(generating|receiving)$`)
)

// snapshotFS is the file system raft keeps its snapshots on. A snapshot that
// can't be written, if only because the process is short of file descriptors, is
// no harm: the raft log is cut later. But raft panics then on a goroutine that
// ends the process, unless it is told that the snapshot was aborted. So what
// fails while one is written says that too, and so does one that must not be taken. Removing is best effort, since at the
// next start raft removes what is left. Reading is as it was.
type snapshotFS struct {
	lvfs.FS
	log *slog.Logger
	may func(shard uint64) error // refuses snapshots of a shard

	mu       sync.Mutex
	unsynced map[string]bool // folders of replicas with a new name that counts and may be lost
}

func newSnapshotFS(fs lvfs.FS, log *slog.Logger, may func(shard uint64) error) *snapshotFS {
	return &snapshotFS{FS: fs, log: log, may: may, unsynced: map[string]bool{}}
}

// aborted marks the error of an operation on a snapshot that is being made.
func aborted(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", sm.ErrSnapshotAborted, err)
}

// isSnapshot says whether name is the folder of a snapshot.
func (s *snapshotFS) isSnapshot(name string) bool {
	return snapshotFolder.MatchString(s.PathBase(name)) && s.isReplica(s.PathDir(name))
}

// isReplica says whether name is the folder of a replica.
func (s *snapshotFS) isReplica(name string) bool { return replicaFolder.MatchString(s.PathBase(name)) }

// shard is that of a replica's folder.
func (s *snapshotFS) shard(folder string) uint64 {
	number, _ := strconv.ParseUint(replicaFolder.FindStringSubmatch(s.PathBase(folder))[1], 10, 64) // zero, if it is too large, is none
	return number
}

// named notes that the folder of a replica gets a new name, or that the name does
// not count any more.
func (s *snapshotFS) named(folder string, counts bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if counts {
		s.unsynced[folder] = true
	} else {
		delete(s.unsynced, folder)
	}
}

// MkdirAll implements lvfs.FS.
func (s *snapshotFS) MkdirAll(name string, perm os.FileMode) error {
	if !s.isSnapshot(name) {
		return s.FS.MkdirAll(name, perm)
	}
	if err := s.may(s.shard(s.PathDir(name))); err != nil {
		return aborted(err)
	}
	s.named(s.PathDir(name), true)
	return aborted(s.FS.MkdirAll(name, perm))
}

// Rename implements lvfs.FS.
func (s *snapshotFS) Rename(from, to string) error {
	if !s.isSnapshot(to) {
		return s.FS.Rename(from, to)
	}
	s.named(s.PathDir(to), true)
	return aborted(s.FS.Rename(from, to))
}

// Create implements lvfs.FS.
func (s *snapshotFS) Create(name string) (lvfs.File, error) {
	f, err := s.FS.Create(name)
	if !s.isSnapshot(s.PathDir(name)) {
		return f, err
	}
	if err != nil {
		return nil, aborted(err)
	}
	return snapshotFile{f}, nil
}

// Remove implements lvfs.FS.
func (s *snapshotFS) Remove(name string) error {
	err := s.FS.Remove(name)
	if s.isSnapshot(s.PathDir(name)) {
		return s.bestEffort("remove", name, err)
	}
	return err
}

// RemoveAll implements lvfs.FS.
func (s *snapshotFS) RemoveAll(name string) error {
	err := s.FS.RemoveAll(name)
	if !s.isSnapshot(name) {
		return err
	}
	if unfinished.MatchString(name) {
		s.named(s.PathDir(name), false) // raft gave up what it was making
	}
	return s.bestEffort("remove", name, err)
}

// bestEffort logs an error, and lets raft go on.
func (s *snapshotFS) bestEffort(what, name string, err error) error {
	if err != nil {
		s.log.Warn("raft snapshot: clean-up failed", "operation", what, "path", name, "error", err)
	}
	return nil
}

// OpenDir implements lvfs.FS.
func (s *snapshotFS) OpenDir(name string) (lvfs.File, error) {
	f, err := s.FS.OpenDir(name)
	switch {
	case s.isSnapshot(name):
		if err == nil {
			return snapshotFile{f}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			err = aborted(err)
		}
	case s.isReplica(name) && !errors.Is(err, fs.ErrNotExist):
		if err != nil {
			f = nil // it may be a file in name only
		}
		return replicaDir{File: f, fs: s, name: name, err: err}, nil
	}
	return f, err
}

// snapshotFile is a file of a snapshot that is being made, or its folder.
type snapshotFile struct{ lvfs.File }

// Write implements lvfs.File.
func (f snapshotFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, aborted(err)
}

// WriteAt implements lvfs.File.
func (f snapshotFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	return n, aborted(err)
}

// Stat implements lvfs.File.
func (f snapshotFile) Stat() (os.FileInfo, error) {
	info, err := f.File.Stat()
	return info, aborted(err)
}

// Sync implements lvfs.File.
func (f snapshotFile) Sync() error { return aborted(f.File.Sync()) }

// Close implements lvfs.File.
func (f snapshotFile) Close() error { return aborted(f.File.Close()) }

// replicaDir is the folder of a replica, opened to be synced or to see whether it
// is there. If it could not be opened that shows when it is synced: whether the
// sync is needed is only known then.
type replicaDir struct {
	lvfs.File // nil if err is not
	fs        *snapshotFS
	name      string
	err       error // why it could not be opened
}

// Stat implements lvfs.File. It needs no open file.
func (d replicaDir) Stat() (os.FileInfo, error) {
	info, err := d.fs.Stat(d.name)
	return info, aborted(err)
}

// Sync implements lvfs.File. A sync after a removal is best effort as well.
func (d replicaDir) Sync() error {
	err := d.err
	if err == nil {
		err = d.File.Sync()
	}
	if err == nil {
		d.fs.named(d.name, false)
		return nil
	}
	d.fs.mu.Lock()
	needed := d.fs.unsynced[d.name]
	d.fs.mu.Unlock()
	if needed {
		return aborted(err)
	}
	return d.fs.bestEffort("sync", d.name, err)
}

// Close implements lvfs.File. It has nothing to say about what was synced.
func (d replicaDir) Close() error {
	if d.File == nil {
		return nil
	}
	return d.fs.bestEffort("close", d.name, d.File.Close())
}
