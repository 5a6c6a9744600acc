package raftlog

import (
	"bytes"
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// DamageError says where the log on disk is damaged. It is mqerr.ErrCorruptLog.
// Everything in the log from here on must be taken for lost.
type DamageError struct {
	File   string // path of the segment
	Offset int64  // where in the file the damage begins
	Reason string
}

// Error implements error.
func (e *DamageError) Error() string {
	return fmt.Sprintf("raftlog: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Unwrap gives mqerr.ErrCorruptLog.
func (e *DamageError) Unwrap() error { return mqerr.ErrCorruptLog }

func damaged(file string, off int64, format string, args ...any) error {
	return &DamageError{File: file, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

// indexFrom is bytes.Index starting at offset from.
func indexFrom(b, sep []byte, from int) int {
	if from >= len(b) {
		return -1
	}
	i := bytes.Index(b[from:], sep)
	if i < 0 {
		return -1
	}
	return from + i
}
