package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// application is what a shard is for: a partition's log, the metadata or the
// offsets of groups. Its methods are called by one goroutine at a time, except
// snapshot.
type application interface {
	// open loads the state and returns the index of the last durable command.
	open() (uint64, error)
	// begin starts one store batch.
	begin() tx
	sync() error
	snapshot() (*storage.Snapshot, error)
	// restore replaces the state by what r holds and returns its last command.
	restore(r io.Reader, stop <-chan struct{}) (uint64, error)
}

// tx is the work of one Update call: one store batch.
type tx interface {
	epoch() int32
	beginEpoch(epoch int32, feature uint8)
	apply(h header, body []byte) result
	// commit writes everything with the index of the last command and shows it to readers.
	commit(applied uint64) error
	close()
}

// machine drives an application from the raft log. It implements
// statemachine.IOnDiskStateMachine: an error from it would end the process, so
// refusals travel as results, and where local state is unusable the replica
// parks and the node fails.
//
// A command of a feature level that this build does not know parks the replica:
// nothing is applied from there on, it serves nobody and takes no snapshot, so
// that a newer build finds the whole rest of the log.
type machine struct {
	r      *replica
	app    application
	opened uint64 // what app.open gave
	parked atomic.Bool
	why    atomic.Pointer[error] // it is parked, if not for errParked
}

var _ sm.IOnDiskStateMachine = (*machine)(nil)

var errParked = errors.New("mq: replica met a command of a newer version and is parked")

// Open implements statemachine.IOnDiskStateMachine. The replica opened the
// application before, where an error does not end the process.
func (m *machine) Open(<-chan struct{}) (uint64, error) { return m.opened, nil }

// Update implements statemachine.IOnDiskStateMachine.
func (m *machine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	if len(entries) == 0 || m.parked.Load() {
		return entries, nil
	}
	if observe := m.r.node.cfg.Observe.Apply; observe != nil {
		start := clock.System{}.Now()
		defer func() { observe(clock.System{}.Now().Sub(start)) }()
	}
	t := m.app.begin()
	defer t.close()
	type answer struct {
		seq uint64
		res result
	}
	var (
		answers []answer
		applied uint64
		began   int32 = -1
		size    int
	)
	for _, e := range entries {
		h, body, err := parseHeader(e.Cmd)
		if err != nil {
			m.unusable(fmt.Errorf("index %d: %w", e.Index, err))
			return entries, nil
		}
		if h.feature > m.r.node.knows() {
			m.park(e.Index, h.feature)
			break
		}
		res := step(t, h, body)
		if h.kind == kindBeginEpoch && res.err == nil {
			began = h.epoch
		}
		if h.id.nonce == m.r.node.nonce {
			answers = append(answers, answer{h.id.seq, res})
		}
		applied = e.Index
		size += len(e.Cmd)
	}
	if applied != 0 {
		if err := t.commit(applied); err != nil {
			m.unusable(fmt.Errorf("index %d: %w", applied, err))
			return entries, nil
		}
	}
	m.r.applied(applied, size)
	for _, a := range answers {
		m.r.pend.resolve(a.seq, a.res)
	}
	if began >= 0 {
		m.r.epochBegan(began)
	}
	return entries, nil
}

// step applies one command unless its epoch is not the current one.
func step(t tx, h header, body []byte) result {
	current := t.epoch()
	if h.kind == kindBeginEpoch {
		if h.epoch <= current {
			return refused(fmt.Errorf("%w: epoch %d has begun, not %d", mqerr.ErrNotLeader, current, h.epoch))
		}
		t.beginEpoch(h.epoch, h.feature)
		return result{epoch: h.epoch}
	}
	if h.epoch != current {
		return refused(fmt.Errorf("%w: proposed in epoch %d, now %d", mqerr.ErrNotLeader, h.epoch, current))
	}
	res := t.apply(h, body)
	res.epoch = current
	return res
}

func (m *machine) park(index uint64, feature uint8) {
	m.parked.Store(true)
	m.r.parked(errParked)
	m.r.node.log.Error("replica parked: the log has a command of a newer version of mq",
		"replica", m.r.name, "index", index, "feature", feature, "known", m.r.node.knows())
}

// unusable parks the replica for an error of what is below it. One that is damaged
// is replaced if there are others to do that, anything else fails the node.
// raft goes on as if the commands had been applied; they will be at the next
// start, if no snapshot covers them: see Sync.
func (m *machine) unusable(err error) {
	n := m.r.node
	replace := errors.Is(err, mqerr.ErrCorruptLog) && m.r.id.Shard != metaShard && !n.alone()
	if replace {
		m.why.Store(&err)
	}
	m.parked.Store(true)
	if !replace {
		n.fail(n.advise(fmt.Errorf("%s: %w", m.r.name, err)))
		return
	}
	m.r.parked(err)
	n.damaged(m.r.id, m.r.name, err)
}

// whyParked tells why a parked replica does not serve.
func (m *machine) whyParked() error {
	if err := m.r.node.Failure(); err != nil {
		return err
	}
	if err := m.why.Load(); err != nil {
		return *err
	}
	return errParked
}

// Lookup implements statemachine.IOnDiskStateMachine. Reads go to the store directly.
func (m *machine) Lookup(any) (any, error) { return nil, nil }

// Sync implements statemachine.IOnDiskStateMachine: what was applied is durable
// when it returns, so that raft may drop the log below. Where that can't be it
// returns only when the raft log takes nothing any more, no snapshot either.
func (m *machine) Sync() error {
	n := m.r.node
	if n.cfg.Test.SkipSync {
		return nil
	}
	if err := m.app.sync(); err != nil && !errors.Is(err, mqerr.ErrClosed) {
		m.unusable(err)
	}
	if n.Failure() != nil {
		<-n.released
	}
	return nil
}

// PrepareSnapshot implements statemachine.IOnDiskStateMachine.
func (m *machine) PrepareSnapshot() (any, error) {
	if m.parked.Load() {
		return nil, fmt.Errorf("%w: %w", sm.ErrSnapshotAborted, m.whyParked())
	}
	return m.app.snapshot()
}

// SaveSnapshot implements statemachine.IOnDiskStateMachine.
func (m *machine) SaveSnapshot(prepared any, w io.Writer, stop <-chan struct{}) error {
	snap := prepared.(*storage.Snapshot)
	err := errors.Join(snap.WriteTo(w, stop), snap.Close())
	select {
	case <-stop:
		return sm.ErrSnapshotStopped
	default:
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", sm.ErrSnapshotAborted, m.r.name, m.r.readError(err))
	}
	m.r.node.stats.snapshotsSent.Add(1)
	return nil
}

// RecoverFromSnapshot implements statemachine.IOnDiskStateMachine.
func (m *machine) RecoverFromSnapshot(r io.Reader, stop <-chan struct{}) error {
	applied, err := m.app.restore(r, stop)
	select {
	case <-stop:
		return sm.ErrSnapshotStopped
	default:
	}
	if err != nil {
		m.unusable(err)
		return sm.ErrSnapshotStopped
	}
	m.r.node.stats.snapshotsReceived.Add(1)
	m.r.applied(applied, 0)
	return nil
}

// Close implements statemachine.IOnDiskStateMachine. The store outlives the NodeHost.
func (m *machine) Close() error { return nil }
