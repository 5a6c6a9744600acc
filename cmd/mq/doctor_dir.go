package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/machine"
)

// lockFile is what a broker locks in its data directory.
const lockFile = "LOCK"

// dataDir checks a data directory and the disk below it, and writes nothing
// there.
func (d *diagnosis) dataDir(ctx context.Context, cfg mq.BrokerConfig, timeout time.Duration) {
	const name = "data directory"
	if cfg.DataDir == "" {
		d.ok(name, "none: a broker with this configuration keeps everything in memory")
		return
	}
	path := cfg.DataDir
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	info, err := mq.InspectDataDir(path)
	switch id := max(cfg.ID, 1); {
	case errors.Is(err, mq.ErrForeignDir):
		d.fail(name, "name another directory, or an empty one", "%v", err)
	case errors.Is(err, mq.ErrNewerFormat):
		d.fail(name, "run the version of mq that wrote it, or a newer one", "%v", err)
	case errors.Is(err, mq.ErrCorruptLog):
		d.fail(name, "put the file back from a backup, or start with an empty directory", "%v", err)
	case errors.Is(err, fs.ErrNotExist):
		d.ok(name, "%s is not there or empty; the first start makes it", path)
	case err != nil:
		d.fail(name, "name a directory that this user can read and write", "%v", err)
	case info.BrokerID != id:
		d.fail(name, "set broker.id to that, or name another directory", "%s belongs to broker %d, not %d", path, info.BrokerID, id)
	default:
		d.ok(name, "%s: format %d, broker %d, cluster %s", path, info.Format, info.BrokerID, info.ClusterID)
	}
	at, err := existing(path)
	if err != nil {
		return // told already
	}
	d.lock(path)
	if err := machine.Writable(at); err != nil && !errors.Is(err, machine.ErrUnknown) {
		d.fail("writable", "make it the property of the user who runs the broker", "%v", err)
		return
	}
	d.disk(at, cfg.MinFreeBytes)
	d.fsync(ctx, at, timeout)
}

// existing returns the directory, or the nearest above it that is there.
func existing(path string) (string, error) {
	for {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return path, nil
		case err == nil:
			return "", &fs.PathError{Op: "open", Path: path, Err: errors.New("not a directory")}
		case !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path:
			return "", err
		}
		path = filepath.Dir(path)
	}
}

// lock tells whether a broker is running on the directory.
func (d *diagnosis) lock(dir string) {
	pid, held, err := machine.LockHolder(filepath.Join(dir, lockFile))
	switch {
	case errors.Is(err, machine.ErrUnknown):
		d.ok("lock", "%v", err)
	case err != nil:
		d.warn("lock", "look at it as the user who runs the broker", "%v", err)
	case !held:
		d.ok("lock", "free, no broker runs on it")
	case pid == 0:
		d.ok("lock", "held by a broker, in another container")
	default:
		d.ok("lock", "held by a broker, process %d", pid)
	}
}

const defaultMinFree = 512 << 20 // mq.BrokerConfig.MinFreeBytes

func (d *diagnosis) disk(dir string, floor int64) {
	const name, advice = "disk", "make room, or lower broker.min_free_bytes"
	if floor == 0 {
		floor = defaultMinFree
	}
	floor = max(floor, 0)
	system, err := machine.FileSystemOf(dir)
	free := int64(system.Free)
	switch {
	case errors.Is(err, machine.ErrUnknown):
		d.ok(name, "%v", err)
	case err != nil:
		d.fail(name, "name a directory that this user can read and write", "%v", err)
	case free < floor:
		d.fail(name, advice, "%s free of %s, a broker takes no records below %s", size(free), size(int64(system.Total)), size(floor))
	case free < 2*floor:
		d.warn(name, advice, "%s free of %s, below %s a broker takes no records", size(free), size(int64(system.Total)), size(floor))
	case system.Volatile != "":
		d.warn(name, "records are gone with the machine or container: use a disk or a volume", "%s free on %s", size(free), system.Volatile)
	case system.Remote != "":
		d.warn(name, "locks and fsync of network file systems may not hold: use a local disk", "%s free on %s", size(free), system.Remote)
	default:
		d.ok(name, "%s free of %s, the broker wants %s", size(free), size(int64(system.Total)), size(floor))
	}
}

// Fsyncs slower than this make every acknowledgement slow.
const slowFsync = 20 * time.Millisecond

func (d *diagnosis) fsync(ctx context.Context, dir string, timeout time.Duration) {
	const name, advice = "fsync", "every acknowledgement waits for one: use a faster disk, or one with a protected write cache"
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	probe, err := machine.ProbeFsync(ctx, dir)
	switch {
	case errors.Is(err, machine.ErrUnknown):
		d.ok(name, "not measured: %v", err)
	case errors.Is(err, context.DeadlineExceeded):
		d.fail(name, advice, "a write did not end in %v", timeout)
	case err != nil:
		d.fail(name, "see what the system's log says of the disk", "%v", err)
	case probe.Median > slowFsync:
		d.warn(name, advice, "median %v, longest %v of %d", round(probe.Median), round(probe.Max), probe.Count)
	default:
		d.ok(name, "median %v, longest %v of %d", round(probe.Median), round(probe.Max), probe.Count)
	}
}
