package raftlog

import (
	"errors"
	"syscall"

	"github.com/lni/vfs"
)

// datasync brings the content of f to stable storage, without the times of the
// file where the system can leave them out.
func datasync(f vfs.File) error {
	d, ok := f.(interface{ Fd() uintptr })
	if !ok {
		return f.Sync()
	}
	for {
		err := syscall.Fdatasync(int(d.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// reserve takes size bytes of disk for f where the file system can promise
// them. The file gets its size from being written.
func reserve(f vfs.File, size int64) error {
	d, ok := f.(interface{ Fd() uintptr })
	if !ok {
		return nil
	}
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE
	for {
		err := syscall.Fallocate(int(d.Fd()), keepSize, 0, size)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return nil
		default:
			return err
		}
	}
}
