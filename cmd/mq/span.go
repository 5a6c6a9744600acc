package main

import (
	"context"
	"math"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

// span is what to print of a partition: records from an offset up to, and
// without, another.
type span struct {
	partition int32
	from, to  int64 // to is math.MaxInt64 when there is no end
	seek      int64 // from, or the offset nearest to it that is in the log
}

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

// resolve asks the brokers what a range means now. An end is never behind what
// is there, so that it is reached. Empty spans are left out.
func resolve(ctx context.Context, admin *mq.Admin, topic string, partitions []int32, r offsets.Range) ([]span, error) {
	oldest, err := admin.ListOffsets(ctx, topic, mq.StartEarliest, partitions...)
	if err != nil {
		return nil, err
	}
	newest, err := admin.ListOffsets(ctx, topic, mq.StartLatest, partitions...)
	if err != nil {
		return nil, err
	}
	var spans []span
	for i := range oldest {
		n, first, end := oldest[i].Partition, oldest[i].Offset, newest[i].Offset
		place := func(p offsets.Point, from int64) (int64, error) {
			switch p.Kind {
			case offsets.Start:
				return first + p.N, nil
			case offsets.End:
				return max(end-p.N, first), nil
			case offsets.Plus:
				return from + p.N, nil
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
		s := span{partition: n, from: from, to: math.MaxInt64, seek: min(max(from, first), end)}
		if r.HasTo {
			to, err := place(r.To, from)
			if err != nil {
				return nil, err
			}
			s.to = min(to, end)
		}
		if s.seek < s.to {
			spans = append(spans, s)
		}
	}
	return spans, nil
}
