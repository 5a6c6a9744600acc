package mq

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PartitionLag is how far a group is in a partition.
type PartitionLag struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// CommittedOffset is of the record that the group reads next; -1 when it
	// has stored none for the partition.
	CommittedOffset int64     `json:"committed_offset"`
	CommitTime      time.Time `json:"commit_time,omitzero"`
	LogStart        int64     `json:"log_start"`      // -1 when unknown
	HighWatermark   int64     `json:"high_watermark"` // -1 when unknown
	// Lag is the number of offsets between what the group reads next and the
	// high watermark; -1 when unknown. Where it has stored nothing, or what it
	// has stored was trimmed, that is from the start of the log.
	Lag int64 `json:"lag"`
}

// GroupLag tells how far a group is in every partition of the topics for which
// it has offsets stored, by topic and partition. What leaders do not tell within
// two seconds is unknown. Errors: ErrUnknownGroup when nothing is stored,
// ErrInvalidGroupID.
func (a *Admin) GroupLag(ctx context.Context, groupID string) ([]PartitionLag, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	committed, err := a.CommittedOffsets(ctx, groupID)
	if err != nil {
		return nil, fmt.Errorf("lag: %w", err)
	}
	var lags []PartitionLag
	for len(committed) > 0 {
		name, n := committed[0].Topic, 1
		for n < len(committed) && committed[n].Topic == name {
			n++
		}
		info, err := a.DescribeTopic(ctx, name)
		switch {
		case err == nil:
			lags = append(lags, lagsOf(info, committed[:n])...)
		case !errors.Is(err, ErrUnknownTopicOrPartition): // else it was deleted just now
			return nil, fmt.Errorf("lag of group %q: %w", groupID, err)
		}
		committed = committed[n:]
	}
	if len(lags) == 0 {
		return nil, fmt.Errorf("lag of group %q: %w: it has no offsets stored", groupID, ErrUnknownGroup)
	}
	return lags, nil
}

// lagsOf puts together a topic and what is committed for it.
func lagsOf(t TopicInfo, committed []CommittedOffset) []PartitionLag {
	lags := make([]PartitionLag, len(t.Partitions))
	for i, p := range t.Partitions {
		lags[i] = PartitionLag{
			Topic: t.Name, Partition: p.Partition, CommittedOffset: -1,
			LogStart: p.LogStart, HighWatermark: p.HighWatermark, Lag: -1,
		}
	}
	for _, c := range committed {
		if c.TopicID == t.ID && c.Partition >= 0 && int(c.Partition) < len(lags) {
			lags[c.Partition].CommittedOffset, lags[c.Partition].CommitTime = c.Offset, c.CommitTime
		}
	}
	for i := range lags {
		if l := &lags[i]; l.HighWatermark >= 0 {
			l.Lag = max(l.HighWatermark-max(l.CommittedOffset, l.LogStart), 0)
		}
	}
	return lags
}
