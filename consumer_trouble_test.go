package mq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/record"
)

func TestPartitionsAddedLaterAreReadFromTheirBeginning(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "old")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Start: mq.StartLatest})
		settle()
		unlock := c.lock()
		c.topics["t"].partitions = append(c.topics["t"].partitions, &fakePartition{leader: 2})
		unlock()
		c.add("t", 1, "a", "b")
		start := time.Now()
		equal(t, pollUntil(t, consumer, 2), "a", "b")
		if took := time.Since(start); took > 31*time.Second {
			t.Errorf("they were noticed after %v", took)
		}
	})
}

func TestTopicThatAppearsLaterIsReadFromItsBeginning(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		var log bytes.Buffer
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, Start: mq.StartLatest, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		pollNothing(t, consumer, 10*time.Minute+10*time.Second)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings in ten minutes: %s", n, log.String())
		}
		start := time.Now()
		c.create("t", 1)
		c.add("t", 0, "a")
		equal(t, poll(t, consumer, 9), "a")
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it was noticed after %v", took)
		}
	})
}

func TestTopicCreatedAnewInheritsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 5)...)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1})
		equal(t, poll(t, consumer, 5), numbered(0, 5)...)
		old, err := consumer.Poll(contextFor(t, time.Second), 1)
		if err == nil {
			t.Fatalf("got %q", valuesOf(old))
		}
		if err := consumer.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 5)
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		committed(t, c, 0, -1)
		equal(t, pollUntil(t, consumer, 2), "a", "b")
		pollNothing(t, consumer, time.Second)
		if err := consumer.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 2)
	})
}

func contextFor(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A broker that lags behind says for a moment that there is no such topic.
func TestTopicForgottenForAMomentKeepsItsPosition(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		topic := c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		equal(t, poll(t, consumer, 1), "a")
		unlock := c.lock()
		delete(c.topics, "t")
		c.notifyLocked()
		unlock()
		time.Sleep(5 * time.Minute)
		unlock = c.lock()
		c.topics["t"] = topic
		unlock()
		c.add("t", 0, "c")
		equal(t, pollUntil(t, consumer, 2), "b", "c")
	})
}

func TestConsumerFollowsTheLeader(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		for i := range int32(9) {
			c.lead("t", 0, 1+i%3)
			v := fmt.Sprint(i)
			c.add("t", 0, v)
			start := time.Now()
			equal(t, poll(t, consumer, 1), v)
			if took := time.Since(start); i > 0 && took > 0 { // whoever led before knows
				t.Errorf("leader %d was found after %v", 1+i%3, took)
			}
		}
	})
}

func TestLostBrokerIsSurvived(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.lead("t", 1, 2)
		c.coordinate("g", 2)
		c.add("t", 0, "a")
		var log bytes.Buffer
		consumer := c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		equal(t, poll(t, consumer, 1), "a")
		c.hook(func(_ context.Context, broker int32, _ string) error {
			if broker == 1 {
				return errors.New("connection refused")
			}
			return nil
		})
		c.add("t", 1, "from the other one")
		equal(t, poll(t, consumer, 1), "from the other one")
		pollNothing(t, consumer, 25*time.Second)
		if log.Len() > 0 {
			t.Errorf("a short outage is not worth a word: %s", log.String())
		}
		pollNothing(t, consumer, 5*time.Minute)
		if n := strings.Count(log.String(), "can't read from broker"); n != 1 {
			t.Errorf("a long outage is told once, not %d times: %s", n, log.String())
		}
		c.hook(nil)
		c.add("t", 0, "b")
		equal(t, poll(t, consumer, 1), "b")
	})
}

func TestBrokersAbsentAtStartAreWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "old")
		c.hook(func(context.Context, int32, string) error { return mq.ErrLeaderNotAvailable })
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Start: mq.StartLatest, GroupID: "g"})
		pollNothing(t, consumer, time.Minute)
		c.hook(nil)
		time.Sleep(10 * time.Second)
		c.add("t", 0, "new")
		equal(t, poll(t, consumer, 9), "new") // not "old": the topic was there before the consumer
	})
}

func TestRequestThatHangsIsGivenUp(t *testing.T) {
	for _, method := range []string{"ListOffsets", "Fetch"} {
		bubbled(t, method, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			var calls atomic.Int32
			c.hook(func(ctx context.Context, _ int32, m string) error {
				if m == method && calls.Add(1) == 1 {
					<-ctx.Done()
				}
				return nil
			})
			consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Timeout: 7 * time.Second})
			start := time.Now()
			c.add("t", 0, "a")
			equal(t, poll(t, consumer, 1), "a")
			if took := time.Since(start); took < 7*time.Second || took > 9*time.Second {
				t.Errorf("it was given up after %v", took)
			}
		})
	}
}

func TestWhatABrokerRefusesForGoodIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.hook(func(_ context.Context, _ int32, method string) error {
			if method == "Fetch" {
				return mq.ErrUnsupportedVersion
			}
			return nil
		})
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		_, err := consumer.Poll(t.Context(), 1)
		var failure *mq.PartitionError
		if !errors.Is(err, mq.ErrUnsupportedVersion) || !errors.As(err, &failure) || failure.Topic != "t" || failure.Offset != 0 {
			t.Fatalf("got %v", err)
		}
	})
}

func TestPartitionThatTheTopicDoesNotHaveIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Partitions: []int32{7}})
		_, err := consumer.Poll(t.Context(), 1)
		if !errors.Is(err, mq.ErrUnknownTopicOrPartition) || !strings.Contains(err.Error(), "t/7") {
			t.Fatalf("got %v", err)
		}
		unlock := c.lock()
		for range 8 {
			c.topics["t"].partitions = append(c.topics["t"].partitions, &fakePartition{leader: 1})
		}
		unlock()
		c.add("t", 7, "now there is one")
		time.Sleep(time.Minute)
		equal(t, poll(t, consumer, 1), "now there is one")
	})
}

func TestBatchBrokenOnItsWayIsFetchedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		c.add("t", 0, "b")
		broken := 2
		c.batches = func(_ api.TopicPartition, b []byte) []byte {
			if len(b) == 0 || broken == 0 {
				return b
			}
			broken--
			return append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1)
		}
		equal(t, pollUntil(t, c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}}), 2), "a", "b")
	})
}

func TestBatchStoredBrokenIsAnErrorAtItsOffset(t *testing.T) {
	for name, breakIt := range map[string]func(b []byte) []byte{
		"flipped bit": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut off":     func(b []byte) []byte { return b[:len(b)-3] },
		"garbage":     func(b []byte) []byte { return append(b[:0], "what is this"...) },
		"old batches": func(b []byte) []byte { record.Patch(b, 0, 0); return b },
	} {
		bubbled(t, name, func(t *testing.T, c *fakeCluster) {
			c.create("t", 2)
			c.add("t", 0, "a", "b")
			c.add("t", 0, "c")
			c.add("t", 0, "d")
			fetches := 0
			c.batches = func(_ api.TopicPartition, b []byte) []byte {
				var out []byte
				for len(b) > 0 {
					batch, rest, err := record.Next(b)
					if err != nil {
						t.Error(err)
					}
					b = rest
					if lastOffset(batch) == 2 {
						fetches++
						return append(out, breakIt(bytes.Clone(batch))...)
					}
					out = append(out, batch...)
				}
				return out
			}
			consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
			equal(t, pollUntil(t, consumer, 2), "a", "b")
			_, err := consumer.Poll(t.Context(), 1)
			var failure *mq.PartitionError
			if !errors.Is(err, mq.ErrCorruptBatch) || !errors.As(err, &failure) ||
				failure.TopicPartition != (mq.TopicPartition{Topic: "t"}) || failure.Offset != 2 {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Hour)
			if fetches < 2 || fetches > 5 {
				t.Errorf("fetched %d times", fetches)
			}
			if err := consumer.Seek(t.Context(), mq.StartAt(3), failure.TopicPartition); err != nil {
				t.Fatal(err)
			}
			equal(t, poll(t, consumer, 1), "d")
		})
	}
}

func TestDecompressionBombIsAnErrorThatCanBeSkipped(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		var b record.Builder
		b.Append(nil, make([]byte, record.DefaultMaxDecodedBytes), nil, 0)
		c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID, Codec: record.Gzip})
		c.add("t", 0, "c")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		var got []string
		err := consumer.Run(t.Context(), mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			got = append(got, string(r.Value))
			return nil
		}))
		equal(t, got, "a")
		var failure *mq.PartitionError
		if !errors.Is(err, mq.ErrRecordTooLarge) || !errors.As(err, &failure) || failure.Offset != 1 || failure.Next != 2 {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, 1) // the bomb is not finished
		if err := consumer.Seek(t.Context(), mq.StartAt(failure.Next), failure.TopicPartition); err != nil {
			t.Fatal(err)
		}
		equal(t, poll(t, consumer, 1), "c")
	})
}

func TestRecordsBeforeABrokenOneAreHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		var b record.Builder
		for _, v := range []string{"a", "b", "c"} {
			b.Append(nil, []byte(v), nil, 1000)
		}
		c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID}, func(b []byte) {
			b[record.HeaderSize+8] = 0x7f // length of the second record
			record.SetProducer(b, record.NoProducerID, record.NoProducerEpoch, record.NoSequence)
		})
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		equal(t, poll(t, consumer, 3), "a")
		_, err := consumer.Poll(t.Context(), 3)
		var failure *mq.PartitionError
		if !errors.Is(err, mq.ErrCorruptBatch) || !errors.As(err, &failure) || failure.Offset != 1 || failure.Next != 3 {
			t.Fatalf("got %v", err)
		}
		if err := consumer.Close(); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 1)
	})
}

func TestCloseDoesNotWaitToCommitForADeletedTopic(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		settle()
		unlock := c.lock()
		delete(c.topics, "t")
		unlock()
		start := time.Now()
		err := consumer.Close()
		if took := time.Since(start); !errors.Is(err, mq.ErrUnknownTopicID) || took > time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// transaction appends a transactional batch.
func transaction(c *fakeCluster, producer int64, control bool, values ...string) {
	var b record.Builder
	for _, v := range values {
		b.Append(nil, []byte(v), nil, 1000)
	}
	c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: producer}, func(b []byte) {
		b[22] |= 1 << 4
		if control {
			b[22] |= 1 << 5
		}
		record.SetProducer(b, producer, 0, 0) // renews the CRC
	})
}

func TestTransactions(t *testing.T) {
	for _, tt := range []struct {
		isolation mq.Isolation
		want      []string
	}{
		{mq.ReadUncommitted, []string{"plain", "a1", "b1", "a2", "a3", "last"}},
		{mq.ReadCommitted, []string{"plain", "b1", "a3", "last"}},
	} {
		bubbled(t, tt.isolation.String(), func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "plain")            // 0
			transaction(c, 7, false, "a1")    // 1, aborted
			transaction(c, 8, false, "b1")    // 2
			transaction(c, 7, false, "a2")    // 3, aborted
			transaction(c, 7, true, "abort")  // 4
			transaction(c, 8, true, "commit") // 5
			transaction(c, 7, false, "a3")    // 6
			c.add("t", 0, "last")             // 7
			transaction(c, 7, true, "commit") // 8
			c.topics["t"].partitions[0].aborted = []api.AbortedTxn{{ProducerID: 7, FirstOffset: 1}}
			consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Isolation: tt.isolation, GroupID: "g"})
			equal(t, pollUntil(t, consumer, len(tt.want)), tt.want...)
			pollNothing(t, consumer, time.Second)
			if err := consumer.Close(); err != nil {
				t.Fatal(err)
			}
			committed(t, c, 0, 9) // markers are passed, too
		})
	}
}

func TestCoordinatorIsFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		c.store("g", "t", 0, 1)
		c.coordinate("g", 3)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		rs, err := consumer.Poll(t.Context(), 1)
		if err != nil || string(rs[0].Value) != "b" {
			t.Fatalf("got %q, %v", valuesOf(rs), err)
		}
		c.coordinate("g", 2)
		if err := consumer.Commit(t.Context(), rs...); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 2)
	})
}

func TestCommitIsRepeatedUntilItWorks(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		rs, err := consumer.Poll(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		c.hook(func(_ context.Context, _ int32, method string) error {
			if method != "CommitOffsets" {
				return nil
			}
			if failures++; failures < 6 { // commits come one at a time
				return []error{mq.ErrCoordinatorLoading, mq.ErrTimeout, errors.New("connection reset")}[failures%3]
			}
			return nil
		})
		if err := consumer.Commit(t.Context(), rs...); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 1)
		c.hook(func(_ context.Context, _ int32, method string) error { return mq.ErrInvalidGroupID })
		if err := consumer.Seek(t.Context(), mq.StartAt(0)); err != nil {
			t.Fatal(err)
		}
		if err := consumer.Commit(t.Context()); !errors.Is(err, mq.ErrInvalidGroupID) {
			t.Fatalf("a commit refused for good: %v", err)
		}
	})
}

// blockingCalls are the calls that wait, with what each returns at ctx's end.
var blockingCalls = map[string]func(ctx context.Context, c *mq.Consumer) error{
	"Poll":   func(ctx context.Context, c *mq.Consumer) error { _, err := c.Poll(ctx, 1); return err },
	"Commit": func(ctx context.Context, c *mq.Consumer) error { return c.Commit(ctx) },
	"Seek":   func(ctx context.Context, c *mq.Consumer) error { return c.Seek(ctx, mq.StartEarliest) },
	"Lag":    func(ctx context.Context, c *mq.Consumer) error { _, err := c.Lag(ctx); return err },
	"Run": func(ctx context.Context, c *mq.Consumer) error {
		return c.Run(ctx, mq.HandlerFunc(func(context.Context, *mq.Record) error { return nil }))
	},
	"Messages": func(ctx context.Context, c *mq.Consumer) error {
		for _, err := range c.Messages(ctx) {
			return err
		}
		return nil
	},
}

// stuck makes a consumer whose calls wait: it stands at the end of a partition,
// with something to commit, and no broker answers any more.
func stuck(t *testing.T, c *fakeCluster) *mq.Consumer {
	c.create("t", 1)
	consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1, SessionTimeout: time.Hour})
	settle()
	c.hook(func(ctx context.Context, _ int32, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	return consumer
}

func TestEachBlockingCallEndsWithItsContext(t *testing.T) {
	for name, call := range blockingCalls {
		bubbled(t, name, func(t *testing.T, c *fakeCluster) {
			consumer := stuck(t, c)
			start := time.Now()
			err := call(contextFor(t, time.Minute), consumer)
			if took := time.Since(start); took != time.Minute {
				t.Errorf("took %v", took)
			}
			if quiet := name == "Run" || name == "Messages"; quiet != (err == nil) || !quiet && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = call(ended, consumer) // returns at all
		})
	}
}

func TestCloseEndsEachBlockingCall(t *testing.T) {
	for name, call := range blockingCalls {
		bubbled(t, name, func(t *testing.T, c *fakeCluster) {
			consumer := stuck(t, c)
			got := make(chan error, 1)
			go func() { got <- call(t.Context(), consumer) }()
			settle()
			for range 2 {
				if err := consumer.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := <-got; name == "Messages" && err != nil || name != "Messages" && !errors.Is(err, mq.ErrClosed) {
				t.Errorf("got %v", err)
			}
			if err := call(t.Context(), consumer); !errors.Is(err, mq.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
			consumer.Pause()
			consumer.Resume()
			consumer.Assignment()
		})
	}
}

func TestHandlerMayCloseTheConsumer(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		err := consumer.Run(t.Context(), mq.HandlerFunc(func(context.Context, *mq.Record) error { return consumer.Close() }))
		if !errors.Is(err, mq.ErrClosed) {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, 1) // Run commits what the handler finished after Close
	})
}

func TestConsumerEndsWithItsEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		e, r := c.endpoint(t)
		consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"t"}})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() { _, err := consumer.Poll(t.Context(), 1); got <- err }()
		settle()
		start := time.Now()
		r.Close()
		if err := <-got; !errors.Is(err, mq.ErrClosed) || time.Since(start) > 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if err := consumer.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseBeforeAnyBrokerAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.hook(func(ctx context.Context, _ int32, _ string) error { <-ctx.Done(); return ctx.Err() })
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		if err := consumer.Close(); err != nil {
			t.Error(err)
		}
	})
}
