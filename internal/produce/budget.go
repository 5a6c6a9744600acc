package produce

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/raftmq/mq/internal/mqerr"
)

// budget bounds what is buffered, by records and bytes. Those who wait for room
// get it in their order. A record above maxBytes passes when the buffer is empty.
type budget struct {
	maxRecords, maxBytes int

	mu struct {
		sync.Mutex
		records, bytes int // in use
		waiters        []*waiter
		closed         bool
	}
}

type waiter struct {
	bytes int
	ready chan error // capacity 1, gets one value
}

// tryAcquire takes room for a record if there is any: ErrBufferFull, ErrClosed.
func (b *budget) tryAcquire(bytes int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tryLocked(bytes)
}

func (b *budget) tryLocked(bytes int) error {
	switch {
	case b.mu.closed:
		return mqerr.ErrClosed
	case len(b.mu.waiters) > 0 || !b.fitsLocked(bytes):
		return mqerr.ErrBufferFull
	}
	b.mu.records++
	b.mu.bytes += bytes
	return nil
}

func (b *budget) fitsLocked(bytes int) bool {
	return b.mu.records < b.maxRecords && (b.mu.bytes+bytes <= b.maxBytes || b.mu.records == 0)
}

// acquire waits for room. It calls full when it has to wait, so that records
// that linger make room.
func (b *budget) acquire(ctx context.Context, bytes int, full func()) error {
	b.mu.Lock()
	if err := b.tryLocked(bytes); !errors.Is(err, mqerr.ErrBufferFull) {
		b.mu.Unlock()
		return err
	}
	w := &waiter{bytes: bytes, ready: make(chan error, 1)}
	b.mu.waiters = append(b.mu.waiters, w)
	b.mu.Unlock()

	full()
	select {
	case err := <-w.ready:
		return err
	case <-ctx.Done():
	}
	b.mu.Lock()
	i := slices.Index(b.mu.waiters, w)
	if i >= 0 {
		b.mu.waiters = slices.Delete(b.mu.waiters, i, i+1)
		b.grantLocked() // w may have been what the next ones waited behind
	}
	b.mu.Unlock()
	if i < 0 && <-w.ready == nil { // it came at the last moment: pass it on
		b.release(1, bytes)
	}
	return context.Cause(ctx)
}

// release gives room back.
func (b *budget) release(records, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.records -= records
	b.mu.bytes -= bytes
	b.grantLocked()
}

func (b *budget) grantLocked() {
	for len(b.mu.waiters) > 0 && b.fitsLocked(b.mu.waiters[0].bytes) {
		w := b.mu.waiters[0]
		b.mu.waiters = slices.Delete(b.mu.waiters, 0, 1)
		b.mu.records++
		b.mu.bytes += w.bytes
		w.ready <- nil
	}
}

// crowded reports whether somebody waits for room.
func (b *budget) crowded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.waiters) > 0
}

// close refuses everybody who waits or comes, with ErrClosed.
func (b *budget) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	for _, w := range b.mu.waiters {
		w.ready <- mqerr.ErrClosed
	}
	b.mu.waiters = nil
}

// inUse returns what is buffered now.
func (b *budget) inUse() (records, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.records, b.mu.bytes
}
