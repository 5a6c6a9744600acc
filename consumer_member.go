package mq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
)

// member is a consumer's membership in its group. One goroutine, beatLoop, sends
// heartbeats and takes what the coordinator answers; it waits for nobody. Another,
// settleLoop, calls the hooks, one at a time, and gives partitions up. A
// partition goes through these phases:
//
//	arriving ──────► held ──────► leaving ──────► gone, and the coordinator is told
//	   OnAssigned          handed out    commit,
//	                       is finished   OnRevoked
//
// From any of them it may be lost, which stops what works on it at once: OnLost.
type member struct {
	c    *Consumer
	id   string
	gate sync.Mutex // around the beginning of each heartbeat; tests hold it

	work  chan struct{}  // capacity 1: settleLoop has something to do
	wake  chan struct{}  // capacity 1: beatLoop has something to tell
	waits sync.WaitGroup // for partitions to be drained; end with life
	done  chan struct{}  // closed when settleLoop has ended

	parting sync.Once
	parted  error // what farewell returns

	grace    context.Context // of hooks and what they do; outlives the consumer by CloseTimeout
	endGrace context.CancelFunc

	mu struct {
		sync.Mutex // before the Set's
		epoch      int32
		asked      bool      // a heartbeat was sent
		joined     bool      // an answer came
		heard      time.Time // when the last heartbeat that was answered was sent
		mute       bool      // it was so long ago that nothing is handed out
		interval   time.Duration
		target     []api.TopicPartition // of the last answer, and as a set
		wanted     map[api.TopicPartition]bool
		mine       map[fetch.Key]*holding
		lost       []TopicPartition // OnLost is to be called for
		untold     bool             // there is something that no heartbeat has told
		cancel     func()           // ends the heartbeat that waits
		err        error            // why there can be no membership
	}
}

// phase is how far a partition has come.
type phase uint8

const (
	arriving phase = iota // OnAssigned was not called yet
	held
	leaving // not wanted any more
	gone    // OnRevoked was called
)

// holding is a partition that the member has.
type holding struct {
	tp      api.TopicPartition
	part    *fetch.Partition
	phase   phase
	drained bool      // leaving, and all that was handed out is finished or has had its time
	until   time.Time // leaving: when the coordinator takes it away
}

// What a member believes where the config leaves it to the broker.
const (
	usualSession   = 45 * time.Second
	usualRebalance = 5 * time.Minute
)

func newMember(c *Consumer) *member {
	m := &member{
		c: c, id: uuid.NewString(),
		work: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	m.mu.mine = make(map[fetch.Key]*holding)
	m.mu.heard = time.Now()
	m.grace, m.endGrace = context.WithCancel(context.Background())
	context.AfterFunc(c.life, func() { time.AfterFunc(c.cfg.CloseTimeout, m.endGrace) })
	return m
}

func (m *member) session() time.Duration {
	if m.c.cfg.SessionTimeout > 0 {
		return m.c.cfg.SessionTimeout
	}
	return usualSession
}

func (m *member) rebalance() time.Duration {
	if m.c.cfg.RebalanceTimeout > 0 {
		return m.c.cfg.RebalanceTimeout
	}
	return usualRebalance
}

// failure is why there can be no membership, nil while there can.
func (m *member) failure() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.err
}

// settled reports whether the coordinator has told what the member has.
func (m *member) settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.joined
}

// answered takes an answer to the heartbeat that was sent then, and reports
// whether it says anything new.
func (m *member) answered(sent time.Time, resp *api.GroupHeartbeatResponse) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news = !m.mu.joined || resp.MemberEpoch != m.mu.epoch || len(resp.Assignment) != len(m.mu.wanted) ||
		slices.ContainsFunc(resp.Assignment, func(tp api.TopicPartition) bool { return !m.mu.wanted[tp] })
	first := !m.mu.joined
	m.mu.heard, m.mu.joined = sent, true
	if m.mu.mute {
		m.mu.mute = false
		m.c.set.Mute(false)
	}
	m.mu.epoch, m.mu.interval, m.mu.target = resp.MemberEpoch, resp.Interval, resp.Assignment
	m.mu.wanted = make(map[api.TopicPartition]bool, len(resp.Assignment))
	for _, tp := range resp.Assignment {
		m.mu.wanted[tp] = true
	}
	m.reconcileLocked(first)
	m.c.set.Stir()
	return news
}

// reconcileLocked begins to make what the member has what it may have. What the
// first answer brings begins where the config says. What comes later was
// others', or is new.
func (m *member) reconcileLocked(first bool) {
	for key, h := range m.mu.mine {
		if m.mu.wanted[h.tp] {
			continue
		}
		switch h.phase {
		case arriving: // nobody knows of it
			m.c.set.Remove(h.part, errRevoked)
			delete(m.mu.mine, key)
			m.tellLocked()
		case held:
			m.leaveLocked(h)
		case leaving, gone:
		}
	}
	for _, tp := range m.mu.target {
		key := fetch.Key{Topic: tp.Topic, Partition: tp.Partition}
		if !m.mu.wanted[tp] || m.mu.mine[key] != nil {
			continue // lost since, or there; also one of a topic that was created anew: the old one goes first
		}
		var from Start
		late := int(tp.Partition) >= m.c.partitions[tp.Topic]
		if first && !late {
			from = m.c.cfg.Start
		}
		m.mu.mine[key] = &holding{tp: tp, part: m.c.set.Assign(tp, from.at, late)}
		m.tellLocked()
	}
	notify(m.work)
	notify(m.c.moved)
	notify(m.c.asking)
}

// leaveLocked begins to give a partition up: no more of it is handed out.
func (m *member) leaveLocked(h *holding) {
	h.phase, h.until = leaving, time.Now().Add(m.rebalance())
	drained := m.c.set.Drain(h.part.Key())
	patience := time.NewTimer(m.rebalance() - m.rebalance()/10) // the rest is for the commit and the hook
	m.waits.Go(func() {
		defer patience.Stop()
		select {
		case <-drained:
		case <-patience.C:
			h.part.End(errRevoked)
		case <-h.part.Context().Done(): // lost
		case <-m.c.life.Done():
			return
		}
		m.mu.Lock()
		h.drained = true
		m.mu.Unlock()
		notify(m.work)
	})
}

// errRevoked is the cause of the end of a handler's ctx when it did not come to
// an end by itself.
var errRevoked = fmt.Errorf("%w: the partition was given to another consumer", mqerr.ErrStaleMemberEpoch)

// tellLocked makes a heartbeat tell what is new, now.
func (m *member) tellLocked() {
	m.mu.untold = true
	if m.mu.cancel != nil {
		m.mu.cancel()
	}
	notify(m.wake)
}

// lose drops partitions, all that the member has if parts is nil, because others
// may have them by now.
func (m *member) lose(cause error, parts ...*fetch.Partition) {
	lost := m.forget(cause, parts)
	if len(lost) > 0 {
		m.c.log.Warn("partitions are lost", "group", m.c.cfg.GroupID, "partitions", lost, "err", cause)
	}
	notify(m.work)
}

func (m *member) forget(cause error, parts []*fetch.Partition) (lost []TopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, h := range m.mu.mine {
		if parts != nil && !slices.Contains(parts, h.part) {
			continue
		}
		m.c.set.Remove(h.part, fmt.Errorf("%v is lost: %w", TopicPartition(key), cause))
		delete(m.mu.mine, key)
		delete(m.mu.wanted, h.tp)
		if h.phase == held || h.phase == leaving {
			lost = append(lost, TopicPartition(key))
		}
	}
	if parts == nil {
		m.mu.epoch, m.mu.target, m.mu.wanted = api.JoinEpoch, nil, nil // which the next heartbeat tells anyhow
	} else {
		m.tellLocked()
	}
	m.mu.lost = append(m.mu.lost, sorted(lost)...)
	return lost
}

func sorted(tps []TopicPartition) []TopicPartition {
	slices.SortFunc(tps, func(a, b TopicPartition) int { return fetch.Key(a).Compare(fetch.Key(b)) })
	return tps
}

// commits lists what is finished, of these partitions if any are named, and the
// epoch under which the member has them.
func (m *member) commits(only []*fetch.Partition) (cs []fetch.Commit, epoch int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cs = m.c.set.Commits()
	if only != nil {
		cs = slices.DeleteFunc(cs, func(c fetch.Commit) bool { return !slices.Contains(only, c.Of()) })
	}
	return cs, m.mu.epoch
}

// rejoins reports whether err says that the group does not know the member as it
// is: it has lost what it had, and joins again.
func rejoins(err error) bool {
	return errors.Is(err, ErrFencedMemberEpoch) || errors.Is(err, ErrUnknownMember) || errors.Is(err, ErrStaleMemberEpoch)
}
