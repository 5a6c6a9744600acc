package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newTopicList(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				topics, err := a.ListTopics(ctx)
				if err != nil {
					return err
				}
				return p.show(out, topics, func(w *table) {
					w.head("TOPIC", "PARTITIONS", "REPLICAS")
					for _, t := range topics {
						w.row(t.Name, len(t.Partitions), replicas(t))
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

func newTopicDescribe(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:               "describe TOPIC",
		Short:             "Show a topic's configs and partitions",
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: p.completeTopics(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				t, err := a.DescribeTopic(ctx, args[0])
				if err != nil {
					return err
				}
				return p.show(out, t, func(w *table) {
					w.row("topic", t.Name)
					w.row("id", t.ID)
					for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
						w.row(name, t.Configs[name])
					}
					w.row()
					w.head("PARTITION", "LEADER", "EPOCH", "REPLICAS", "LAG", "START", "END", "BYTES")
					for _, part := range t.Partitions {
						w.row(part.Partition, known(part.Leader), known(part.LeaderEpoch), each(part.ReplicaLogs, replicaName),
							each(part.ReplicaLogs, func(r mq.ReplicaLog) string { return known(r.Lag) }),
							known(part.LogStart), known(part.HighWatermark), known(part.SizeBytes))
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

func replicas(t mq.TopicInfo) int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Replicas)
}

// each prints something of each replica.
func each(replicas []mq.ReplicaLog, text func(mq.ReplicaLog) string) string {
	var out []string
	for _, r := range replicas {
		out = append(out, text(r))
	}
	return strings.Join(out, " ")
}

func replicaName(r mq.ReplicaLog) string {
	if r.Learner {
		return fmt.Sprintf("%d(joining)", r.Broker)
	}
	return strconv.Itoa(int(r.Broker))
}

// known prints -1, which stands for unknown, as a dash.
func known[T int32 | int64](n T) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(int64(n), 10)
}
