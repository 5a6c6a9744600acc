package storage

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// flushRetryDelay is how long a file system that failed a flush is left alone
// before the engine, which would try again at once and for ever, gets its next
// file.
const flushRetryDelay = 100 * time.Millisecond

// timedFS counts and times the fsyncs of the engine.
type timedFS struct {
	vfs.FS
	stats *engineStats
	hook  func(time.Duration)
}

// Unwrap implements vfs.FS.
func (fs timedFS) Unwrap() vfs.FS { return fs.FS }

func (fs timedFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return timedFile{f, fs}, nil
}

// Create implements vfs.FS.
func (fs timedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if fs.stats.flushFailed.Load() != nil {
		time.Sleep(flushRetryDelay)
	}
	return fs.wrap(fs.FS.Create(name, c))
}

// OpenReadWrite implements vfs.FS.
func (fs timedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.wrap(fs.FS.OpenReadWrite(name, c, opts...))
}

// ReuseForWrite implements vfs.FS.
func (fs timedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(fs.FS.ReuseForWrite(oldname, newname, c))
}

// OpenDir implements vfs.FS.
func (fs timedFS) OpenDir(name string) (vfs.File, error) { return fs.wrap(fs.FS.OpenDir(name)) }

func (fs timedFS) timed(sync func() error) error {
	start := time.Now()
	err := sync()
	d := time.Since(start)
	fs.stats.fsyncs.Add(1)
	fs.stats.fsyncNanos.Add(int64(d))
	if fs.hook != nil {
		fs.hook(d)
	}
	return err
}

type timedFile struct {
	vfs.File
	fs timedFS
}

// Sync implements vfs.File.
func (f timedFile) Sync() error { return f.fs.timed(f.File.Sync) }

// SyncData implements vfs.File.
func (f timedFile) SyncData() error { return f.fs.timed(f.File.SyncData) }
