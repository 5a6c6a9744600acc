package main

import (
	"context"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

// startOf is a range as a consumer's start, if it is that simple: no end, and
// a beginning that needs no arithmetic.
func startOf(r offsets.Range) (mq.Start, bool) {
	from := r.From
	switch {
	case r.HasTo:
	case from.Kind == offsets.Start && from.N == 0:
		return mq.StartEarliest, true
	case from.Kind == offsets.End && from.N == 0:
		return mq.StartLatest, true
	case from.Kind == offsets.Offset:
		return mq.StartAt(from.N), true
	case from.Kind == offsets.Time:
		return mq.StartAtTime(from.Time), true
	}
	return mq.Start{}, false
}

// resolve asks the brokers what a range means now: where to start in each
// partition and, if it has an end, before which offset to stop. Partitions in
// which such a range holds nothing are left out.
func resolve(ctx context.Context, admin *mq.Admin, cfg mq.ConsumerConfig, r offsets.Range) ([]mq.PartitionOffset, map[mq.TopicPartition]int64, error) {
	topic := cfg.Topics[0]
	oldest, err := admin.ListOffsets(ctx, topic, mq.StartEarliest, cfg.Partitions...)
	if err != nil {
		return nil, nil, err
	}
	newest, err := admin.ListOffsets(ctx, topic, mq.StartLatest, cfg.Partitions...)
	if err != nil {
		return nil, nil, err
	}
	from, err := place(ctx, admin, topic, r.From, oldest, newest, nil)
	if err != nil || !r.HasTo {
		return from, nil, err
	}
	to, err := place(ctx, admin, topic, r.To, oldest, newest, from)
	if err != nil {
		return nil, nil, err
	}
	var starts []mq.PartitionOffset
	ends := map[mq.TopicPartition]int64{}
	for i, f := range from {
		end := min(to[i].Offset, newest[i].Offset) // what is not there yet is not waited for
		if max(f.Offset, oldest[i].Offset) < end {
			starts = append(starts, f)
			ends[mq.TopicPartition{Topic: topic, Partition: f.Partition}] = end
		}
	}
	return starts, ends, nil
}

// place turns a point into an offset for each partition. from is what Plus
// counts from.
func place(ctx context.Context, admin *mq.Admin, topic string, p offsets.Point, oldest, newest, from []mq.PartitionOffset) ([]mq.PartitionOffset, error) {
	at := make([]mq.PartitionOffset, len(oldest))
	for i := range oldest {
		at[i].Partition = oldest[i].Partition
		switch p.Kind {
		case offsets.Start:
			at[i].Offset = oldest[i].Offset + p.N
		case offsets.End:
			at[i].Offset = max(newest[i].Offset-p.N, oldest[i].Offset)
		case offsets.Offset:
			at[i].Offset = p.N
		case offsets.Plus:
			at[i].Offset = from[i].Offset + p.N
		case offsets.Time:
			found, err := admin.ListOffsets(ctx, topic, mq.StartAtTime(p.Time), oldest[i].Partition)
			if err != nil {
				return nil, err
			}
			if at[i].Offset = found[0].Offset; at[i].Offset < 0 { // nothing is as young
				at[i].Offset = newest[i].Offset
			}
		}
	}
	return at, nil
}
