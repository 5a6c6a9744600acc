// Package crashdisk is a disk in memory that survives the crash of the broker on
// it as a real one would. Store and raft log of the broker share it, so that a
// crash finds both as they were at one moment.
package crashdisk

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"sync"
	"time"

	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/internal/testhook"
	"github.com/raftmq/mq/storage"
)

var errCrashed = errors.New("the machine has crashed")

// Disk is the disk of one run of a broker. After a crash the broker that was on
// it can still write but no longer sync: what it has not acknowledged by then it
// never will. The next run gets the disk that the crash returned.
type Disk struct {
	fs storage.CrashFS

	// Syncs of the raft log are inside the lock.
	mu      sync.RWMutex
	crashed bool
	lies    bool
	slow    time.Duration
}

var _ testhook.Disk = (*Disk)(nil)

// New makes an empty disk.
func New() *Disk { return &Disk{fs: storage.NewCrashFS()} }

// Store is the file system for the store and the data directory itself.
func (d *Disk) Store() storage.FS { return d.fs }

// Raft is the file system for the raft log: the same one.
func (d *Disk) Raft() lvfs.FS { return raftFS{d} }

// Kill implements testhook.Disk.
func (d *Disk) Kill() (testhook.Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
	fs, err := d.fs.Kill()
	return &Disk{fs: fs}, err
}

// PowerCut implements testhook.Disk.
func (d *Disk) PowerCut(unsynced int, seed uint64) testhook.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
	return &Disk{fs: d.fs.PowerCut(unsynced, rand.New(rand.NewPCG(seed, 0)))} //nolint:forbidigo // nothing here is replicated
}

// Pause implements testhook.Disk.
func (d *Disk) Pause() (resume func()) {
	d.mu.Lock()
	return d.mu.Unlock
}

// Slow implements testhook.Disk.
func (d *Disk) Slow(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = by
}

// Lie makes syncs of the raft log do nothing from now on, to see that tests notice.
func (d *Disk) Lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
}

func (d *Disk) sync(sync func() error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.crashed {
		return errCrashed
	}
	if d.lies {
		return nil
	}
	if d.slow > 0 {
		<-time.After(d.slow)
	}
	return sync()
}

// raftFS is the disk as the raft log's kind of file system.
type raftFS struct{ disk *Disk }

var _ lvfs.FS = raftFS{}

func (fs raftFS) file(f storage.File, err error) (lvfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &raftFile{f: f, disk: fs.disk}, nil
}

// Create implements lvfs.FS.
func (fs raftFS) Create(name string) (lvfs.File, error) { return fs.file(fs.disk.fs.Create(name, "")) }

// Link implements lvfs.FS.
func (fs raftFS) Link(from, to string) error { return fs.disk.fs.Link(from, to) }

// Open implements lvfs.FS. Its options are advice to the operating system.
func (fs raftFS) Open(name string, _ ...lvfs.OpenOption) (lvfs.File, error) {
	return fs.file(fs.disk.fs.Open(name))
}

// OpenDir implements lvfs.FS.
func (fs raftFS) OpenDir(name string) (lvfs.File, error) { return fs.file(fs.disk.fs.OpenDir(name)) }

// OpenForAppend implements lvfs.FS.
func (fs raftFS) OpenForAppend(name string) (lvfs.File, error) {
	f, err := fs.ReuseForWrite(name, name)
	if err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekEnd)
	return f, err
}

// Remove implements lvfs.FS.
func (fs raftFS) Remove(name string) error { return fs.disk.fs.Remove(name) }

// RemoveAll implements lvfs.FS.
func (fs raftFS) RemoveAll(name string) error { return fs.disk.fs.RemoveAll(name) }

// Rename implements lvfs.FS.
func (fs raftFS) Rename(from, to string) error { return fs.disk.fs.Rename(from, to) }

// ReuseForWrite implements lvfs.FS.
func (fs raftFS) ReuseForWrite(from, to string) (lvfs.File, error) {
	if from != to {
		if err := fs.Rename(from, to); err != nil {
			return nil, err
		}
	} else if _, err := fs.Stat(from); err != nil {
		return nil, err
	}
	return fs.file(fs.disk.fs.OpenReadWrite(to, ""))
}

// MkdirAll implements lvfs.FS.
func (fs raftFS) MkdirAll(name string, perm os.FileMode) error {
	return fs.disk.fs.MkdirAll(name, perm)
}

// Lock implements lvfs.FS.
func (fs raftFS) Lock(name string) (io.Closer, error) { return fs.disk.fs.Lock(name) }

// List implements lvfs.FS.
func (fs raftFS) List(name string) ([]string, error) { return fs.disk.fs.List(name) }

// Stat implements lvfs.FS.
func (fs raftFS) Stat(name string) (os.FileInfo, error) { return fs.disk.fs.Stat(name) }

// PathBase implements lvfs.FS.
func (raftFS) PathBase(name string) string { return path.Base(name) }

// PathJoin implements lvfs.FS.
func (raftFS) PathJoin(names ...string) string { return path.Join(names...) }

// PathDir implements lvfs.FS.
func (raftFS) PathDir(name string) string { return path.Dir(name) }

// GetDiskUsage implements lvfs.FS.
func (raftFS) GetDiskUsage(string) (lvfs.DiskUsage, error) {
	return lvfs.DiskUsage{}, errors.ErrUnsupported
}

// raftFile is a file that can seek. It has no Fd, which would be used.
type raftFile struct {
	f    storage.File
	disk *Disk
	pos  int64
}

// Read implements lvfs.File.
func (f *raftFile) Read(p []byte) (int, error) {
	n, err := f.f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil // the end is told by the next Read
	}
	return n, err
}

// ReadAt implements lvfs.File.
func (f *raftFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Write implements lvfs.File.
func (f *raftFile) Write(p []byte) (int, error) {
	n, err := f.f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements lvfs.File.
func (f *raftFile) WriteAt(p []byte, off int64) (int, error) { return f.f.WriteAt(p, off) }

// Seek implements lvfs.File.
func (f *raftFile) Seek(off int64, from int) (int64, error) {
	switch from {
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		info, err := f.f.Stat()
		if err != nil {
			return 0, err
		}
		off += info.Size()
	}
	if off < 0 {
		return 0, os.ErrInvalid
	}
	f.pos = off
	return off, nil
}

// Stat implements lvfs.File.
func (f *raftFile) Stat() (os.FileInfo, error) { return f.f.Stat() }

// Sync implements lvfs.File.
func (f *raftFile) Sync() error { return f.disk.sync(f.f.Sync) }

// Close implements lvfs.File.
func (f *raftFile) Close() error { return f.f.Close() }
