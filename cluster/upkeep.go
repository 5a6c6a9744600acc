package cluster

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// growthNudge is how much a partition grows before retention looks again ahead
// of its interval, so that a fast producer can't outrun it.
const growthNudge = 32 << 20

// upkeepLoop watches the free space and applies retention, to groups too.
func (n *Node) upkeepLoop() {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	var swept, expired, flushing time.Time // flushing: when the store's flushes began to fail
	var clocks clocks
	for {
		select {
		case <-n.closing.Done():
			return
		case <-n.upkeep.c:
			swept = time.Time{}
		case <-every.C:
		}
		n.checkSpace()
		flushing = n.checkStore(flushing)
		if now := n.now(); due(now, swept, n.cfg.RetentionInterval) {
			n.lookAtClocks(&clocks)
			now = n.now()
			swept = now
			n.eachReplica(func(r *replica) { n.retain(r, clocks.sure) })
			if clocks.sure && due(now, expired, groupExpiryInterval) {
				expired = now
				n.eachReplica(n.expireGroups)
			}
		}
	}
}

// due reports that so much time has passed, or that the clock was set back.
func due(now, last time.Time, interval time.Duration) bool {
	passed := now.Sub(last)
	return passed < 0 || passed >= interval
}

// checkSpace fences the broker while space is low. A fenced broker refuses what
// adds data, and goes on with reads, commits of offsets, metadata and the trims
// that free space.
func (n *Node) checkSpace() {
	var why error
	if n.inMemory() {
		why = n.memoryFull()
	} else if free, ok := n.diskFree(); ok && int64(free) < n.cfg.MinFreeBytes {
		why = fmt.Errorf("%w: %d bytes free, want %d", mqerr.ErrDiskFull, free, n.cfg.MinFreeBytes)
	}
	was := n.fence.Load()
	switch {
	case why != nil:
		n.fence.Store(&why)
		if was == nil {
			n.log.Error("broker is fenced: it refuses to append", "reason", why)
			n.upkeepNow()
			n.membership.nudge() // others may have room
		}
	case was != nil:
		n.fence.Store(nil)
		n.log.Info("broker is not fenced any more")
	}
}

// checkStore fails the node when the store can't write for long. The engine
// would try for ever, and what waits for it would wait as long. On a full disk
// that is right: room may come.
func (n *Node) checkStore(since time.Time) time.Time {
	err := n.store.FlushError()
	now := clock.System{}.Now()
	switch {
	case err == nil || errors.Is(err, syscall.ENOSPC):
		return time.Time{}
	case since.IsZero():
		return now
	case now.Sub(since) >= n.cfg.Test.StoreGrace:
		n.fail(fmt.Errorf("%w: store: %w", mqerr.ErrInternal, err))
	}
	return since
}

// watchClose keeps Close from waiting for a disk that takes nothing: when store
// or raft log is stuck it gives both up, the raft log first. It must not be cut
// where the store only stopped waiting. Nothing acknowledged is lost: the raft
// log has it. The function returned ends the watch.
func (n *Node) watchClose() (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends when done is closed
		defer close(ended)
		tick := time.NewTicker(closeTick)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				n.giveUpIfStuck()
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

const closeTick = 50 * time.Millisecond

func (n *Node) giveUpIfStuck() {
	if n.metaRep.Load() == nil { // it may be opening, and holds nothing up
		return
	}
	log := n.rlog.Log()
	err := n.store.FlushError()
	if err == nil && log.Stats().DiskFull {
		err = mqerr.ErrDiskFull
	}
	if err == nil && n.Failure() == nil {
		return
	}
	n.fail(fmt.Errorf("%w: store: %w", mqerr.ErrInternal, err))
	log.Release()
	n.store.GiveUp()
}

// memoryFull is asked before every append, since memory fills faster than a loop
// looks.
func (n *Node) memoryFull() error {
	if held := n.held.Load(); held > n.memoryForRecords() {
		return fmt.Errorf("%w: %d bytes of records are held in memory, MaxMemory is %d", mqerr.ErrBusy, held, n.cfg.MaxMemory)
	}
	// The raft log is cut at a quarter; it grows to half only while that is late.
	if log := n.unsavedLog(); log > n.cfg.MaxMemory/2 {
		return fmt.Errorf("%w: the raft log has %d bytes in memory, MaxMemory is %d", mqerr.ErrBusy, log, n.cfg.MaxMemory)
	}
	return nil
}

// upkeepNow looks for what retention can free before its interval.
func (n *Node) upkeepNow() { n.upkeep.nudge() }

// memoryForRecords is the part of MaxMemory for records at rest; the rest is
// for the raft log, requests on their way and the engines.
func (n *Node) memoryForRecords() int64 { return n.cfg.MaxMemory / 2 }

func (n *Node) diskFree() (uint64, bool) {
	if n.cfg.Test.DiskFree != nil {
		free, _, ok := n.cfg.Test.DiskFree()
		return free, ok
	}
	free, _, ok := storage.DiskFree(n.cfg.Test.StoreFS, n.cfg.Dir)
	return free, ok
}

// fenced returns why the broker refuses to append, or nil.
func (n *Node) fenced() error {
	was := n.fence.Load()
	if n.inMemory() {
		why := n.memoryFull()
		if (why != nil) != (was != nil) {
			n.upkeep.nudge() // which puts the fence where it belongs
		}
		return why
	}
	if was != nil {
		return *was
	}
	return nil
}

// grew counts records at rest and nudges what has to keep up with them.
func (n *Node) grew(p *partition, bytes int) {
	p.sinceRetention += bytes
	if p.sinceRetention >= growthNudge {
		p.sinceRetention = 0
		n.upkeep.nudge()
	}
}

// retain proposes the trim that a topic's retention asks for, and the expiry of
// silent producers. Age counts from the brokers' append time, never from the
// records' own timestamps, and only where brokers agree on the time.
func (n *Node) retain(r *replica, sure bool) {
	p, ok := r.machine.app.(*partition)
	if !ok {
		return
	}
	if _, err := r.epochServed(); err != nil {
		return
	}
	now := n.now()
	cfg := n.topicConfig(p)
	olderThan := int64(-1)
	if cfg.Retention >= 0 && sure {
		olderThan = now.Add(-cfg.Retention).UnixMilli()
	}
	to, err := p.log.TrimPoint(cfg.RetentionBytes, olderThan)
	if errors.Is(err, mqerr.ErrClosed) {
		return // removed meanwhile
	}
	if err != nil {
		n.log.Error("retention could not read the log", "replica", r.name, "error", r.readError(err))
	} else if to > p.log.State().Start {
		r.propose(kindTrim, trimBody(to), n.cfg.ProposeTimeout, n.upkeepDone(r, "retention"))
	}
	if cutoff := now.Add(-n.cfg.ProducerExpiry).UnixMilli(); sure && p.oldestProducer.Load() < cutoff {
		r.propose(kindExpireProducers, trimBody(cutoff), n.cfg.ProposeTimeout, n.upkeepDone(r, "producer expiry"))
	}
}

// upkeepDone logs what went wrong; the next pass tries again.
func (n *Node) upkeepDone(r *replica, what string) func(result) {
	return func(res result) {
		if res.err != nil && !errors.Is(res.err, mqerr.ErrLeaderNotAvailable) {
			n.log.Warn(what+" was refused", "replica", r.name, "error", res.err)
		}
	}
}
