package mq_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
)

func (b fakeBroker) CreateTopic(ctx context.Context, req *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
	if err := b.enter(ctx, "CreateTopic"); err != nil {
		return nil, err
	}
	if _, err := topic.Parse(req.Configs); err != nil {
		return nil, err
	}
	unlock := b.c.lock()
	exists := b.c.topics[req.Name] != nil
	unlock()
	if exists {
		return nil, mqerr.ErrTopicExists
	}
	t := b.c.create(req.Name, int(cmp.Or(req.Partitions, 1)))
	t.configs = req.Configs
	return &api.CreateTopicResponse{Topic: t.info(req.Name)}, nil
}

func (b fakeBroker) DeleteTopic(ctx context.Context, req *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error) {
	if err := b.enter(ctx, "DeleteTopic"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	if b.c.topics[req.Name] == nil {
		return nil, mqerr.ErrUnknownTopicOrPartition
	}
	delete(b.c.topics, req.Name)
	return &api.DeleteTopicResponse{}, nil
}

func (b fakeBroker) AlterTopic(ctx context.Context, req *api.AlterTopicRequest) (*api.AlterTopicResponse, error) {
	if err := b.enter(ctx, "AlterTopic"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	t := b.c.topics[req.Name]
	if t == nil {
		return nil, mqerr.ErrUnknownTopicOrPartition
	}
	if t.configs == nil {
		t.configs = map[string]string{}
	}
	maps.Copy(t.configs, req.Set)
	for _, name := range req.Reset {
		delete(t.configs, name)
	}
	return &api.AlterTopicResponse{Topic: t.info(req.Name)}, nil
}

func (b fakeBroker) AddPartitions(ctx context.Context, req *api.AddPartitionsRequest) (*api.AddPartitionsResponse, error) {
	if err := b.enter(ctx, "AddPartitions"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	t := b.c.topics[req.Name]
	if t == nil {
		return nil, mqerr.ErrUnknownTopicOrPartition
	}
	for len(t.partitions) < int(req.Total) {
		t.partitions = append(t.partitions, &fakePartition{leader: 1})
	}
	return &api.AddPartitionsResponse{Topic: t.info(req.Name)}, nil
}

func (b fakeBroker) TrimTopic(ctx context.Context, req *api.TrimTopicRequest) (*api.TrimTopicResponse, error) {
	if err := b.enter(ctx, "TrimTopic"); err != nil {
		return nil, err
	}
	resp := &api.TrimTopicResponse{}
	for _, q := range req.Partitions {
		unlock := b.c.lock()
		p, err := b.findLocked(q.TopicPartition)
		if q.TopicID == uuid.Nil {
			err = errors.New("a topic of the same name may have come meanwhile")
		}
		if err == nil && q.Offset > p.end {
			err = &mqerr.Detail{Err: mqerr.ErrOffsetOutOfRange, Leader: -1, LogStart: p.start, HighWatermark: p.end}
		}
		unlock()
		if err == nil {
			b.c.trim(q.Topic, q.Partition, q.Offset)
		}
		resp.Partitions = append(resp.Partitions, api.TrimResult{TopicPartition: q.TopicPartition, LogStart: q.Offset, Err: err})
	}
	return resp, nil
}

func (b fakeBroker) DescribeCluster(ctx context.Context, _ *api.DescribeClusterRequest) (*api.DescribeClusterResponse, error) {
	if err := b.enter(ctx, "DescribeCluster"); err != nil {
		return nil, err
	}
	resp := &api.DescribeClusterResponse{ClusterID: "fake", Controller: 1}
	for id := range int32(3) {
		resp.Brokers = append(resp.Brokers, api.BrokerState{BrokerInfo: api.BrokerInfo{ID: id + 1, Addr: fmt.Sprint("broker-", id+1)}})
	}
	return resp, nil
}

func (b fakeBroker) DescribeLogs(ctx context.Context, req *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error) {
	if err := b.enter(ctx, "DescribeLogs"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	resp := &api.DescribeLogsResponse{}
	for _, name := range req.Topics {
		for i, p := range b.c.topics[name].partitions {
			size := 0
			for _, batch := range p.batches {
				size += len(batch)
			}
			l := api.LogInfo{TopicPartition: api.TopicPartition{Topic: name, Partition: int32(i)}, LogStart: p.start, SizeBytes: int64(size), LeaderEpoch: p.epoch}
			if l.Leader = p.leader == b.id; l.Leader {
				l.HighWatermark = p.end // followers may be behind
			}
			resp.Logs = append(resp.Logs, l)
		}
	}
	return resp, nil
}

func (b fakeBroker) ListGroups(ctx context.Context, _ *api.ListGroupsRequest) (*api.ListGroupsResponse, error) {
	if err := b.enter(ctx, "ListGroups"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	resp := &api.ListGroupsResponse{}
	for _, g := range slices.Sorted(maps.Keys(b.c.stored)) {
		resp.Groups = append(resp.Groups, api.GroupInfo{Group: g})
	}
	return resp, nil
}

func (c *fakeCluster) admin(t *testing.T) *mq.Admin {
	e, _ := c.endpoint(t)
	return mq.NewAdmin(e)
}

func TestTopicLivesThroughAdmin(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		a, ctx := c.admin(t), t.Context()
		made, err := a.CreateTopic(ctx, mq.TopicSpec{Name: "t", Partitions: 2, Configs: map[string]string{mq.ConfigRetentionMs: "1000"}})
		if err != nil || made.Name != "t" || len(made.Partitions) != 2 || made.Configs[mq.ConfigRetentionMs] != "1000" || len(made.ID) != 36 {
			t.Fatalf("created %+v, %v", made, err)
		}
		if _, err := a.CreateTopic(ctx, mq.TopicSpec{Name: "t"}); !errors.Is(err, mq.ErrTopicExists) {
			t.Errorf("created twice: %v", err)
		}
		c.create("a", 1)
		topics, err := a.ListTopics(ctx)
		if err != nil || len(topics) != 2 || topics[0].Name != "a" || topics[1].ID != made.ID || topics[1].Partitions[0].HighWatermark != -1 {
			t.Errorf("listed %+v, %v", topics, err)
		}

		c.lead("t", 1, 2)
		c.add("t", 1, "x", "y", "z")
		c.trim("t", 1, 1)
		d, err := a.DescribeTopic(ctx, "t")
		want := mq.PartitionInfo{Partition: 1, Leader: 2, LeaderEpoch: 1, LogStart: 1, HighWatermark: 3, SizeBytes: 88}
		if got := d.Partitions[1]; err != nil || got.Leader != 2 || got.LogStart != want.LogStart || got.HighWatermark != want.HighWatermark ||
			got.LeaderEpoch != want.LeaderEpoch || got.SizeBytes < 61 || len(got.Replicas) != 3 {
			t.Errorf("described %+v, %v", d, err)
		}

		altered, err := a.AlterTopic(ctx, "t", map[string]string{mq.ConfigRetentionBytes: "5"}, mq.ConfigRetentionMs)
		if err != nil || !maps.Equal(altered.Configs, map[string]string{mq.ConfigRetentionBytes: "5"}) {
			t.Errorf("altered %+v, %v", altered, err)
		}
		grown, err := a.AddPartitions(ctx, "t", 5)
		if err != nil || len(grown.Partitions) != 5 {
			t.Errorf("grown %+v, %v", grown, err)
		}
		if d, err := a.DescribeTopic(ctx, "t"); err != nil || len(d.Partitions) != 5 || d.Partitions[4].HighWatermark != 0 {
			t.Errorf("described %+v, %v", d, err)
		}
		if err := a.DeleteTopic(ctx, "t"); err != nil {
			t.Error(err)
		}
		if _, err := a.DescribeTopic(ctx, "t"); !errors.Is(err, mq.ErrUnknownTopicOrPartition) {
			t.Errorf("described a deleted topic: %v", err)
		}
	})
}

func TestBadAdminRequestsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		a, ctx := c.admin(t), t.Context()
		c.create("t", 2)
		create := func(s mq.TopicSpec) error { _, err := a.CreateTopic(ctx, s); return err }
		list := func(name string, at mq.Start, ns ...int32) error {
			_, err := a.ListOffsets(ctx, name, at, ns...)
			return err
		}
		trim := func(name string, at mq.Start, ns ...int32) error {
			_, err := a.TrimTopic(ctx, name, at, ns...)
			return err
		}
		grow := func(n int) error { _, err := a.AddPartitions(ctx, "t", n); return err }
		start := time.Now()
		for i, tt := range []struct{ err, want error }{
			{create(mq.TopicSpec{Name: "a b"}), mq.ErrInvalidTopic},
			{create(mq.TopicSpec{Name: "a", Partitions: -1}), mq.ErrInvalidPartitions},
			{create(mq.TopicSpec{Name: "a", Partitions: 1 << 30}), mq.ErrInvalidPartitions},
			{create(mq.TopicSpec{Name: "a", ReplicationFactor: -1}), mq.ErrInvalidReplicationFactor},
			{create(mq.TopicSpec{Name: "a", ReplicationFactor: 1 << 20}), mq.ErrInvalidReplicationFactor},
			{create(mq.TopicSpec{Name: "a", Configs: map[string]string{"color": "red"}}), mq.ErrInvalidConfig},
			{grow(0), mq.ErrInvalidPartitions},
			{a.DeleteTopic(ctx, "nosuch"), mq.ErrUnknownTopicOrPartition},
			{list("nosuch", mq.StartLatest), mq.ErrUnknownTopicOrPartition},
			{list("t", mq.StartLatest, 5), mq.ErrUnknownTopicOrPartition},
			{list("t", mq.StartCommitted), mq.ErrInvalidRequest},
			{list("t", mq.StartAt(3)), mq.ErrInvalidRequest},
			{trim("nosuch", mq.StartLatest), mq.ErrUnknownTopicOrPartition},
			{trim("t", mq.StartAt(3)), mq.ErrOffsetOutOfRange},
			{trim("t", mq.StartAt(-3)), mq.ErrInvalidRequest},
			{trim("t", mq.StartCommitted), mq.ErrInvalidRequest},
		} {
			if !errors.Is(tt.err, tt.want) {
				t.Errorf("request %d: got %v, want %v", i, tt.err, tt.want)
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v to say no", took)
		}
	})
}

func TestOffsetsAreListedAndLogsTrimmed(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		a, ctx := c.admin(t), t.Context()
		c.create("t", 3)
		for n := range int32(3) {
			c.lead("t", n, n+1)
		}
		c.add("t", 0, "a", "b", "c") // at 1000, 1001, 1002 ms
		c.add("t", 2, "d")           // at 1000 ms
		list := func(at mq.Start, want ...int64) {
			t.Helper()
			got, err := a.ListOffsets(ctx, "t", at)
			for i := range want {
				if err != nil || len(got) != len(want) || got[i].Partition != int32(i) || got[i].Offset != want[i] {
					t.Fatalf("at %v: got %+v, %v; want %v", at, got, err, want)
				}
			}
		}
		second := mq.StartAtTime(time.UnixMilli(1001))
		list(mq.StartEarliest, 0, 0, 0)
		list(mq.StartLatest, 3, 0, 1)
		list(second, 1, -1, -1)
		if got, err := a.ListOffsets(ctx, "t", second, 2, 0); err != nil || len(got) != 2 || !got[0].Timestamp.Equal(time.UnixMilli(1001)) || !got[1].Timestamp.IsZero() {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err := a.TrimTopic(ctx, "t", mq.StartAt(2), 0); err != nil || len(got) != 1 || got[0].Offset != 2 {
			t.Errorf("trimmed to %+v, %v", got, err)
		}
		list(mq.StartEarliest, 2, 0, 0)
		if _, err := a.TrimTopic(ctx, "t", second, 2); err != nil { // all of partition 2 is older
			t.Error(err)
		}
		list(mq.StartEarliest, 2, 0, 1)
		if _, err := a.TrimTopic(ctx, "t", mq.StartLatest); err != nil {
			t.Error(err)
		}
		list(mq.StartEarliest, 3, 0, 1)
	})
}

func TestGroupsAndTheirOffsetsAreListed(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		a, ctx := c.admin(t), t.Context()
		c.create("t", 2)
		c.store("g", "t", 1, 5)
		c.store("h", "t", 0, 7)
		groups, err := a.ListGroups(ctx)
		if err != nil || !slices.Equal(groups, []mq.GroupInfo{{GroupID: "g"}, {GroupID: "h"}}) {
			t.Errorf("got %v, %v", groups, err)
		}
		offsets, err := a.CommittedOffsets(ctx, "g")
		if err != nil || len(offsets) != 1 || offsets[0].Topic != "t" || offsets[0].Partition != 1 || offsets[0].Offset != 5 || len(offsets[0].TopicID) != 36 {
			t.Errorf("got %+v, %v", offsets, err)
		}
		if offsets, err := a.CommittedOffsets(ctx, "nobody"); err != nil || len(offsets) != 0 {
			t.Errorf("got %+v, %v", offsets, err)
		}
		cluster, err := a.DescribeCluster(ctx)
		if err != nil || cluster.ID != "fake" || cluster.Controller != 1 || len(cluster.Brokers) != 3 || cluster.Brokers[2] != (mq.BrokerInfo{ID: 3, Addr: "broker-3"}) {
			t.Errorf("got %+v, %v", cluster, err)
		}
		health, err := a.ClusterHealth(ctx)
		if err != nil || health.ID != "fake" || len(health.Brokers) != 3 ||
			!reflect.DeepEqual(health.Brokers[2], mq.BrokerHealth{BrokerInfo: mq.BrokerInfo{ID: 3, Addr: "broker-3"}, Reachable: true}) {
			t.Errorf("got %+v, %v", health, err)
		}
		js, err := json.Marshal(offsets)
		if err != nil || !strings.Contains(string(js), `"topic":"t"`) || !strings.Contains(string(js), `"leader_epoch":`) {
			t.Errorf("got %s, %v", js, err)
		}
	})
}

// brokerCalls are all calls of an Admin that reach a broker.
var brokerCalls = map[string]func(context.Context, *mq.Admin) error{
	"CreateTopic": func(ctx context.Context, a *mq.Admin) error {
		_, err := a.CreateTopic(ctx, mq.TopicSpec{Name: "new"})
		return err
	},
	"DeleteTopic": func(ctx context.Context, a *mq.Admin) error { return a.DeleteTopic(ctx, "t") },
	"AlterTopic": func(ctx context.Context, a *mq.Admin) error {
		_, err := a.AlterTopic(ctx, "t", nil, mq.ConfigRetentionMs)
		return err
	},
	"AddPartitions": func(ctx context.Context, a *mq.Admin) error { _, err := a.AddPartitions(ctx, "t", 2); return err },
	"TrimTopic": func(ctx context.Context, a *mq.Admin) error {
		_, err := a.TrimTopic(ctx, "t", mq.StartAt(0))
		return err
	},
	"Metadata": func(ctx context.Context, a *mq.Admin) error { _, err := a.ListTopics(ctx); return err },
	"ListOffsets": func(ctx context.Context, a *mq.Admin) error {
		_, err := a.ListOffsets(ctx, "t", mq.StartLatest)
		return err
	},
	"ListGroups":   func(ctx context.Context, a *mq.Admin) error { _, err := a.ListGroups(ctx); return err },
	"FetchOffsets": func(ctx context.Context, a *mq.Admin) error { _, err := a.CommittedOffsets(ctx, "g"); return err },
}

func isChange(method string) bool {
	return !slices.Contains([]string{"Metadata", "ListOffsets", "ListGroups", "FetchOffsets"}, method)
}

func TestAdminRepeatsWhatHadNoEffect(t *testing.T) {
	for method, call := range brokerCalls {
		bubbled(t, method, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			var calls atomic.Int32
			c.hook(func(_ context.Context, _ int32, m string) error {
				if m == method && calls.Add(1) <= 5 {
					return []error{mq.ErrLeaderNotAvailable, mq.ErrNoQuorum, mq.ErrBusy}[calls.Load()%3]
				}
				return nil
			})
			if err := call(t.Context(), c.admin(t)); err != nil {
				t.Errorf("after %d calls: %v", calls.Load(), err)
			}
		})
	}
}

func TestAdminDoesNotRepeatAChangeWhoseOutcomeIsUnknown(t *testing.T) {
	for method, call := range brokerCalls {
		if !isChange(method) {
			continue
		}
		bubbled(t, method, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			var calls atomic.Int32
			c.hook(func(_ context.Context, _ int32, m string) error {
				if m == method {
					calls.Add(1)
					return mq.ErrTimeout
				}
				return nil
			})
			if err := call(t.Context(), c.admin(t)); !mq.OutcomeUnknown(err) || calls.Load() != 1 {
				t.Errorf("after %d calls: %v", calls.Load(), err)
			}
		})
	}
}

func TestAdminCallsEndWithTheirContextOrAfterHalfAMinute(t *testing.T) {
	for method, call := range brokerCalls {
		bubbled(t, method, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.hook(func(ctx context.Context, _ int32, m string) error {
				if m == method {
					<-ctx.Done()
				}
				return nil
			})
			a := c.admin(t)
			for _, tt := range []struct {
				ctx  context.Context
				want time.Duration
			}{{contextFor(t, 3*time.Second), 3 * time.Second}, {t.Context(), 30 * time.Second}} {
				start := time.Now()
				err := call(tt.ctx, a)
				if took := time.Since(start); took < tt.want || took > tt.want+time.Second {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if isChange(method) && !mq.OutcomeUnknown(err) {
					t.Errorf("whether it took effect is not known: %v", err)
				}
			}
		})
	}
}

// An operator describes a topic above all when something is wrong with it.
func TestDescribeTopicDoesNotWaitForLostLeaders(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 3)
		c.add("t", 0, "a")
		c.lead("t", 1, -1)
		c.lead("t", 2, 2)
		c.hook(func(_ context.Context, broker int32, _ string) error {
			if broker == 2 {
				return errors.New("connection refused")
			}
			return nil
		})
		start := time.Now()
		d, err := c.admin(t).DescribeTopic(t.Context(), "t")
		if took := time.Since(start); err != nil || took > 3*time.Second {
			t.Fatalf("after %v: %v", took, err)
		}
		for n, want := range []int64{1, -1, -1} {
			if got := d.Partitions[n].HighWatermark; got != want {
				t.Errorf("partition %d: high watermark %d, want %d", n, got, want)
			}
		}
		if d.Partitions[1].Leader != -1 || d.Partitions[2].Leader != 2 {
			t.Errorf("got %+v", d.Partitions)
		}
	})
}

func TestConsumersOfTheSameEndpointLearnOfNewTopicsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		e, _ := c.endpoint(t)
		consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"t"}})
		if err != nil {
			t.Fatal(err)
		}
		defer consumer.Close()
		c.create("t", 1)
		time.Sleep(time.Minute)
		start := time.Now()
		if _, err := mq.NewAdmin(e).AddPartitions(t.Context(), "t", 2); err != nil {
			t.Fatal(err)
		}
		for len(consumer.Assignment()) < 2 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
	})
}
