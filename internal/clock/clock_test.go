package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/clock"
)

func TestManualClockWakesSleepersWhenTheirTimeHasCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Unix(1, 0)
		m := clock.NewManual(start)
		woke := make(chan error, 1)
		go func() { woke <- m.Sleep(t.Context(), time.Minute) }()

		synctest.Wait()
		m.Advance(59 * time.Second)
		synctest.Wait()
		if len(woke) != 0 {
			t.Fatal("woke a second early")
		}
		m.Advance(time.Second)
		if err := <-woke; err != nil {
			t.Fatal(err)
		}
		if got := m.Now(); !got.Equal(start.Add(time.Minute)) {
			t.Fatalf("stands at %v", got)
		}
	})
}

func TestSleepEndsWithContext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]clock.Clock{"system": clock.System{}, "manual": &clock.Manual{}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
