//go:build unix

package main

import (
	"context"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// untilReaderGone returns a ctx that also ends, with EPIPE, when w is a pipe
// that nobody reads any more. A write would tell, too, but a consumer that
// waits for records has nothing to write.
func untilReaderGone(ctx context.Context, w io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		go func() { // ends with the reader, or with the process
			fds := []unix.PollFd{{Fd: int32(f.Fd())}}
			for ctx.Err() == nil {
				_, err := unix.Poll(fds, -1)
				switch {
				case err == unix.EINTR:
				case err != nil || fds[0].Revents&unix.POLLNVAL != 0:
					return // can't be watched
				case fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
					cancel(syscall.EPIPE)
				}
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// leadsNowhere reports whether w was closed when the program started. The Go
// runtime has then opened the null device in its place, for reading, too, which
// no shell does for >/dev/null.
func leadsNowhere(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	var here, null unix.Stat_t
	if unix.Fstat(int(f.Fd()), &here) != nil || unix.Stat(os.DevNull, &null) != nil ||
		here.Mode&unix.S_IFMT != unix.S_IFCHR || here.Mode != null.Mode || here.Rdev != null.Rdev {
		return false
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR
}
