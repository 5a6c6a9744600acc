package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

// groupLag is what `group lag` answers. A lag of -1 is unknown.
type groupLag struct {
	GroupID string     `json:"group_id"`
	Lag     int64      `json:"lag"` // of all topics
	Topics  []topicLag `json:"topics"`
}

type topicLag struct {
	Topic      string            `json:"topic"`
	Lag        int64             `json:"lag"`     // of all partitions
	MaxLag     int64             `json:"max_lag"` // of one of them
	Partitions []mq.PartitionLag `json:"partitions"`
}

// groupLagOf sums up by topic. A sum with a part that is unknown is unknown.
func groupLagOf(groupID string, partitions []mq.PartitionLag) groupLag {
	g := groupLag{GroupID: groupID}
	for _, part := range partitions {
		if n := len(g.Topics); n == 0 || g.Topics[n-1].Topic != part.Topic {
			g.Topics = append(g.Topics, topicLag{Topic: part.Topic})
		}
		t := &g.Topics[len(g.Topics)-1]
		t.Partitions = append(t.Partitions, part)
		if t.Lag, t.MaxLag = addLag(t.Lag, part.Lag), max(t.MaxLag, part.Lag); t.Lag < 0 {
			t.MaxLag = -1
		}
		g.Lag = addLag(g.Lag, part.Lag)
	}
	return g
}

func addLag(a, b int64) int64 {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

func newGroupLag(p *program) *cobra.Command {
	var out *output
	var failAbove int64
	cmd := &cobra.Command{
		Use:   "lag GROUP",
		Short: "Show how much of each topic a group has not read",
		Long: `Show how many records of each topic a group has not read. Partitions for which
it has stored nothing count from their first record.

With --fail-above the exit code is 5 when the group as a whole has more left
than that, or when a partition has no leader to tell.`,
		Args:              exactArgs("GROUP"),
		ValidArgsFunction: p.completeGroups(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			limited := cmd.Flags().Changed("fail-above")
			if limited && failAbove < 0 {
				return usage(fmt.Errorf("--fail-above %d: want 0 or more", failAbove))
			}
			return p.withLag(cmd.Context(), args[0], func(g groupLag) error {
				written := p.show(out, g, func(t *table) {
					t.head("GROUP", "TOPIC", "PARTITIONS", "LAG", "MAX LAG")
					for _, topic := range g.Topics {
						t.row(g.GroupID, topic.Topic, len(topic.Partitions), known(topic.Lag), known(topic.MaxLag))
					}
				})
				var verdict error
				switch {
				case !limited:
				case g.Lag < 0:
					verdict = &exitError{exitUnhealthy, fmt.Errorf("the lag of group %s is unknown: a partition has no leader", g.GroupID)}
				case g.Lag > failAbove:
					verdict = &exitError{exitUnhealthy, fmt.Errorf("group %s lags by %d, more than %d", g.GroupID, g.Lag, failAbove)}
				}
				return answered(written, verdict)
			})
		},
	}
	cmd.Flags().Int64Var(&failAbove, "fail-above", 0, "exit with 5 when more than `N` records are left")
	out = outputFlags(cmd)
	return cmd
}

// withLag calls fn with the lag of a group.
func (p *program) withLag(ctx context.Context, groupID string, fn func(groupLag) error) error {
	return p.admin(ctx, func(ctx context.Context, a *mq.Admin) error {
		partitions, err := a.GroupLag(ctx, groupID)
		if err != nil {
			return err
		}
		return fn(groupLagOf(groupID, partitions))
	})
}
