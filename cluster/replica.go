package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/raftio"
	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// replica is this broker's copy of one shard.
type replica struct {
	node    *Node
	id      storage.ReplicaID
	name    string // for logs and errors
	session *client.Session
	machine *machine
	pend    pending
	calls   sync.RWMutex // held for reading while raft is called: it does not bear to be closed then

	lead    atomic.Pointer[leadership]
	seq     atomic.Uint64
	barrier atomic.Uint64 // the term a BeginEpoch is on its way for
	stopped atomic.Bool
	swept   atomic.Bool                 // under the sweep loop's care
	shard   atomic.Pointer[shardRecord] // where the shard is, as metadata says

	index    atomic.Uint64 // newest index applied
	unsaved  atomic.Int64  // bytes applied since the last raft snapshot
	savedAt  atomic.Int64  // when, ms
	ledSince atomic.Int64  // when it began to lead, ms
	fresh    atomic.Bool   // started for the first time, nobody has led it yet

	standAgain time.Time    // of the sweep loop: when a fresh shard's first election has failed
	unled      time.Time    // of the sweep loop: since when nobody leads, as far as it saw
	failedAt   atomic.Int64 // when the last try at one failed, ms
}

// leadership is what this replica knows of its shard's leader. self is true on
// the leader; serving once it has applied its own BeginEpoch.
type leadership struct {
	leader  uint64 // replica id, 0 for none
	term    uint64
	self    bool
	serving bool
}

func (l *leadership) epoch() int32 { return int32(l.term) }

// open loads the replica's state and checks that store and raft log belong
// together: the log must reach from where the store was last made durable to at
// least where the store is. Anything else means that one of them lost what it
// had promised to keep. known says that the log knows the replica.
func (r *replica) open(known bool) error {
	applied, err := r.machine.app.open()
	if err != nil {
		return err
	}
	r.machine.opened = applied
	r.index.Store(applied)
	if !known {
		if applied > 0 {
			return fmt.Errorf("%w: the store has it up to index %d, the raft log does not know it", mqerr.ErrCorruptLog, applied)
		}
		return nil
	}
	log := r.node.rlog.Log()
	snap, err := log.GetSnapshot(r.id.Shard, r.id.Replica)
	if err != nil {
		return fmt.Errorf("%w: raft log: %w", mqerr.ErrCorruptLog, err)
	}
	if applied < snap.OnDiskIndex {
		return fmt.Errorf("%w: the store has it up to index %d, the raft log was cut at %d", mqerr.ErrCorruptLog, applied, snap.OnDiskIndex)
	}
	state, err := log.ReadRaftState(r.id.Shard, r.id.Replica, snap.Index)
	if err != nil && !errors.Is(err, raftio.ErrNoSavedLog) {
		return fmt.Errorf("%w: raft log: %w", mqerr.ErrCorruptLog, err)
	}
	last := snap.Index
	if state.EntryCount > 0 {
		last = state.FirstIndex + state.EntryCount - 1
	}
	// What earlier runs left counts, or many short ones would never cut it.
	r.unsaved.Store(log.ReplicaBytes(r.id.Shard, r.id.Replica))
	if applied > last {
		return fmt.Errorf("%w: the store has it up to index %d, the raft log ends at %d", mqerr.ErrCorruptLog, applied, last)
	}
	return nil
}

// epochServed returns the leader epoch when this replica may serve produce,
// latest offsets and range verdicts.
func (r *replica) epochServed() (int32, error) {
	l := r.lead.Load()
	switch {
	case r.machine.parked.Load():
		return 0, fmt.Errorf("%s: %w: %w", r.name, mqerr.ErrLeaderNotAvailable, r.machine.whyParked())
	case l != nil && l.serving:
		return l.epoch(), nil
	case l != nil && l.leader != 0 && !l.self:
		return 0, r.node.notLeader(r, l)
	}
	return 0, fmt.Errorf("%s: %w", r.name, mqerr.ErrLeaderNotAvailable)
}

// lone reports that this is the only replica, which need not wait for others to
// lead.
func (r *replica) lone() bool {
	s := r.shard.Load()
	return len(s.Replicas) == 1 && s.Replicas[0].Replica == r.id.Replica
}

// leaderOf is the broker that leads a replica's shard, -1 when that is not known.
func (n *Node) leaderOf(r *replica) int32 {
	if l := r.lead.Load(); l != nil {
		s := r.shard.Load()
		if at := s.replica(l.leader); at >= 0 {
			return s.Replicas[at].Broker
		}
	}
	return -1
}

// leaderDir is the directory id of the broker that leads a replica's shard.
func (n *Node) leaderDir(r *replica) (string, bool) {
	b, ok := n.meta.state.Load().brokers[n.leaderOf(r)]
	return b.DirID, ok
}

// notLeader tells whom to ask instead.
func (n *Node) notLeader(r *replica, l *leadership) error {
	err := fmt.Errorf("%s: %w", r.name, mqerr.ErrNotLeader)
	if leader := n.leaderOf(r); leader >= 0 {
		return &mqerr.Detail{Err: err, Leader: leader, LeaderAddr: n.meta.state.Load().brokers[leader].Addr, LeaderEpoch: l.epoch()}
	}
	return err
}

// leaderUpdated takes a leader event from raft. Called by the leader loop only.
func (r *replica) leaderUpdated(leader, term uint64) {
	old := r.lead.Load()
	if old != nil && (term < old.term || term == old.term && leader == old.leader) {
		return
	}
	now := &leadership{leader: leader, term: term, self: leader == r.id.Replica}
	if old = r.lead.Swap(now); old != nil && old.serving {
		r.node.stats.leaderChanges.Add(1)
	}
	r.node.changed.broadcast()
	if leader != 0 {
		r.fresh.Store(false)
	}
	if now.self {
		r.ledSince.Store(r.node.now().UnixMilli())
		r.beginEpoch(now.term)
		r.node.sweep.note(r)
	}
}

// beginEpoch proposes the barrier of a new leader. The sweep loop calls it again
// while the proposal was refused or lost.
func (r *replica) beginEpoch(term uint64) {
	if !r.barrier.CompareAndSwap(0, term) {
		return
	}
	r.submit(header{kind: kindBeginEpoch, epoch: int32(term)}, nil, r.node.cfg.ProposeTimeout, func(result) {
		r.barrier.Store(0)
	})
}

// advance moves the shard's applied index by a command that changes nothing: the
// epoch that it would begin is over.
func (r *replica) advance(ctx context.Context) error {
	done := make(chan struct{})
	r.submit(header{kind: kindBeginEpoch}, nil, r.node.cfg.ProposeTimeout, func(result) { close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// epochBegan is called by the state machine after it committed BeginEpoch.
func (r *replica) epochBegan(epoch int32) {
	l := r.lead.Load()
	if l != nil && l.self && l.epoch() == epoch {
		r.lead.CompareAndSwap(l, &leadership{leader: l.leader, term: l.term, self: true, serving: true})
	}
	r.pend.resolveIf(func(p *proposal) (result, bool) {
		return refused(fmt.Errorf("%s: %w: epoch %d has begun", r.name, mqerr.ErrNotLeader, epoch)), p.epoch < epoch
	})
	r.node.changed.broadcast()
}

// applied is called by the state machine after each batch of commands.
func (r *replica) applied(index uint64, size int) {
	if index > 0 {
		r.index.Store(index)
	}
	if r.unsaved.Add(int64(size)) > r.node.cfg.SnapshotBytes {
		r.node.snapshots.nudge()
	}
	r.node.logGrew(size)
}

func (r *replica) parked(why error) {
	r.lead.Store(&leadership{})
	r.giveUp(why)
	r.node.changed.broadcast()
}

// propose hands a command to raft if this replica leads. done is called exactly
// once, maybe before propose returns, on a goroutine it must not block. Calls
// from one goroutine are applied in call order.
func (r *replica) propose(k kind, body []byte, timeout time.Duration, done func(result)) {
	epoch, err := r.epochServed()
	if err != nil {
		done(refused(err))
		return
	}
	r.submit(header{kind: k, epoch: epoch}, body, timeout, done)
}

// smallCommand is the size up to which a command that holds no records counts as
// nothing.
const smallCommand = 16 << 10

func (r *replica) submit(h header, body []byte, timeout time.Duration, done func(result)) {
	n := r.node
	if err := n.Failure(); err != nil {
		done(refused(fmt.Errorf("%s: %w: %w", r.name, mqerr.ErrLeaderNotAvailable, err)))
		return
	}
	h.feature = cmp.Or(h.feature, n.meta.state.Load().feature)
	h.time = n.now().UnixMilli()
	h.id = proposalID{n.nonce, r.seq.Add(1)}
	// The budgets are for records. What else is small always has room: it frees
	// space, makes leaders and keeps groups going.
	size, limit := headerSize+len(body), n.cfg.PartitionInFlightBytes
	if h.kind != kindAppend && size <= smallCommand {
		size, limit = 0, math.MaxInt
	}
	if size > 0 && !n.inflight.take(size) {
		done(refused(fmt.Errorf("%s: %w: %d bytes are on their way in this broker", r.name, mqerr.ErrBusy, n.cfg.InFlightBytes)))
		return
	}
	finish := func(res result) {
		n.inflight.give(size)
		done(res)
	}
	timeout = max(timeout, n.minTimeout())
	pr := &proposal{epoch: h.epoch, size: size, done: finish, giveUpAt: clock.System{}.Now().Add(timeout + sweepGrace)}
	r.calls.RLock()
	if err := r.pend.add(h.id.seq, pr, limit); err != nil {
		r.calls.RUnlock()
		finish(refused(fmt.Errorf("%s: %w", r.name, err)))
		return
	}
	buf := n.commands.get()
	*buf = append(appendHeader((*buf)[:0], h), body...)
	state, err := n.host.Propose(r.session, *buf, timeout)
	r.calls.RUnlock()
	n.commands.put(buf) // Propose copied it
	if err != nil {
		r.pend.resolve(h.id.seq, refused(fmt.Errorf("%s: %w", r.name, beforeLog(err))))
		return
	}
	r.pend.attach(h.id.seq, state)
	n.sweep.note(r)
}

// beforeLog maps an error of Propose: nothing was appended.
func beforeLog(err error) error {
	switch {
	case errors.Is(err, dragonboat.ErrSystemBusy):
		return fmt.Errorf("%w: raft: %w", mqerr.ErrBusy, err)
	case errors.Is(err, dragonboat.ErrPayloadTooBig):
		return fmt.Errorf("%w: raft: %w", mqerr.ErrRecordTooLarge, err)
	}
	return fmt.Errorf("%w: raft: %w", mqerr.ErrLeaderNotAvailable, err)
}

// freshElection is how long the first election of a shard may take.
const freshElection = 200 * time.Millisecond

// visit is one look of the sweep loop: answer proposals that raft gave up,
// campaign, propose a lost barrier again. again asks for another visit.
func (r *replica) visit() (again, leaderless bool) {
	if r.stopped.Load() {
		return false, false
	}
	now := clock.System{}.Now()
	r.pend.resolveIf(func(p *proposal) (result, bool) {
		if p.state != nil {
			select {
			case res := <-p.state.AppliedC():
				if !res.Timeout() {
					return r.gaveUp(res)
				}
				p.state = nil // raft has forgotten it, which does not end it
			default:
			}
		}
		// Time is counted here. Raft counts in ticks, which stand still while it
		// waits for a disk, and on a shard that has just started jump from zero to
		// the age of the broker.
		return refused(fmt.Errorf("%s: %w", r.name, mqerr.ErrTimeout)), now.After(p.giveUpAt)
	})
	l := r.lead.Load()
	leaderless = l == nil || l.leader == 0
	switch {
	case !leaderless:
		r.unled = time.Time{}
	case r.unled.IsZero():
		r.unled = now
	case r.node.stopping.Load() && now.Sub(r.unled) >= electionRTT*tick:
		// Without a quorum nothing will come of them, and requests that wait for them
		// would hold up a broker that closes.
		r.pend.resolveIf(func(*proposal) (result, bool) {
			return refused(fmt.Errorf("%s: %w: nobody leads, and the broker is stopping", r.name, mqerr.ErrTimeout)), true
		})
	}
	switch {
	case r.machine.parked.Load():
		return !r.pend.empty(), false
	case leaderless && r.lone():
		r.node.campaign(r.id.Shard, r.id.Replica)
		return true, true
	case leaderless && r.fresh.Load() && r.firstToLead():
		// The others may be starting still, or far away.
		if now.After(r.standAgain) {
			r.standAgain = now.Add(freshElection)
			r.node.campaign(r.id.Shard, r.id.Replica)
		}
		return true, true
	case l != nil && l.self && !l.serving:
		r.beginEpoch(l.term)
		return true, false
	}
	return !r.pend.empty(), false
}

func (r *replica) gaveUp(res dragonboat.RequestResult) (result, bool) {
	switch {
	case res.Completed():
		// Update ran but did not know the proposal: a parked machine.
		return refused(fmt.Errorf("%s: %w: %w", r.name, mqerr.ErrTimeout, errParked)), true
	case res.Dropped():
		r.node.stats.dropped.Add(1)
		return refused(fmt.Errorf("%s: %w: raft dropped the proposal", r.name, mqerr.ErrNotLeader)), true
	case res.Rejected():
		return refused(fmt.Errorf("%s: %w: raft rejected the proposal", r.name, mqerr.ErrNotLeader)), true
	}
	return refused(fmt.Errorf("%s: %w: raft is closing", r.name, mqerr.ErrTimeout)), true
}

// stop answers everything that waits: the outcome is unknown, since the log may
// hold it. When it returns nobody calls raft for this replica any more, nor will.
func (r *replica) stop() {
	r.stopped.Store(true)
	r.giveUp(errors.New("the broker is stopping"))
	r.calls.Lock()   // who comes now is refused
	r.calls.Unlock() //nolint:staticcheck // to wait is all that is wanted
}

// giveUp refuses all further proposals; of those on their way nobody knows.
func (r *replica) giveUp(why error) {
	r.pend.close(
		fmt.Errorf("%s: %w: %w", r.name, mqerr.ErrTimeout, why),
		fmt.Errorf("%w: %w", mqerr.ErrLeaderNotAvailable, why))
}

// create implements statemachine.CreateOnDiskStateMachineFunc.
func (r *replica) create(uint64, uint64) sm.IOnDiskStateMachine { return r.machine }
