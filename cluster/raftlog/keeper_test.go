package raftlog_test

import (
	"testing"
	"time"
)

// The checkpoints of so many shards take half of each segment, so that segments
// that were just made by copying look as dead as those they were made of.
func TestCopyingEndsThoughEachSegmentIsMostlyCheckpoint(t *testing.T) {
	t.Parallel()
	o := memory()
	o.MaxBytes = 3 * o.SegmentBytes
	o.MemoryBudget = -1
	l := open(t, o)
	const idle, busy = 240, 1000
	done := make(chan struct{})
	go func() {
		defer close(done)
		n := uint64(0)
		for shard := uint64(1); shard <= idle; shard++ {
			save(t, l, update(shard, 1, 2, 200))
			for range 3 {
				n++
				save(t, l, update(busy, n, 1, 300))
			}
			if err := l.RemoveEntriesTo(busy, 1, n-1); err != nil {
				t.Error(err)
			}
		}
		for range 500 {
			n++
			save(t, l, update(busy, n, 1, 300))
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("writes wait for copying that does not end: %+v", l.Stats())
	}
	for shard := uint64(1); shard <= idle; shard++ {
		has(t, l, shard, 1, 2, 200)
	}
}
