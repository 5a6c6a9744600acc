package cluster

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestAGroupIsDescribed(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	a := newMember(t, n, "g", "a", "t")
	a.req.ClientID, a.req.Assignor = "client", api.AssignRange
	a.beat()
	newMember(t, n, "g", "b", "t").beat()
	a.beat()
	resp := describe(t, n, "g")
	if resp.Group != "g" || resp.State != api.GroupReconciling || resp.Coordinator != 1 || resp.Epoch != 2 || resp.AssignmentEpoch != 2 || resp.Assignor != api.AssignUniform || len(resp.Members) != 2 {
		t.Errorf("the group: %+v", resp)
	}
	m := resp.Members[0]
	if m.MemberID != "a" || m.ClientID != "client" || m.Epoch != 1 || m.Assignor != api.AssignRange || m.SessionTimeout != 45*time.Second || m.RebalanceTimeout != 5*time.Minute {
		t.Errorf("a member: %+v", m)
	}
	if named(m.Assigned) != "t/0" || named(m.Revoking) != "t/1" || named(m.Target) != "t/0" || named(resp.Members[1].Target) != "t/1" {
		t.Errorf("partitions: %+v", resp.Members)
	}
	a.beat()
	if got := listed(t, n); got != "g reconciling 2" {
		t.Errorf("groups: %s", got)
	}
	settled(t, newMember(t, n, "g", "b", "t"), a)
	commitAt(t, n, "fixed", "t", 0, 1)
	if got := listed(t, n); got != "fixed empty 0, g stable 2" {
		t.Errorf("groups: %s", got)
	}
	if resp := describe(t, n, "fixed"); resp.State != api.GroupEmpty || resp.Epoch != 0 || len(resp.Members) != 0 {
		t.Errorf("a group with offsets only: %+v", resp)
	}
	if _, err := n.DescribeGroup(timeout(t), &api.DescribeGroupRequest{Group: "nobody"}); !errors.Is(err, mqerr.ErrUnknownGroup) {
		t.Errorf("a group that is not there: %v", err)
	}
}

func listed(tb testing.TB, n api.Broker) (out string) {
	tb.Helper()
	resp, err := n.ListGroups(timeout(tb), &api.ListGroupsRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	for i, g := range resp.Groups {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprint(g.Group, " ", g.State, " ", g.Members)
	}
	return out
}

func TestOnlyAGroupWithoutMembersIsDeleted(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	remove := func(group string, want error) {
		t.Helper()
		if _, err := n.DeleteGroup(timeout(t), &api.DeleteGroupRequest{Group: group}); !errors.Is(err, want) {
			t.Errorf("delete %s: %v, want %v", group, err, want)
		}
	}
	remove("g", mqerr.ErrUnknownGroup)
	commitAt(t, n, "g", "t", 0, 1)
	remove("g", nil)
	remove("g", mqerr.ErrUnknownGroup)
	a := newMember(t, n, "g", "a", "t").beat()
	remove("g", mqerr.ErrNonEmptyGroup)
	if err := a.commit("t", 0, 1, 1); err != nil {
		t.Fatal(err)
	}
	a.leave()
	remove("g", nil)
	if got := listed(t, n); got != "" {
		t.Errorf("what is left: %s", got)
	}
	newMember(t, n, "g", "b", "t").beat().owns("t/0") // it can come again
	remove("", mqerr.ErrInvalidGroupID)
}

func TestAGroupIsDeletedWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	newMember(t, n, "g", "first", "t").beat().leave()
	done, ctx := make(chan struct{}), timeout(t)
	var deleted atomic.Int64
	go func() {
		defer close(done)
		for i := 0; (i < 100 || deleted.Load() == 0) && ctx.Err() == nil; i++ {
			newMember(t, n, "g", fmt.Sprint(i), "t").beat().leave()
		}
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		_, err := n.DeleteGroup(timeout(t), &api.DeleteGroupRequest{Group: "g"})
		switch {
		case err == nil:
			deleted.Add(1)
		case !errors.Is(err, mqerr.ErrUnknownGroup) && !errors.Is(err, mqerr.ErrNonEmptyGroup):
			t.Fatal(err)
		}
	}
	if deleted.Load() == 0 {
		t.Error("it never was empty")
	}
	if got := listed(t, n); got != "" {
		t.Errorf("what is left: %s", got)
	}
}

func TestOffsetsThatNobodyReadsAreDeleted(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	for _, topic := range []string{"t", "u"} {
		newTopic(t, n, topic, 1, nil)
		commitAt(t, n, "g", topic, 0, 1)
	}
	newMember(t, n, "g", "a", "t").beat()
	resp, err := n.DeleteOffsets(timeout(t), &api.DeleteOffsetsRequest{Group: "g", Partitions: []api.TopicPartition{{Topic: "t"}, {Topic: "u"}, {Topic: "none"}}})
	if err != nil || len(resp.Results) != 3 {
		t.Fatal(resp, err)
	}
	for i, want := range []error{mqerr.ErrGroupSubscribed, nil, mqerr.ErrUnknownTopicOrPartition} {
		if !errors.Is(resp.Results[i].Err, want) {
			t.Errorf("%s: %v, want %v", resp.Results[i].Topic, resp.Results[i].Err, want)
		}
	}
	if got := committed(t, n, "g"); got != "t/0=1" {
		t.Errorf("what is left: %s", got)
	}
	if _, err := n.DeleteOffsets(timeout(t), &api.DeleteOffsetsRequest{Group: "nobody"}); !errors.Is(err, mqerr.ErrUnknownGroup) {
		t.Errorf("a group that is not there: %v", err)
	}
}

func TestOffsetsOfGroupsThatAreEmptyForLongExpire(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	clock := newFakeClock()
	n := openNode(t, Config{OffsetsRetention: 7 * day, SessionTimeout: maxSession, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 2, nil)
	commitAt(t, n, "fixed", "t", 0, 1)
	commitAt(t, n, "later", "t", 0, 1)
	a := newMember(t, n, "left", "a", "t").beat()
	if err := a.commit("t", 0, 1, 1); err != nil {
		t.Fatal(err)
	}
	nothing := newMember(t, n, "nothing", "a", "t").beat()
	nothing.leave()
	live := newMember(t, n, "live", "a", "t").beat()
	if err := live.commit("t", 0, 1, 1); err != nil {
		t.Fatal(err)
	}
	pass := func(d time.Duration, want string) {
		t.Helper()
		for ; d > 0; d -= maxSession / 2 {
			clock.advance(maxSession / 2)
			live.beat()
			if a.req.MemberEpoch > 0 {
				a.beat()
			}
		}
		waitFor(t, "groups: "+want, func() bool {
			n.upkeepNow()
			return groupNames(t, n) == want
		})
	}
	pass(5*day, "fixed later left live") // what has neither members nor offsets goes soon
	commitAt(t, n, "later", "t", 1, 1)
	a.leave()
	pass(3*day, "later left live")
	if got := committed(t, n, "later"); got != "t/0=1 t/1=1" { // it is in use
		t.Errorf("offsets of later: %s", got)
	}
	pass(5*day, "live")
	if got := committed(t, n, "live"); got != "t/0=1" {
		t.Errorf("offsets of a group with members: %s", got)
	}
}

func TestHeartbeatsWithoutSenseAreRefused(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	for name, c := range map[string]struct {
		change func(*api.GroupHeartbeatRequest)
		want   error
	}{
		"no group":         {func(r *api.GroupHeartbeatRequest) { r.Group = "" }, mqerr.ErrInvalidGroupID},
		"no id":            {func(r *api.GroupHeartbeatRequest) { r.MemberID = "" }, mqerr.ErrInvalidRequest},
		"no topics":        {func(r *api.GroupHeartbeatRequest) { r.Topics = nil }, mqerr.ErrInvalidRequest},
		"a pattern":        {func(r *api.GroupHeartbeatRequest) { r.Pattern = "[" }, mqerr.ErrInvalidPattern},
		"an assignor":      {func(r *api.GroupHeartbeatRequest) { r.Assignor = "mine" }, mqerr.ErrUnsupportedAssignor},
		"a short session":  {func(r *api.GroupHeartbeatRequest) { r.SessionTimeout = time.Millisecond }, mqerr.ErrInvalidRequest},
		"a long session":   {func(r *api.GroupHeartbeatRequest) { r.SessionTimeout = time.Hour }, mqerr.ErrInvalidRequest},
		"a short patience": {func(r *api.GroupHeartbeatRequest) { r.RebalanceTimeout = -1 }, mqerr.ErrInvalidRequest},
		"an epoch":         {func(r *api.GroupHeartbeatRequest) { r.MemberEpoch = -9 }, mqerr.ErrInvalidRequest},
		"not a member":     {func(r *api.GroupHeartbeatRequest) { r.MemberEpoch = 3 }, mqerr.ErrUnknownMember},
	} {
		m := newMember(t, n, "g", "a", "t")
		c.change(&m.req)
		if err := m.try(timeout(t)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	newMember(t, n, "g", "a", "t").leave()
	if got := len(n.meta.state.Load().groups); got != 0 {
		t.Errorf("refused heartbeats made %d shards", got)
	}
}

// A replica whose store can't be read stops. If it went on with a refusal, as it
// answers what makes no sense, it would come to differ from the others for good.
func TestADamagedMemberStopsTheReplica(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	a := newMember(t, n, "g", "a", "t").beat()
	_, g, err := n.groupShard(t.Context(), "g", false)
	if err != nil {
		t.Fatal(err)
	}
	b := g.kv.NewBatch()
	b.Set(memberKey("g", "a"), []byte("damaged"))
	if err := b.Commit(g.kv.Applied()); err != nil {
		t.Fatal(err)
	}
	if err := a.commit("t", 0, 1, a.req.MemberEpoch); err == nil {
		t.Error("a commit was accepted")
	}
	waitFor(t, "the node to fail", func() bool { return n.Failure() != nil })
	if err := n.Failure(); !errors.Is(err, mqerr.ErrCorruptLog) {
		t.Errorf("it failed with %v", err)
	}
}
