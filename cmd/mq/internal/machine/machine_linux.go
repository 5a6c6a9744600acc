package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// FileLimit is how many files this process may have open.
func FileLimit() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return limit.Cur, nil // Go has raised it to the hard limit
}

// ClockSynchronised reports whether something, such as NTP, keeps the clock.
func ClockSynchronised() (bool, error) {
	var t unix.Timex // without modes it only asks
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

// LockHolder reports whether a process has a lock on a file, and which; 0 when
// it is in another container. A process must not ask about a lock of its own: to
// close the file, as this does, gives the lock up.
func LockHolder(path string) (pid int, held bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = f.Close() }()
	lock := unix.Flock_t{Type: unix.F_WRLCK} // the whole file
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, false, err
	}
	return int(max(lock.Pid, 0)), lock.Type != unix.F_UNLCK, nil
}

// Writable returns nil if this process may make files in a directory.
func Writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}

var volatile = map[uint32]string{
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
}

var remote = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.V9FS_MAGIC:       "9P",
}

// FileSystemOf tells about the file system that holds a directory.
func FileSystemOf(dir string) (FileSystem, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return FileSystem{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	kind := uint32(s.Type) // the field has 32 bits on some machines
	return FileSystem{
		Free: s.Bavail * uint64(s.Frsize), Total: s.Blocks * uint64(s.Frsize),
		Volatile: volatile[kind], Remote: remote[kind],
	}, nil
}

const (
	probeWrite = 4 << 10 // bytes
	probeCount = 32
	probeTime  = time.Second // after which it writes no more
)

// ProbeFsync measures fsyncs on the file system of a directory. It writes to a
// file without a name, so that the directory does not change and nothing is left
// behind. Where there are no such files the error is ErrUnknown. When ctx ends
// first, a write that hangs is left alone.
func ProbeFsync(ctx context.Context, dir string) (Probe, error) {
	type result struct {
		probe Probe
		err   error
	}
	done := make(chan result, 1)
	go func() { // ends after probeTime, or with the process when the disk hangs
		p, err := probeFsync(dir)
		done <- result{p, err}
	}()
	select {
	case r := <-done:
		return r.probe, r.err
	case <-ctx.Done():
		return Probe{}, ctx.Err()
	}
}

func probeFsync(dir string) (Probe, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return Probe{}, fmt.Errorf("%w: no files without a name: %w", ErrUnknown, err)
	case err != nil:
		return Probe{}, &fs.PathError{Op: "write", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	defer func() { _ = f.Close() }()
	var took []time.Duration
	for began := time.Now(); len(took) < probeCount && time.Since(began) < probeTime; {
		start := time.Now()
		if _, err := f.Write(make([]byte, probeWrite)); err != nil {
			return Probe{}, err
		}
		if err := f.Sync(); err != nil {
			return Probe{}, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return Probe{Count: len(took), Median: took[len(took)/2], Max: took[len(took)-1]}, nil
}
