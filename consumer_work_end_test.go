package mq_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/raftmq/mq"
)

func TestEndOfContextWaitsForAllHandlers(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2", "d=3", "a=4")
		cfg := mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 3}
		consumer := c.consumer(t, cfg)
		left := make(chan struct{})
		h := mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
			<-ctx.Done()
			<-left
			if string(r.Value) == "1" {
				return ctx.Err()
			}
			return nil
		})
		r := run(t, consumer, h)
		settle()
		r.stop()
		settle()
		select {
		case err := <-r.err:
			t.Fatalf("Run did not wait for its handlers: %v", err)
		default:
		}
		close(left)
		if err := <-r.err; err != nil {
			t.Fatalf("stopping on request is no error, got %v", err)
		}
		committed(t, c, 0, 1)
		equal(t, pollUntil(t, consumer, 4), "1", "2", "3", "4")
	})
}

// A failure is told, although Run was to end and others ended because of that.
func TestFailureAtTheEndIsNotLostAmongOthers(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1")
		failed := errors.New("no paper")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Concurrency: 2})
		r := run(t, consumer, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
			<-ctx.Done()
			if string(r.Value) == "0" {
				return failed
			}
			return ctx.Err()
		}))
		settle()
		r.stop()
		if err := <-r.err; !errors.Is(err, failed) || errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestNothingIsBegunAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(stop func(), c *mq.Consumer){
		"context": func(stop func(), _ *mq.Consumer) { stop() },
		"close":   func(_ func(), c *mq.Consumer) { c.Close() },
	} {
		bubbled(t, name, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "0", "1")
			for range 20 { // one might be lucky
				consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Retry: mq.RetryPolicy{MaxAttempts: 2}})
				ctx, stop := context.WithCancel(t.Context())
				begun := 0
				_ = consumer.Run(ctx, mq.HandlerFunc(func(context.Context, *mq.Record) error {
					begun++
					end(stop, consumer)
					return nil
				}))
				stop()
				if begun != 1 {
					t.Fatalf("%d records were begun", begun)
				}
			}
		})
	}
}

func TestCloseDuringConcurrentHandling(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2", "d=3")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 2, Retry: mq.RetryPolicy{MaxAttempts: 2}})
		w := newCrew("0", "1")
		r := run(t, consumer, w)
		settle()
		if err := consumer.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-r.err; !errors.Is(err, mq.ErrClosed) {
			t.Fatalf("got %v", err)
		}
		equal(t, sorted(w.saw(&w.begun)), "0", "1")
	})
}

func TestFailureWaitsForTheOthersAndStopsRun(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2", "d=3")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 3})
		failed := errors.New("no paper")
		w := newCrew("0", "2")
		w.fails = func(r *mq.Record, attempt int) error {
			if string(r.Value) == "1" && attempt == 1 {
				return failed
			}
			return nil
		}
		r := run(t, consumer, w)
		settle()
		equal(t, sorted(w.saw(&w.begun)), "0", "1", "2")
		w.open("0", "2")
		if err := <-r.err; !errors.Is(err, failed) || !strings.Contains(err.Error(), "t/0@1") {
			t.Fatalf("got %v", err)
		}
		equal(t, sorted(w.saw(&w.finished)), "0", "2")
		committed(t, c, 0, 1)
		r = run(t, consumer, w)
		settle()
		r.end(t)
		equal(t, sorted(w.saw(&w.begun)), "0", "1", "1", "2", "2", "3")
		committed(t, c, 0, 4)
	})
}

func TestEveryFailureIsReported(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Concurrency: 2})
		first, second := errors.New("first"), errors.New("second")
		w := newCrew("1")
		w.fails = func(r *mq.Record, _ int) error {
			if string(r.Value) == "0" {
				return first
			}
			panic(second)
		}
		r := run(t, consumer, w)
		settle()
		w.open("1")
		if err := <-r.err; !errors.Is(err, first) || !errors.Is(err, second) || !errors.Is(err, mq.ErrHandlerPanicked) {
			t.Fatalf("got %v", err)
		}
	})
}
