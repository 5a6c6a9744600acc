package storage

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is the file system a store and a data directory live on, named here so
// that other rooms need not know the engine's.
type FS = vfs.FS

// NewMemFS makes an empty file system in memory.
func NewMemFS() FS { return vfs.NewMem() }

// DiskFree tells how many bytes a process like ours can still write to the
// file system that holds dir, and how large it is. ok is false where that
// cannot be known, as in memory. fs nil means the operating system's files.
func DiskFree(fs FS, dir string) (free, total uint64, ok bool) {
	if fs == nil {
		fs = vfs.Default
	}
	u, err := fs.GetDiskUsage(dir)
	if err != nil {
		return 0, 0, false
	}
	return u.AvailBytes, u.TotalBytes, true
}
