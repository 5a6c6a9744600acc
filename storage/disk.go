package storage

import "github.com/cockroachdb/pebble/v2/vfs"

// DiskFree tells how many bytes a process like ours can still write to the
// file system that holds dir, and how large it is. ok is false where that
// cannot be known, as in memory.
func DiskFree(fs vfs.FS, dir string) (free, total uint64, ok bool) {
	u, err := fs.GetDiskUsage(dir)
	if err != nil {
		return 0, 0, false
	}
	return u.AvailBytes, u.TotalBytes, true
}
