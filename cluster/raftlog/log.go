package raftlog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lni/vfs"

	"github.com/raftmq/mq/internal/mqerr"
)

// Log is an open log. It implements raftio.ILogDB; its methods are safe for
// concurrent use.
type Log struct {
	opts  Options
	fs    vfs.FS
	dir   string
	id    logID
	index *index
	prep  *preparer
	tail  tail // of the writer

	// ctx ends when the log failed (after failed is closed) or the writer ended
	// for Close. All goroutines end with it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	queue struct {
		sync.Mutex
		batches []*batch // wait for the writer; bounded by the number of callers
	}
	spare   sync.Pool     // of *batch, for callers
	wake    chan struct{} // holds one token when the writer has something to do
	dirtied chan struct{} // holds one token when the index has facts to write
	crowded chan struct{} // holds one token when the keeper is to copy
	closing chan struct{} // closed by Close: the writer finishes and ends

	copying atomic.Pointer[chan struct{}] // while the keeper is to copy: closed when it has
	overdue atomic.Pointer[chan struct{}] // one of these that callers wait for

	failOnce sync.Once
	failed   chan struct{} // closed when err is set
	err      error

	closeOnce   sync.Once
	releaseOnce sync.Once
	released    chan struct{} // closed by Release: failed calls return

	counters counters
}

// counters are what Stats reports and nothing else depends on.
type counters struct {
	syncs, groups, bytes, carried, readBack atomic.Int64
}

// fail makes the log refuse everything from now on, and tells the owner. The
// first error counts.
func (l *Log) fail(err error) {
	if !l.refuse(err) {
		return
	}
	l.opts.Logger.Error("raft log failed, nothing is acknowledged any more", "err", err)
	if l.opts.OnFailure != nil {
		l.opts.OnFailure(err)
	}
}

// refuse does that without telling, and says whether it was the first to.
func (l *Log) refuse(err error) (first bool) {
	l.failOnce.Do(func() {
		l.err, first = err, true
		close(l.failed)
		l.cancel()
	})
	return first
}

// Err is why the log refuses to work, nil while it works.
func (l *Log) Err() error {
	select {
	case <-l.failed:
		return l.err
	default:
		return nil
	}
}

// Failed is closed when the log has failed, and Err says why.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// hold is how a call ends on whose error the library would panic: an owner that
// asked to be told of failures says with Release when errors may be seen.
func (l *Log) hold(err error) error {
	if l.opts.OnFailure != nil {
		<-l.released
	}
	return err
}

// Release lets the calls return that a failed log, or a full disk, holds back:
// with an error, like all that follow. A log that works is given up by it.
func (l *Log) Release() {
	l.releaseOnce.Do(func() { close(l.released) })
	l.refuse(fmt.Errorf("raftlog: given up: %w", mqerr.ErrClosed))
}

// save is submit for callers of the log, who may have to let the keeper catch up.
func (l *Log) save(b *batch) error {
	l.pace()
	return l.submit(b)
}

// submit hands b to the writer and waits until it is on stable storage and
// applied to the index. Its error is the log's: the outcome is unknown.
func (l *Log) submit(b *batch) error {
	l.queue.Lock()
	l.queue.batches = append(l.queue.batches, b)
	l.queue.Unlock()
	l.poke()
	select {
	case <-b.done:
		return nil
	case <-l.ctx.Done():
	}
	select {
	case <-b.done: // before it ended
		return nil
	case <-l.failed:
		return l.err
	default:
		return fmt.Errorf("raftlog: %w", mqerr.ErrClosed)
	}
}

// poke tells the writer to look.
func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // the token is there
	}
}

// Close implements raftio.ILogDB. It writes what is not in the log yet. Its
// error is always nil, because the library panics on others; failures go to
// OnFailure and Err.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		l.releaseOnce.Do(func() { close(l.released) })
		l.wg.Wait() // the writer cancels ctx when it has finished
		l.closeFiles()
	})
	return nil
}

// closeFiles closes what the goroutines left open.
func (l *Log) closeFiles() {
	l.tail.seg.closeFiles()
	for _, s := range l.index.sealed {
		s.closeFiles()
	}
	if l.prep.spare != nil {
		l.prep.spare.closeFiles()
	}
	l.prep.mu.Lock()
	defer l.prep.mu.Unlock()
	for _, s := range l.prep.mu.dead {
		s.closeFiles()
	}
}
