package storage

import (
	"errors"
	"math/rand/v2"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// File is a file of an FS.
type File = vfs.File

// CrashFS is a file system in memory that knows what was synced, for tests of
// what a crash leaves.
type CrashFS struct{ *vfs.MemFS }

// NewCrashFS makes an empty one.
func NewCrashFS() CrashFS { return CrashFS{vfs.NewCrashableMem()} }

// PowerCut returns what is there after a loss of power now: all that was synced,
// and of the rest each block and each name with a chance of unsynced percent.
func (fs CrashFS) PowerCut(unsynced int, rng *rand.Rand) CrashFS {
	return CrashFS{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})}
}

// Kill returns what is there after the death of the process now: everything. A
// name that is removed meanwhile may be there still.
func (fs CrashFS) Kill() (CrashFS, error) {
	// A clone has names that were removed and not synced, so sync directories.
	err := fs.syncDirs("/")
	return fs.PowerCut(100, rand.New(rand.NewPCG(0, 0))), err
}

func (fs CrashFS) syncDirs(path string) error {
	names, err := fs.List(path)
	if err == nil {
		err = syncDir(fs, path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was removed just now
	}
	errs := []error{err}
	for _, name := range names {
		full := fs.PathJoin(path, name)
		if info, err := fs.Stat(full); err == nil && info.IsDir() {
			errs = append(errs, fs.syncDirs(full))
		}
	}
	return errors.Join(errs...)
}
