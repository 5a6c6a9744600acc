package backoff_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/backoff"
)

func TestDelayDoublesUpToMax(t *testing.T) {
	t.Parallel()
	p := backoff.Policy{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond}
	for failures, want := range map[int]time.Duration{
		1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 3: 40 * time.Millisecond, 4: 80 * time.Millisecond,
		5: 100 * time.Millisecond, 50: 100 * time.Millisecond, math.MaxInt: 100 * time.Millisecond,
	} {
		for range 100 {
			if d := p.Delay(failures); d < want*4/5 || d > want*6/5 {
				t.Fatalf("after %d failures: %v is not within a fifth of %v", failures, d, want)
			}
		}
	}
}

func TestSleepEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := backoff.Sleep(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Fatalf("slept %v: %v", time.Since(start), err)
		}
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := backoff.Sleep(ctx, time.Minute); err != cause {
			t.Fatalf("got %v, want the cause", err)
		}
	})
}
