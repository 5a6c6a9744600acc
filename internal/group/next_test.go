package group

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// coordinated is a group under test.
type coordinated struct {
	tb     testing.TB
	state  *State
	topics *Topics
	max    int
}

func newGroup(tb testing.TB, partitions ...int32) *coordinated {
	return &coordinated{tb: tb, state: &State{}, topics: topicsOf(partitions...), max: 10}
}

// beat is a heartbeat of a member of all topics.
func beat(id string, epoch int32, owned ...Partition) *Heartbeat {
	return &Heartbeat{MemberID: id, Epoch: epoch, Subscription: Subscription{Topics: []string{"t0", "t1"}}, Owned: owned}
}

func static(id, instance string, epoch int32, owned ...Partition) *Heartbeat {
	h := beat(id, epoch, owned...)
	h.InstanceID = instance
	return h
}

func (g *coordinated) all(beats ...*Heartbeat) ([]Answer, Output) {
	g.tb.Helper()
	for _, h := range beats {
		if err := h.Check(); err != nil {
			g.tb.Fatal(err)
		}
	}
	next, out := g.state.Next(Input{Topics: g.topics, Heartbeats: beats, MaxMembers: g.max, Now: 1000})
	g.state = next
	return out.Answers, out
}

func (g *coordinated) expire(id string) {
	g.state, _ = g.state.Next(Input{Topics: g.topics, Expired: []string{id}, MaxMembers: g.max, Now: 1000})
}

// says sends one heartbeat and wants an answer: "epoch: numbers of t0, t1".
func (g *coordinated) says(h *Heartbeat, want string) []Partition {
	g.tb.Helper()
	answers, _ := g.all(h)
	if answers[0].Err != nil {
		g.tb.Fatalf("%s at %d: %v", h.MemberID, h.Epoch, answers[0].Err)
	}
	if got := show(answers[0]); got != want {
		g.tb.Fatalf("%s at %d is told %q, want %q", h.MemberID, h.Epoch, got, want)
	}
	return answers[0].Assigned
}

func show(a Answer) string {
	out := fmt.Sprint(a.Epoch, ":")
	for _, p := range a.Assigned {
		out += fmt.Sprintf(" %d/%d", p.Topic[15], p.Number)
	}
	return out
}

func (g *coordinated) refuses(h *Heartbeat, want error) {
	g.tb.Helper()
	before := g.state.Revision
	answers, _ := g.all(h)
	if !errors.Is(answers[0].Err, want) {
		g.tb.Fatalf("%s at %d: %v, want %v", h.MemberID, h.Epoch, answers[0].Err, want)
	}
	if g.state.Revision != before {
		g.tb.Fatalf("%s at %d was refused and changed something", h.MemberID, h.Epoch)
	}
}

func part(topic, number int) Partition { return Partition{topicID(topic), int32(number)} }

func TestAPartitionMovesWhenItsOwnerGaveItUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 4)
	a := g.says(beat("a", 0), "1: 0/0 0/1 0/2 0/3")
	g.says(beat("b", 0), "2:") // nothing is free
	half := g.says(beat("a", 1, a...), "2: 0/0 0/1")
	g.says(beat("b", 2), "2:")
	g.says(beat("a", 2, a[:3]...), "2: 0/0 0/1")     // one of two is given up
	got := g.says(beat("b", 2), "2: 0/3")            // and goes over
	g.says(beat("a", 2, half...), "2: 0/0 0/1")      // so does the other
	got = g.says(beat("b", 2, got...), "2: 0/2 0/3") //
	g.says(beat("b", 2, got...), "2: 0/2 0/3")       //
	if !g.state.Settled() {
		t.Errorf("not settled: %+v", g.state)
	}
}

func TestWhatAHeartbeatDidNotKnowOfItDoesNotGiveUp(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.says(beat("a", 0), "1: 0/0 0/1")
	late := beat("a", 1) // sent before it began to read; it is on its way for long
	both := []Partition{part(0, 0), part(0, 1)}
	g.says(beat("a", 1, both...), "1: 0/0 0/1")
	g.says(beat("b", 0), "2:")
	g.says(beat("a", 1, both...), "2: 0/0")
	g.says(late, "2: 0/0")
	g.says(beat("b", 2), "2:") // a reads it still
	g.says(beat("a", 2, both[0]), "2: 0/0")
	g.says(beat("b", 2), "2: 0/1")
}

func TestALostAnswerDoesNoHarm(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	for range 3 {
		g.says(beat("a", 0), "1: 0/0 0/1")
	}
	both := []Partition{part(0, 0), part(0, 1)}
	g.says(beat("b", 0), "2:")
	for range 3 {
		g.says(beat("a", 1, both...), "2: 0/0")
	}
	g.says(beat("c", 0), "3:")
	g.says(beat("a", 1, both...), "3: 0/0")
	for range 3 {
		g.says(beat("a", -1), "-1:")
	}
	if len(g.state.Members) != 2 || g.state.Epoch != 4 {
		t.Errorf("epoch %d with %v", g.state.Epoch, g.state.ids())
	}
}

func TestAHeartbeatOfAnotherTimeIsFenced(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.refuses(beat("a", 1), mqerr.ErrUnknownMember)
	both := g.says(beat("a", 0), "1: 0/0 0/1")
	g.refuses(beat("a", 2), mqerr.ErrFencedMemberEpoch)
	g.says(beat("b", 0), "2:")
	g.says(beat("a", 1, both...), "2: 0/0")
	g.refuses(beat("b", 2, both[0]), mqerr.ErrFencedMemberEpoch) // which it does not hold
	g.says(beat("a", 2, both[0]), "2: 0/0")
	g.refuses(beat("a", 1, both[0]), mqerr.ErrFencedMemberEpoch)
	g.refuses(beat("a", 2, both...), mqerr.ErrFencedMemberEpoch)
	g.expire("a")
	g.refuses(beat("a", 2, both[0]), mqerr.ErrUnknownMember)
	g.says(beat("a", 0), "4: 0/1") // it begins anew
	g.refuses(beat("a", 3, both[0]), mqerr.ErrFencedMemberEpoch)
}

func TestACommitIsGoodSinceItsMemberGotThePartition(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	both := g.says(beat("a", 0), "1: 0/0 0/1")
	g.says(beat("b", 0), "2:")
	g.says(beat("c", 0), "3:")
	g.says(beat("a", 1, both...), "3: 0/0")
	may := func(id string, number int, epoch int32, want bool) {
		t.Helper()
		if got := g.state.Members[id].MayCommit(part(0, number), epoch); got != want {
			t.Errorf("%s may commit for %d at epoch %d: %t", id, number, epoch, got)
		}
	}
	may("a", 0, 1, true) // two epochs behind
	may("a", 1, 1, true) // while it gives it up
	may("b", 1, 3, false)
	g.says(beat("a", 3, both[0]), "3: 0/0")
	may("a", 1, 3, false)
	g.says(beat("b", 2), "3: 0/1")
	may("b", 1, 3, true)
	may("b", 1, 2, false) // it was not its own then
	may("a", 7, 3, false)
}

func TestAStaticMemberComesBackToWhatItHad(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 4)
	g.says(static("a", "one", 0), "1: 0/0 0/1 0/2 0/3")
	g.says(static("b", "two", 0), "2:")
	all := []Partition{part(0, 0), part(0, 1), part(0, 2), part(0, 3)}
	g.says(static("a", "one", 1, all...), "2: 0/0 0/1")
	g.refuses(static("x", "one", 0), mqerr.ErrInstanceInUse)
	g.says(static("a", "one", -2), "-2:") // what it was giving up is free
	g.refuses(static("a", "one", 2, all[:2]...), mqerr.ErrFencedMemberEpoch)
	g.says(static("b", "two", 2), "2: 0/2 0/3")
	g.says(static("a2", "one", 0), "2: 0/0 0/1")
	g.says(static("a2", "one", 2, all[:2]...), "2: 0/0 0/1")
	g.refuses(static("a", "one", 2, all[:2]...), mqerr.ErrInstanceFenced)
	if g.state.Epoch != 2 || !g.state.Settled() {
		t.Errorf("after a restart: %+v", g.state)
	}
	g.says(static("a2", "one", -2), "-2:")
	g.expire("a2") // it did not come back in time
	g.says(static("b", "two", 2, all[2:]...), "3: 0/0 0/1 0/2 0/3")
	g.says(static("a3", "one", 0), "4:")
}

func TestAStaticMemberThatIsAwayLosesWhatOthersShouldHave(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.says(static("a", "one", 0), "1: 0/0 0/1")
	g.says(static("a", "one", -2), "-2:")
	g.says(beat("b", 0), "2: 0/1") // at once: nobody reads it
	g.says(static("a2", "one", 0), "2: 0/0")
}

func TestAllThatComesAtOnceIsOneStep(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 6, 4)
	g.max = 500
	var beats []*Heartbeat
	for i := range 501 {
		beats = append(beats, beat(fmt.Sprintf("m%03d", i), 0))
	}
	answers, out := g.all(beats...)
	if g.state.Epoch != 1 || g.state.Revision != 1 || len(out.Put) != 500 {
		t.Errorf("epoch %d, revision %d, %d members", g.state.Epoch, g.state.Revision, len(out.Put))
	}
	if !errors.Is(answers[500].Err, mqerr.ErrGroupMaxSize) {
		t.Errorf("one too many: %v", answers[500].Err)
	}
	for i, a := range answers[:500] {
		if want := min(1, max(0, 10-i)); a.Err != nil || len(a.Assigned) != want {
			t.Fatalf("member %d of 500 has %s, %v", i, show(a), a.Err)
		}
	}
}

func TestTopicsComeGrowAndGo(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	g.says(beat("a", 0), "1: 0/0")
	g.says(beat("a", 1, part(0, 0)), "1: 0/0")
	g.topics = topicsOf(2, 1) // t0 grows, t1 comes
	g.says(beat("a", 1, part(0, 0)), "2: 0/0 0/1 1/0")
	g.topics = topicsOf(2, 1, 5) // what nobody reads
	g.says(beat("a", 2, part(0, 0), part(0, 1), part(1, 0)), "2: 0/0 0/1 1/0")
	g.topics = topicsOf(2) // t1 goes
	g.says(beat("a", 2, part(0, 0), part(0, 1), part(1, 0)), "3: 0/0 0/1")
	g.topics = NewTopics([]Topic{{"t0", topicID(9), 1}}) // t0 is made anew
	g.says(beat("a", 3, part(0, 0), part(0, 1)), "4: 9/0")
	g.says(beat("a", 4, part(9, 0)), "4: 9/0")
	if m := g.state.Members["a"]; !m.settled() {
		t.Errorf("it holds %v", m.Held)
	}
}

func TestAPatternIsOfWholeNames(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{"t": "1:", "t.": "1: 0/0 1/0", "t0|t1": "1: 0/0 1/0", ".*1": "1: 1/0", "T0": "1:", "(?i)T0": "1: 0/0"} {
		g := newGroup(t, 1, 1)
		h := beat("a", 0)
		h.Topics, h.Pattern = nil, pattern
		g.says(h, want)
		if got := h.Covers("t0"); got != strings.Contains(want, "0/0") {
			t.Errorf("%s covers t0: %t", pattern, got)
		}
	}
}

func TestAMemberIsNotToldWhatItKnows(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	known := func(want bool, h *Heartbeat) {
		t.Helper()
		answers, _ := g.all(h)
		if answers[0].Known != want {
			t.Errorf("%s at %d with %d owned knows %s: %t", h.MemberID, h.Epoch, len(h.Owned), show(answers[0]), answers[0].Known)
		}
	}
	both := []Partition{part(0, 0), part(0, 1)}
	known(false, beat("a", 0))
	known(false, beat("a", 1))
	known(true, beat("a", 1, both...))
	known(false, beat("b", 0))
	known(true, beat("b", 2))
	known(false, beat("a", 1, both...)) // it is asked for one
	known(true, beat("a", 2, both...))  // and knows it
	known(true, beat("a", 2, both[0]))  // done
	known(false, beat("b", 2))
	known(true, beat("b", 2, both[1]))
	g.expire("b")
	known(false, beat("a", 2, both[0]))
}

func TestHeartbeatsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Heartbeat)
		want   error
	}{
		"no member id":        {func(h *Heartbeat) { h.MemberID = "" }, mqerr.ErrInvalidRequest},
		"a long member id":    {func(h *Heartbeat) { h.MemberID = strings.Repeat("x", 256) }, mqerr.ErrInvalidRequest},
		"bytes":               {func(h *Heartbeat) { h.ClientID = "\xff" }, mqerr.ErrInvalidRequest},
		"a long instance id":  {func(h *Heartbeat) { h.InstanceID = strings.Repeat("x", 256) }, mqerr.ErrInvalidRequest},
		"an epoch":            {func(h *Heartbeat) { h.Epoch = -3 }, mqerr.ErrInvalidRequest},
		"back but no id":      {func(h *Heartbeat) { h.Epoch = api.LeaveStaticEpoch }, mqerr.ErrInvalidRequest},
		"joins with some":     {func(h *Heartbeat) { h.Owned = []Partition{part(0, 0)} }, mqerr.ErrInvalidRequest},
		"nothing to read":     {func(h *Heartbeat) { h.Topics = nil }, mqerr.ErrInvalidRequest},
		"too much to read":    {func(h *Heartbeat) { h.Topics = slices.Repeat([]string{"t"}, maxTopics+1) }, mqerr.ErrInvalidRequest},
		"no pattern":          {func(h *Heartbeat) { h.Pattern = "t[" }, mqerr.ErrInvalidPattern},
		"a pattern of two":    {func(h *Heartbeat) { h.Pattern = "t)|(u" }, mqerr.ErrInvalidPattern},
		"a long pattern":      {func(h *Heartbeat) { h.Pattern = strings.Repeat("x", maxPattern+1) }, mqerr.ErrInvalidPattern},
		"an unknown assignor": {func(h *Heartbeat) { h.Assignor = "sticky" }, mqerr.ErrUnsupportedAssignor},
	} {
		h := beat("a", 0)
		c.change(h)
		if err := h.Check(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := newGroup(t, 1)
	g.says(beat("a", 0), "1: 0/0")
	g.refuses(static("a", "one", 1), mqerr.ErrInvalidRequest)
}

func TestAGroupRemembersSinceWhenItIsEmpty(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	g.says(beat("a", 0), "1: 0/0")
	if g.state.EmptySince != 0 {
		t.Errorf("with a member it is empty since %d", g.state.EmptySince)
	}
	g.says(beat("a", -1), "-1:")
	if g.state.EmptySince != 1000 || len(g.state.Members) != 0 {
		t.Errorf("without members it is empty since %d", g.state.EmptySince)
	}
}

// BenchmarkRebalance is what one more member of a hundred with 1,000 partitions
// costs the coordinator, from its first heartbeat until everyone has its share.
func BenchmarkRebalance(b *testing.B) {
	topics := topicsOf(slices.Repeat([]int32{100}, 10)...)
	s := &State{}
	heartbeat := func(id string, epoch int32, owned []Partition) *Heartbeat {
		return &Heartbeat{MemberID: id, Epoch: epoch, Owned: owned, Subscription: Subscription{Pattern: "t.*", SessionTimeout: time.Minute}}
	}
	var members []*Heartbeat
	for i := range 99 {
		members = append(members, heartbeat(fmt.Sprintf("m%02d", i), 0, nil))
	}
	round := func(s *State, hs []*Heartbeat) (*State, []*Heartbeat) {
		next, out := s.Next(Input{Topics: topics, Heartbeats: hs, MaxMembers: 1000})
		var again []*Heartbeat
		for i, h := range hs {
			again = append(again, heartbeat(h.MemberID, out.Answers[i].Epoch, out.Answers[i].Assigned))
		}
		return next, again
	}
	s, members = round(s, members)
	members = append(members, heartbeat("one more", 0, nil))
	for b.Loop() {
		now, beats := s, members
		for range 3 {
			now, beats = round(now, beats)
		}
		if !now.Settled() {
			b.Fatal("not settled")
		}
	}
}
