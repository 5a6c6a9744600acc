package network

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errFull = errors.New("queue is full")

// outgoing is a sealed frame on its way to the writer.
type outgoing struct {
	frame []byte
	due   time.Time // it is not to be written before; zero for now
	call  *call     // whose request or chunk it is; nil for other frames
}

// queue holds what waits for a connection's writer, up to limit bytes and
// maxQueued frames, what is being written included. A single frame always fits.
type queue struct {
	limit int
	mu    struct {
		sync.Mutex
		waiting []outgoing
		bytes   int
		frames  int
		closed  bool
		room    chan struct{} // closed when there is some again; nil if nobody waits
	}
	more chan struct{} // capacity 1: there is something, or the queue was closed
}

const maxQueued = 8192

func newQueue(limit int) *queue {
	return &queue{limit: limit, more: make(chan struct{}, 1)}
}

// put appends. It fails with errFull or, once the queue is closed, errEnded.
func (q *queue) put(o outgoing) error {
	_, err := q.tryPut(o)
	return err
}

// putWait appends when there is room.
func (q *queue) putWait(ctx context.Context, o outgoing) error {
	for {
		room, err := q.tryPut(o)
		if !errors.Is(err, errFull) {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (q *queue) tryPut(o outgoing) (room <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch full := q.mu.bytes+len(o.frame) > q.limit || q.mu.frames == maxQueued; {
	case q.mu.closed:
		return nil, errEnded
	case full && q.mu.frames > 0:
		if q.mu.room == nil {
			q.mu.room = make(chan struct{})
		}
		return q.mu.room, errFull
	}
	q.mu.waiting = append(q.mu.waiting, o)
	q.mu.bytes += len(o.frame)
	q.mu.frames++
	q.wake()
	return nil, nil
}

// take returns everything that waits, and leaves the queue a slice to use next.
func (q *queue) take(spare []outgoing) []outgoing {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.mu.waiting
	q.mu.waiting = spare[:0]
	return taken
}

// done makes room when a frame that was taken needs none any more.
func (q *queue) done(o outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.bytes -= len(o.frame)
	q.mu.frames--
	q.roomLocked()
}

// close lets nothing more in. What waits stays there.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.closed = true
	q.roomLocked()
	q.wake()
}

func (q *queue) roomLocked() {
	if q.mu.room != nil {
		close(q.mu.room)
		q.mu.room = nil
	}
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}
