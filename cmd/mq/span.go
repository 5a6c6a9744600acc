package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

// span is what to read of a partition: records from an offset up to, and
// without, another.
type span struct {
	tp       mq.TopicPartition
	from, to int64 // to is math.MaxInt64 when there is no end
	seek     int64 // from, or the offset nearest to it that is in the log
	first    int64 // where the log starts
}

func (s span) empty() bool { return s.seek >= s.to }

// startOf is a point as the library's, if it needs no arithmetic.
func startOf(p offsets.Point) (mq.Start, bool) {
	switch {
	case p.Kind == offsets.Start && p.N == 0:
		return mq.StartEarliest, true
	case p.Kind == offsets.End && p.N == 0:
		return mq.StartLatest, true
	case p.Kind == offsets.Offset:
		return mq.StartAt(p.N), true
	case p.Kind == offsets.Time:
		return mq.StartAtTime(p.Time), true
	}
	return mq.Start{}, false
}

// checkPartitions finds what can't be a list of partitions.
func checkPartitions(partitions []int32) error {
	for i, p := range partitions {
		if p < 0 {
			return usage(fmt.Errorf("--partitions %d: want 0 or more", p))
		}
		if slices.Contains(partitions[:i], p) {
			return usage(fmt.Errorf("partition %d is given twice", p))
		}
	}
	return nil
}

// resolve asks the brokers what a range means now, for partitions of a topic,
// all when none is named. An end is never behind what is there, so that it is
// reached.
func resolve(ctx context.Context, admin *mq.Admin, topic string, partitions []int32, r offsets.Range) ([]span, error) {
	oldest, err := admin.ListOffsets(ctx, topic, mq.StartEarliest, partitions...)
	if err != nil {
		return nil, err
	}
	newest, err := admin.ListOffsets(ctx, topic, mq.StartLatest, partitions...)
	if err != nil {
		return nil, err
	}
	froms, err := timed(ctx, admin, topic, partitions, r.From, newest)
	if err != nil {
		return nil, err
	}
	tos, err := timed(ctx, admin, topic, partitions, r.To, newest)
	if err != nil {
		return nil, err
	}
	spans := make([]span, min(len(oldest), len(newest), len(froms), len(tos))) // the topic may have grown in between
	for i := range spans {
		first, end := oldest[i].Offset, newest[i].Offset
		place := func(p offsets.Point, at mq.PartitionOffset, from int64) int64 {
			switch p.Kind {
			case offsets.Start:
				return plus(first, p.N)
			case offsets.End:
				return max(end-p.N, first)
			case offsets.Plus:
				return plus(from, p.N)
			case offsets.Time:
				if at.Offset < 0 {
					return end // nothing is as young
				}
				return at.Offset
			default:
				return p.N
			}
		}
		s := span{tp: mq.TopicPartition{Topic: topic, Partition: oldest[i].Partition}, to: math.MaxInt64, first: first}
		s.from = place(r.From, froms[i], 0)
		s.seek = min(max(s.from, first), end)
		if r.HasTo {
			s.to = min(place(r.To, tos[i], s.from), end)
		}
		spans[i] = s
	}
	return spans, nil
}

// timed asks for the offsets of a point that is a time; of any other it
// returns what it was given.
func timed(ctx context.Context, admin *mq.Admin, topic string, partitions []int32, p offsets.Point, other []mq.PartitionOffset) ([]mq.PartitionOffset, error) {
	if p.Kind != offsets.Time {
		return other, nil
	}
	return admin.ListOffsets(ctx, topic, mq.StartAtTime(p.Time), partitions...)
}

// plus adds what a person typed, which may be anything that is not negative.
func plus(offset, n int64) int64 { return min(offset, math.MaxInt64-n) + n }

// outside says, in one line, which spans do not begin where they were meant
// to; it is empty when all do.
func outside(spans []span) string {
	var said []string
	for _, s := range spans {
		switch {
		case s.from > s.seek:
			said = append(said, fmt.Sprintf("offset %d is past the end of %v, which is %d", s.from, s.tp, s.seek))
		case s.from < s.seek:
			said = append(said, fmt.Sprintf("offset %d of %v is gone, its log starts at %d", s.from, s.tp, s.seek))
		}
	}
	const shown = 3
	if more := len(said) - shown; more > 0 {
		said = append(said[:shown], "the same in "+count(more, "more partition"))
	}
	return strings.Join(said, "; ")
}
