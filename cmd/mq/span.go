package main

import (
	"context"
	"fmt"
	"math"
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
	spans := make([]span, min(len(oldest), len(newest))) // the topic may have grown in between
	for i := range spans {
		n, first, end := oldest[i].Partition, oldest[i].Offset, newest[i].Offset
		place := func(p offsets.Point, from int64) (int64, error) {
			switch p.Kind {
			case offsets.Start:
				return plus(first, p.N), nil
			case offsets.End:
				return max(end-p.N, first), nil
			case offsets.Plus:
				return plus(from, p.N), nil
			case offsets.Time:
				found, err := admin.ListOffsets(ctx, topic, mq.StartAtTime(p.Time), n)
				if err == nil && found[0].Offset >= 0 {
					return found[0].Offset, nil
				}
				return end, err // nothing is as young
			default:
				return p.N, nil
			}
		}
		from, err := place(r.From, 0)
		if err != nil {
			return nil, err
		}
		s := span{tp: mq.TopicPartition{Topic: topic, Partition: n}, from: from, to: math.MaxInt64, seek: min(max(from, first), end), first: first}
		if r.HasTo {
			to, err := place(r.To, from)
			if err != nil {
				return nil, err
			}
			s.to = min(to, end)
		}
		spans[i] = s
	}
	return spans, nil
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
		said = append(said[:shown], fmt.Sprintf("the same in %d more partitions", more))
	}
	return strings.Join(said, "; ")
}
