package main

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/raftmq/mq"
)

// Exit codes, for scripts. They are part of the interface; docs/USAGE.md lists them.
const (
	exitOK          = 0
	exitFailed      = 1   // refused or failed
	exitUsage       = 2   // wrong flags, arguments or configuration
	exitConnect     = 3   // no broker answers
	exitTimeout     = 4   // not done in time
	exitUnhealthy   = 5   // something is not as it should be
	exitPartly      = 6   // some records or partitions failed
	exitInterrupted = 130 // a signal ended it before the work was done
)

// exitError carries the code that err ends the program with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

// exitCode maps an error to its code; nil and a reader that went away are success.
func exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded): // also if nobody reads what was printed
		return coded.code
	case errors.Is(err, syscall.EPIPE):
		return exitOK
	case errors.Is(err, mq.ErrInvalidConfig), errors.Is(err, mq.ErrInvalidTopic), errors.Is(err, mq.ErrInvalidGroupID):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, mq.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

// closing closes c at the end of a function and adds its error to the function's.
func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }
