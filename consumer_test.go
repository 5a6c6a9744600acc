package mq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/record"
)

// bubble runs a test with a cluster in a bubble of fake time, which also ends
// only when all goroutines did.
func bubble(t *testing.T, f func(t *testing.T, c *fakeCluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newFakeCluster()) })
}

// bubbled is bubble in a subtest.
func bubbled(t *testing.T, name string, f func(t *testing.T, c *fakeCluster)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { bubble(t, f) })
}

// settle lets everything happen that would happen soon.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func poll(t *testing.T, c *mq.Consumer, limit int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rs, err := c.Poll(ctx, limit)
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	return valuesOf(rs)
}

// pollUntil polls until there are n records.
func pollUntil(t *testing.T, c *mq.Consumer, n int) []string {
	t.Helper()
	var got []string
	for len(got) < n {
		got = append(got, poll(t, c, n-len(got))...)
	}
	return got
}

// pollNothing fails the test when there is a record.
func pollNothing(t *testing.T, c *mq.Consumer, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if rs, err := c.Poll(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %q, %v; want nothing", valuesOf(rs), err)
	}
}

func valuesOf(rs []*mq.Record) []string {
	vs := make([]string, len(rs))
	for i, r := range rs {
		vs[i] = string(r.Value)
	}
	return vs
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func committed(t *testing.T, c *fakeCluster, n int32, want int64) {
	t.Helper()
	if got := c.committed("g", "t", n); got != want {
		t.Fatalf("committed offset of t/%d is %d, want %d", n, got, want)
	}
}

func numbered(from, to int) []string {
	var vs []string
	for i := from; i < to; i++ {
		vs = append(vs, fmt.Sprint(i))
	}
	return vs
}

func TestRecordArrivesWhole(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 1, "first")
		var b record.Builder
		b.Append([]byte("k"), []byte("v"), []record.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}}, 5000)
		b.Append(nil, nil, nil, 6000)
		b.Append([]byte{}, []byte{}, nil, 7000)
		c.lead("t", 1, 2)
		c.addBatch("t", 1, &b, record.BuildOptions{ProducerID: record.NoProducerID, Codec: record.Gzip})

		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Partitions: []int32{1}})
		var rs []*mq.Record
		for len(rs) < 4 {
			got, err := consumer.Poll(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			rs = append(rs, got...)
		}
		r := rs[1]
		if r.Topic != "t" || r.Partition != 1 || r.Offset != 1 || r.LeaderEpoch != 1 || !r.Timestamp.Equal(time.UnixMilli(5000)) ||
			string(r.Key) != "k" || string(r.Value) != "v" || len(r.Headers) != 2 ||
			r.Headers[0].Key != "a" || string(r.Headers[0].Value) != "1" || r.Headers[1].Key != "a" || r.Headers[1].Value != nil {
			t.Errorf("got %+v", r)
		}
		if rs[0].LeaderEpoch != 0 {
			t.Errorf("leader epoch of the first record is %d", rs[0].LeaderEpoch)
		}
		if rs[2].Key != nil || rs[2].Value != nil {
			t.Errorf("nil came as %v, %v", rs[2].Key, rs[2].Value)
		}
		if rs[3].Key == nil || rs[3].Value == nil {
			t.Errorf("empty came as nil")
		}
	})
}

func TestLogAppendTimeIsTheTimestamp(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		var b record.Builder
		b.Append(nil, []byte("v"), nil, 5000)
		c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID}, func(b []byte) { record.StampAppendTime(b, 99000) })
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		rs, err := consumer.Poll(t.Context(), 1)
		if err != nil || !rs[0].Timestamp.Equal(time.UnixMilli(99000)) {
			t.Fatalf("got %v, %v", rs, err)
		}
	})
}

func TestReceivedRecordsBelongToTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "one", "two")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		rs, err := consumer.Poll(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		rs[0].Value = append(rs[0].Value, "XXXXXXXXXXXX"...)
		rs[0].Offset = 77
		equal(t, poll(t, consumer, 1), "two")
	})
}

// What is finished and not stored when a program dies is seen again, and
// nothing is skipped.
func TestCrashRedeliversWhatWasNotCommitted(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 10)...)
		cfg := mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"}
		first := c.consumer(t, cfg)
		equal(t, poll(t, first, 4), numbered(0, 4)...)
		equal(t, poll(t, first, 4), numbered(4, 8)...)
		time.Sleep(6 * time.Second) // over the interval
		committed(t, c, 0, 4)
		equal(t, poll(t, first, 4), numbered(8, 10)...)
		c.hook(func(_ context.Context, _ int32, method string) error {
			if method == "CommitOffsets" {
				return mq.ErrLeaderNotAvailable
			}
			return nil
		})
		if err := first.Close(); !errors.Is(err, mq.ErrLeaderNotAvailable) {
			t.Fatalf("close without a commit: %v", err)
		}
		equal(t, pollUntil(t, c.consumer(t, cfg), 6), numbered(4, 10)...)
	})
}

func TestAutoCommitKeepsItsInterval(t *testing.T) {
	for _, tt := range []struct {
		interval      time.Duration
		before, after int64 // 4 s and 60 s later
		closed        int64
	}{
		{0, -1, 1, 1},
		{time.Second, 1, 1, 1},
		{time.Hour, -1, -1, 1},
		{-1, -1, -1, -1},
	} {
		bubbled(t, tt.interval.String(), func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "a", "b")
			consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: tt.interval})
			poll(t, consumer, 1)
			poll(t, consumer, 1)
			time.Sleep(4 * time.Second)
			committed(t, c, 0, tt.before)
			time.Sleep(time.Minute)
			committed(t, c, 0, tt.after)
			if err := consumer.Close(); err != nil {
				t.Fatal(err)
			}
			committed(t, c, 0, tt.closed)
		})
	}
}

func TestLoopLeftByBreakHasNotFinishedItsLastRecord(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 6)...)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1})
		until := func(last string, commit bool) (got []string) {
			for r, err := range consumer.Messages(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(r.Value))
				if string(r.Value) == last {
					if commit {
						if err := consumer.Commit(t.Context(), r); err != nil {
							t.Fatal(err)
						}
					}
					break
				}
			}
			return got
		}
		equal(t, until("2", false), "0", "1", "2")
		if err := consumer.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 2)
		equal(t, until("3", true), "2", "3")
		committed(t, c, 0, 4)
		equal(t, until("4", false), "4")
	})
}

func TestPolledRecordsAreFinishedAtTheNextPoll(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 6)...)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1})
		commit := func() {
			t.Helper()
			if err := consumer.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, poll(t, consumer, 2), "0", "1")
		commit()
		committed(t, c, 0, 0)
		equal(t, poll(t, consumer, 2), "2", "3")
		commit()
		committed(t, c, 0, 2)
		for r := range consumer.Messages(t.Context()) { // any way to read will do
			equal(t, valuesOf([]*mq.Record{r}), "4")
			commit()
			break
		}
		committed(t, c, 0, 4)
	})
}

func TestCommitOfRecordsFinishesThem(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b", "c")
		c.add("t", 1, "d")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Partitions: []int32{0}, GroupID: "g", AutoCommitInterval: -1})
		rs, err := consumer.Poll(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := consumer.Commit(t.Context(), rs[1]); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 2)
		if err := consumer.Commit(t.Context(), rs[0]); err != nil { // an older one takes nothing back
			t.Fatal(err)
		}
		committed(t, c, 0, 2)
		for _, r := range []*mq.Record{
			nil,
			{Topic: "t", Partition: 0, Offset: 3}, // was not handed out
			{Topic: "t", Partition: 1, Offset: 0}, // is not assigned
		} {
			if err := consumer.Commit(t.Context(), r); !errors.Is(err, mq.ErrInvalidRequest) {
				t.Errorf("commit of %+v: %v", r, err)
			}
		}
		if err := consumer.Seek(t.Context(), mq.StartAt(1)); err != nil {
			t.Fatal(err)
		}
		if err := consumer.Commit(t.Context(), rs[2]); !errors.Is(err, mq.ErrInvalidRequest) {
			t.Errorf("commit of a record from before a seek back: %v", err)
		}
	})
}

func TestCommitWithoutGroupIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		if err := consumer.Commit(t.Context()); !errors.Is(err, mq.ErrInvalidGroupID) {
			t.Fatal(err)
		}
	})
}

func TestPausedPartitionWaitsAndOthersFlow(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b", "c")
		p0 := mq.TopicPartition{Topic: "t", Partition: 0}
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", MaxWait: time.Hour})
		equal(t, poll(t, consumer, 1), "a")
		consumer.Pause(p0)
		c.add("t", 1, "x")
		equal(t, poll(t, consumer, 9), "x")
		pollNothing(t, consumer, time.Minute)
		committed(t, c, 0, 1) // what was finished before still counts
		consumer.Resume(p0)
		equal(t, poll(t, consumer, 9), "b", "c") // at once, although a long poll is under way
	})
}

func TestStalledConsumerHoldsBoundedMemory(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 4)
		value := strings.Repeat("x", 1000)
		for n := range int32(4) {
			c.lead("t", n, 1+n%2)
			for range 200 {
				c.add("t", n, value)
			}
		}
		const budget = 64 << 10
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, MaxBytes: 8 << 10, MaxBufferedBytes: budget})
		time.Sleep(time.Minute)
		unlock := c.lock()
		served := c.served
		unlock()
		if served > budget || served < budget/2 {
			t.Errorf("%d bytes were fetched ahead, the budget is %d", served, budget)
		}
		if got := pollUntil(t, consumer, 800); len(got) != 800 {
			t.Errorf("got %d records", len(got))
		}
	})
}

func TestBatchAboveAllLimitsGetsThrough(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, strings.Repeat("x", 5000))
		c.add("t", 0, "small")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, MaxBytes: 10, MaxBufferedBytes: 1})
		got := pollUntil(t, consumer, 2)
		if len(got[0]) != 5000 || got[1] != "small" {
			t.Fatalf("got %d bytes and %q", len(got[0]), got[1])
		}
	})
}

func TestBatchOfManyTinyRecordsIsDecodedPiecemeal(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		var b record.Builder
		const n = 150_000
		for range n {
			b.Append(nil, nil, nil, 1000)
		}
		c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID, Codec: record.Gzip})
		c.add("t", 0, "next")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Start: mq.StartAt(7), GroupID: "g"})
		next := int64(7)
		for next <= n {
			rs, err := consumer.Poll(t.Context(), 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			if err := consumer.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			committed(t, c, 0, next)
			for _, r := range rs {
				if r.Offset != next {
					t.Fatalf("offset %d came instead of %d", r.Offset, next)
				}
				next++
			}
		}
	})
}

// Compaction leaves batches that end with nothing.
func TestOffsetsWithoutRecordsArePassed(t *testing.T) {
	for _, start := range []int64{0, 3} {
		bubbled(t, fmt.Sprint("from ", start), func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			var b record.Builder
			b.Append(nil, []byte("a"), nil, 1000)
			b.Append(nil, []byte("b"), nil, 1000)
			c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID}, func(b []byte) {
				b[26] = 4                                                                             // the last offset
				record.SetProducer(b, record.NoProducerID, record.NoProducerEpoch, record.NoSequence) // renews the CRC
			})
			unlock := c.lock()
			c.partition("t", 0).end = 5
			unlock()
			consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Start: mq.StartAt(start)})
			if start == 0 {
				equal(t, poll(t, consumer, 2), "a", "b")
			}
			pollNothing(t, consumer, time.Second)
			if err := consumer.Close(); err != nil {
				t.Fatal(err)
			}
			committed(t, c, 0, 5)
		})
	}
}

func TestIdleGroupStopsCommitting(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		commits := 0
		c.hook(func(_ context.Context, _ int32, method string) error {
			if method == "CommitOffsets" {
				commits++
			}
			return nil
		})
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		pollNothing(t, consumer, time.Hour)
		if commits != 1 {
			t.Errorf("%d commits in an idle hour; where it starts should be stored once", commits)
		}
	})
}

// An older commit must not overtake a newer one.
func TestCommitsComeOneAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1})
		rs, err := consumer.Poll(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		var underway, calls atomic.Int32
		c.hook(func(_ context.Context, _ int32, method string) error {
			if method != "CommitOffsets" {
				return nil
			}
			calls.Add(1)
			if underway.Add(1) > 1 {
				t.Error("two commits at once")
			}
			time.Sleep(time.Second)
			underway.Add(-1)
			return nil
		})
		done := make(chan error)
		for _, r := range rs {
			go func() { done <- consumer.Commit(t.Context(), r) }()
			synctest.Wait()
		}
		for range rs {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if calls.Load() != 2 {
			t.Errorf("%d commits", calls.Load())
		}
		committed(t, c, 0, 2)
	})
}

func TestLagCountsWhatIsNotFinished(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b", "c")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		check := func(want int64) {
			t.Helper()
			lag, err := consumer.Lag(t.Context())
			if err != nil || len(lag) != 2 || lag[mq.TopicPartition{Topic: "t"}] != want || lag[mq.TopicPartition{Topic: "t", Partition: 1}] != 0 {
				t.Fatalf("got %v, %v; want %d", lag, err, want)
			}
		}
		check(3)
		poll(t, consumer, 2)
		check(3)
		poll(t, consumer, 1)
		check(1)
	})
}

func TestAssignmentListsThePartitions(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("b", 2)
		c.create("a", 1)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"b", "a"}})
		settle()
		want := []mq.TopicPartition{{Topic: "a"}, {Topic: "b"}, {Topic: "b", Partition: 1}}
		if got := consumer.Assignment(); !slices.Equal(got, want) {
			t.Fatalf("got %v", got)
		}
	})
}

func TestSecondReaderIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		err := consumer.Run(t.Context(), mq.HandlerFunc(func(ctx context.Context, _ *mq.Record) error {
			for _, err := range consumer.Messages(ctx) {
				if !errors.Is(err, mq.ErrInvalidRequest) {
					t.Errorf("Messages in a handler: %v", err)
				}
			}
			if err := consumer.Run(ctx, nil); !errors.Is(err, mq.ErrInvalidRequest) {
				t.Errorf("Run in a handler: %v", err)
			}
			_, err := consumer.Poll(ctx, 1)
			return err
		}))
		if !errors.Is(err, mq.ErrInvalidRequest) {
			t.Errorf("Poll in a handler: %v", err)
		}
		if _, err := consumer.Poll(t.Context(), 0); !errors.Is(err, mq.ErrInvalidRequest) {
			t.Errorf("Poll of nothing: %v", err)
		}
	})
}
