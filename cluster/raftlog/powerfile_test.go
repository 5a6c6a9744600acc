package raftlog_test

import (
	"bytes"
	"io"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

type powerInfo struct {
	name string
	size int64
	dir  bool
}

func (i powerInfo) Name() string       { return i.name }
func (i powerInfo) Size() int64        { return i.size }
func (i powerInfo) Mode() os.FileMode  { return 0o644 }
func (i powerInfo) ModTime() time.Time { return time.Time{} }
func (i powerInfo) IsDir() bool        { return i.dir }
func (i powerInfo) Sys() any           { return nil }

// powerFile is an open file, or an open directory (ino is nil).
type powerFile struct {
	d     *powerDisk
	ino   *inode
	name  string
	pos   int
	write bool
}

// Close implements vfs.File.
func (f *powerFile) Close() error { return nil }

// Stat implements vfs.File.
func (f *powerFile) Stat() (os.FileInfo, error) { return f.d.Stat(f.name) }

// Seek implements vfs.File.
func (f *powerFile) Seek(off int64, whence int) (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += int64(f.pos)
	case io.SeekEnd:
		off += int64(len(f.ino.data))
	}
	f.pos = int(off)
	return off, nil
}

// Read implements vfs.File.
func (f *powerFile) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, int64(f.pos))
	f.pos += n
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements vfs.File.
func (f *powerFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.read[f.name] = true
	return bytes.NewReader(f.ino.data).ReadAt(b, off)
}

// Write implements vfs.File.
func (f *powerFile) Write(b []byte) (int, error) {
	n, err := f.WriteAt(b, int64(f.pos))
	f.pos += n
	return n, err
}

// WriteAt implements vfs.File.
func (f *powerFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.write {
		return 0, os.ErrPermission
	}
	if err := f.d.ask(changeWrite, f.name); err != nil {
		return 0, err
	}
	grow := max(0, off+int64(len(b))-int64(len(f.ino.data)))
	if f.d.limit > 0 && f.d.used+grow > f.d.limit {
		return 0, &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	f.d.used += grow
	f.ino.data = put(f.ino.data, int(off), b)
	f.ino.pending = append(f.ino.pending, extent{int(off), slices.Clone(b)})
	return len(b), nil
}

// Sync implements vfs.File.
func (f *powerFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.ask(changeSync, f.name); err != nil {
		if f.ino != nil {
			f.ino.pending = nil // as Linux does: what could not be written counts as clean
		}
		return err
	}
	if f.ino == nil {
		f.d.syncs["dir"]++
		for _, ch := range f.d.names {
			ch.in(f.d.after)
		}
		f.d.names = nil
		return nil
	}
	f.d.syncs[path.Ext(f.name)]++
	for _, e := range f.ino.pending {
		f.ino.stable = put(f.ino.stable, e.off, e.data)
	}
	f.ino.pending = nil
	return nil
}
