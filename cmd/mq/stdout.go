package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// stdout remembers its first error, which therefore no command can forget.
type stdout struct {
	file *os.File

	mu     sync.Mutex
	failed error
}

func (s *stdout) Write(b []byte) (int, error) {
	n, err := s.file.Write(b)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failed == nil {
			s.failed = err
		}
	}
	return n, err
}

// Fd is for looking at what it is.
func (s *stdout) Fd() uintptr { return s.file.Fd() }

func (s *stdout) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// stallTime is how long a write may take after it was time to end.
const stallTime = 2 * time.Second

var errStalled = errors.New("the output was not taken")

// impatient is a writer that gives up, with errStalled, a write that is not done
// soon after end is closed. After that it must not be used, nor the bytes changed.
type impatient struct {
	w   io.Writer
	end <-chan struct{}
}

func (i impatient) Write(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() { // ends with the write, or with the process
		n, err := i.w.Write(b)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-i.end:
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(stallTime):
		return 0, errStalled // part of it may be out; nobody can say how much
	}
}
