package mqtest

import (
	"context"
	"errors"
)

// Kill is kill -9 of a broker's process: its connections break, and what it had
// written, synced or not, is there when it is restarted. What was made from the
// Broker as an endpoint fails with mq.ErrClosed.
func (c *Cluster) Kill(id int32) {
	c.tb.Helper()
	s := c.running(id)
	s.wake()
	s.state = dead
	c.wire()
	var err error
	if s.disk, err = s.disk.Kill(); err != nil {
		c.tb.Fatalf("mqtest: kill broker %d: %v", id, err)
	}
	c.bury(s)
}

// PowerCut takes the power of brokers, of all that are running if none is named.
// They fall silent, and of what was written and not synced only some, by chance, is
// there when they are restarted. See Seed.
func (c *Cluster) PowerCut(ids ...int32) {
	c.tb.Helper()
	if len(ids) == 0 {
		for _, b := range c.Brokers() {
			ids = append(ids, b.id)
		}
	}
	var all []*seat
	for _, id := range ids {
		s := c.running(id)
		s.wake()
		s.state = silent
		all = append(all, s)
	}
	c.wire()
	for _, s := range all {
		s.disk = s.disk.PowerCut(c.unsynced[c.rng.IntN(len(c.unsynced))], c.rng.Uint64())
	}
	c.bury(all...)
}

// bury ends what is left of brokers in this process: off the network, on disks
// that nobody will look at and that let them acknowledge nothing.
func (c *Cluster) bury(all ...*seat) {
	together(all, func(s *seat) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()                   // there is no time to end in order
		_ = s.broker.Shutdown(ctx) // its disk has failed
		s.broker = nil
		return nil
	})
}

// Restart opens brokers that are down, all of them if none is named, with what their
// disks hold. It does not wait until they are ready.
func (c *Cluster) Restart(ids ...int32) {
	c.tb.Helper()
	if len(ids) == 0 {
		for _, id := range c.ids() {
			if c.seats[id].broker == nil {
				ids = append(ids, id)
			}
		}
	}
	var all []*seat
	for _, id := range ids {
		s := c.seats[id]
		if s == nil || s.broker != nil {
			c.tb.Fatalf("mqtest: broker %d is not down", id)
		}
		s.state = up
		all = append(all, s)
	}
	c.wire()
	if err := errors.Join(together(all, c.open)...); err != nil {
		c.tb.Fatal(err)
	}
}
