package network

import (
	"context"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/clock"
)

// throttle keeps what passes it to a rate. What comes first passes at once.
type throttle struct {
	clock clock.Clock
	mu    struct {
		sync.Mutex
		rate int64     // bytes per second; unlimited if not positive
		free time.Time // when what has passed so far is paid for
	}
}

func (t *throttle) setRate(bytesPerSecond int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.rate = bytesPerSecond
}

// wait waits for n bytes' turn. Those who wait at the same time get theirs one
// after the other.
func (t *throttle) wait(ctx context.Context, n int) error {
	t.mu.Lock()
	now := t.clock.Now()
	if t.mu.rate <= 0 {
		t.mu.free = now
		t.mu.Unlock()
		return ctx.Err()
	}
	turn := now
	if t.mu.free.After(now) {
		turn = t.mu.free
	}
	t.mu.free = turn.Add(time.Duration(float64(n) / float64(t.mu.rate) * float64(time.Second)))
	t.mu.Unlock()
	return t.clock.Sleep(ctx, turn.Sub(now))
}
