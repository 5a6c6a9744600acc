package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/topic"
)

func newTopicCreate(p *program) *cobra.Command {
	var spec mq.TopicSpec
	var ifNotExists, dryRun bool
	cmd := &cobra.Command{
		Use:   "create TOPIC",
		Short: "Create a topic",
		Args:  exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Name = args[0]
			for _, flag := range []string{"partitions", "replicas"} {
				if f := cmd.Flags().Lookup(flag); f.Changed && (f.Value.String() == "0" || f.Value.String()[0] == '-') {
					return usage(fmt.Errorf("bad --%s %s: want 1 or more", flag, f.Value))
				}
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				var t mq.TopicInfo
				var err error
				if dryRun {
					err = wouldCreate(ctx, a, spec)
				} else {
					t, err = a.CreateTopic(ctx, spec)
				}
				switch {
				case ifNotExists && errors.Is(err, mq.ErrTopicExists):
					p.say("%s exists already", spec.Name)
					return nil
				case err == nil && dryRun:
					p.say("would create %s with %s", spec.Name, partitionsOf(spec))
					return nil
				}
				return p.done(err, "created %s with %s", t.Name, count(len(t.Partitions), "partition"))
			})
		},
	}
	cmd.Flags().IntVarP(&spec.Partitions, "partitions", "p", 0, "number of partitions (default: the broker's)")
	cmd.Flags().IntVarP(&spec.ReplicationFactor, "replicas", "r", 0, "brokers that store each partition (default: the broker's)")
	cmd.Flags().StringToStringVarP(&spec.Configs, "set", "s", nil, "`name=value` of a topic config, such as "+mq.ConfigRetentionMs+"=3600000")
	cmd.Flags().BoolVar(&ifNotExists, "if-not-exists", false, "a topic of that name is fine")
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// wouldCreate checks what CreateTopic would refuse.
func wouldCreate(ctx context.Context, a *mq.Admin, spec mq.TopicSpec) error {
	if err := topic.CheckName(spec.Name); err != nil {
		return err
	}
	if spec.Partitions < 0 || spec.Partitions > topic.MaxPartitions {
		return fmt.Errorf("%w: %d is not 1 to %d", mq.ErrInvalidPartitions, spec.Partitions, topic.MaxPartitions)
	}
	if _, err := topic.Parse(spec.Configs); err != nil {
		return err
	}
	cluster, err := a.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	if n := spec.ReplicationFactor; n < 0 || n > len(cluster.Brokers) {
		return fmt.Errorf("%w: %d of %s", mq.ErrInvalidReplicationFactor, n, count(len(cluster.Brokers), "broker"))
	}
	_, err = a.DescribeTopic(ctx, spec.Name)
	switch {
	case errors.Is(err, mq.ErrUnknownTopicOrPartition):
		return nil
	case err == nil:
		return fmt.Errorf("create topic %q: %w", spec.Name, mq.ErrTopicExists)
	}
	return err
}

func partitionsOf(spec mq.TopicSpec) string {
	if spec.Partitions == 0 {
		return "as many partitions as the broker is configured for"
	}
	return count(spec.Partitions, "partition")
}
