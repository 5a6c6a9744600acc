// Package machine tells what `mq doctor` wants to know about the computer. Its
// functions change nothing. What a system does not tell is ErrUnknown.
package machine

import (
	"errors"
	"time"
)

// ErrUnknown is returned where this system has no answer.
var ErrUnknown = errors.New("not known on this system")

// FileSystem is what holds a directory.
type FileSystem struct {
	Free  uint64 // bytes that a process like ours can still write
	Total uint64
	// Volatile and Remote name the kind of file system when it loses its
	// files with the machine or container, or when another machine has them.
	Volatile, Remote string
}

// Probe is how long fsyncs took.
type Probe struct {
	Count       int
	Median, Max time.Duration
}
