// Package clock is where rooms that must not read the wall clock themselves
// get the time from: System in production, Manual in tests of code that
// testing/synctest can't hold because an engine's goroutines run beside it.
package clock

import (
	"context"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/backoff"
)

// Clock tells the time and waits. Safe for concurrent use.
type Clock interface {
	Now() time.Time
	// Sleep waits for d or until ctx ends, and then returns why it ended.
	Sleep(ctx context.Context, d time.Duration) error
}

// System is the machine's clock.
type System struct{}

// Now implements Clock.
func (System) Now() time.Time { return time.Now() }

// Sleep implements Clock.
func (System) Sleep(ctx context.Context, d time.Duration) error { return backoff.Sleep(ctx, d) }

// Manual is a clock that stands still until Advance. The zero value stands at
// the zero time.
type Manual struct {
	mu struct {
		sync.Mutex
		now   time.Time
		moved chan struct{} // closed by the next Advance; nil when nobody sleeps
	}
}

// NewManual returns a clock that stands at now.
func NewManual(now time.Time) *Manual {
	m := &Manual{}
	m.mu.now = now
	return m
}

// Now implements Clock.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.now
}

// Advance moves the clock and wakes the sleepers whose time has come.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.now = m.mu.now.Add(d)
	if m.mu.moved != nil {
		close(m.mu.moved)
		m.mu.moved = nil
	}
}

// Sleep implements Clock.
func (m *Manual) Sleep(ctx context.Context, d time.Duration) error {
	end := m.Now().Add(d)
	for {
		m.mu.Lock()
		if !m.mu.now.Before(end) {
			m.mu.Unlock()
			return nil
		}
		if m.mu.moved == nil {
			m.mu.moved = make(chan struct{})
		}
		moved := m.mu.moved
		m.mu.Unlock()

		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
