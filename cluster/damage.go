package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// A replica is damaged when the store can't read what it has of it, or lacks what it
// had promised to keep. It may be found when the replica is opened, read, or written.
// The broker goes on with its other replicas, and has the damaged one replaced by its
// peers, in steps that a crash may cut off:
//
//	metadata             raft group
//	leave            →   dropped, if most of the others are alive and up to date
//	left             ←   (and here its data goes)
//	add, see plan    →   learner, then voter, under a number that was never used
//
// So it never votes twice, and the last copy of a shard stays, whatever state it is in.
// A broker that is alone has nobody to ask: it fails if it can't open a replica.

// damages are the replicas of this broker that were found damaged.
type damages struct {
	mu struct {
		sync.Mutex
		byID map[storage.ReplicaID]*damage
	}
	replaced atomic.Int64 // since the node was opened
}

type damage struct {
	id   storage.ReplicaID
	name string
	err  error
}

// note reports whether it is news.
func (d *damages) note(id storage.ReplicaID, name string, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.byID[id] != nil {
		return false
	}
	if d.mu.byID == nil {
		d.mu.byID = make(map[storage.ReplicaID]*damage)
	}
	d.mu.byID[id] = &damage{id, name, err}
	return true
}

func (d *damages) has(id storage.ReplicaID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.byID[id] != nil
}

func (d *damages) forget(id storage.ReplicaID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.byID[id] != nil {
		delete(d.mu.byID, id)
		d.replaced.Add(1)
	}
}

// list gives them by name.
func (d *damages) list() []damage {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]damage, 0, len(d.mu.byID))
	for _, one := range d.mu.byID {
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b damage) int { return cmp.Compare(a.name, b.name) })
	return out
}

// damaged notes that a replica is, and has it replaced.
func (n *Node) damaged(id storage.ReplicaID, name string, err error) {
	if n.damages.note(id, name, err) {
		n.log.Error("a replica is damaged and has to be replaced", "replica", name, "number", id.Replica, "error", err)
		n.membership.nudge()
	}
}

// readError looks whether an error of reading a replica says that it is damaged.
func (r *replica) readError(err error) error {
	if errors.Is(err, mqerr.ErrCorruptLog) && !r.stopped.Load() {
		r.node.damaged(r.id, r.name, err)
	}
	return err
}

// alone reports that the cluster has no other broker.
func (n *Node) alone() bool { return len(n.meta.state.Load().brokers) < 2 }

// unopened goes on without a replica that can't be opened for damage, unless the
// broker is alone.
func (n *Node) unopened(id storage.ReplicaID, name string, err error) error {
	if !errors.Is(err, mqerr.ErrCorruptLog) || n.alone() {
		return err
	}
	n.damaged(id, name, err)
	return nil
}

// advise tells what to do where all that the broker has is of no use: raft log,
// store, or its replica of the metadata. Without its raft log it has forgotten how it
// voted, so it may not come back under its number.
func (n *Node) advise(err error) error {
	if !errors.Is(err, mqerr.ErrCorruptLog) || n.cfg.Network == nil || n.clusterID == "" {
		return err
	}
	return fmt.Errorf("%w; what other brokers have is not lost: remove this one from the cluster by way of another (mq cluster remove %d), "+
		"then start it with an empty data directory and a new id", err, n.cfg.BrokerID)
}

// replaceDamaged takes the next step for the replicas that are damaged.
func (n *Node) replaceDamaged() {
	all := n.damages.list()
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(n.closing, stepTimeout)
	defer cancel()
	for _, d := range all {
		if err := errors.Join(n.retire(d.id), n.leaveDamaged(ctx, d.id)); err != nil && n.closing.Err() == nil {
			n.log.Info("a damaged replica could not be replaced, will try again", "replica", d.name, "error", err)
		}
	}
}

// leaveDamaged asks for a replica to be given up, unless it is the last.
func (n *Node) leaveDamaged(ctx context.Context, id storage.ReplicaID) error {
	var leave *changeReplica
	n.meta.state.Load().eachShard(func(s shardRecord, t *topicRecord) {
		if at := s.replica(id.Replica); s.Shard == id.Shard && at >= 0 && !s.Replicas[at].Leaving && s.staying() > 1 {
			leave = changeOf(s, t)
			leave.Change, leave.Replica = leaveReplica, id.Replica
		}
	})
	if leave == nil {
		return nil
	}
	if err := n.proposeMeta(ctx, &metaCommand{ChangeReplica: leave}, nil); err != nil {
		return err
	}
	n.membership.nudge()
	return nil
}

// retire takes a replica that applies nothing any more out of its raft group, so that
// another one leads.
func (n *Node) retire(id storage.ReplicaID) error {
	r := n.replica(id.Shard)
	if r == nil || r.id != id || !r.machine.parked.Load() || r.stopped.Load() {
		return nil
	}
	r.stop()
	if err := n.host.StopReplica(id.Shard, id.Replica); err != nil && !errors.Is(err, dragonboat.ErrShardNotFound) {
		return fmt.Errorf("%s: stop: %w", r.name, err)
	}
	return nil
}

// removeDamaged frees what is left of damaged replicas that are given up and were
// never started. Not before: without its raft log a replica would forget its votes.
func (n *Node) removeDamaged(want map[uint64]wanted) error {
	var errs []error
	for _, d := range n.damages.list() {
		if w, ok := want[d.id.Shard]; ok && w.replica(d.id.Replica) >= 0 || d.id.Shard == metaShard {
			continue
		}
		if r := n.replica(d.id.Shard); r != nil && r.id == d.id {
			continue // it could not be removed yet
		}
		err := n.removeData(d.id)
		if err == nil {
			n.damages.forget(d.id)
			n.log.Info("a damaged replica was given up", "replica", d.name, "number", d.id.Replica)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
