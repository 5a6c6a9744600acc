package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/lni/dragonboat/v4"
)

// The raft log is the write-ahead log of the store, so it may be cut where the
// store has been made durable. A snapshot of an on-disk state machine is just
// that: Sync, a small record, and the log below is dropped. It costs about ten
// fsyncs, so the whole broker takes few, the largest first, counted in bytes.

const (
	snapshotAge   = 10 * time.Minute // a shard written since is covered after so long
	snapshotRetry = 10 * time.Second // after a failure, others come first
)

// snapshotLoop cuts raft logs. It has a loop of its own since a slow disk can
// hold it up for long.
func (n *Node) snapshotLoop() {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-n.closing.Done():
			return
		case <-n.snapshots.c:
		case <-every.C:
		}
		for r := n.nextSnapshot(); r != nil; r = n.nextSnapshot() {
			if n.closing.Err() != nil || n.Failure() != nil {
				return
			}
			if err := n.saveSnapshot(r); err != nil && n.closing.Err() == nil {
				n.log.Warn("raft log was not cut", "replica", r.name, "error", err)
			}
		}
	}
}

// nextSnapshot picks the shard with most raft log, if it or all together are
// over their budget, or else one that has waited long. A parked one is not cut, also
// where it parks just now: see mayCut.
func (n *Node) nextSnapshot() *replica {
	var most, old *replica
	var total int64
	now := n.now()
	n.logSince.Store(0)
	stale, failed := now.Add(-snapshotAge).UnixMilli(), now.Add(-snapshotRetry).UnixMilli()
	n.eachReplica(func(r *replica) {
		unsaved := r.unsaved.Load()
		total += unsaved
		if unsaved == 0 || r.stopped.Load() || r.machine.parked.Load() || r.failedAt.Load() > failed {
			return
		}
		if most == nil || unsaved > most.unsaved.Load() {
			most = r
		}
		if r.savedAt.Load() < stale && (old == nil || r.savedAt.Load() < old.savedAt.Load()) {
			old = r
		}
	})
	n.logSeen.Store(total)
	if most != nil && (most.unsaved.Load() > n.cfg.SnapshotBytes || total > n.cfg.SnapshotTotalBytes) {
		return most
	}
	return old
}

// logGrew counts what is added to raft logs. The total wakes the loop, not only a
// shard's own part: many shards are over the budget together long before one is.
func (n *Node) logGrew(size int) {
	step := n.cfg.SnapshotTotalBytes / 8
	if since := n.logSince.Add(int64(size)); since >= step && since-int64(size) < step {
		n.snapshots.nudge()
	}
}

// unsavedLog is about how much raft log no snapshot covers, over all shards.
func (n *Node) unsavedLog() int64 { return n.logSeen.Load() + n.logSince.Load() }

// saveSnapshot cuts the raft log of a replica at what is applied now.
func (n *Node) saveSnapshot(r *replica) error {
	ctx, cancel := context.WithTimeout(n.closing, n.cfg.Test.SnapshotTimeout)
	defer cancel()
	covered, applied := r.unsaved.Load(), r.index.Load()
	err := n.requestSnapshot(ctx, r, applied)
	// Raft takes no two snapshots at one index, even if the first failed or came
	// when one before was not done: an idle shard's log would never be cut. It
	// may not have seen at once that the index moved.
	for tries := 0; tries < 3 && errors.Is(err, dragonboat.ErrRejected); tries++ {
		if err = r.advance(ctx); err == nil {
			err = n.requestSnapshot(ctx, r, applied)
		}
	}
	now := n.now().UnixMilli()
	if err != nil {
		r.failedAt.Store(now)
		return err
	}
	r.savedAt.Store(now)
	r.unsaved.Add(-covered)
	n.stats.snapshots.Add(1)
	return nil
}

// requestSnapshot returns nil when a snapshot covers the log up to applied, be it
// the one that is taken now or one before.
func (n *Node) requestSnapshot(ctx context.Context, r *replica, applied uint64) error {
	_, err := n.host.SyncRequestSnapshot(ctx, r.id.Shard, dragonboat.SnapshotOption{OverrideCompactionOverhead: true})
	if errors.Is(err, dragonboat.ErrRejected) && n.snapshotCovers(r, applied) {
		return nil
	}
	return err
}

// snapshotCovers reports whether the raft log may be cut up to an index.
func (n *Node) snapshotCovers(r *replica, applied uint64) bool {
	snap, err := n.rlog.Log().GetSnapshot(r.id.Shard, r.id.Replica)
	return err == nil && snap.OnDiskIndex >= applied
}
