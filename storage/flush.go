package storage

import (
	"fmt"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
)

// flusher turns many wishes for a flush into few flushes of the database.
type flusher struct {
	mu            sync.Mutex
	running, next *flushRun // next waits for running to end
}

// flushRun is one flush that several callers wait for.
type flushRun struct {
	done chan struct{} // closed when err is set
	err  error
}

// flush makes durable what was committed before the call. Who comes while a
// flush is under way shares the one after it: the one under way may have begun
// before the caller's commit.
func (s *Store) flush() error {
	f := &s.flusher
	f.mu.Lock()
	if run := f.next; run != nil {
		f.mu.Unlock()
		<-run.done
		return run.err
	}
	run := &flushRun{done: make(chan struct{})}
	f.next = run
	before := f.running
	f.mu.Unlock()

	if before != nil {
		<-before.done
	}
	f.mu.Lock()
	f.running, f.next = run, nil
	f.mu.Unlock()

	run.err = s.flushNow()

	f.mu.Lock()
	f.running = nil
	f.mu.Unlock()
	close(run.done)
	return run.err
}

// flushNow flushes the database. The engine tries again for ever when a flush
// fails, as on a full disk, with what it holds in memory; so does this wait.
func (s *Store) flushNow() error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	done, err := s.db.AsyncFlush()
	s.gate.leave()
	if err != nil {
		return engineError(err)
	}
	select {
	case <-done:
		return nil
	case <-s.closing.Done():
		return mqerr.ErrClosed
	}
}

// flushForClose flushes the database behind the closed gate. It gives up when
// the engine cannot write: what is lost will be replayed by the caller.
func (s *Store) flushForClose() error {
	done, err := s.db.AsyncFlush()
	if err != nil {
		return engineError(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
			if err := s.stats.flushFailed.Load(); err != nil {
				return fmt.Errorf("flush: %w", engineError(*err))
			}
		}
	}
}

// FlushError is why the newest flush failed, nil when it did not. The engine
// tries again for ever, and Sync and Drop wait for it: an owner who sees this
// last has to decide, see GiveUp.
func (s *Store) FlushError() error {
	if err := s.stats.flushFailed.Load(); err != nil {
		return engineError(*err)
	}
	return nil
}

// GiveUp ends all waits for flushes, now and later, with mqerr.ErrClosed: what
// they waited for is not durable. Close is to follow.
func (s *Store) GiveUp() { s.close() }
