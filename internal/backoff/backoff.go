// Package backoff says how long to wait before the next try.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is an exponential back-off: the first wait is Base, each further one
// is twice as long, none is longer than Max. Both must be positive. Each wait
// is varied by up to a fifth, so that those who failed together do not come
// back together. KIP-580.
type Policy struct {
	Base, Max time.Duration
}

// Delay is the wait after the given number of failures in a row, which counts
// from 1.
func (p Policy) Delay(failures int) time.Duration {
	d := p.Base
	for range failures - 1 {
		if d >= p.Max {
			break
		}
		d *= 2
	}
	d = min(d, p.Max)
	return d - d/5 + rand.N(2*d/5+1)
}

// Sleep waits for d or until ctx ends, and then returns why it ended.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
