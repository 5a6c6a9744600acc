package storage

import (
	"errors"
	"hash/crc32"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// flushRetryDelay is how long a file system that failed a flush is left alone
// before the engine, which would try again at once and for ever, gets its next
// file.
const flushRetryDelay = 100 * time.Millisecond

// engineFS stands between the engine and the file system. It counts and times
// fsyncs, slows down a failing flush, and finds the damage of blob files, of
// which the engine would panic: see blobFile.
type engineFS struct {
	vfs.FS
	stats *engineStats
	hook  func(time.Duration)
}

// Unwrap implements vfs.FS.
func (fs engineFS) Unwrap() vfs.FS { return fs.FS }

func (fs engineFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return timedFile{f, fs}, nil
}

// Create implements vfs.FS.
func (fs engineFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if fs.stats.flushFailed.Load() != nil {
		time.Sleep(flushRetryDelay)
	}
	return fs.wrap(fs.FS.Create(name, c))
}

// OpenReadWrite implements vfs.FS.
func (fs engineFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.wrap(fs.FS.OpenReadWrite(name, c, opts...))
}

// ReuseForWrite implements vfs.FS.
func (fs engineFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(fs.FS.ReuseForWrite(oldname, newname, c))
}

// OpenDir implements vfs.FS.
func (fs engineFS) OpenDir(name string) (vfs.File, error) { return fs.wrap(fs.FS.OpenDir(name)) }

// Open implements vfs.FS.
func (fs engineFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	switch {
	case !strings.HasSuffix(name, blobSuffix):
		return f, err
	case errors.Is(err, os.ErrNotExist):
		return nil, blobDamage(name, "it is missing")
	case err != nil:
		return nil, err
	}
	return openBlob(f, name, fs.stats)
}

// engineChecksum is the checksum of the engine's journals and footers: CRC-32C,
// turned so that a checksum of data that holds checksums is still good.
func engineChecksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

func (fs engineFS) timed(sync func() error) error {
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
	fs engineFS
}

// Sync implements vfs.File.
func (f timedFile) Sync() error { return f.fs.timed(f.File.Sync) }

// SyncData implements vfs.File.
func (f timedFile) SyncData() error { return f.fs.timed(f.File.SyncData) }
