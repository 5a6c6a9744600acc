package mq_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
)

// fakeCluster is brokers as consumers see them: partitions full of real
// batches, and a place for offsets. Topics made by create are led by broker 1.
type fakeCluster struct {
	mu      sync.Mutex
	topics  map[string]*fakeTopic
	stored  map[string]map[fakeKey]api.CommittedOffset // by group
	groups  map[string]*fakeGroup
	changed chan struct{} // closed when a log grows or a leader moves
	served  int           // bytes of batches in fetch answers

	// before, if set, is called at the begin of each call. An error is the answer.
	before func(ctx context.Context, broker int32, method string) error
	// batches, if set, changes what a fetch answers.
	batches func(tp api.TopicPartition, b []byte) []byte
}

type fakeKey struct {
	id        uuid.UUID
	partition int32
}

type fakeTopic struct {
	id         uuid.UUID
	partitions []*fakePartition
	configs    map[string]string
}

type fakePartition struct {
	leader, epoch int32
	start, end    int64
	batches       [][]byte
	aborted       []api.AbortedTxn
}

// fakeBroker is one broker of a fakeCluster. What consumers don't call is not
// there: the nil interface would panic.
type fakeBroker struct {
	api.Broker
	c  *fakeCluster
	id int32
}

func (fakeBroker) Close() error { return nil }

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		topics:  map[string]*fakeTopic{},
		stored:  map[string]map[fakeKey]api.CommittedOffset{},
		changed: make(chan struct{}),
	}
}

// endpoint connects to the cluster, until the test ends or closes it.
func (c *fakeCluster) endpoint(t *testing.T) (mq.Endpoint, *route.Router) {
	r := route.New(route.Config{
		Seeds: []string{"broker-1"},
		Dial: func(_ context.Context, _ int32, addr string) (route.Conn, error) {
			var id int32
			if _, err := fmt.Sscanf(addr, "broker-%d", &id); err != nil {
				return nil, err
			}
			return fakeBroker{c: c, id: id}, nil
		},
	})
	t.Cleanup(func() { r.Close() })
	return mq.RouterEndpoint(r), r
}

// consumer opens a consumer, closed when the test ends.
func (c *fakeCluster) consumer(t *testing.T, cfg mq.ConsumerConfig) *mq.Consumer {
	t.Helper()
	e, _ := c.endpoint(t)
	consumer, err := mq.NewConsumer(e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { consumer.Close() })
	return consumer
}

func (c *fakeCluster) lock() (unlock func()) {
	c.mu.Lock()
	return c.mu.Unlock
}

// notifyLocked wakes long polls.
func (c *fakeCluster) notifyLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) create(name string, partitions int) *fakeTopic {
	defer c.lock()()
	t := &fakeTopic{id: uuid.New()}
	for range partitions {
		t.partitions = append(t.partitions, &fakePartition{leader: 1})
	}
	c.topics[name] = t
	c.notifyLocked()
	return t
}

func (c *fakeCluster) partition(name string, n int32) *fakePartition {
	return c.topics[name].partitions[n]
}

// add appends a batch with one record for each value, the first at time 1 s.
func (c *fakeCluster) add(name string, n int32, values ...string) {
	var b record.Builder
	for i, v := range values {
		b.Append(nil, []byte(v), nil, 1000+int64(i))
	}
	c.addBatch(name, n, &b, record.BuildOptions{ProducerID: record.NoProducerID})
}

func (c *fakeCluster) addBatch(name string, n int32, b *record.Builder, opts record.BuildOptions, change ...func([]byte)) {
	batch, err := b.Build(nil, opts)
	if err != nil {
		panic(err)
	}
	for _, f := range change {
		f(batch)
	}
	defer c.lock()()
	p := c.partition(name, n)
	record.Patch(batch, p.end, p.epoch)
	p.batches = append(p.batches, batch)
	p.end += int64(b.Len())
	c.notifyLocked()
}

// trim deletes whole batches below offset.
func (c *fakeCluster) trim(name string, n int32, offset int64) {
	defer c.lock()()
	p := c.partition(name, n)
	p.start = offset
	p.batches = slices.DeleteFunc(p.batches, func(b []byte) bool { return lastOffset(b) < offset })
}

// lead moves a partition to a broker.
func (c *fakeCluster) lead(name string, n, broker int32) {
	defer c.lock()()
	p := c.partition(name, n)
	p.leader, p.epoch = broker, p.epoch+1
	c.notifyLocked()
}

// committed returns what a group has stored, -1 for nothing.
func (c *fakeCluster) committed(group, topic string, n int32) int64 {
	defer c.lock()()
	if o, ok := c.stored[group][fakeKey{c.topics[topic].id, n}]; ok {
		return o.Offset
	}
	return -1
}

func (c *fakeCluster) store(group, topic string, n int32, offset int64) {
	defer c.lock()()
	c.storeLocked(group, api.TopicPartition{Topic: topic, TopicID: c.topics[topic].id, Partition: n}, api.CommittedOffset{Offset: offset})
}

func (c *fakeCluster) storeLocked(group string, tp api.TopicPartition, o api.CommittedOffset) {
	if c.stored[group] == nil {
		c.stored[group] = map[fakeKey]api.CommittedOffset{}
	}
	o.TopicPartition = tp
	c.stored[group][fakeKey{tp.TopicID, tp.Partition}] = o
}

// hook replaces before; nil takes it away.
func (c *fakeCluster) hook(before func(ctx context.Context, broker int32, method string) error) {
	defer c.lock()()
	c.before = before
	c.notifyLocked()
}

func lastOffset(batch []byte) int64 {
	info, err := record.Parse(batch)
	if err != nil {
		panic(err)
	}
	return info.LastOffset()
}

func (b fakeBroker) enter(ctx context.Context, method string) error {
	unlock := b.c.lock()
	before := b.c.before
	unlock()
	if before != nil {
		if err := before(ctx, b.id, method); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b fakeBroker) Metadata(ctx context.Context, req *api.MetadataRequest) (*api.MetadataResponse, error) {
	if err := b.enter(ctx, "Metadata"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	resp := &api.MetadataResponse{ClusterID: "fake", Controller: 1}
	for id := int32(1); id <= 3; id++ {
		resp.Brokers = append(resp.Brokers, api.BrokerInfo{ID: id, Addr: fmt.Sprintf("broker-%d", id)})
	}
	names := req.Topics
	if names == nil {
		names = slices.Collect(maps.Keys(b.c.topics))
	}
	for _, name := range names {
		t := b.c.topics[name]
		if t == nil {
			resp.Topics = append(resp.Topics, api.TopicInfo{Name: name, Err: mqerr.ErrUnknownTopicOrPartition})
			continue
		}
		resp.Topics = append(resp.Topics, t.info(name))
	}
	return resp, nil
}

func (t *fakeTopic) info(name string) api.TopicInfo {
	info := api.TopicInfo{Name: name, ID: t.id, Configs: maps.Clone(t.configs)}
	for i, p := range t.partitions {
		info.Partitions = append(info.Partitions, api.PartitionInfo{Index: int32(i), Leader: p.leader, LeaderEpoch: p.epoch, Replicas: []int32{1, 2, 3}})
	}
	return info
}

// findLocked returns a partition that this broker leads.
func (b fakeBroker) findLocked(tp api.TopicPartition) (*fakePartition, error) {
	t := b.c.topics[tp.Topic]
	switch {
	case t == nil || int(tp.Partition) >= len(t.partitions):
		return nil, mqerr.ErrUnknownTopicOrPartition
	case tp.TopicID != uuid.Nil && tp.TopicID != t.id:
		return nil, mqerr.ErrUnknownTopicID
	}
	p := t.partitions[tp.Partition]
	if p.leader != b.id {
		return nil, &mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: p.leader, LeaderEpoch: p.epoch}
	}
	return p, nil
}

func (b fakeBroker) Fetch(ctx context.Context, req *api.FetchRequest) (*api.FetchResponse, error) {
	if err := b.enter(ctx, "Fetch"); err != nil {
		return nil, err
	}
	deadline := time.NewTimer(req.MaxWait)
	defer deadline.Stop()
	for last := false; ; {
		unlock := b.c.lock()
		resp, size := b.readLocked(req)
		changed := b.c.changed
		if size >= req.MinBytes || last {
			b.c.served += size
			unlock()
			return resp, nil
		}
		unlock()
		select {
		case <-changed:
		case <-deadline.C:
			last = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := b.enter(ctx, "Fetch"); err != nil {
			return nil, err
		}
	}
}

func (b fakeBroker) readLocked(req *api.FetchRequest) (*api.FetchResponse, int) {
	resp := &api.FetchResponse{}
	size := 0
	for _, q := range req.Partitions {
		r := api.FetchResult{TopicPartition: q.TopicPartition}
		p, err := b.findLocked(q.TopicPartition)
		switch {
		case err != nil:
			r.Err = err
		case q.Offset < p.start || q.Offset > p.end:
			r.Err = &mqerr.Detail{Err: mqerr.ErrOffsetOutOfRange, Leader: -1, LogStart: p.start, HighWatermark: p.end}
		default:
			r.HighWatermark, r.LastStableOffset, r.LogStart, r.LeaderEpoch = p.end, p.end, p.start, p.epoch
			for _, batch := range p.batches {
				if lastOffset(batch) < q.Offset {
					continue
				}
				if size > 0 && (size+len(batch) > req.MaxBytes || len(r.Batches)+len(batch) > q.MaxBytes) {
					break
				}
				size += len(batch)
				r.Batches = append(r.Batches, batch...)
			}
			if req.Isolation == api.ReadCommitted {
				r.Aborted = p.aborted
			}
			if b.c.batches != nil {
				r.Batches = b.c.batches(q.TopicPartition, r.Batches)
			}
		}
		if r.Err != nil {
			size = max(size, req.MinBytes) // errors don't wait
		}
		if r.Err != nil || len(r.Batches) > 0 {
			resp.Partitions = append(resp.Partitions, r)
		}
	}
	return resp, size
}

func (b fakeBroker) ListOffsets(ctx context.Context, req *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error) {
	if err := b.enter(ctx, "ListOffsets"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	resp := &api.ListOffsetsResponse{}
	for _, q := range req.Partitions {
		r := api.ListOffsetsResult{TopicPartition: q.TopicPartition, Offset: -1, Timestamp: -1}
		p, err := b.findLocked(q.TopicPartition)
		switch {
		case err != nil:
			r.Err = err
		case q.Timestamp == api.LatestTimestamp:
			r.Offset = p.end
		case q.Timestamp == api.EarliestTimestamp:
			r.Offset = p.start
		default:
			for _, batch := range p.batches {
				if o, ts, ok, err := record.FirstAtOrAfter(batch, q.Timestamp, p.start); ok || err != nil {
					r.Offset, r.Timestamp, r.Err = o, ts, err
					break
				}
			}
		}
		resp.Partitions = append(resp.Partitions, r)
	}
	return resp, nil
}

func (b fakeBroker) CommitOffsets(ctx context.Context, req *api.CommitOffsetsRequest) (*api.CommitOffsetsResponse, error) {
	if err := b.enter(ctx, "CommitOffsets"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	resp := &api.CommitOffsetsResponse{}
	if err := b.coordinatesLocked(req.Group); err != nil {
		return nil, err
	}
	for _, o := range req.Offsets {
		r := api.CommitResult{TopicPartition: o.TopicPartition}
		if t := b.c.topics[o.Topic]; t == nil || t.id != o.TopicID {
			r.Err = mqerr.ErrUnknownTopicID
		} else if r.Err = b.c.groupLocked(req.Group).mayCommitLocked(req, o.TopicPartition); r.Err == nil {
			b.c.storeLocked(req.Group, o.TopicPartition, api.CommittedOffset{
				Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, MemberEpoch: req.MemberEpoch, CommitTime: time.Now().UnixMilli(),
			})
		}
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}

func (b fakeBroker) FetchOffsets(ctx context.Context, req *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error) {
	if err := b.enter(ctx, "FetchOffsets"); err != nil {
		return nil, err
	}
	defer b.c.lock()()
	resp := &api.FetchOffsetsResponse{}
	if err := b.coordinatesLocked(req.Group); err != nil {
		return nil, err
	}
	if req.Partitions == nil {
		resp.Offsets = slices.SortedFunc(maps.Values(b.c.stored[req.Group]), func(x, y api.CommittedOffset) int {
			return cmp.Or(strings.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
		})
		return resp, nil
	}
	for _, tp := range req.Partitions {
		o, ok := b.c.stored[req.Group][fakeKey{tp.TopicID, tp.Partition}]
		if !ok {
			o = api.CommittedOffset{TopicPartition: tp, Offset: -1, LeaderEpoch: -1}
		}
		resp.Offsets = append(resp.Offsets, o)
	}
	return resp, nil
}
