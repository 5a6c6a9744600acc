package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/raftmq/mq"
)

// checkPartition refuses to send everything to a partition that is not there,
// before the first record creates a topic without it. Any other error is the
// producer's to meet and tell.
func checkPartition(ctx context.Context, admin *mq.Admin, cfg mq.ProducerConfig) error {
	if cfg.Partitioner == nil {
		return nil
	}
	// A partitioner that names a second partition when there is one, for a
	// record that belongs nowhere, always names it.
	n := cfg.Partitioner.Partition(&mq.Record{Partition: -1}, 1)
	if n < 1 {
		return nil
	}
	t, err := admin.DescribeTopic(ctx, cfg.Topic)
	switch {
	case errors.Is(err, mq.ErrUnknownTopicOrPartition):
		return fmt.Errorf("%w: %s/%d; create the topic first: mq topic create %[2]s -p %[4]d", mq.ErrUnknownTopicOrPartition, cfg.Topic, n, n+1)
	case err == nil && n >= len(t.Partitions):
		return fmt.Errorf("%w: %s has %s and no partition %d", mq.ErrUnknownTopicOrPartition, cfg.Topic, count(len(t.Partitions), "partition"), n)
	}
	return nil
}
