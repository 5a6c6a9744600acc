package cluster

import (
	"context"
	"time"

	"github.com/lni/dragonboat/v4"
)

// The raft log is the write-ahead log of the store, so it may be cut where the
// store has been made durable. A snapshot of an on-disk state machine is just
// that: Sync, a small record, and the log below is dropped. It costs about ten
// fsyncs, so the whole broker takes few, the largest first, counted in bytes.

const (
	snapshotAge     = 10 * time.Minute // a shard written since is covered after so long
	snapshotTimeout = time.Minute
	snapshotBatch   = 8 // in one pass
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
		for range snapshotBatch {
			r := n.nextSnapshot()
			if r == nil || !n.saveSnapshot(r) {
				break
			}
		}
	}
}

// nextSnapshot picks the shard with most raft log, if it or all together are
// over their budget, or else one that has waited long.
func (n *Node) nextSnapshot() *replica {
	var most, old *replica
	stale := n.now().Add(-snapshotAge).UnixMilli()
	n.eachReplica(func(r *replica) {
		if r.machine.parked.Load() || r.unsaved.Load() == 0 {
			return
		}
		if most == nil || r.unsaved.Load() > most.unsaved.Load() {
			most = r
		}
		if r.savedAt.Load() < stale && (old == nil || r.savedAt.Load() < old.savedAt.Load()) {
			old = r
		}
	})
	if most != nil && (most.unsaved.Load() > n.cfg.SnapshotBytes || n.unsaved.Load() > n.cfg.SnapshotTotalBytes) {
		return most
	}
	return old
}

func (n *Node) saveSnapshot(r *replica) bool {
	ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
	defer cancel()
	stop := context.AfterFunc(n.closing, cancel)
	defer stop()
	covered := r.unsaved.Load()
	_, err := n.host.SyncRequestSnapshot(ctx, r.id.Shard, dragonboat.SnapshotOption{OverrideCompactionOverhead: true})
	r.savedAt.Store(n.now().UnixMilli())
	if err != nil {
		if n.closing.Err() == nil {
			n.log.Warn("raft log was not cut", "replica", r.name, "error", err)
		}
		return false
	}
	r.unsaved.Add(-covered)
	n.unsaved.Add(-covered)
	n.stats.snapshots.Add(1)
	return true
}
