package mq_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
)

// A hook that never returns holds Close up for CloseTimeout at most.
func TestCloseEndsAlthoughItsOwnHookDoesNotReturn(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		end := make(chan struct{})
		defer close(end)
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", CloseTimeout: 10 * time.Second,
			OnRevoked: func(context.Context, []mq.TopicPartition) { <-end },
		})
		equal(t, poll(t, consumer, 1), "a")
		equal(t, poll(t, consumer, 1), "b")
		closed := make(chan error, 1)
		go func() { closed <- consumer.Close() }()
		select {
		case err := <-closed:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("close: %v", err)
			}
		case <-time.After(hang):
			t.Fatal("close does not end")
		}
		committed(t, c, 0, 1)
		if last := c.lastBeat("g"); last.MemberEpoch != api.LeaveEpoch {
			t.Errorf("the last heartbeat is %+v", last)
		}
	})
}

func TestCloseCommitsAlthoughAHookDoesNotReturn(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b")
		c.script("g", "t")
		end := make(chan struct{})
		defer close(end)
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: time.Hour, CloseTimeout: 10 * time.Second,
			OnAssigned: func(_ context.Context, tps []mq.TopicPartition) {
				if tps[0].Partition == 1 {
					<-end
				}
			},
		})
		settle()
		c.script("g", "t", []int32{0})
		equal(t, poll(t, consumer, 1), "a")
		c.script("g", "t", []int32{0, 1})
		settle()
		equal(t, poll(t, consumer, 1), "b") // and a is finished
		if err := consumer.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		committed(t, c, 0, 1)
	})
}
