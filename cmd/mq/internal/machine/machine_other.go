//go:build !linux

package machine

import "context"

// FileLimit is how many files this process may have open.
func FileLimit() (uint64, error) { return 0, ErrUnknown }

// ClockSynchronised reports whether something, such as NTP, keeps the clock.
func ClockSynchronised() (bool, error) { return false, ErrUnknown }

// LockHolder reports whether a process has a lock on a file, and which.
func LockHolder(string) (pid int, held bool, err error) { return 0, false, ErrUnknown }

// Writable returns nil if this process may make files in a directory.
func Writable(string) error { return ErrUnknown }

// FileSystemOf tells about the file system that holds a directory.
func FileSystemOf(string) (FileSystem, error) { return FileSystem{}, ErrUnknown }

// ProbeFsync measures fsyncs on the file system of a directory.
func ProbeFsync(context.Context, string) (Probe, error) { return Probe{}, ErrUnknown }
