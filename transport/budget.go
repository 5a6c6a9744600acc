package transport

import (
	"context"
	"errors"
	"sync"
)

// errStopped is returned by a wait that its owner's end cut short.
var errStopped = errors.New("transport: stopped")

// budget bounds the requests under way, by number and by bytes. Any goroutine
// may release, but only one at a time may acquire; whoever has several
// acquirers lets them take turns, which also makes it fair to large requests.
type budget struct {
	maxRequests, maxBytes int
	freed                 chan struct{} // capacity 1: "look again"

	mu struct {
		sync.Mutex
		requests, bytes int
	}
}

func newBudget(maxRequests, maxBytes int) *budget {
	return &budget{maxRequests: maxRequests, maxBytes: maxBytes, freed: make(chan struct{}, 1)}
}

// acquire waits for room for one request of n bytes. One that is larger than
// the whole budget gets it alone. It returns ctx's error, or errStopped once
// stop is closed.
func (b *budget) acquire(ctx context.Context, stop <-chan struct{}, n int) error {
	for !b.try(n) {
		select {
		case <-b.freed:
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return errStopped
		}
	}
	return nil
}

func (b *budget) try(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.requests > 0 && (b.mu.requests >= b.maxRequests || b.mu.bytes+n > b.maxBytes) {
		return false
	}
	b.mu.requests++
	b.mu.bytes += n
	return true
}

// release gives back what one acquire of n bytes took.
func (b *budget) release(n int) {
	b.mu.Lock()
	b.mu.requests--
	b.mu.bytes -= n
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
