package cluster

import (
	"time"

	"github.com/raftmq/mq/internal/clock"
)

const (
	clocksApart = time.Minute      // what is no further apart is the same time
	clocksEvery = 30 * time.Second // between looks at the clocks of others
)

// clocks is what a broker makes of its own clock and those of others.
type clocks struct {
	looked time.Time // by a clock that can't be set
	sure   bool      // a majority of brokers has the same time
}

// now is the time by the clocks of a majority of brokers: this one's, unless that
// is wrong.
func (n *Node) now() time.Time {
	return n.cfg.Test.Now().Add(time.Duration(n.clockOffset.Load()))
}

// lookAtClocks compares this broker's clock with those of the others. One that is
// wrong would stamp what it leads with the wrong time, and delete too early. Called
// by the upkeep loop only.
func (n *Node) lookAtClocks(c *clocks) {
	now := clock.System{}.Now()
	if c.sure && now.Sub(c.looked) < clocksEvery || n.metaRep.Load() == nil {
		return
	}
	c.looked = now
	offsets := []time.Duration{0} // from this broker's clock
	for _, a := range callAll[statusAnswer](n.closing, n.link, n.others(), statePatience, callStatus, statusRequest{}) {
		if a.err == nil && a.answer.Now != 0 {
			offsets = append(offsets, time.UnixMilli(a.answer.Now).Sub(n.cfg.Test.Now()))
		}
	}
	offset, sure := commonTime(offsets, len(n.meta.state.Load().brokers))
	if was := time.Duration(n.clockOffset.Load()); sure && offset != was && (offset == 0 || (offset-was).Abs() > clocksApart) {
		n.clockOffset.Store(int64(offset))
		if offset != 0 {
			n.log.Warn("the clock of this broker is wrong; it goes by those of the others", "wrong_by", -offset)
		}
	}
	if c.sure && !sure {
		n.log.Warn("no majority of brokers has the same time: nothing is deleted for its age meanwhile")
	}
	c.sure = sure
}

// commonTime returns the first of the clocks that a majority of all brokers agrees
// with. Where there are few answers there is none.
func commonTime(offsets []time.Duration, brokers int) (offset time.Duration, ok bool) {
	for _, offset := range offsets {
		agree := 0
		for _, other := range offsets {
			if (other - offset).Abs() <= clocksApart {
				agree++
			}
		}
		if 2*agree > brokers {
			return offset, true
		}
	}
	return 0, false
}
