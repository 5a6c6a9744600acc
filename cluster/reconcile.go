package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
	"github.com/raftmq/mq/storage"
)

// waitServing waits until this replica leads and serves.
func (n *Node) waitServing(ctx context.Context, r *replica) error {
	var missing error
	err := n.await(ctx, func() bool {
		_, missing = r.epochServed()
		return missing == nil || r.stopped.Load()
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", missing, err)
	}
	return cmp.Or(err, missing)
}

// WaitReady waits until this broker has started every replica that metadata
// gives it and each has a leader. The error says what is missing, or why the
// broker failed.
func (n *Node) WaitReady(ctx context.Context) error {
	var missing error
	err := n.await(ctx, func() bool {
		missing = n.missing()
		return missing == nil || n.Failure() != nil
	})
	if failed := n.Failure(); failed != nil {
		return failed
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("not ready: %w: %w", missing, err)
	}
	return err
}

func (n *Node) missing() error {
	meta := n.metaRep.Load()
	if meta == nil {
		return errNotJoined
	}
	if err := meta.led(); err != nil {
		return err
	}
	if !n.registered.Load() {
		return fmt.Errorf("%w: metadata is loading", mqerr.ErrLeaderNotAvailable)
	}
	if n.reconciled.Load() < n.meta.state.Load().version {
		return fmt.Errorf("%w: replicas are starting", mqerr.ErrLeaderNotAvailable)
	}
	var missing error
	n.eachReplica(func(r *replica) {
		if err := r.led(); err != nil && missing == nil && !r.machine.parked.Load() {
			missing = err
		}
	})
	return missing
}

// led returns nil if the shard has a leader, here or elsewhere.
func (r *replica) led() error {
	if _, err := r.epochServed(); !errors.Is(err, mqerr.ErrNotLeader) {
		return err
	}
	return nil
}

// wanted is a shard that metadata puts on this broker.
type wanted struct {
	shardRecord
	name string
	app  func(*replica) application
}

func (n *Node) wantedShards(s *metaState) map[uint64]wanted {
	out := make(map[uint64]wanted)
	if _, ok := s.meta.on(n.cfg.BrokerID); ok {
		out[metaShard] = wanted{shardRecord: s.meta, name: "metadata"}
	}
	for _, t := range s.topics {
		for i, shard := range t.Partitions {
			if _, ok := shard.on(n.cfg.BrokerID); ok {
				tp := t.tp(i)
				out[shard.Shard] = wanted{shard, fmt.Sprintf("%s/%d", t.Name, i), func(r *replica) application {
					return n.newPartition(r, tp)
				}}
			}
		}
	}
	for _, g := range s.groups {
		if _, ok := g.on(n.cfg.BrokerID); ok {
			out[g.Shard] = wanted{g.shardRecord, fmt.Sprintf("groups/%d", g.Slot), func(r *replica) application {
				return &groupStore{store: n.store, id: r.id}
			}}
		}
	}
	return out
}

// reconcileLoop starts and removes replicas as metadata says.
func (n *Node) reconcileLoop() {
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		select {
		case <-n.closing.Done():
			return
		case <-n.reconcile.c:
		case <-retry.C:
		}
		// Metadata may be old until this broker leads or follows.
		if !n.registered.Load() || n.reconciled.Load() >= n.meta.state.Load().version {
			continue
		}
		err := n.reconcileOnce()
		if errors.Is(err, mqerr.ErrCorruptLog) {
			n.fail(err)
			return
		}
		if err != nil {
			n.log.Error("replicas could not be started or removed, will try again", "error", err)
		}
	}
}

func (n *Node) reconcileOnce() error {
	s := n.meta.state.Load()
	want := n.wantedShards(s)
	var gone []*replica
	n.eachReplica(func(r *replica) {
		if w, ok := want[r.id.Shard]; ok {
			if at := w.replica(r.id.Replica); at >= 0 {
				r.shard.Store(&w.shardRecord)
				n.sweep.note(r)
				return
			}
		} else if r.id.Shard == metaShard {
			return
		}
		gone = append(gone, r)
	})
	errs := []error{n.removeReplicas(gone), n.removeDamaged(want)}
	if n.reconciled.Load() == 0 {
		errs = append(errs, n.removeOrphans(want))
	}
	for shard, w := range want {
		mine, _ := w.on(n.cfg.BrokerID)
		id := storage.ReplicaID{Shard: shard, Replica: mine}
		if n.replica(shard) != nil || w.app == nil || n.damages.has(id) {
			continue
		}
		if n.closing.Err() != nil {
			return nil //nolint:nilerr // Close is no error
		}
		_, err := n.startReplica(w.shardRecord, w.name, w.app)
		errs = append(errs, n.unopened(id, w.name, err))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.reconciled.Store(s.version)
	n.changed.broadcast()
	n.membership.nudge()
	if n.followed != nil {
		for id := range n.followed.byID {
			if s.byID[id] == nil {
				n.purgeOffsets(id)
			}
		}
	}
	n.followed = s
	return nil
}

const (
	removeTimeout = 30 * time.Second
	removeAtOnce  = 16
)

// removeReplicas removes several at once, since those share syncs and flushes.
func (n *Node) removeReplicas(gone []*replica) error {
	errs := make([]error, len(gone))
	slots := make(chan struct{}, removeAtOnce)
	var all sync.WaitGroup
	for i, r := range gone {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = n.removeReplica(r)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// removeReplica stops a replica for good and frees its disk. While that does not
// succeed the replica stays known, to be removed again; what a crash leaves of it
// is an orphan at the next start.
func (n *Node) removeReplica(r *replica) error {
	r.stop()
	p, isPartition := r.machine.app.(*partition)
	if isPartition {
		p.readers.wake()
	}
	err := n.host.StopReplica(r.id.Shard, r.id.Replica)
	if err != nil && !errors.Is(err, dragonboat.ErrShardNotFound) {
		return fmt.Errorf("%s: stop: %w", r.name, err)
	}
	if err := n.removeData(r.id); err != nil {
		return err
	}
	if isPartition {
		p.resized(0)
	}
	n.forget(r)
	n.damages.forget(r.id)
	return nil
}

func (n *Node) removeData(id storage.ReplicaID) error {
	ctx, cancel := context.WithTimeout(n.closing, removeTimeout)
	defer cancel()
	err := noPanic(func() error { return n.host.SyncRemoveData(ctx, id.Shard, id.Replica) })
	if err != nil {
		return fmt.Errorf("replica %v: remove raft log: %w", id, err)
	}
	if err := n.store.Drop(id); err != nil {
		return fmt.Errorf("replica %v: %w", id, err)
	}
	return nil
}

// removeOrphans frees what earlier processes did not come round to.
func (n *Node) removeOrphans(want map[uint64]wanted) error {
	ids, err := n.store.Replicas()
	if err != nil {
		return err
	}
	for _, l := range n.host.GetNodeHostInfo(dragonboat.NodeHostInfoOption{}).LogInfo {
		ids = append(ids, storage.ReplicaID{Shard: l.ShardID, Replica: l.ReplicaID})
	}
	var errs []error
	seen := make(map[storage.ReplicaID]bool)
	for _, id := range ids {
		w, ok := want[id.Shard]
		mine, _ := w.on(n.cfg.BrokerID)
		if seen[id] || id.Shard == metaShard || ok && mine == id.Replica {
			continue
		}
		seen[id] = true
		n.log.Info("removing what is left of a deleted replica", "replica", id)
		errs = append(errs, n.removeData(id))
	}
	return errors.Join(errs...)
}

// newPartition is the application of a partition's shard.
func (n *Node) newPartition(r *replica, tp topicPartition) *partition {
	p := &partition{store: n.store, id: r.id, tp: tp, traffic: &traffic{}}
	p.grown = func(bytes int) { n.grew(p, bytes) }
	p.resized = func(size int64) { n.held.Add(size - p.size.Swap(size)) }
	return p
}

// topicConfig returns the configs in force for a partition.
func (n *Node) topicConfig(p *partition) topic.Config {
	if t := n.meta.state.Load().byID[p.tp.TopicID]; t != nil {
		return t.config
	}
	return topic.Default()
}
