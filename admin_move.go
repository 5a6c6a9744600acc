package mq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
)

// TransferLeader makes a broker lead a partition of which it has a replica, and the
// one that should lead it from now on: after it was away, leadership comes back to
// it. Producers and consumers follow without losing anything.
//
// Errors: ErrUnknownTopicOrPartition, ErrInvalidRequest for a broker without a
// replica that votes, ErrBusy for one that is down or has not caught up.
func (a *Admin) TransferLeader(ctx context.Context, tp TopicPartition, to int32) error {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	again := func(err error) bool { return mayChangeAgain(err) && !errors.Is(err, ErrBusy) }
	err := repeat(ctx, adminDeadline, again, func(ctx context.Context) error {
		l, err := a.router.Leader(ctx, tp.Topic, tp.Partition)
		if err != nil {
			return err
		}
		req := &api.TransferLeaderRequest{To: to}
		req.Topic, req.Partition, req.TopicID = tp.Topic, tp.Partition, l.TopicID
		_, err = l.Broker.TransferLeader(ctx, req)
		if err != nil {
			a.router.Failed(l, err)
		}
		return outcome(err)
	})
	if err != nil {
		return fmt.Errorf("transfer leader of %s/%d to broker %d: %w", tp.Topic, tp.Partition, to, err)
	}
	return nil
}

// MoveReplica moves the replica of a partition that one broker has to another: that
// one gets a replica, and when it has caught up and votes, the first goes. There is
// never one replica less than before. MoveReplica returns when that is done; when
// ctx ends before, it goes on all the same. To move one back that is on its way gives
// that up.
//
// Errors: ErrUnknownTopicOrPartition, ErrInvalidRequest where the one has no replica,
// or the other has one, is not there or is leaving. Kafka: kafka-reassign-partitions.
func (a *Admin) MoveReplica(ctx context.Context, tp TopicPartition, from, to int32) error {
	begin, cancel := adminContext(ctx)
	defer cancel()
	err := repeat(begin, adminDeadline, mayChangeAgain, func(ctx context.Context) error {
		b, err := a.router.Any(ctx)
		if err != nil {
			return err
		}
		req := &api.MoveReplicaRequest{From: from, To: to}
		req.Topic, req.Partition = tp.Topic, tp.Partition
		_, err = b.MoveReplica(ctx, req)
		return outcome(err)
	})
	for err == nil {
		var t api.TopicInfo
		if t, err = a.topic(ctx, tp.Topic); err == nil {
			if moved(t, tp.Partition, from, to) {
				return nil
			}
			err = backoff.Sleep(ctx, removeLook)
		}
	}
	return fmt.Errorf("move replica of %s/%d from broker %d to broker %d: %w", tp.Topic, tp.Partition, from, to, err)
}

func moved(t api.TopicInfo, partition, from, to int32) bool {
	if int(partition) >= len(t.Partitions) {
		return false
	}
	p := t.Partitions[partition]
	return slices.Contains(p.Replicas, to) && !slices.Contains(p.Learners, to) && !slices.Contains(p.Replicas, from)
}
