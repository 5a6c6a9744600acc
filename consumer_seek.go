package mq

import (
	"context"
	"fmt"
	"slices"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
)

// Seek goes on reading partitions, all that are assigned when none is named,
// from another place, which also becomes the one to commit. Records from before
// the Seek are not handed out after it. It waits until the brokers told the
// offsets; when ctx ends before, nothing has changed. An offset is taken as it
// is, and if it is not in the log, the reset policy answers. Errors:
// ErrUnknownTopicOrPartition for a partition that is not assigned,
// ErrInvalidRequest, ErrOffsetOutOfRange for StartCommitted when nothing is
// committed and Reset is ResetNone.
func (c *Consumer) Seek(ctx context.Context, to Start, tps ...TopicPartition) error {
	if err := to.check(); err != nil {
		return fmt.Errorf("seek: %w: %w", ErrInvalidRequest, err)
	}
	bound, cancel := c.bind(ctx)
	defer cancel()
	if err := c.seek(bound, to, tps); err != nil {
		return fmt.Errorf("seek to %v: %w", to, c.whyEnded(ctx, err))
	}
	return nil
}

func (c *Consumer) seek(ctx context.Context, to Start, named []TopicPartition) error {
	tps, err := c.assigned(ctx, named)
	if err != nil {
		return err
	}
	offsets, err := c.find(ctx, to, tps)
	if err != nil {
		return err
	}
	for i, tp := range tps {
		if !c.set.Seek(tp, offsets[i]) {
			return fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, ErrUnknownTopicID)
		}
	}
	return nil
}

// assigned returns the partitions named, or all, when there are some.
func (c *Consumer) assigned(ctx context.Context, named []TopicPartition) ([]api.TopicPartition, error) {
	ps, err := c.progress(ctx, false)
	if err != nil || len(named) == 0 {
		return partitionsOf(ps), err
	}
	tps := make([]api.TopicPartition, len(named))
	for i, tp := range named {
		at := slices.IndexFunc(ps, func(p fetch.Progress) bool { return p.Topic == tp.Topic && p.Partition == tp.Partition })
		if at < 0 {
			return nil, fmt.Errorf("%v is not assigned: %w", tp, ErrUnknownTopicOrPartition)
		}
		tps[i] = ps[at].TopicPartition
	}
	return tps, nil
}

// find returns the offsets of a place, in the order of the partitions.
func (c *Consumer) find(ctx context.Context, to Start, tps []api.TopicPartition) ([]int64, error) {
	switch to.at.Kind {
	case fetch.AtOffset:
		return slices.Repeat([]int64{to.at.Value}, len(tps)), nil
	case fetch.AtTime:
		return c.offsetsAt(ctx, tps, to.at.Value)
	case fetch.AtCommitted:
	}
	offsets, err := c.committed(ctx, tps)
	if err != nil {
		return nil, err
	}
	return fillIn(offsets, tps, func(missing []api.TopicPartition) ([]int64, error) {
		at, ok := fetch.Reset(c.cfg.Reset).Timestamp()
		if !ok {
			return nil, fmt.Errorf("nothing is committed for %s/%d: %w", missing[0].Topic, missing[0].Partition, ErrOffsetOutOfRange)
		}
		return c.offsetsAt(ctx, missing, at)
	})
}

// committed returns the group's offsets, -1 for none.
func (c *Consumer) committed(ctx context.Context, tps []api.TopicPartition) ([]int64, error) {
	offsets := slices.Repeat([]int64{-1}, len(tps))
	if c.offsets == nil {
		return offsets, nil
	}
	err := repeat(ctx, c.cfg.Timeout, fetch.MayPass, func(ctx context.Context) error {
		stored, err := c.offsets.fetch(ctx, tps)
		if err != nil {
			return err
		}
		for i, o := range stored {
			if o.Err != nil {
				return fmt.Errorf("%s/%d: %w", o.Topic, o.Partition, o.Err)
			}
			offsets[i] = o.Offset
		}
		return nil
	})
	return offsets, err
}

// offsetsAt returns the offsets of a timestamp, special ones included; where no
// record is as young, that of the record which comes next.
func (c *Consumer) offsetsAt(ctx context.Context, tps []api.TopicPartition, timestamp int64) ([]int64, error) {
	offsets, err := c.listOffsets(ctx, tps, timestamp)
	if err != nil {
		return nil, err
	}
	return fillIn(offsets, tps, func(missing []api.TopicPartition) ([]int64, error) {
		return c.listOffsets(ctx, missing, api.LatestTimestamp)
	})
}

func (c *Consumer) listOffsets(ctx context.Context, tps []api.TopicPartition, timestamp int64) ([]int64, error) {
	qs := make([]question, len(tps))
	for i, tp := range tps {
		qs[i] = question{tp, timestamp}
	}
	replies, err := askLeaders(ctx, c.router, c.cfg.Timeout, fetch.MayPass, qs, askOffsets(c.cfg.Isolation))
	offsets := make([]int64, len(replies))
	for i, r := range replies {
		offsets[i] = r.offset
	}
	return offsets, err
}

// fillIn replaces negative offsets by what find returns for their partitions.
func fillIn(offsets []int64, tps []api.TopicPartition, find func([]api.TopicPartition) ([]int64, error)) ([]int64, error) {
	var missing []api.TopicPartition
	for i, o := range offsets {
		if o < 0 {
			missing = append(missing, tps[i])
		}
	}
	if len(missing) == 0 {
		return offsets, nil
	}
	found, err := find(missing)
	if err != nil {
		return nil, err
	}
	for i, o := range offsets {
		if o < 0 {
			offsets[i], found = found[0], found[1:]
		}
	}
	return offsets, nil
}
