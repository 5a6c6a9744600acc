package cluster

import (
	"strings"
	"sync/atomic"
	"testing"
)

// A broker whose disk is nearly full leads nothing and takes no records, and the
// others go on; with room again it catches up.
func TestABrokerShortOfDiskStandsAside(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 3)
	var short atomic.Bool
	victim := c.nodes[2]
	if err := victim.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := c.cfgs[2]
	cfg.MinFreeBytes = 100
	cfg.Test.DiskFree = func() (free, total uint64, ok bool) {
		if short.Load() {
			return 10, 1000, true
		}
		return 500, 1000, true
	}
	c.cfgs[2] = cfg
	victim = c.open(2)
	c.ready()
	for p := range int32(3) {
		c.put("t", p, "0")
	}
	for p := range 3 {
		waitFor(t, "it to follow", func() bool { return victim.endOf(t, "t", p) == 1 })
	}
	short.Store(true)
	victim.checkSpace()
	waitFor(t, "it to lead nothing", func() bool {
		victim.membership.nudge()
		for p := range int32(3) {
			if c.leader("t", p) == victim {
				return false
			}
		}
		return true
	})
	for p := range int32(3) {
		for range 3 {
			c.put("t", p, strings.Repeat("x", 2*smallCommand))
		}
		if end := victim.endOf(t, "t", int(p)); end != 1 {
			t.Errorf("the copy of partition %d has grown to %d", p, end)
		}
	}
	short.Store(false)
	victim.checkSpace()
	for p := range 3 {
		waitFor(t, "it to catch up", func() bool { return victim.endOf(t, "t", p) == 4 })
	}
}
