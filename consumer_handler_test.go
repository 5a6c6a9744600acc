package mq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

func TestRunHandlesEachPartitionInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 3)
		for i := range 100 {
			for n := range int32(3) {
				c.add("t", n, fmt.Sprint(2*i), fmt.Sprint(2*i+1))
			}
		}
		for n := range int32(3) {
			c.lead("t", n, n+1) // one leader each
		}
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, MaxBytes: 500})
		ctx, stop := context.WithCancel(t.Context())
		got := map[int32][]string{}
		total := 0
		err := consumer.Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			got[r.Partition] = append(got[r.Partition], string(r.Value))
			if total++; total == 600 {
				stop()
			}
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		for n := range int32(3) {
			equal(t, got[n], numbered(0, 200)...)
		}
	})
}

func TestRunCommitsWhenItEndsAndTheNextConsumerGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b", "c")
		cfg := mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"}
		consumer := c.consumer(t, cfg)
		ctx, stop := context.WithCancel(t.Context())
		err := consumer.Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			if string(r.Value) == "b" {
				stop()
			}
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 2) // the record under way was finished
		consumer.Close()
		equal(t, poll(t, c.consumer(t, cfg), 10), "c")
	})
}

func TestFailedHandlerStopsRunAndTheRecordComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b", "c")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		broken := errors.New("no paper")
		var got []string
		handler := func(_ context.Context, r *mq.Record) error {
			got = append(got, string(r.Value))
			if string(r.Value) == "b" && len(got) == 2 {
				return broken
			}
			if string(r.Value) == "c" {
				return context.Canceled // not Run's own end, so a failure as any
			}
			return nil
		}
		if err := consumer.Run(t.Context(), mq.HandlerFunc(handler)); !errors.Is(err, broken) || !strings.Contains(err.Error(), "t/0@1") {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, 1)
		if err := consumer.Run(t.Context(), mq.HandlerFunc(handler)); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		equal(t, got, "a", "b", "b", "c")
		committed(t, c, 0, 2)
	})
}

func TestPanickingHandlerIsAnErrorWithStackAndTheRecordComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		cause := errors.New("index out of luck")
		err := consumer.Run(t.Context(), mq.HandlerFunc(panicOn("b", cause)))
		var p *mq.PanicError
		if !errors.Is(err, mq.ErrHandlerPanicked) || !errors.Is(err, cause) || !errors.As(err, &p) || !bytes.Contains(p.Stack, []byte("panicOn")) {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, 1)
		equal(t, poll(t, consumer, 10), "b")
	})
}

func panicOn(value string, cause any) func(context.Context, *mq.Record) error {
	return func(_ context.Context, r *mq.Record) error {
		if string(r.Value) == value {
			panic(cause)
		}
		return nil
	}
}

func TestHandlerSeesTheEndOfRun(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		err := consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, _ *mq.Record) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		if err != nil {
			t.Fatalf("stopping on request is no error, got %v", err)
		}
		equal(t, poll(t, consumer, 1), "a") // not finished
	})
}
