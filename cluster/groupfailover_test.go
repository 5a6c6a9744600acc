package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
)

// coordinator is the broker that leads a group's shard and serves. Before there
// is one it is any broker.
func (c *several) coordinator(group string) *Node {
	c.tb.Helper()
	var found *Node
	waitFor(c.tb, "a coordinator", func() bool {
		for _, n := range c.nodes {
			if n.closing.Err() != nil {
				continue
			}
			g, ok := n.meta.state.Load().groups[slotOf(group)]
			if !ok {
				found = n
				continue
			}
			if r := n.replica(g.Shard); r != nil {
				if _, err := r.epochServed(); err == nil {
					found = n
					return true
				}
			}
		}
		if found != nil {
			_, ok := found.meta.state.Load().groups[slotOf(group)]
			return !ok
		}
		return false
	})
	return found
}

// member is one that asks whoever is the coordinator, again and again.
func (c *several) member(group, id string, topics ...string) *steady {
	m := newMember(c.tb, nil, group, id, topics...)
	m.at = func() *Node { return c.coordinator(group) }
	return &steady{m}
}

// steady is a member that survives the loss of its coordinator.
type steady struct{ *member }

func (m *steady) beat() *steady {
	m.tb.Helper()
	ctx := timeout(m.tb)
	for ; ; _ = backoff.Sleep(ctx, time.Millisecond) {
		err := m.try(ctx)
		switch {
		case err == nil:
			return m
		case ctx.Err() != nil || !mqerr.Retriable(err) && !mqerr.OutcomeUnknown(err):
			m.tb.Fatalf("heartbeat of %s at %d: %v", m.req.MemberID, m.req.MemberEpoch, err)
		}
	}
}

func TestMembersStayWhenTheirCoordinatorDiesDuringARebalance(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t", Partitions: 12}); err != nil {
		t.Fatal(err)
	}
	ms := []*steady{c.member("g", "m0", "t").beat()}
	for round := range int64(2) {
		// Everyone is told what to give up, and one of them waits for news.
		ms = append(ms, c.member("g", fmt.Sprint("m", len(ms)), "t").beat())
		first := ms[0]
		owned := first.req.Owned
		first.beat()
		first.req.Owned = owned // it has not given up anything yet
		old := c.coordinator("g")
		if err := first.commit("t", 0, round+1, first.req.MemberEpoch); err != nil {
			t.Fatal(err)
		}
		waits := *ms[len(ms)-1].member
		waits.req.MaxWait = time.Hour
		waits.at = func() *Node { return old }
		heard := make(chan error, 1)
		go func() { heard <- waits.try(timeout(t)) }()
		waitHeld(t, old, "g", waits.req.MemberID)
		before := describe(t, old, "g")
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-heard; !mqerr.Retriable(err) {
			t.Errorf("what waited at the broker that is gone: %v", err)
		}
		after := describe(t, c.coordinator("g"), "g")
		after.Coordinator = before.Coordinator
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
		waitFor(t, "the group to be stable", func() bool {
			for _, m := range ms {
				m.beat()
			}
			return describe(t, c.coordinator("g"), "g").State == api.GroupStable
		})
		var all []string
		for i, m := range ms {
			if m.req.MemberID != fmt.Sprint("m", i) || len(m.req.Owned) != 12/len(ms) {
				t.Errorf("%s owns %s", m.req.MemberID, m.owned())
			}
			all = append(all, strings.Fields(m.owned())...)
		}
		if slices.Sort(all); len(slices.Compact(all)) != 12 {
			t.Errorf("together they own %s", all)
		}
		if got := committed(t, c.coordinator("g"), "g"); got != fmt.Sprint("t/0=", round+1) {
			t.Errorf("offsets: %s", got)
		}
		c.open(old.cfg.BrokerID)
		c.ready()
	}
}

// TestAGroupUnderFireHasOneOwnerPerPartition lets members join, wait, commit,
// leave and fall silent while coordinators die. Who commits is the owner: what
// is committed for a partition never comes from a member that lost it.
func TestAGroupUnderFireHasOneOwnerPerPartition(t *testing.T) {
	t.Parallel()
	const partitions = 6
	c := newSeveral(t, 3)
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t", Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	owners := &ownership{by: map[int32]string{}}
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	var nodes struct {
		sync.Mutex
		all []*Node
	}
	for _, n := range c.nodes {
		nodes.all = append(nodes.all, n)
	}
	pick := func(r *rand.Rand) *Node {
		nodes.Lock()
		defer nodes.Unlock()
		return nodes.all[r.IntN(len(nodes.all))]
	}
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for life := 0; ctx.Err() == nil; life++ {
				m := newMember(t, nil, "g", fmt.Sprint(i, "-", life), "t")
				m.at = func() *Node { return pick(r) }
				m.req.SessionTimeout = maxSession // nobody is taken for dead
				owners.live(ctx, t, m, r)
			}
		})
	}
	for range 2 {
		old := c.coordinator("g")
		served := owners.count()
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		c.open(old.cfg.BrokerID)
		nodes.Lock()
		nodes.all = slices.DeleteFunc(nodes.all, func(n *Node) bool { return n == old })
		nodes.all = append(nodes.all, c.nodes[old.cfg.BrokerID])
		nodes.Unlock()
		c.ready()
		waitFor(t, "commits", func() bool { return owners.count() > served+100 })
	}
	cancel()
	all.Wait()
}

// ownership is who reads what, as the members see it.
type ownership struct {
	mu      sync.Mutex
	by      map[int32]string
	commits int
}

func (o *ownership) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.commits
}

// set notes what a member reads from now on.
func (o *ownership) set(tb testing.TB, id string, owned []api.TopicPartition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p, by := range o.by {
		if by == id && !slices.ContainsFunc(owned, func(tp api.TopicPartition) bool { return tp.Partition == p }) {
			delete(o.by, p)
		}
	}
	for _, tp := range owned {
		if by, ok := o.by[tp.Partition]; ok && by != id {
			tb.Errorf("%s and %s own partition %d", id, by, tp.Partition)
		}
		o.by[tp.Partition] = id
	}
}

// live is one member's life, until it leaves in order.
func (o *ownership) live(ctx context.Context, tb testing.TB, m *member, r *rand.Rand) {
	for beats := 2 + r.IntN(40); beats > 0 && ctx.Err() == nil; {
		m.req.MaxWait = time.Duration(r.IntN(20)) * time.Millisecond
		had := m.req.Owned
		if m.try(ctx) != nil { // another broker, or a little later
			_ = backoff.Sleep(ctx, 5*time.Millisecond)
			continue
		}
		beats--
		if r.IntN(3) == 0 { // it gives up later
			for _, tp := range had {
				if !slices.Contains(m.req.Owned, tp) {
					m.req.Owned = append(m.req.Owned, tp)
				}
			}
		}
		o.set(tb, m.req.MemberID, m.req.Owned)
		for _, tp := range m.req.Owned {
			req := commitRequest("g", "t", tp.Partition, 1)
			req.MemberID, req.MemberEpoch = m.req.MemberID, m.req.MemberEpoch
			resp, err := m.at().CommitOffsets(ctx, req)
			switch {
			case err != nil && !mqerr.Retriable(err) && !mqerr.OutcomeUnknown(err):
				tb.Errorf("a commit of %s: %v", m.req.MemberID, err)
			case err == nil && resp.Results[0].Err != nil:
				tb.Errorf("a commit of %s for what it owns: %v", m.req.MemberID, resp.Results[0].Err)
			case err == nil:
				o.mu.Lock()
				o.commits++
				o.mu.Unlock()
			}
		}
	}
	o.set(tb, m.req.MemberID, nil)
	m.req.MemberEpoch, m.req.Owned, m.req.MaxWait = api.LeaveEpoch, nil, 0
	for ctx.Err() == nil {
		if m.try(ctx) == nil {
			return
		}
		_ = backoff.Sleep(ctx, 5*time.Millisecond)
	}
}

// A command may be applied after its time was up. Members must not be told for
// ever how it was before.
func TestACommandThatIsAppliedTooLateIsNoticed(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	a, b := newMember(t, n, "g", "a", "t"), newMember(t, n, "g", "b", "t")
	settled(t, a, b)
	applied := make(chan error, 1)
	n.coordinator.call(func() {
		c := &n.coordinator
		c.each(func(g *balanced) {
			next, out := c.next(g, nil, []string{"a"})
			g.going = &going{next: next}
			cmd := groupCommand{Group: g.name, Revision: g.state.Revision, Header: next.EncodeHeader(), Deleted: out.Deleted}
			for _, m := range out.Put {
				cmd.Put = append(cmd.Put, memberRecord{m.ID, m.Encode()})
			}
			c.settle(g, mqerr.ErrTimeout)
			n.proposeGroup(g.shard.r, kindGroup, cmd, func(res result) { applied <- res.err })
		})
	})
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	a.refused(mqerr.ErrUnknownMember)
	b.beat().owns("t/0 t/1")
}
