package main

import (
	"context"
	"time"
)

// pacer lets so many records per second pass.
type pacer struct {
	interval time.Duration // 0: no wait
	next     time.Time     // when the next may pass
}

// catchUp is how far a pacer that was held up may run ahead of its interval.
const catchUp = 100 * time.Millisecond

func newPacer(rate int) *pacer {
	p := &pacer{next: time.Now()}
	if rate > 0 {
		p.interval = time.Second / time.Duration(rate)
	}
	return p
}

// wait returns when the next record may pass, or when ctx ends.
func (p *pacer) wait(ctx context.Context) {
	if p.interval == 0 {
		return
	}
	now := time.Now()
	if earliest := now.Add(-catchUp); p.next.Before(earliest) {
		p.next = earliest
	}
	if early := p.next.Sub(now); early > 0 {
		timer := time.NewTimer(early)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	p.next = p.next.Add(p.interval)
}
