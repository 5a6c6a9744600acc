package cluster

import "sync"

// readers are the long polls that wait for a partition to grow. Each is one
// channel of capacity 1 that may wait for many partitions: a wake-up that finds
// it full is one that was not seen yet.
type readers struct {
	mu struct {
		sync.Mutex
		waiting map[chan struct{}]struct{}
	}
}

func (r *readers) add(ch chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.waiting == nil {
		r.mu.waiting = make(map[chan struct{}]struct{})
	}
	r.mu.waiting[ch] = struct{}{}
}

func (r *readers) remove(ch chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.waiting, ch)
}

func (r *readers) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ch := range r.mu.waiting {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// broadcast tells any number of waiters that something changed.
type broadcast struct {
	mu struct {
		sync.Mutex
		ch chan struct{}
	}
}

// wait returns a channel that is closed at the next broadcast. Take it before
// looking at what may change.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.ch == nil {
		b.mu.ch = make(chan struct{})
	}
	return b.mu.ch
}

func (b *broadcast) broadcast() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.ch != nil {
		close(b.mu.ch)
		b.mu.ch = nil
	}
}
