package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
)

// Partition is a partition of a topic. A topic created anew is another one.
type Partition struct {
	Topic  uuid.UUID
	Number int32
}

func comparePartitions(a, b Partition) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Number, b.Number))
}

// Tenure says since which group epoch a member holds a partition, and at which
// one it was asked to give it up, 0 if it was not.
type Tenure struct {
	Since, Revoked int32
}

// Subscription is what a member wants to read and how.
type Subscription struct {
	Topics           []string // sorted, each once
	Pattern          string   // RE2, of whole topic names; beside Topics
	Assignor         string   // empty: Uniform
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration
}

func (s Subscription) equal(o Subscription) bool {
	return slices.Equal(s.Topics, o.Topics) && s.Pattern == o.Pattern && s.Assignor == o.Assignor &&
		s.SessionTimeout == o.SessionTimeout && s.RebalanceTimeout == o.RebalanceTimeout
}

// wants reports whether two subscriptions ask for the same assignment.
func (s Subscription) wants(o Subscription) bool {
	return slices.Equal(s.Topics, o.Topics) && s.Pattern == o.Pattern && s.Assignor == o.Assignor
}

// Member is one member. One that belongs to a State must not be changed.
type Member struct {
	ID         string
	InstanceID string // of a static member
	ClientID   string
	Subscription

	// Seen is the newest member epoch that the member had shown when this record
	// was made. A heartbeat with an older one is of another time.
	Seen int32
	// Away is a static member that left and will be back: what it holds stays its
	// own until its session ends.
	Away bool

	Held   map[Partition]Tenure
	Target []Partition // what it should hold at the state's epoch, sorted
}

func (m *Member) clone() *Member {
	c := *m
	c.Held = maps.Clone(m.Held)
	return &c
}

func (m *Member) equal(o *Member) bool {
	return m.ID == o.ID && m.InstanceID == o.InstanceID && m.ClientID == o.ClientID && m.Subscription.equal(o.Subscription) &&
		m.Seen == o.Seen && m.Away == o.Away && maps.Equal(m.Held, o.Held) && slices.Equal(m.Target, o.Target)
}

// Assigned gives what the member may own, in order.
func (m *Member) Assigned() []Partition { return m.held(false) }

// Revoking gives what the member has yet to give up, in order.
func (m *Member) Revoking() []Partition { return m.held(true) }

// Revoked is the group epoch of the oldest revocation that the member has yet to
// follow, 0 without one.
func (m *Member) Revoked() int32 {
	var oldest int32
	for _, t := range m.Held {
		if t.Revoked != 0 && (oldest == 0 || t.Revoked < oldest) {
			oldest = t.Revoked
		}
	}
	return oldest
}

func (m *Member) held(revoked bool) []Partition {
	var out []Partition
	for p, t := range m.Held {
		if (t.Revoked != 0) == revoked {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePartitions)
	return out
}

// has reports whether the member may own a partition.
func (m *Member) has(p Partition) bool {
	t, ok := m.Held[p]
	return ok && t.Revoked == 0
}

// targets reports whether the member should have a partition.
func (m *Member) targets(p Partition) bool {
	_, ok := slices.BinarySearchFunc(m.Target, p, comparePartitions)
	return ok
}

// settled reports that the member has exactly what it should have.
func (m *Member) settled() bool {
	return len(m.Held) == len(m.Target) && !slices.ContainsFunc(m.Target, func(p Partition) bool { return !m.has(p) })
}

// MayCommit reports whether the member may commit for a partition with a member
// epoch: it has not given it up, and holds it since that epoch or an older one.
func (m *Member) MayCommit(p Partition, epoch int32) bool {
	t, ok := m.Held[p]
	return ok && epoch >= t.Since
}

// State is a group with its members. It is immutable.
type State struct {
	Revision   uint64 // of the stored group; grows with every change
	Epoch      int32  // grows with members, subscriptions and partitions
	TopicsHash uint64 // of what the target was computed from
	EmptySince int64  // ms since 1970: when the last member went; 0 with members
	Members    map[string]*Member

	looked *Topics // the ones that the hash was compared with last
}

// Settled reports that every member has what it should have.
func (s *State) Settled() bool {
	for _, m := range s.Members {
		if !m.settled() {
			return false
		}
	}
	return true
}

// EpochOf is the epoch up to which a member is known to follow the group: the
// group's own if it has what it should have.
func (s *State) EpochOf(m *Member) int32 {
	if m.settled() {
		return s.Epoch
	}
	return m.Seen
}

// Reads reports whether any member subscribes to a topic.
func (s *State) Reads(topic string) bool {
	for _, m := range s.Members {
		if m.Covers(topic) {
			return true
		}
	}
	return false
}

// ids gives the members' ids in order.
func (s *State) ids() []string { return slices.Sorted(maps.Keys(s.Members)) }

// Answer is what a member would be told now.
func (s *State) Answer(id string) Answer {
	m := s.Members[id]
	if m == nil {
		return Answer{Err: fmt.Errorf("%w: %s", mqerr.ErrUnknownMember, id)}
	}
	return Answer{Epoch: s.Epoch, Assigned: m.Assigned()}
}
