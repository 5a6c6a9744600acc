package mqtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// A broker that falls silent breaks no connection. Producer and consumer have an
// hour's patience with it, and go on without it all the same.
func TestALeaderThatFellSilentIsLeftSoon(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(1, "t"))
	leader := c.Leader("t", 0)
	inside := c.Broker(leader%3 + 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	var producers []*mq.Producer
	var consumers []*mq.Consumer
	for _, e := range []mq.Endpoint{c.Endpoint(), inside} {
		p, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "t", Timeout: time.Hour, DeliveryTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close() }()
		cons, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"t"}, Start: mq.StartEarliest, Timeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cons.Close() }()
		producers, consumers = append(producers, p), append(consumers, cons)
	}
	send := func(value string) {
		t.Helper()
		for _, p := range producers {
			if err := p.Send(ctx, &mq.Record{Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	receive := func(value string) {
		t.Helper()
		for _, cons := range consumers {
			for range producers {
				rs, err := cons.Poll(ctx, 1)
				if err != nil || len(rs) != 1 || string(rs[0].Value) != value {
					t.Fatalf("%v, %v", rs, err)
				}
			}
		}
	}
	send("before")
	receive("before")
	c.Isolate(leader)
	send("after")
	receive("after")
	c.Kill(leader) // or it would have an hour for what reaches it now
}
