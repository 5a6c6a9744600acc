package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// member is a consumer of a balanced group as its broker sees it.
type member struct {
	tb  testing.TB
	at  func() *Node // whom to ask
	req api.GroupHeartbeatRequest
}

func newMember(tb testing.TB, n *Node, group, id string, topics ...string) *member {
	return &member{tb: tb, at: func() *Node { return n }, req: api.GroupHeartbeatRequest{
		Group: group, MemberID: id, GroupSubscription: api.GroupSubscription{Topics: topics},
	}}
}

// try sends a heartbeat. What the member may own it owns, and the rest it gives up.
func (m *member) try(ctx context.Context) error {
	req := m.req
	resp, err := m.at().GroupHeartbeat(ctx, &req)
	if err == nil {
		m.req.MemberEpoch, m.req.Owned = resp.MemberEpoch, resp.Assignment
	}
	return err
}

func (m *member) beat() *member {
	m.tb.Helper()
	if err := m.try(timeout(m.tb)); err != nil {
		m.tb.Fatalf("heartbeat of %s at %d: %v", m.req.MemberID, m.req.MemberEpoch, err)
	}
	return m
}

func (m *member) refused(want error) {
	m.tb.Helper()
	if err := m.try(timeout(m.tb)); !errors.Is(err, want) {
		m.tb.Fatalf("heartbeat of %s at %d: %v, want %v", m.req.MemberID, m.req.MemberEpoch, err, want)
	}
}

func (m *member) leave() {
	m.tb.Helper()
	m.req.MemberEpoch, m.req.Owned = api.LeaveEpoch, nil
	m.beat()
}

func (m *member) owned() string { return named(m.req.Owned) }

func (m *member) owns(want string) {
	m.tb.Helper()
	if got := m.owned(); got != want {
		m.tb.Fatalf("%s owns %q, want %q", m.req.MemberID, got, want)
	}
}

func named(tps []api.TopicPartition) string {
	var out []string
	for _, tp := range tps {
		out = append(out, fmt.Sprintf("%s/%d", tp.Topic, tp.Partition))
	}
	return strings.Join(out, " ")
}

// settled lets members send heartbeats until the group is stable, each of them.
func settled(tb testing.TB, ms ...*member) {
	tb.Helper()
	waitFor(tb, "the group to be stable", func() bool {
		for _, m := range ms {
			m.beat()
		}
		return describe(tb, ms[0].at(), ms[0].req.Group).State == api.GroupStable
	})
	for _, m := range ms {
		m.beat()
	}
}

func describe(tb testing.TB, n api.Broker, group string) *api.DescribeGroupResponse {
	tb.Helper()
	resp, err := n.DescribeGroup(timeout(tb), &api.DescribeGroupRequest{Group: group})
	if err != nil {
		tb.Fatalf("describe %s: %v", group, err)
	}
	return resp
}

// commit commits one offset as a member, at an epoch.
func (m *member) commit(topic string, partition int32, offset int64, epoch int32) error {
	req := commitRequest(m.req.Group, topic, partition, offset)
	req.MemberID, req.MemberEpoch = m.req.MemberID, epoch
	resp, err := m.at().CommitOffsets(timeout(m.tb), req)
	if err == nil {
		err = resp.Results[0].Err
	}
	return err
}

// revision is how many commands were applied to a group.
func revision(tb testing.TB, n *Node, group string) uint64 {
	tb.Helper()
	_, g, err := n.groupShard(timeout(tb), group, false)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := g.state(group)
	if err != nil {
		tb.Fatal(err)
	}
	return s.Revision
}

func TestMembersShareTheirTopics(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 4, nil)
	a := newMember(t, n, "g", "a", "t").beat()
	a.owns("t/0 t/1 t/2 t/3")
	b := newMember(t, n, "g", "b", "t").beat()
	b.owns("")
	a.beat().owns("t/0 t/1") // and gives up the rest
	a.beat()
	b.beat().owns("t/2 t/3")
	was := revision(t, n, "g")
	for range 10 {
		a.beat().owns("t/0 t/1")
		b.beat().owns("t/2 t/3")
	}
	if got := revision(t, n, "g"); got != was {
		t.Errorf("heartbeats that say nothing new made %d commands", got-was)
	}
	b.leave()
	a.beat().owns("t/0 t/1 t/2 t/3")
	a.leave()
	a.leave() // the answer may have been lost
	b.req.MemberEpoch = 3
	b.refused(mqerr.ErrUnknownMember)
}

func TestAMemberThatWaitsHearsOfNewsAtOnce(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	a := newMember(t, n, "g", "a", "t").beat().beat()
	a.req.MaxWait = time.Hour
	heard := make(chan error)
	wait := func() { go func() { heard <- a.try(timeout(t)) }() }
	wait()
	waitHeld(t, n, "g", "a")
	b := newMember(t, n, "g", "b", "t").beat()
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
	a.owns("t/0")
	b.req.MaxWait = time.Hour
	done := make(chan error)
	go func() { done <- b.try(timeout(t)) }()
	waitHeld(t, n, "g", "b")
	wait() // a has given up t/1, and knows all there is to know
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.owns("t/1")
	waitHeld(t, n, "g", "a")
	newTopic(t, n, "other", 1, nil) // is no news
	b.leave()
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
	a.owns("t/0 t/1")

	a.req.MaxWait = 10 * time.Millisecond
	a.beat().owns("t/0 t/1") // there is no news
	a.req.MaxWait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	go func() { heard <- a.try(ctx) }()
	waitHeld(t, n, "g", "a")
	cancel()
	if err := <-heard; !errors.Is(err, context.Canceled) || mqerr.Of(err) == nil {
		t.Errorf("a wait that was cancelled: %v", err)
	}
	wait()
	waitHeld(t, n, "g", "a")
	again := newMember(t, n, "g", "a", "t") // the same one asks again
	again.req.MemberEpoch, again.req.Owned = a.req.MemberEpoch, a.req.Owned
	again.beat()
	if err := <-heard; err != nil {
		t.Errorf("the one before: %v", err)
	}
}

// waitHeld waits until a heartbeat of a member waits for news.
func waitHeld(tb testing.TB, n *Node, group, id string) {
	tb.Helper()
	waitFor(tb, id+" to wait", func() bool {
		held := make(chan bool, 1)
		n.coordinator.call(func() {
			g := n.coordinator.group(&beat{group: group, shard: firstGroup + uint64(slotOf(group))})
			held <- g != nil && g.held[id] != nil
		})
		return <-held
	})
}

func TestACommitOfWhoDoesNotOwnIsRefused(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	commitAt(t, n, "g", "t", 0, 1) // nobody is there yet
	a := newMember(t, n, "g", "a", "t").beat()
	must := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	must(a.commit("t", 0, 10, 1), nil)
	must(a.commit("t", 1, 10, 1), nil)
	must(a.commit("t", 1, 10, 0), mqerr.ErrStaleMemberEpoch)
	_, err := n.CommitOffsets(timeout(t), commitRequest("g", "t", 0, 99))
	must(err, mqerr.ErrUnknownMember) // with fixed partitions
	forced := commitRequest("g", "t", 0, 5)
	forced.Force = true
	_, err = n.CommitOffsets(timeout(t), forced)
	must(err, nil)
	must(newMember(t, n, "g", "x", "t").commit("t", 0, 99, 1), mqerr.ErrUnknownMember)

	b := newMember(t, n, "g", "b", "t").beat()
	a.beat().owns("t/0")
	must(a.commit("t", 1, 11, 1), nil) // it is giving it up
	must(b.commit("t", 1, 99, 2), mqerr.ErrStaleMemberEpoch)
	a.beat()
	must(a.commit("t", 1, 99, 2), mqerr.ErrStaleMemberEpoch)
	b.beat().owns("t/1")
	must(b.commit("t", 1, 12, b.req.MemberEpoch), nil)
	must(a.commit("t", 0, 12, 1), nil) // it has had it all the time
	if got := committed(t, n, "g"); got != "t/0=12 t/1=12" {
		t.Errorf("offsets: %s", got)
	}
	a.leave()
	must(a.commit("t", 0, 99, 2), mqerr.ErrUnknownMember)
	b.leave()
	commitAt(t, n, "g", "t", 0, 20) // nobody is there any more
}

func TestManyMembersThatJoinAtOnceCostFewCommands(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{MaxGroupMembers: 499})
	newTopic(t, n, "t", 100, nil)
	newMember(t, n, "g", "first", "t").beat() // makes the shard
	const count = 500
	var all sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, count)
	ms := make([]*member, count)
	for i := range count {
		ms[i] = newMember(t, n, "g", fmt.Sprintf("m%03d", i), "t")
		all.Go(func() {
			<-start
			errs[i] = ms[i].try(timeout(t))
		})
	}
	was := revision(t, n, "g")
	close(start)
	all.Wait()
	full := 0
	for i, err := range errs {
		if errors.Is(err, mqerr.ErrGroupMaxSize) {
			full++
		} else if err != nil {
			t.Fatalf("member %d: %v", i, err)
		}
	}
	if full != 2 {
		t.Errorf("%d were refused, want 2", full)
	}
	if got := revision(t, n, "g") - was; got > 50 {
		t.Errorf("%d joins took %d commands", count, got)
	}
	if got := len(describe(t, n, "g").Members); got != 499 {
		t.Errorf("%d members", got)
	}
}

func TestTenMembersShareThreePartitions(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 3, nil)
	var ms []*member
	for i := range 10 {
		ms = append(ms, newMember(t, n, "g", fmt.Sprint("m", i), "t").beat())
	}
	settled(t, ms...)
	var all []string
	for _, m := range ms {
		if len(m.req.Owned) > 1 {
			t.Errorf("%s owns %s", m.req.MemberID, m.owned())
		}
		all = append(all, strings.Fields(m.owned())...)
	}
	if slices.Sort(all); strings.Join(all, " ") != "t/0 t/1 t/2" {
		t.Errorf("together they own %s", all)
	}
}

func TestAGroupFollowsItsTopics(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t1", 1, nil)
	a := newMember(t, n, "g", "a", "later")
	a.req.Pattern = "t[0-9]"
	a.beat().owns("t1/0")
	a.beat()
	a.req.MaxWait = time.Hour
	newTopic(t, n, "t2", 1, nil)
	a.beat().owns("t1/0 t2/0")
	newTopic(t, n, "tx", 1, nil)
	if _, err := n.AddPartitions(timeout(t), &api.AddPartitionsRequest{Name: "t1", Total: 2}); err != nil {
		t.Fatal(err)
	}
	a.beat().owns("t1/0 t1/1 t2/0")
	if err := a.commit("t2", 0, 3, a.req.MemberEpoch); err != nil {
		t.Fatal(err)
	}
	deleteTopicNamed(t, n, "t2")
	a.beat().owns("t1/0 t1/1")
	newTopic(t, n, "later", 1, nil)
	a.beat().owns("later/0 t1/0 t1/1")
	newTopic(t, n, "t2", 1, nil) // another one
	a.beat().owns("later/0 t1/0 t1/1 t2/0")
	if got := committed(t, n, "g"); got != "" {
		t.Errorf("offsets: %s", got)
	}
}

func TestAMemberThatIsSilentLosesItsPartitions(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{SessionTimeout: 10 * time.Minute, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 2, nil)
	a := newMember(t, n, "g", "a", "t").beat()
	b := newMember(t, n, "g", "b", "t").beat()
	a.beat().beat()
	b.beat().owns("t/1")
	clock.advance(9 * time.Minute)
	b.beat()
	b.req.MaxWait = time.Hour
	heard := make(chan error, 1)
	go func() { heard <- b.try(timeout(t)) }()
	waitHeld(t, n, "g", "b")
	clock.advance(2 * time.Minute)
	if err := <-heard; err != nil { // what waited hears of it
		t.Fatal(err)
	}
	b.owns("t/0 t/1")
	if err := a.commit("t", 0, 99, a.req.MemberEpoch); !errors.Is(err, mqerr.ErrUnknownMember) {
		t.Errorf("a commit of the dead: %v", err)
	}
	a.refused(mqerr.ErrUnknownMember)
	// To wait is no sign of life.
	go func() { heard <- b.try(timeout(t)) }()
	waitHeld(t, n, "g", "b")
	clock.advance(11 * time.Minute)
	if err := <-heard; !errors.Is(err, mqerr.ErrUnknownMember) {
		t.Errorf("the last one: %v", err)
	}
}

func TestABrokerThatStoodStillTakesNobodyForDead(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{SessionTimeout: 10 * time.Minute, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 1, nil)
	a := newMember(t, n, "g", "a", "t").beat()
	looked := make(chan struct{})
	n.coordinator.call(func() { // it stood still for an hour
		n.coordinator.looked = n.coordinator.looked.Add(-time.Hour)
		clock.advance(time.Hour)
		n.coordinator.call(func() { close(looked) }) // after it has looked at sessions
	})
	<-looked
	a.beat()
}

func TestAMemberThatDoesNotGiveUpInTimeIsRemoved(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{SessionTimeout: maxSession, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 2, nil)
	a := newMember(t, n, "g", "a", "t")
	a.req.RebalanceTimeout = 20 * time.Minute
	a.beat()
	b := newMember(t, n, "g", "b", "t").beat()
	both := a.req.Owned
	for range 3 {
		a.beat().owns("t/0")
		a.req.Owned = both // its handler takes its time
		clock.advance(9 * time.Minute)
	}
	b.req.MaxWait = time.Hour
	b.beat().owns("t/0 t/1")
	a.refused(mqerr.ErrUnknownMember)
}

func TestAGroupSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := openNode(t, Config{Dir: dir})
	newTopic(t, n, "t", 4, nil)
	a, b := newMember(t, n, "g", "a", "t").beat(), newMember(t, n, "g", "b", "t").beat()
	settled(t, a, b)
	if err := a.commit("t", 0, 7, a.req.MemberEpoch); err != nil {
		t.Fatal(err)
	}
	before := describe(t, n, "g")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, Config{Dir: dir})
	for _, m := range []*member{a, b} {
		m.at = func() *Node { return n }
		was := m.owned()
		m.beat().owns(was)
	}
	if after := describe(t, n, "g"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	if err := a.commit("t", 0, 8, a.req.MemberEpoch); err != nil {
		t.Error(err)
	}
}

func TestStaticMembers(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{SessionTimeout: 10 * time.Minute, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 4, nil)
	a := newMember(t, n, "g", "a", "t")
	a.req.InstanceID = "one"
	b := newMember(t, n, "g", "b", "t")
	settled(t, a, b)
	was, epoch := a.owned(), describe(t, n, "g").Epoch
	next := newMember(t, n, "g", "a2", "t")
	next.req.InstanceID = "one"
	next.refused(mqerr.ErrInstanceInUse)
	a.req.MemberEpoch, a.req.Owned = api.LeaveStaticEpoch, nil
	a.beat()
	clock.advance(9 * time.Minute)
	b.beat()
	next.beat().owns(was)
	a.req.MemberEpoch = epoch
	a.refused(mqerr.ErrInstanceFenced)
	if got := describe(t, n, "g"); got.Epoch != epoch || got.State != api.GroupStable {
		t.Errorf("a restart changed the group: %+v", got)
	}
	next.req.MemberEpoch, next.req.Owned = api.LeaveStaticEpoch, nil
	next.beat()
	b.req.MaxWait = time.Hour
	heard := make(chan error, 1)
	go func() { heard <- b.try(timeout(t)) }()
	waitHeld(t, n, "g", "b")
	clock.advance(5 * time.Minute)
	again := *b
	again.req.MaxWait = 0
	again.beat() // b lives
	<-heard
	clock.advance(6 * time.Minute) // and the other has not come back
	again.req.MaxWait = time.Hour
	again.beat().owns("t/0 t/1 t/2 t/3")
}
