package mq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

func TestStartAndReset(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    mq.ConsumerConfig
		stored int64 // in group g, -1 none
		want   string
		err    error
	}{
		{"zero without group is earliest", mq.ConsumerConfig{}, -1, "2", nil},
		{"zero is committed", mq.ConsumerConfig{GroupID: "g"}, 4, "4", nil},
		{"zero without commit is earliest", mq.ConsumerConfig{GroupID: "g"}, -1, "2", nil},
		{"committed, else latest", mq.ConsumerConfig{GroupID: "g", Reset: mq.ResetLatest}, -1, "6", nil},
		{"committed, else none", mq.ConsumerConfig{GroupID: "g", Reset: mq.ResetNone}, -1, "", mq.ErrOffsetOutOfRange},
		{"committed, reset does not matter", mq.ConsumerConfig{GroupID: "g", Reset: mq.ResetNone}, 3, "3", nil},
		{"committed was trimmed, earliest", mq.ConsumerConfig{GroupID: "g"}, 1, "2", nil},
		{"committed was trimmed, latest", mq.ConsumerConfig{GroupID: "g", Reset: mq.ResetLatest}, 1, "6", nil},
		{"committed was trimmed, none", mq.ConsumerConfig{GroupID: "g", Reset: mq.ResetNone}, 1, "", mq.ErrOffsetOutOfRange},
		{"earliest ignores commits", mq.ConsumerConfig{GroupID: "g", Start: mq.StartEarliest}, 4, "2", nil},
		{"latest", mq.ConsumerConfig{Start: mq.StartLatest}, -1, "6", nil},
		{"offset in a batch", mq.ConsumerConfig{Start: mq.StartAt(3)}, -1, "3", nil},
		{"offset trimmed", mq.ConsumerConfig{Start: mq.StartAt(0)}, -1, "2", nil},
		{"offset at the end", mq.ConsumerConfig{Start: mq.StartAt(6)}, -1, "6", nil},
		{"offset behind the end, earliest", mq.ConsumerConfig{Start: mq.StartAt(100)}, -1, "2", nil},
		{"offset behind the end, latest", mq.ConsumerConfig{Start: mq.StartAt(100), Reset: mq.ResetLatest}, -1, "6", nil},
		{"offset behind the end, none", mq.ConsumerConfig{Start: mq.StartAt(100), Reset: mq.ResetNone}, -1, "", mq.ErrOffsetOutOfRange},
		{"time", mq.ConsumerConfig{Start: mq.StartAtTime(time.UnixMilli(1001))}, -1, "3", nil},
		{"time before all", mq.ConsumerConfig{Start: mq.StartAtTime(time.UnixMilli(3))}, -1, "2", nil},
		{"time after all", mq.ConsumerConfig{Start: mq.StartAtTime(time.UnixMilli(1e6))}, -1, "6", nil},
	} {
		bubbled(t, tt.name, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "0", "1")
			c.add("t", 0, "2", "3", "4", "5")
			c.trim("t", 0, 2)
			if tt.stored >= 0 {
				c.store("g", "t", 0, tt.stored)
			}
			tt.cfg.Topics = []string{"t"}
			consumer := c.consumer(t, tt.cfg)
			settle()
			c.add("t", 0, "6")
			rs, err := consumer.Poll(t.Context(), 1)
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Fatalf("got %q, %v", valuesOf(rs), err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			equal(t, valuesOf(rs), tt.want)
		})
	}
}

// A group that starts at the end and sees nothing must not lose what comes
// between its consumers.
func TestStartingPlaceIsCommitted(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "old")
		cfg := mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Reset: mq.ResetLatest}
		first := c.consumer(t, cfg)
		settle()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		c.add("t", 0, "new")
		equal(t, poll(t, c.consumer(t, cfg), 9), "new")
	})
}

func TestRecordsTrimmedAwayUnderAConsumerAreResetByPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		for i := range 20 {
			c.add("t", 0, fmt.Sprint(i))
		}
		c.add("t", 1, "other")
		cfg := mq.ConsumerConfig{Topics: []string{"t"}, MaxBytes: 140, MaxBufferedBytes: 280, Start: mq.StartEarliest, Reset: mq.ResetNone}
		consumer := c.consumer(t, cfg)
		settle()
		c.trim("t", 0, 15)
		var got []string
		var failure *mq.PartitionError
		var err error
		for err == nil || len(got) == 0 {
			var rs []*mq.Record
			rs, err = consumer.Poll(t.Context(), 1)
			got = append(got, valuesOf(rs)...)
		}
		if !errors.Is(err, mq.ErrOffsetOutOfRange) || !errors.As(err, &failure) || failure.Topic != "t" || failure.Partition != 0 || failure.Offset < 1 || failure.Offset > 14 {
			t.Fatalf("got %v", err)
		}
		if start, end, ok := mq.OffsetRange(err); !ok || start != 15 || end != 20 {
			t.Fatalf("the range is %d to %d, %v", start, end, ok)
		}
		for !slices.Contains(got, "other") { // the other partition is not affected
			rs, _ := consumer.Poll(t.Context(), 1)
			got = append(got, valuesOf(rs)...)
		}
		if _, err := consumer.Poll(t.Context(), 1); !errors.Is(err, mq.ErrOffsetOutOfRange) {
			t.Fatalf("the error must come again, got %v", err)
		}
		if err := consumer.Seek(t.Context(), mq.StartEarliest, failure.TopicPartition); err != nil {
			t.Fatal(err)
		}
		equal(t, pollUntil(t, consumer, 5), numbered(15, 20)...)
	})
}

func TestSeekDropsWhatWasFetchedAhead(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		for i := range 10 {
			c.add("t", 0, fmt.Sprint(2*i), fmt.Sprint(2*i+1))
		}
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1})
		equal(t, poll(t, consumer, 3), numbered(0, 3)...)
		settle()
		for _, tt := range []struct {
			to   mq.Start
			want string
		}{
			{mq.StartAt(17), "17"},
			{mq.StartAt(5), "5"},
			{mq.StartEarliest, "0"},
			{mq.StartAtTime(time.UnixMilli(1001)), "1"},
			{mq.StartCommitted, "1"},
		} {
			if err := consumer.Seek(t.Context(), tt.to, mq.TopicPartition{Topic: "t"}); err != nil {
				t.Fatal(err)
			}
			equal(t, poll(t, consumer, 1), tt.want)
			if tt.want == "0" || tt.want == "1" { // a seek sets what is committed, forth and back
				if err := consumer.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				committed(t, c, 0, int64(tt.want[0]-'0'))
			}
		}
		for _, end := range []mq.Start{mq.StartLatest, mq.StartAtTime(time.UnixMilli(1e6))} {
			if err := consumer.Seek(t.Context(), end); err != nil {
				t.Fatal(err)
			}
			c.add("t", 0, "new")
			equal(t, poll(t, consumer, 1), "new")
		}
		if err := consumer.Seek(t.Context(), mq.StartEarliest, mq.TopicPartition{Topic: "t", Partition: 1}); !errors.Is(err, mq.ErrUnknownTopicOrPartition) {
			t.Errorf("seek where nothing is assigned: %v", err)
		}
		if err := consumer.Seek(t.Context(), mq.StartAt(-1)); !errors.Is(err, mq.ErrInvalidRequest) {
			t.Errorf("seek to -1: %v", err)
		}
	})
}

// A handler may seek; finishing the record in its hands must not undo that.
func TestSeekFromAHandlerWins(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 5)...)
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		err := consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
			got = append(got, string(r.Value))
			switch len(got) {
			case 4:
				return consumer.Seek(ctx, mq.StartAt(1))
			case 5:
				stop()
			}
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, "0", "1", "2", "3", "1")
		committed(t, c, 0, 2)
	})
}
