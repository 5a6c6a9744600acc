package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// world is a group, clients that behave, and a network that does not: it loses
// heartbeats and answers, and delivers what is late, or twice, in any order.
type world struct {
	tb      testing.TB
	r       *rand.Rand
	topics  []Topic
	state   *State
	clients []*client
	late    []*Heartbeat // on their way still, their senders gave them up
	named   int
	now     int64
}

// client is one consumer. It reads what it owns until it has given it up.
type client struct {
	id, instance string
	sub          Subscription
	epoch        int32
	owned        map[Partition]bool
	told         []Partition
	gone         bool // has left: it reads nothing and says nothing more
	deaf         bool // reads on, but sends nothing
}

func (w *world) newClient(instance string) *client {
	w.named++
	c := &client{id: fmt.Sprint("m", w.named), instance: instance, owned: map[Partition]bool{}}
	w.subscribe(c)
	w.clients = append(w.clients, c)
	return c
}

func (w *world) subscribe(c *client) {
	c.sub = Subscription{Assignor: []string{"", Uniform, Range}[w.r.IntN(3)], SessionTimeout: time.Minute}
	switch w.r.IntN(4) {
	case 0:
		c.sub.Pattern = "t[0-2]"
	case 1:
		c.sub.Topics = []string{"t0", "t9"}
	default:
		c.sub.Topics = []string{"t0", "t1", "t2"}
	}
}

func (c *client) heartbeat() *Heartbeat {
	h := &Heartbeat{MemberID: c.id, InstanceID: c.instance, Epoch: c.epoch, Subscription: c.sub}
	if c.epoch > 0 {
		h.Owned = slices.Collect(maps.Keys(c.owned))
	}
	return h
}

// reset is a client that learnt that it is a member no more.
func (c *client) reset() {
	c.epoch, c.told = 0, nil
	clear(c.owned)
}

// giveUp ends the reading of what the client was told to give up, some or all.
func (w *world) giveUp(c *client, all bool) {
	for p := range c.owned {
		if !slices.Contains(c.told, p) && (all || w.r.IntN(2) == 0) {
			delete(c.owned, p)
		}
	}
}

// isMember reports whether the coordinator counts on what the client does: it is
// a member, and not by a heartbeat of its past or future.
func (w *world) isMember(c *client) bool {
	m := w.state.Members[c.id]
	return m != nil && c.epoch >= m.Seen && !m.Away
}

// step lets things happen at once. The answers to live reach their clients.
func (w *world) step(live []*client, lost func() bool, late []*Heartbeat, expired ...string) {
	w.tb.Helper()
	var beats []*Heartbeat
	for _, c := range live {
		h := c.heartbeat()
		if err := h.Check(); err != nil {
			w.tb.Fatal(err)
		}
		beats = append(beats, h)
	}
	was := make([]bool, len(live))
	for i, c := range live {
		was[i] = w.isMember(c) && !slices.Contains(expired, c.id)
	}
	beats = append(beats, late...)
	w.now++
	next, out := w.state.Next(Input{Topics: NewTopics(w.topics), Heartbeats: beats, Expired: expired, MaxMembers: 50, Now: w.now})
	w.apply(next, out)
	for i, c := range live {
		a := out.Answers[i]
		if errors.Is(a.Err, mqerr.ErrFencedMemberEpoch) && was[i] {
			w.tb.Fatalf("%s was a member and is fenced: %v", c.id, a.Err)
		}
		if lost() {
			w.late = append(w.late, beats[i]) // a copy may come
			continue
		}
		switch {
		case errors.Is(a.Err, mqerr.ErrUnknownMember), errors.Is(a.Err, mqerr.ErrFencedMemberEpoch):
			c.reset()
		case errors.Is(a.Err, mqerr.ErrInstanceFenced):
			c.reset()
			c.gone = true
		case errors.Is(a.Err, mqerr.ErrInstanceInUse) && c.epoch == 0:
		case a.Err != nil:
			w.tb.Fatalf("%s: %v", c.id, a.Err)
		default:
			if a.Epoch < c.epoch {
				w.tb.Fatalf("%s has epoch %d and is told %d", c.id, c.epoch, a.Epoch)
			}
			c.epoch, c.told = a.Epoch, a.Assigned
			for _, p := range a.Assigned {
				c.owned[p] = true
			}
			w.giveUp(c, false)
		}
	}
	w.check()
}

// apply checks that what is to be stored makes the next state of the last one.
func (w *world) apply(next *State, out Output) {
	w.tb.Helper()
	if next.Epoch < w.state.Epoch || next.Revision < w.state.Revision || out.Changed != (next.Revision == w.state.Revision+1) {
		w.tb.Fatalf("from epoch %d, revision %d to %d, %d, changed: %t", w.state.Epoch, w.state.Revision, next.Epoch, next.Revision, out.Changed)
	}
	stored, members, err := DecodeHeader(next.EncodeHeader())
	if err != nil || members != len(next.Members) {
		w.tb.Fatalf("header with %d of %d members: %v", members, len(next.Members), err)
	}
	maps.Copy(stored.Members, w.state.Members)
	for _, id := range out.Deleted {
		delete(stored.Members, id)
	}
	for _, m := range out.Put {
		again, err := DecodeMember(m.ID, m.Encode())
		if err != nil {
			w.tb.Fatal(err)
		}
		stored.Members[m.ID] = again
	}
	if len(stored.Members) != len(next.Members) || stored.Epoch != next.Epoch || stored.TopicsHash != next.TopicsHash || stored.EmptySince != next.EmptySince {
		w.tb.Fatalf("stored: %+v, want %+v", stored, next)
	}
	for id, m := range next.Members {
		if o := stored.Members[id]; o == nil || !m.equal(o) {
			w.tb.Fatalf("stored: %+v, want %+v", o, m)
		}
	}
	w.state = next
	if w.r.IntN(4) == 0 {
		w.state = stored // as after a failover
	}
}

// check is what must hold at any time.
func (w *world) check() {
	w.tb.Helper()
	holder := map[Partition]string{}
	for id, m := range w.state.Members {
		for p := range m.Held {
			if other, ok := holder[p]; ok {
				w.tb.Fatalf("%s and %s hold %v", id, other, p)
			}
			holder[p] = id
		}
	}
	for _, c := range w.clients {
		for p := range c.owned {
			m := w.state.Members[c.id]
			switch {
			case !w.isMember(c):
				if m != nil && m.MayCommit(p, c.epoch) {
					w.tb.Fatalf("%s at epoch %d is of the past and may commit for %v", c.id, c.epoch, p)
				}
			case holder[p] != c.id:
				w.tb.Fatalf("%s reads %v, which %q holds", c.id, p, holder[p])
			case !m.MayCommit(p, c.epoch):
				w.tb.Fatalf("%s at epoch %d may not commit for %v: %+v", c.id, c.epoch, p, m.Held[p])
			}
		}
	}
}

// turn is one thing that happens at random.
func (w *world) turn() {
	w.tb.Helper()
	r := w.r
	var some []*client
	for _, c := range w.clients {
		if !c.gone && !c.deaf && r.IntN(3) == 0 {
			some = append(some, c)
		}
	}
	var late []*Heartbeat
	for i := 0; i < len(w.late); i++ {
		if r.IntN(4) == 0 {
			late = append(late, w.late[i])
			if r.IntN(2) == 0 { // else it comes again
				w.late = slices.Delete(w.late, i, i+1)
				i--
			}
		}
	}
	w.late = w.late[max(0, len(w.late)-20):]
	var expired []string
	var one *client
	if len(w.clients) > 0 {
		one = w.clients[r.IntN(len(w.clients))]
	}
	switch k := r.IntN(20); {
	case k == 0 && len(w.clients) < 12 || one == nil:
		some = append(some, w.newClient(""))
	case k == 1 && len(w.clients) < 12:
		some = append(some, w.newClient(fmt.Sprint("i", r.IntN(4))))
	case k == 2 && !one.gone: // it closes in order
		w.leave(one, api.LeaveEpoch)
		return
	case k == 3 && !one.gone && one.instance != "": // it starts again
		w.leave(one, api.LeaveStaticEpoch)
		w.newClient(one.instance)
		return
	case k == 4:
		one.deaf = !one.deaf
	case k == 5 && len(w.state.Members) > 0: // silent for too long, or slow to give up
		expired = append(expired, w.state.ids()[r.IntN(len(w.state.Members))])
	case k == 6 && !one.gone:
		w.subscribe(one)
	case k == 7:
		w.changeTopics()
	case k == 8:
		w.clients = slices.DeleteFunc(w.clients, func(c *client) bool { return c.gone })
	}
	w.step(some, func() bool { return r.IntN(4) == 0 }, late, expired...)
	if one != nil && r.IntN(2) == 0 {
		w.giveUp(one, r.IntN(2) == 0)
	}
}

func (w *world) leave(c *client, epoch int32) {
	w.tb.Helper()
	clear(c.owned) // first it stops
	c.gone, c.epoch = true, epoch
	h := c.heartbeat()
	if w.r.IntN(4) == 0 {
		w.late = append(w.late, h)
		return
	}
	w.step(nil, nil, []*Heartbeat{h})
}

func (w *world) changeTopics() {
	i := w.r.IntN(4)
	switch at := slices.IndexFunc(w.topics, func(t Topic) bool { return t.Name == fmt.Sprint("t", i) }); {
	case at < 0:
		w.named++
		w.topics = append(w.topics, Topic{fmt.Sprint("t", i), topicID(100 + w.named%100), 1 + w.r.Int32N(5)})
	case w.r.IntN(2) == 0:
		w.topics[at].Partitions += w.r.Int32N(3)
	default:
		w.topics = slices.Delete(w.topics, at, at+1)
	}
}

// settle lets everyone behave for a while, and everything has to find its place.
func (w *world) settle() {
	w.tb.Helper()
	w.late = nil
	var live []*client
	for _, c := range w.clients {
		if c.deaf = false; !c.gone {
			live = append(live, c)
		}
	}
	var expired []string
	for id := range w.state.Members {
		if !slices.ContainsFunc(live, func(c *client) bool { return c.id == id }) {
			expired = append(expired, id)
		}
	}
	slices.Sort(expired)
	w.step(nil, nil, nil, expired...)
	for range 6 {
		for _, c := range live {
			w.step([]*client{c}, func() bool { return false }, nil)
			w.giveUp(c, true)
		}
	}
	before := w.state.Revision
	for _, c := range live {
		w.step([]*client{c}, func() bool { return false }, nil)
	}
	if w.state.Revision != before {
		w.tb.Fatal("heartbeats that say nothing new changed something")
	}
	if !w.state.Settled() {
		w.tb.Fatalf("not settled: %+v", w.state)
	}
	owner := map[Partition]string{}
	for _, c := range live {
		m := w.state.Members[c.id]
		if m == nil { // another one has its instance id
			if c.instance == "" {
				w.tb.Fatalf("%s is no member", c.id)
			}
			continue
		}
		if got := slices.SortedFunc(maps.Keys(c.owned), comparePartitions); !slices.Equal(got, m.Target) {
			w.tb.Fatalf("%s reads %v, should %v", c.id, got, m.Target)
		}
		for p := range c.owned {
			owner[p] = c.id
		}
	}
	for _, topic := range w.topics {
		for p := range topic.Partitions {
			read := slices.ContainsFunc(live, func(c *client) bool { return w.state.Members[c.id] != nil && c.sub.Covers(topic.Name) })
			if _, ok := owner[Partition{topic.ID, p}]; ok != read {
				w.tb.Fatalf("partition %d of %s is read: %t, should be: %t", p, topic.Name, ok, read)
			}
		}
	}
}

func TestAPartitionNeverHasTwoOwnersWhateverHappens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		w := &world{tb: t, r: rand.New(rand.NewPCG(seed, 0)), state: &State{}}
		w.topics = []Topic{{"t0", topicID(0), 4}, {"t1", topicID(1), 3}}
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			for range 10 {
				for range 40 {
					w.turn()
				}
				w.settle()
			}
		}()
	}
}
