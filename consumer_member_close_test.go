package mq_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestCloseCommitsRevokesAndLeaves(t *testing.T) {
	for _, tt := range []struct {
		instance string
		epoch    int32
	}{{"", api.LeaveEpoch}, {"i", api.LeaveStaticEpoch}} {
		bubbled(t, "instance "+tt.instance, func(t *testing.T, c *fakeCluster) {
			c.create("t", 2)
			c.add("t", 0, "a", "b")
			var consumer *mq.Consumer
			var polled []*mq.Record
			consumer = c.consumer(t, mq.ConsumerConfig{
				Topics: []string{"t"}, GroupID: "g", InstanceID: tt.instance, AutoCommitInterval: -1,
				OnRevoked: func(ctx context.Context, tps []mq.TopicPartition) {
					if len(tps) != 2 {
						t.Errorf("revoked %v", tps)
					}
					if err := consumer.Commit(ctx, polled...); err != nil {
						t.Error(err)
					}
				},
			})
			var err error
			if polled, err = consumer.Poll(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := consumer.Close(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("it took %v", took)
			}
			committed(t, c, 0, 2)
			last := c.lastBeat("g")
			if last.MemberEpoch != tt.epoch || last.InstanceID != tt.instance || len(last.Owned) != 0 {
				t.Errorf("the last heartbeat is %+v", last)
			}
		})
	}
}

func TestConsumerThatIsClosedByItsHandlerLeavesWhenRunReturns(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer, h := member(t, c, mq.ConsumerConfig{})
		err := consumer.Run(t.Context(), mq.HandlerFunc(func(context.Context, *mq.Record) error {
			if err := consumer.Close(); err != nil {
				t.Error(err)
			}
			h.want(t, "+0")
			return nil
		}))
		if !errors.Is(err, mq.ErrClosed) {
			t.Errorf("run ended with %v", err)
		}
		committed(t, c, 0, 1)
		h.want(t, "+0 -0")
		if last := c.lastBeat("g"); last.MemberEpoch != api.LeaveEpoch {
			t.Errorf("the last heartbeat is %+v", last)
		}
	})
}

func TestClosedEndpointLosesWhatItsMembersHave(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		e, r := c.endpoint(t)
		var h told
		consumer, err := mq.NewConsumer(e, h.hooks(mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, poll(t, consumer, 1), "a")
		r.Close()
		settle()
		if _, err := consumer.Poll(t.Context(), 1); !errors.Is(err, mq.ErrClosed) {
			t.Errorf("poll: %v", err)
		}
		if err := consumer.Close(); err != nil {
			t.Error(err)
		}
		h.want(t, "+0 !0")
	})
}

func TestHooksMayCallTheConsumer(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b")
		c.add("t", 1, "x")
		c.script("g", "t")
		var consumer *mq.Consumer
		var calls []string
		call := func(what string) mq.RebalanceHook {
			return func(ctx context.Context, tps []mq.TopicPartition) {
				consumer.Pause(tps...)
				consumer.Resume(tps...)
				err := errors.Join(consumer.Commit(ctx), consumer.Seek(ctx, mq.StartEarliest, consumer.Assignment()...))
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if _, err := consumer.Lag(ctx); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				calls = append(calls, what)
			}
		}
		consumer = c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", OnAssigned: call("assigned"), OnRevoked: call("revoked"), OnLost: call("lost"),
		})
		settle()
		c.script("g", "t", []int32{0, 1})
		settle()
		c.script("g", "t", []int32{1})
		settle()
		c.refuseMember("g", 0, mqerr.ErrFencedMemberEpoch)
		settle()
		equal(t, calls, "assigned", "revoked", "lost")
	})
}

func TestCloseInAHookEnds(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		var consumer *mq.Consumer
		ready, closed := make(chan struct{}), make(chan error, 1)
		consumer = c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", CloseTimeout: time.Second,
			OnAssigned: func(context.Context, []mq.TopicPartition) {
				<-ready
				closed <- consumer.Close()
			},
		})
		close(ready)
		if err := <-closed; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if last := c.lastBeat("g"); last.MemberEpoch != api.LeaveEpoch {
			t.Errorf("the last heartbeat is %+v", last)
		}
	})
}
