package mq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/record"
)

func (b fakeBroker) InitProducer(ctx context.Context, _ *api.InitProducerRequest) (*api.InitProducerResponse, error) {
	return &api.InitProducerResponse{ProducerID: 1}, b.enter(ctx, "InitProducer")
}

// Produce appends whatever comes: the rules of idempotent producers are tested
// where they are kept.
func (b fakeBroker) Produce(ctx context.Context, req *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
	if err := b.enter(ctx, "Produce"); err != nil {
		go done(nil, err)
		return
	}
	defer b.c.lock()()
	resp := &api.ProduceResponse{}
	for _, q := range req.Partitions {
		r := api.ProduceResult{TopicPartition: q.TopicPartition, AppendTime: -1}
		p, err := b.findLocked(q.TopicPartition)
		info, bad := record.Parse(q.Batch)
		switch {
		case err != nil || bad != nil:
			r.Err = errors.Join(err, bad)
		case req.Acks != api.AcksAll:
			r.Err = fmt.Errorf("acks are %d", req.Acks)
		default:
			r.BaseOffset, r.LeaderEpoch = p.end, p.epoch
			batch := bytes.Clone(q.Batch)
			record.Patch(batch, p.end, p.epoch)
			p.batches = append(p.batches, batch)
			p.end += int64(info.Count)
		}
		resp.Partitions = append(resp.Partitions, r)
	}
	b.c.notifyLocked()
	go done(resp, nil)
}

// refuse fails the calls of one method with an error.
func (c *fakeCluster) refuse(method string, err error) {
	c.hook(func(_ context.Context, _ int32, m string) error {
		if m == method {
			return err
		}
		return nil
	})
}

// failing makes a handler whose calls for some values fail.
func failing(err error, values ...string) *crew {
	w := newCrew()
	w.fails = func(r *mq.Record, _ int) error {
		if slices.Contains(values, string(r.Value)) {
			return err
		}
		return nil
	}
	return w
}

func TestFailedRecordIsTriedAgainAndOthersDoNotWait(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "a=1", "b=2", "=3", "b=4")
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", Concurrency: 2, AutoCommitInterval: time.Second,
			Retry: mq.RetryPolicy{MaxAttempts: 5, Backoff: time.Second, MaxBackoff: 3 * time.Second},
		})
		w := newCrew()
		var at []time.Time
		w.fails = func(r *mq.Record, attempt int) error {
			if string(r.Value) != "0" {
				return nil
			}
			at = append(at, time.Now())
			if r.Value = []byte("spoilt"); attempt < 4 { // the record belongs to the handler
				return errors.New("not now")
			}
			return nil
		}
		r := run(t, consumer, w)
		time.Sleep(500 * time.Millisecond)
		equal(t, sorted(w.saw(&w.begun)), "0", "2", "3", "4")
		time.Sleep(3 * time.Second)
		committed(t, c, 0, 0)
		time.Sleep(time.Minute)
		equal(t, w.saw(&w.finished)[3:], "0", "1")
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
			if got := at[i+1].Sub(at[i]); got < want*4/5 || got > want*6/5 {
				t.Errorf("attempt %d came after %v, want about %v", i+2, got, want)
			}
		}
		r.end(t)
		committed(t, c, 0, 5)
	})
}

func TestAttemptsAreCounted(t *testing.T) {
	failed := errors.New("no paper")
	for _, tt := range []struct {
		name  string
		retry mq.RetryPolicy
		err   error
		panic bool
		want  int
	}{
		{"default", mq.RetryPolicy{}, failed, false, 1},
		{"one", mq.RetryPolicy{MaxAttempts: 1}, failed, false, 1},
		{"three", mq.RetryPolicy{MaxAttempts: 3}, failed, false, 3},
		{"three, panic", mq.RetryPolicy{MaxAttempts: 3}, failed, true, 3},
		{"permanent", mq.RetryPolicy{MaxAttempts: 3}, fmt.Errorf("wrapped: %w", mq.Permanent(failed)), false, 1},
		{"permanent, without limit", mq.RetryPolicy{MaxAttempts: -1}, mq.Permanent(failed), false, 1},
		{"permanent, panic", mq.RetryPolicy{MaxAttempts: 3}, mq.Permanent(failed), true, 1},
	} {
		bubbled(t, tt.name, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "a", "b")
			consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Retry: tt.retry})
			w := failing(tt.err, "b")
			if tt.panic {
				w.fails = func(r *mq.Record, _ int) error { return panicOn("b", tt.err)(nil, r) }
			}
			err := consumer.Run(t.Context(), w)
			var p *mq.PanicError
			if !errors.Is(err, failed) || errors.As(err, &p) != tt.panic || !strings.Contains(err.Error(), "t/0@1") {
				t.Errorf("got %v", err)
			}
			if w.attempts["b"] != tt.want {
				t.Errorf("%d attempts, want %d", w.attempts["b"], tt.want)
			}
			committed(t, c, 0, 1)
		})
	}
	if mq.Permanent(nil) != nil || mq.Permanent(failed).Error() != failed.Error() {
		t.Error("Permanent changes what it is given")
	}
}

func TestHandlerThatEndsItsGoroutineHasFailed(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 2})
		err := consumer.Run(t.Context(), mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			if string(r.Value) == "b" {
				runtime.Goexit()
			}
			return nil
		}))
		if err == nil || !strings.Contains(err.Error(), "t/0@1: the handler called runtime.Goexit") {
			t.Errorf("got %v", err)
		}
		committed(t, c, 0, 1)
	})
}

func TestEndOfContextEndsBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", Retry: mq.RetryPolicy{MaxAttempts: -1, Backoff: time.Hour, MaxBackoff: time.Hour},
		})
		r := run(t, consumer, failing(errors.New("no"), "a"))
		settle()
		start := time.Now()
		r.end(t)
		if took := time.Since(start); took > 0 {
			t.Errorf("after %v", took)
		}
		equal(t, poll(t, consumer, 2), "a", "b")
	})
}

func TestDeadLetterSaysWhatAndWhy(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.create("dead", 1)
		c.add("t", 1, "first")
		var b record.Builder
		b.Append([]byte("k"), []byte("v"), []record.Header{
			{Key: "own", Value: []byte("1")}, {Key: "mq-dlt-topic", Value: []byte("older")}, {Key: "own", Value: []byte("2")},
		}, 5000)
		c.addBatch("t", 1, &b, record.BuildOptions{ProducerID: record.NoProducerID})
		var log bytes.Buffer
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead", Retry: mq.RetryPolicy{MaxAttempts: 3},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		w := failing(errors.New("no paper"), "v")
		r := run(t, consumer, w)
		time.Sleep(time.Minute)
		r.end(t)
		committed(t, c, 1, 2)
		letters, err := c.consumer(t, mq.ConsumerConfig{Topics: []string{"dead"}}).Poll(t.Context(), 10)
		if err != nil || len(letters) != 1 {
			t.Fatalf("got %q, %v", valuesOf(letters), err)
		}
		var got []string
		for _, h := range letters[0].Headers {
			got = append(got, h.Key+"="+string(h.Value))
		}
		equal(t, got, "own=1", "own=2", "mq-dlt-error=no paper", "mq-dlt-topic=t", "mq-dlt-partition=1", "mq-dlt-offset=1",
			"mq-dlt-timestamp=5000", "mq-dlt-group=g", "mq-dlt-attempts=3")
		if string(letters[0].Key) != "k" || string(letters[0].Value) != "v" {
			t.Errorf("got %+v", letters[0])
		}
		if !strings.Contains(log.String(), "record given up") || !strings.Contains(log.String(), "no paper") {
			t.Errorf("the log says nothing: %s", log.String())
		}
	})
}

func TestDeadLetterOfAPanicHasTheBeginOfItsStack(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.create("dead", 1)
		c.add("t", 0, "a")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, DeadLetterTopic: "dead"})
		r := run(t, consumer, mq.HandlerFunc(panicOn("a", strings.Repeat("ä", 5000))))
		settle()
		r.end(t)
		letters, err := c.consumer(t, mq.ConsumerConfig{Topics: []string{"dead"}}).Poll(t.Context(), 10)
		if err != nil || len(letters) != 1 {
			t.Fatalf("got %q, %v", valuesOf(letters), err)
		}
		hs := letters[0].Headers
		if why := string(hs[0].Value); !strings.HasPrefix(why, "mq: handler panicked: ää") || len(why) < 4000 || len(why) > 4096 ||
			strings.ToValidUTF8(why, "?") != why {
			t.Errorf("%d bytes: %.60q", len(why), why)
		}
		if slices.ContainsFunc(hs, func(h mq.Header) bool { return h.Key == mq.HeaderDeadLetterGroup }) {
			t.Error("a group without a name")
		}
	})
}

func TestRecordIsNotFinishedBeforeItsDeadLetterIsStored(t *testing.T) {
	for name, away := range map[string]func(c *fakeCluster){
		"no such topic": func(*fakeCluster) {},
		"refused":       func(c *fakeCluster) { c.create("dead", 1); c.refuse("Produce", mq.ErrNoQuorum) },
		"unreachable":   func(c *fakeCluster) { c.create("dead", 1); c.refuse("Produce", errors.New("connection refused")) },
	} {
		bubbled(t, name, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.addKeyed("t", 0, "a=0", "a=1", "b=2", "c=3")
			away(c)
			var log bytes.Buffer
			cfg := mq.ConsumerConfig{
				Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead", Concurrency: 2, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			}
			consumer := c.consumer(t, cfg)
			w := failing(errors.New("no paper"), "0", "2")
			r := run(t, consumer, w)
			time.Sleep(10 * time.Minute)
			committed(t, c, 0, 0)
			equal(t, w.saw(&w.finished), "3") // a dead letter takes up no handler's place
			if n := strings.Count(log.String(), "dead letter is not stored yet"); n != 2 {
				t.Errorf("it is told %d times for 2 records: %s", n, log.String())
			}
			start := time.Now()
			r.end(t)
			if took := time.Since(start); took > 0 {
				t.Errorf("Run ended after %v", took)
			}
			committed(t, c, 0, 0)

			r = run(t, consumer, w)
			settle()
			c.hook(nil)
			if name == "no such topic" {
				c.create("dead", 1)
			}
			time.Sleep(time.Minute)
			r.end(t)
			committed(t, c, 0, 4)
			letters := sorted(pollAll(t, c.consumer(t, mq.ConsumerConfig{Topics: []string{"dead"}})))
			equal(t, slices.Compact(letters), "0", "2")
		})
	}
}

// pollAll polls until nothing comes any more.
func pollAll(t *testing.T, c *mq.Consumer) (got []string) {
	t.Helper()
	for {
		rs, err := c.Poll(contextFor(t, time.Second), 100)
		if errors.Is(err, context.DeadlineExceeded) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, valuesOf(rs)...)
	}
}

// What no waiting cures is an error, as without a topic for dead letters.
func TestDeadLetterThatIsRefusedForGoodStopsRun(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.create("dead", 1)
		c.addKeyed("t", 0, "a=0", "b=1")
		c.refuse("Produce", mq.ErrRecordTooLarge)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead"})
		err := consumer.Run(t.Context(), failing(errors.New("no paper"), "1"))
		if !errors.Is(err, mq.ErrRecordTooLarge) || !strings.Contains(err.Error(), "t/0@1") {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, 1)
	})
}

func TestCloseEndsDeadLettersOnTheirWay(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.create("dead", 1)
		c.addKeyed("t", 0, "a=0")
		c.hook(func(ctx context.Context, _ int32, method string) error {
			if method == "Produce" {
				return mq.ErrNoQuorum
			}
			return nil
		})
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead", Concurrency: 2})
		r := run(t, consumer, failing(errors.New("no paper"), "0"))
		settle()
		start := time.Now()
		if err := consumer.Close(); err != nil {
			t.Error(err)
		}
		if err := <-r.err; !errors.Is(err, mq.ErrClosed) || time.Since(start) > 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		committed(t, c, 0, 0)
	})
}

// A handler that gives up because Run ends has not failed.
func TestInterruptedRecordIsNoDeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.create("dead", 1)
		c.add("t", 0, "a")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead"})
		r := run(t, consumer, newCrew("a"))
		settle()
		r.end(t)
		committed(t, c, 0, 0)
		equal(t, pollAll(t, c.consumer(t, mq.ConsumerConfig{Topics: []string{"dead"}})))
	})
}

func TestRecordFromBeforeASeekIsNeitherTriedAgainNorADeadLetter(t *testing.T) {
	for _, attempts := range []int{1, 2} {
		bubbled(t, fmt.Sprint(attempts), func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.create("dead", 1)
			c.addKeyed("t", 0, "a=0", "a=1")
			consumer := c.consumer(t, mq.ConsumerConfig{
				Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead", Retry: mq.RetryPolicy{MaxAttempts: attempts}, Concurrency: 2,
			})
			w := newCrew("0")
			w.fails = failing(errors.New("no paper"), "0").fails
			r := run(t, consumer, w)
			settle()
			if err := consumer.Seek(t.Context(), mq.StartAt(1)); err != nil {
				t.Fatal(err)
			}
			w.open("0")
			time.Sleep(time.Minute)
			r.end(t)
			equal(t, w.saw(&w.begun), "0", "1")
			committed(t, c, 0, 2)
			equal(t, pollAll(t, c.consumer(t, mq.ConsumerConfig{Topics: []string{"dead"}})))
		})
	}
}

func TestDeadLettersMakeNoRoomForMoreHandlers(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.create("dead", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2", "d=3", "e=4", "f=5", "g=6")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", DeadLetterTopic: "dead", Concurrency: 2})
		w := newCrew("3", "4", "5", "6")
		w.fails = failing(errors.New("no paper"), "0", "1", "2").fails
		r := run(t, consumer, w)
		settle()
		equal(t, sorted(w.saw(&w.begun)), "0", "1", "2", "3", "4")
		w.open("3", "4", "5", "6")
		settle()
		r.end(t)
		committed(t, c, 0, 7)
	})
}

// The failure of one record ends the back-off of another one, and is all that
// is told.
func TestFailureEndsBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2")
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", Retry: mq.RetryPolicy{MaxAttempts: 2, Backoff: time.Hour, MaxBackoff: time.Hour}, Concurrency: 3,
		})
		first, final, last := errors.New("not now"), errors.New("never"), errors.New("late")
		w := newCrew("1", "2")
		w.fails = func(r *mq.Record, _ int) error {
			return map[string]error{"0": first, "1": mq.Permanent(final), "2": last}[string(r.Value)]
		}
		r := run(t, consumer, w)
		settle()
		start := time.Now()
		w.open("1")
		settle()
		w.open("2") // after Run was stopped
		err := <-r.err
		if !errors.Is(err, final) || !errors.Is(err, last) || errors.Is(err, first) || errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("after %v", took)
		}
		committed(t, c, 0, 0)
	})
}
