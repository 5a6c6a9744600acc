package group

import (
	"maps"
	"slices"
)

// Input is what has happened to a group. Its heartbeats passed Check.
type Input struct {
	Topics     *Topics
	Heartbeats []*Heartbeat
	Expired    []string // members whose time is over
	MaxMembers int
	Now        int64 // ms since 1970
}

// Output is what comes of it.
type Output struct {
	Answers []Answer // to the heartbeats, in their order
	// Changed says that the state has another revision, which has to be stored:
	// what follows, and what State itself has beside Members.
	Changed bool
	Put     []*Member
	Deleted []string // ids of members
}

// Next gives the state after what has happened.
func (s *State) Next(in Input) (*State, Output) {
	now := *s
	t := step{in: in, old: s, now: &now, answers: make([]Answer, len(in.Heartbeats))}
	for _, id := range in.Expired {
		t.remove(id)
	}
	for i, h := range in.Heartbeats {
		t.answers[i].Err = t.member(h)
	}
	t.retarget()
	t.reconcile()
	return t.end()
}

// step is one step from a state to the next.
type step struct {
	in      Input
	old     *State
	now     *State
	touched bool // the map of members is this step's own
	dirty   bool // the target is out of date
	joined  []*Member
	answers []Answer
}

// members gives the map to write to.
func (t *step) members() map[string]*Member {
	if !t.touched {
		t.touched = true
		if t.now.Members = maps.Clone(t.old.Members); t.now.Members == nil {
			t.now.Members = make(map[string]*Member)
		}
	}
	return t.now.Members
}

// change gives a member's record to write to.
func (t *step) change(id string) *Member {
	m := t.now.Members[id]
	if m == t.old.Members[id] {
		m = m.clone()
		t.members()[id] = m
	}
	return m
}

func (t *step) remove(id string) {
	if _, ok := t.now.Members[id]; ok {
		delete(t.members(), id)
		t.dirty = true
	}
}

// retarget computes a new target if who reads what may have changed.
func (t *step) retarget() {
	hash := t.now.TopicsHash
	if t.dirty || t.now.looked != t.in.Topics {
		hash = t.in.Topics.hash(t.now.Members)
		t.now.looked = t.in.Topics
	}
	if !t.dirty && hash == t.now.TopicsHash {
		return
	}
	t.now.TopicsHash = hash
	t.now.Epoch++
	for id, target := range t.now.target(t.in.Topics) {
		if slices.Equal(t.now.Members[id].Target, target) {
			continue
		}
		m := t.change(id)
		m.Target = target
		if m.Away { // nobody is there who would have to give it up
			maps.DeleteFunc(m.Held, func(p Partition, _ Tenure) bool { return !m.targets(p) })
		}
	}
}

// reconcile brings those who sent a heartbeat nearer to their target: first all
// of them give up, then they get what is free.
func (t *step) reconcile() {
	each := func(fn func(h *Heartbeat, m *Member)) {
		for i, h := range t.in.Heartbeats {
			m := t.now.Members[h.MemberID]
			if t.answers[i].Err == nil && h.Epoch >= 0 && m != nil && !m.settled() {
				fn(h, m)
			}
		}
	}
	each(func(h *Heartbeat, m *Member) {
		var owned map[Partition]bool
		for p, tenure := range m.Held {
			switch {
			case tenure.Revoked == 0 && !m.targets(p):
				tenure.Revoked = t.now.Epoch
				t.change(m.ID).Held[p] = tenure
			case tenure.Revoked != 0 && h.Epoch >= tenure.Revoked:
				if owned == nil {
					owned = setOf(h.Owned)
				}
				if !owned[p] {
					delete(t.change(m.ID).Held, p)
				}
			}
		}
	})
	var taken map[Partition]bool
	each(func(_ *Heartbeat, m *Member) {
		if taken == nil {
			taken = t.now.taken()
		}
		for _, p := range m.Target {
			if !taken[p] {
				taken[p] = true
				t.change(m.ID).Held[p] = Tenure{Since: t.now.Epoch}
			}
		}
	})
}

// taken gives what anybody holds.
func (s *State) taken() map[Partition]bool {
	out := make(map[Partition]bool)
	for _, m := range s.Members {
		for p := range m.Held {
			out[p] = true
		}
	}
	return out
}

func setOf(ps []Partition) map[Partition]bool {
	out := make(map[Partition]bool, len(ps))
	for _, p := range ps {
		out[p] = true
	}
	return out
}

// end sums up.
func (t *step) end() (*State, Output) {
	for i, h := range t.in.Heartbeats {
		m := t.now.Members[h.MemberID]
		if t.answers[i].Err == nil && m != nil && m != t.old.Members[h.MemberID] {
			// The record changes anyway: it may show what its member knows.
			m.Seen = max(m.Seen, h.Epoch)
		}
	}
	for _, m := range t.joined {
		m.Seen = t.now.Epoch // what is older is not from this member
	}
	out := Output{Answers: t.answers}
	for _, id := range t.now.ids() {
		m, old := t.now.Members[id], t.old.Members[id]
		switch {
		case m == old:
		case old == nil || !m.equal(old):
			out.Put = append(out.Put, m)
		default:
			t.now.Members[id] = old
		}
	}
	for _, id := range t.old.ids() {
		if t.now.Members[id] == nil {
			out.Deleted = append(out.Deleted, id)
		}
	}
	if t.now.Epoch != t.old.Epoch || len(out.Put)+len(out.Deleted) > 0 {
		out.Changed = true
		t.now.Revision++
		if len(t.now.Members) > 0 {
			t.now.EmptySince = 0
		} else if len(t.old.Members) > 0 {
			t.now.EmptySince = t.in.Now
		}
	}
	for i, h := range t.in.Heartbeats {
		t.answers[i] = t.answer(h, t.answers[i].Err)
	}
	return t.now, out
}

func (t *step) answer(h *Heartbeat, err error) Answer {
	if err != nil {
		return Answer{Err: err}
	}
	if h.Epoch < 0 {
		return Answer{Epoch: h.Epoch}
	}
	a := t.now.Answer(h.MemberID) // or it left in the same step
	a.Known = a.Err == nil && h.known(t.now.Members[h.MemberID])
	return a
}
