package mqtest_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// group is the members of a group, and what they have handled of each partition.
type group struct {
	session time.Duration // 0: as the brokers say

	mu       sync.Mutex
	offsets  map[int32][]int64
	total    int
	assigned int // partitions, so far
	lost     []mq.TopicPartition
}

func (g *group) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// join starts a member; leave ends it in order.
func (g *group) join(t *testing.T, e mq.Endpoint) (c *mq.Consumer, leave func()) {
	t.Helper()
	c, err := mq.NewConsumer(e, mq.ConsumerConfig{
		Topics: []string{"t"}, GroupID: "g", Timeout: time.Second, SessionTimeout: g.session,
		OnAssigned: func(_ context.Context, tps []mq.TopicPartition) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.assigned += len(tps)
		},
		OnLost: func(_ context.Context, tps []mq.TopicPartition) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.lost = append(g.lost, tps...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.offsets[r.Partition] = append(g.offsets[r.Partition], r.Offset)
			g.total++
			return nil
		}))
	}()
	return c, func() {
		stop()
		if err := errors.Join(<-done, c.Close()); err != nil {
			t.Error(err)
		}
	}
}

// waitFor waits until cond holds, which nobody tells of.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Members outlive their coordinator, even in the middle of a rebalance: nobody
// has to join again, and no record is handled twice.
func TestGroupOutlivesItsCoordinatorInTheMiddleOfARebalance(t *testing.T) {
	t.Parallel()
	cluster := mqtest.NewCluster(t, 3, mqtest.Topics(6, "t"))
	e := cluster.Endpoint()
	sent := flow(t, e)
	g := &group{offsets: map[int32][]int64{}}
	goesOn := func() { t.Helper(); g.goesOn(t) }
	first, leaveFirst := g.join(t, e)
	defer leaveFirst()
	goesOn()
	second, leaveSecond := g.join(t, e)
	description, err := mq.NewAdmin(e).DescribeGroup(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	cluster.Kill(description.Coordinator)
	shared := func() bool { return len(first.Assignment()) == 3 && len(second.Assignment()) == 3 }
	waitFor(t, "both members have a half", shared)
	goesOn()
	cluster.Restart(description.Coordinator)
	cluster.WaitReady()
	goesOn()
	leaveSecond()
	waitFor(t, "the first has all", func() bool { return len(first.Assignment()) == 6 })
	goesOn()
	g.check(t, sent())
}

// flow sends records to topic t until end, which returns how many there are.
func flow(t *testing.T, e mq.Endpoint) (end func() int) {
	t.Helper()
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "t", Timeout: 500 * time.Millisecond, Partitioner: mq.RoundRobin()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = producer.Close() })
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan int, 1)
	go func() { // ends with ctx
		n := 0
		for ; ctx.Err() == nil; n++ {
			if err := producer.Send(t.Context(), &mq.Record{Value: []byte(strconv.Itoa(n))}); err != nil {
				t.Errorf("send: %v", err)
			}
		}
		sent <- n
	}()
	return func() int { stop(); return <-sent }
}

// goesOn waits until more records are handled.
func (g *group) goesOn(t *testing.T) {
	t.Helper()
	before := g.count()
	waitFor(t, "records are handled", func() bool { return g.count() > before+50 })
}

// check wants each of n records handled once, those of a partition in order.
func (g *group) check(t *testing.T, n int) {
	t.Helper()
	waitFor(t, "everything is handled", func() bool { return g.count() >= n })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total != n || len(g.lost) > 0 {
		t.Errorf("%d records were handled, %d sent; %v were lost", g.total, n, g.lost)
	}
	for partition, offsets := range g.offsets {
		for i, o := range offsets {
			if o != int64(i) {
				t.Fatalf("partition %d: offset %d was handled as number %d", partition, o, i)
			}
		}
	}
}
