package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newClusterTransferLeader(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "transfer-leader TOPIC/PARTITION BROKER",
		Short: "Make a broker lead a partition",
		Long: `Make a broker that has a replica of a partition its leader, now and whenever it
comes back after it was away. Producers and consumers follow without losing anything.`,
		Example: "  mq cluster transfer-leader orders/0 2",
		Args:    exactArgs("TOPIC/PARTITION", "BROKER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tp, err := partitionArg(args[0])
			if err != nil {
				return err
			}
			to, err := brokerArg(args[1])
			if err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.done(a.TransferLeader(ctx, tp, to), "broker %d leads %s", to, args[0])
			})
		},
	}
}

func newClusterMoveReplica(p *program) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "move-replica TOPIC/PARTITION FROM TO",
		Short: "Move a replica of a partition to another broker",
		Long: `Move the replica of a partition that broker FROM has to broker TO. That one gets a
replica, and when it has caught up, the one of FROM goes: there is never one less
than before, and producers and consumers go on.

The command waits until that is done. When it is interrupted, or --timeout has
passed, the replica goes on moving; move it back, from TO to FROM, to give that up.`,
		Example: "  mq cluster move-replica orders/0 1 4",
		Args:    exactArgs("TOPIC/PARTITION", "FROM", "TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tp, err := partitionArg(args[0])
			if err != nil {
				return err
			}
			from, err := brokerArg(args[1])
			if err != nil {
				return err
			}
			to, err := brokerArg(args[2])
			if err != nil {
				return err
			}
			if timeout < 0 {
				return usage(fmt.Errorf("--timeout %v: want 0 or more", timeout))
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				if timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, timeout)
					defer cancel()
				}
				return p.done(a.MoveReplica(ctx, tp, from, to), "the replica of %s is on broker %d", args[0], to)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "wait no longer than this (0: as long as it takes)")
	return cmd
}

// brokerArg reads the id of a broker.
func brokerArg(text string) (int32, error) {
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 1 {
		return 0, usage(fmt.Errorf("%q is not the id of a broker", text))
	}
	return int32(id), nil
}

// partitionArg reads a partition as logs and errors write it: orders/0.
func partitionArg(text string) (mq.TopicPartition, error) {
	topic, number, ok := strings.Cut(text, "/")
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil || n < 0 || topic == "" {
		return mq.TopicPartition{}, usage(fmt.Errorf("%q is not a partition: want TOPIC/NUMBER", text))
	}
	return mq.TopicPartition{Topic: topic, Partition: int32(n)}, nil
}
