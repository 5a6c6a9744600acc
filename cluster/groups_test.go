package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

func commitRequest(group, topic string, partition int32, offset int64) *api.CommitOffsetsRequest {
	return &api.CommitOffsetsRequest{Group: group, MemberEpoch: -1, Offsets: []api.OffsetCommit{{
		TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Offset: offset, LeaderEpoch: 1, Metadata: "by test",
	}}}
}

func commitAt(tb testing.TB, n api.Broker, group, topic string, partition int32, offset int64) {
	tb.Helper()
	resp, err := n.CommitOffsets(timeout(tb), commitRequest(group, topic, partition, offset))
	if err == nil {
		err = resp.Results[0].Err
	}
	if err != nil {
		tb.Fatalf("commit %d of %s/%d for %s: %v", offset, topic, partition, group, err)
	}
}

func committed(tb testing.TB, n api.Broker, group string) string {
	tb.Helper()
	resp, err := n.FetchOffsets(timeout(tb), &api.FetchOffsetsRequest{Group: group})
	if err != nil {
		tb.Fatalf("offsets of %s: %v", group, err)
	}
	var out []string
	for _, o := range resp.Offsets {
		out = append(out, fmt.Sprintf("%s/%d=%d", o.Topic, o.Partition, o.Offset))
	}
	return strings.Join(out, " ")
}

func groupNames(tb testing.TB, n api.Broker) string {
	tb.Helper()
	resp, err := n.ListGroups(tb.Context(), &api.ListGroupsRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, g := range resp.Groups {
		out = append(out, g.Group)
	}
	return strings.Join(out, " ")
}

func TestCommittedOffsetsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clock := newFakeClock()
	n := openNode(t, Config{Dir: dir, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "a", 3, nil)
	newTopic(t, n, "b", 1, nil)
	for i := range int64(5) {
		commitAt(t, n, "g", "a", 2, i)
	}
	commitAt(t, n, "g", "b", 0, 1<<40)
	commitAt(t, n, "another", "a", 0, 3)
	for range 2 {
		if got := committed(t, n, "g"); got != "a/2=4 b/0=1099511627776" {
			t.Errorf("offsets of g: %s", got)
		}
		if got := groupNames(t, n); got != "another g" {
			t.Errorf("groups: %s", got)
		}
		resp, err := n.FetchOffsets(t.Context(), &api.FetchOffsetsRequest{Group: "g", Partitions: []api.TopicPartition{
			{Topic: "a", Partition: 2}, {Topic: "a", Partition: 1}, {Topic: "nowhere"}, {Topic: "a", Partition: 3},
		}})
		if err != nil || len(resp.Offsets) != 4 {
			t.Fatalf("offsets by partition: %+v, %v", resp, err)
		}
		o := resp.Offsets[0]
		if o.Offset != 4 || o.LeaderEpoch != 1 || o.MemberEpoch != -1 || o.Metadata != "by test" || o.CommitTime != clock.now().UnixMilli() || o.TopicID == uuid.Nil || o.Err != nil {
			t.Errorf("a committed offset: %+v", o)
		}
		if o := resp.Offsets[1]; o.Offset != -1 || o.LeaderEpoch != api.NoEpoch || o.Err != nil {
			t.Errorf("a partition without a commit: %+v", o)
		}
		for _, o := range resp.Offsets[2:] {
			if o.Offset != -1 || !errors.Is(o.Err, mqerr.ErrUnknownTopicOrPartition) {
				t.Errorf("a partition that is not there: %+v", o)
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n = openNode(t, Config{Dir: dir, Test: TestSeams{Now: clock.now}})
	}
}

func TestCommitsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	for name, c := range map[string]struct {
		change func(*api.CommitOffsetsRequest)
		want   error
	}{
		"no group":               {func(r *api.CommitOffsetsRequest) { r.Group = "" }, mqerr.ErrInvalidGroupID},
		"a long group":           {func(r *api.CommitOffsetsRequest) { r.Group = strings.Repeat("x", 256) }, mqerr.ErrInvalidGroupID},
		"a group of other bytes": {func(r *api.CommitOffsetsRequest) { r.Group = "\xff\xfe" }, mqerr.ErrInvalidGroupID},
		"long metadata":          {func(r *api.CommitOffsetsRequest) { r.Offsets[0].Metadata = strings.Repeat("x", 4097) }, mqerr.ErrOffsetMetadataTooLarge},
		"metadata of bytes":      {func(r *api.CommitOffsetsRequest) { r.Offsets[0].Metadata = "\xff" }, mqerr.ErrInvalidRequest},
		"a member":               {func(r *api.CommitOffsetsRequest) { r.MemberID = "m" }, mqerr.ErrUnknownMember},
		"a member epoch":         {func(r *api.CommitOffsetsRequest) { r.MemberEpoch = 0 }, mqerr.ErrUnknownMember},
		"a negative offset":      {func(r *api.CommitOffsetsRequest) { r.Offsets[0].Offset = -1 }, mqerr.ErrInvalidRequest},
		"another partition":      {func(r *api.CommitOffsetsRequest) { r.Offsets[0].Partition = 1 }, mqerr.ErrUnknownTopicOrPartition},
		"another topic id":       {func(r *api.CommitOffsetsRequest) { r.Offsets[0].TopicID = uuid.New() }, mqerr.ErrUnknownTopicID},
	} {
		req := commitRequest("g", "t", 0, 1)
		c.change(req)
		resp, err := n.CommitOffsets(t.Context(), req)
		if err == nil {
			err = resp.Results[0].Err
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, group := range []string{"", strings.Repeat("x", 256), "\xff"} {
		if _, err := n.FetchOffsets(t.Context(), &api.FetchOffsetsRequest{Group: group}); !errors.Is(err, mqerr.ErrInvalidGroupID) {
			t.Errorf("offsets of group %q: %v", group, err)
		}
	}
	if got := groupNames(t, n); got != "" {
		t.Errorf("refused commits made groups: %s", got)
	}
	// The longest that is allowed, and one good offset beside a bad one.
	group := strings.Repeat("ü", 127) + "x"
	req := commitRequest(group, "t", 0, 5)
	req.Offsets[0].Metadata = strings.Repeat("x", 4096)
	req.Offsets = append(req.Offsets, api.OffsetCommit{TopicPartition: api.TopicPartition{Topic: "nowhere"}})
	resp, err := n.CommitOffsets(t.Context(), req)
	if err != nil || len(resp.Results) != 2 || resp.Results[0].Err != nil || !errors.Is(resp.Results[1].Err, mqerr.ErrUnknownTopicOrPartition) {
		t.Fatalf("a good and a bad offset: %+v, %v", resp, err)
	}
	if got := committed(t, n, group); got != "t/0=5" {
		t.Errorf("the good one: %s", got)
	}
}

func TestGroupsWhoseIDsBeginAlikeAreKeptApart(t *testing.T) {
	t.Parallel()
	s := openStore(t, storage.NewMemFS())
	d := driveGroups(t, s, 2)
	d.run(t, kindBeginEpoch, 1, nil)
	g := d.machine.app.(*groupStore)
	id := uuid.New()
	for i, name := range []string{"a", "a\x01", "ab", strings.Repeat("a", 255)} {
		body := fmt.Appendf(nil, `{"group":%q,"member_epoch":-1,"offsets":[{"topic_id":%q,"partition":1,"offset":%d}]}`, name, id, i)
		if name == "a\x01" {
			body = fmt.Appendf(nil, `{"group":"a\u0001","member_epoch":-1,"offsets":[{"topic_id":%q,"partition":1,"offset":%d}]}`, id, i)
		}
		if res := d.run(t, kindCommitOffsets, 1, body); res.err != nil {
			t.Fatal(res.err)
		}
	}
	for i, name := range []string{"a", "a\x01", "ab", strings.Repeat("a", 255)} {
		var got []int64
		err := g.offsets(name, func(topicID uuid.UUID, _ int32, o offsetRecord) error {
			got = append(got, o.offset)
			return nil
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint([]int{i}) {
			t.Errorf("group %.10q has offsets %v, %v, want %d", name, got, err, i)
		}
	}
}

func TestACommandForAnOlderRevisionChangesNothing(t *testing.T) {
	t.Parallel()
	d := driveGroups(t, openStore(t, storage.NewMemFS()), 2)
	d.run(t, kindBeginEpoch, 1, nil)
	g := d.machine.app.(*groupStore)
	run := func(k kind, cmd any) error {
		t.Helper()
		body, err := json.Marshal(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return d.run(t, k, 1, body).err
	}
	old := (&group.State{Revision: 1, Epoch: 5}).EncodeHeader()
	change := groupCommand{Group: "g", Header: old, Put: []memberRecord{{ID: "a", Record: (&group.Member{}).Encode()}}}
	offset := commitRecord{TopicID: uuid.New(), Offset: 1}
	if err := errors.Join(run(kindCommitOffsets, commitCommand{Group: "g", Offsets: []commitRecord{offset}}), run(kindGroup, change)); err != nil {
		t.Fatal(err)
	}
	change.Put[0].ID = "b"
	if err := run(kindGroup, change); !errors.Is(err, errGroupChanged) {
		t.Errorf("a change: %v", err)
	}
	if err := run(kindDeleteOffsets, forgetCommand{Group: "g", Offsets: []commitRecord{offset}}); !errors.Is(err, errGroupChanged) {
		t.Errorf("offsets: %v", err)
	}
	if err := run(kindExpireGroup, forgetCommand{Group: "g", Before: math.MaxInt64}); err != nil {
		t.Errorf("expiry: %v", err)
	}
	s, err := g.state("g")
	if has, _ := g.hasOffsets("g"); err != nil || s.Revision != 1 || len(s.Members) != 1 || s.Members["a"] == nil || !has {
		t.Errorf("it became %+v, %v, with offsets: %t", s, err, has)
	}
}

func TestManyGroupsMakeTheirShardsAtOnce(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	var all sync.WaitGroup
	const groups = 100
	for i := range groups {
		all.Go(func() { commitAt(t, n, fmt.Sprint("g", i), "t", 0, int64(i)) })
	}
	all.Wait()
	for i := range groups {
		if got, want := committed(t, n, fmt.Sprint("g", i)), fmt.Sprint("t/0=", i); got != want {
			t.Errorf("group %d: %s, want %s", i, got, want)
		}
	}
	if got := len(n.meta.state.Load().groups); got < 2 || got > groupSlots {
		t.Errorf("%d groups live in %d shards", groups, got)
	}
	if got := len(strings.Fields(groupNames(t, n))); got != groups {
		t.Errorf("%d groups are listed", got)
	}
}

func TestAGroupWithoutCommitsHasNoOffsets(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	if got := committed(t, n, "nobody"); got != "" {
		t.Errorf("offsets: %s", got)
	}
	if got := len(n.meta.state.Load().groups); got != 0 {
		t.Errorf("asking made %d shards", got)
	}
}

func TestAGroupLosesTheOffsetsOfADeletedTopic(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "a", 1, nil)
	newTopic(t, n, "b", 1, nil)
	commitAt(t, n, "g", "a", 0, 1)
	commitAt(t, n, "g", "b", 0, 2)
	commitAt(t, n, "h", "a", 0, 3)
	deleteTopicNamed(t, n, "a")
	if got := committed(t, n, "g"); got != "b/0=2" {
		t.Errorf("offsets of g: %s", got)
	}
	waitFor(t, "the group without offsets to go", func() bool { return groupNames(t, n) == "g" })
}

func TestACommitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.CommitOffsets(ctx, commitRequest("g", "t", 0, 1)); !errors.Is(err, context.Canceled) || mqerr.Of(err) == nil {
		t.Errorf("commit under an ended context: %v", err)
	}
}

// Who sent it has sent a newer one since: it must not come behind that.
func TestACommitThatIsLateForItsContextStoresNothing(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	commitAt(t, n, "g", "t", 0, 7)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.CommitOffsets(ctx, commitRequest("g", "t", 0, 5)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	commitAt(t, n, "g", "t", 1, 1) // what was proposed before is applied
	if got := committed(t, n, "g"); got != "t/0=7 t/1=1" {
		t.Errorf("offsets: %s", got)
	}
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seen := map[int64]bool{}
	var mu sync.Mutex
	for round := range 3 {
		n := openNode(t, Config{Dir: dir})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range producerBlock/4 + 10 { // more than one block
					resp, err := n.InitProducer(t.Context(), &api.InitProducerRequest{})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if seen[resp.ProducerID] || resp.ProducerID < 0 || resp.Epoch != 0 {
						t.Errorf("round %d: %+v", round, resp)
					}
					seen[resp.ProducerID] = true
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAParkedGroupShardIsToldAtOnce(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	commitAt(t, n, "g", "t", 0, 1)
	n.replica(firstGroup+uint64(slotOf("g"))).machine.park(1, featureLevel+1)
	if _, err := n.FetchOffsets(t.Context(), &api.FetchOffsetsRequest{Group: "g"}); !errors.Is(err, errParked) {
		t.Errorf("offsets: %v", err)
	}
	if _, err := n.CommitOffsets(t.Context(), commitRequest("g", "t", 0, 2)); !errors.Is(err, errParked) || !mqerr.Retriable(err) {
		t.Errorf("commit: %v", err)
	}
}
