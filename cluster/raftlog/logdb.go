package raftlog

import (
	"errors"
	"fmt"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/dragonboat/v4/statemachine"
)

var _ raftio.ILogDB = (*Log)(nil)

// Name implements raftio.ILogDB.
func (l *Log) Name() string { return Name }

// BinaryFormat implements raftio.ILogDB.
func (l *Log) BinaryFormat() uint32 { return FormatVersion }

// ListNodeInfo implements raftio.ILogDB: the replicas that were bootstrapped.
func (l *Log) ListNodeInfo() ([]raftio.NodeInfo, error) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	var out []raftio.NodeInfo
	for id, r := range l.index.replicas {
		if r.boot != nil {
			out = append(out, raftio.NodeInfo{ShardID: id.shard, ReplicaID: id.replica})
		}
	}
	return out, nil
}

// SaveBootstrapInfo implements raftio.ILogDB. The error of a failed log is also
// dragonboat.ErrInvalidShardSettings, the one kind that StartReplica returns
// instead of panicking.
func (l *Log) SaveBootstrapInfo(shardID, replicaID uint64, bs pb.Bootstrap) error {
	b := newBatch()
	b.addBootstrap(nodeID{shardID, replicaID}, &bs)
	if err := l.save(b); err != nil {
		return fmt.Errorf("%w: %w", dragonboat.ErrInvalidShardSettings, err)
	}
	return nil
}

// GetBootstrapInfo implements raftio.ILogDB.
func (l *Log) GetBootstrapInfo(shardID, replicaID uint64) (pb.Bootstrap, error) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	r := l.index.replicas[nodeID{shardID, replicaID}]
	if r == nil || r.boot == nil {
		return pb.Bootstrap{}, raftio.ErrNoBootstrapInfo
	}
	var bs pb.Bootstrap
	if err := bs.Unmarshal(r.boot); err != nil {
		return pb.Bootstrap{}, fmt.Errorf("raftlog: bootstrap record of shard %d: %w", shardID, err)
	}
	return bs, nil
}

// SaveRaftState implements raftio.ILogDB. On return everything is on stable
// storage, except a commit index that moved alone: nothing depends on it, since
// a replica learns it again, so it is written with the next commit and costs no
// sync. Updates that the log can't take make it fail: the library panics on
// every error, and of a worker that ended in silence nobody would know.
func (l *Log) SaveRaftState(updates []pb.Update, worker uint64) error {
	if err := l.Err(); err != nil {
		return l.hold(err)
	}
	durable, err := l.index.take(updates)
	if err != nil {
		l.fail(err)
		return l.hold(err)
	}
	if !durable {
		l.touch()
		return nil
	}
	b := l.spare.Get().(*batch)
	b.caller = 1 << (worker % 64)
	for i := range updates {
		u := &updates[i]
		id := nodeID{u.ShardID, u.ReplicaID}
		if !pb.IsEmptySnapshot(u.Snapshot) && l.index.isNewSnapshot(id, u.Snapshot.Index) {
			b.addSnapshot(kindInstall, id, &u.Snapshot)
		}
		if len(u.EntriesToSave) > 0 {
			b.addEntries(id, u.EntriesToSave)
		}
		if !pb.IsEmptyState(u.State) {
			b.addState(id, u.State)
		}
	}
	if b.size > maxBatchBytes {
		err := fmt.Errorf("raftlog: updates take %d bytes, more than %d", b.size, maxBatchBytes)
		l.fail(err)
		return l.hold(err)
	}
	if err := l.save(b); err != nil {
		return l.hold(err) // the writer may still have b
	}
	if cap(b.buf) <= keptBytes {
		b.reset()
		l.spare.Put(b)
	}
	return nil
}

// take checks the updates. When they hold nothing but moved commit indexes it
// takes these over, and false says that this was all.
func (x *index) take(updates []pb.Update) (durable bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range updates {
		u := &updates[i]
		r := x.replicas[nodeID{u.ShardID, u.ReplicaID}]
		last, known := uint64(0), false
		if r != nil {
			last, known = r.last, r.last > 0 || len(r.runs) > 0
		}
		if !pb.IsEmptySnapshot(u.Snapshot) && (r == nil || u.Snapshot.Index > r.snapIndex) {
			durable, last, known = true, u.Snapshot.Index, true
		}
		if len(u.EntriesToSave) > 0 {
			durable = true
			if err := follow(u.EntriesToSave, last, known); err != nil {
				return false, fmt.Errorf("raftlog: shard %d replica %d: %w", u.ShardID, u.ReplicaID, err)
			}
		}
		if !pb.IsEmptyState(u.State) && (r == nil || !r.hasState || u.Term != r.state.Term || u.Vote != r.state.Vote) {
			durable = true
		}
	}
	if durable {
		return true, nil
	}
	for i := range updates {
		u := &updates[i]
		r := x.replicas[nodeID{u.ShardID, u.ReplicaID}]
		if !pb.IsEmptyState(u.State) && u.State != r.state {
			x.markState(r, u.State)
		}
	}
	return false, nil
}

// follow checks that entries have no gap, and leave none behind the last one.
func follow(entries []pb.Entry, last uint64, known bool) error {
	for i := range entries {
		if index := entries[i].Index; known && index > last+1 || i > 0 && index != last+1 {
			return fmt.Errorf("entry %d does not follow entry %d", index, last)
		}
		last, known = entries[i].Index, true
	}
	return nil
}

func (x *index) isNewSnapshot(id nodeID, i uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.replicas[id]
	return r == nil || i > r.snapIndex
}

// ReadRaftState implements raftio.ILogDB.
func (l *Log) ReadRaftState(shardID, replicaID, snapshotIndex uint64) (raftio.RaftState, error) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	r := l.index.replicas[nodeID{shardID, replicaID}]
	if r == nil || !r.hasState {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	rs := raftio.RaftState{State: r.state, FirstIndex: snapshotIndex}
	// What is in a snapshot is committed. The commit index may have been lost.
	rs.State.Commit = max(rs.State.Commit, r.snapIndex)
	if len(r.runs) > 0 && r.last > snapshotIndex {
		rs.FirstIndex = max(r.first(), snapshotIndex)
		rs.EntryCount = r.last - rs.FirstIndex + 1
	}
	return rs, nil
}

// RemoveEntriesTo implements raftio.ILogDB. It writes nothing at once.
func (l *Log) RemoveEntriesTo(shardID, replicaID, index uint64) error {
	l.index.mu.Lock()
	r := l.index.replicas[nodeID{shardID, replicaID}]
	if r != nil {
		l.index.markRemoved(r, index)
	}
	l.index.mu.Unlock()
	if r != nil {
		l.touch()
	}
	return nil
}

// CompactEntriesTo implements raftio.ILogDB. Space comes back by the segment
// and by itself; there is nothing to wait for.
func (l *Log) CompactEntriesTo(_, _, _ uint64) (<-chan struct{}, error) {
	done := make(chan struct{})
	close(done)
	return done, nil
}

// SaveSnapshots implements raftio.ILogDB. A failed log answers that the
// snapshot was aborted, which the library takes without a panic.
func (l *Log) SaveSnapshots(updates []pb.Update) error {
	b := newBatch()
	for i := range updates {
		u := &updates[i]
		id := nodeID{u.ShardID, u.ReplicaID}
		if !pb.IsEmptySnapshot(u.Snapshot) && l.index.isNewSnapshot(id, u.Snapshot.Index) {
			b.addSnapshot(kindSnapshot, id, &u.Snapshot)
		}
	}
	if b.size == 0 {
		return nil
	}
	if err := l.save(b); err != nil {
		return fmt.Errorf("%w: %w", statemachine.ErrSnapshotAborted, err)
	}
	return nil
}

// GetSnapshot implements raftio.ILogDB.
func (l *Log) GetSnapshot(shardID, replicaID uint64) (pb.Snapshot, error) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	r := l.index.replicas[nodeID{shardID, replicaID}]
	if r == nil || r.snap == nil {
		return pb.Snapshot{}, nil
	}
	var ss pb.Snapshot
	if err := ss.Unmarshal(r.snap); err != nil {
		return pb.Snapshot{}, fmt.Errorf("raftlog: snapshot record of shard %d: %w", shardID, err)
	}
	return ss, nil
}

// RemoveNodeData implements raftio.ILogDB.
func (l *Log) RemoveNodeData(shardID, replicaID uint64) error {
	b := newBatch()
	b.addRemoveReplica(nodeID{shardID, replicaID})
	return l.save(b)
}

// ImportSnapshot implements raftio.ILogDB: what the replica had is replaced by
// the snapshot.
func (l *Log) ImportSnapshot(ss pb.Snapshot, replicaID uint64) error {
	if ss.Type == pb.UnknownStateMachine {
		return errors.New("raftlog: the snapshot does not say what kind of state machine it is of")
	}
	id := nodeID{ss.ShardID, replicaID}
	b := newBatch()
	b.addRemoveReplica(id)
	b.addBootstrap(id, &pb.Bootstrap{Join: true, Type: ss.Type})
	b.addState(id, pb.State{Term: ss.Term, Commit: ss.Index})
	b.addSnapshot(kindInstall, id, &ss)
	return l.save(b)
}
