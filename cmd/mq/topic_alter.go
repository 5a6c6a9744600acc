package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/topic"
)

func newTopicAlter(p *program) *cobra.Command {
	var settings map[string]string
	var reset []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:               "alter TOPIC",
		Short:             "Change a topic's configs; what is not named stays",
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: p.completeTopics(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(settings)+len(reset) == 0 {
				return usage(errors.New("nothing to change: name a --set or a --reset"))
			}
			for _, name := range reset {
				if _, both := settings[name]; both {
					return usage(fmt.Errorf("%s: --set or --reset, not both", name))
				}
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				if dryRun {
					changes, err := wouldAlter(ctx, a, args[0], settings, reset)
					return p.done(err, "would alter %s: %s", args[0], changes)
				}
				_, err := a.AlterTopic(ctx, args[0], settings, reset...)
				return p.done(err, "altered %s", args[0])
			})
		},
	}
	cmd.Flags().StringToStringVarP(&settings, "set", "s", nil, "`name=value`")
	cmd.Flags().StringSliceVar(&reset, "reset", nil, "`name` of a config that goes back to its default")
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// wouldAlter tells what AlterTopic would change, or refuse.
func wouldAlter(ctx context.Context, a *mq.Admin, name string, set map[string]string, reset []string) (string, error) {
	t, err := a.DescribeTopic(ctx, name)
	if err != nil {
		return "", err
	}
	after := maps.Clone(t.Configs)
	for _, config := range reset {
		if !slices.Contains(topic.ConfigNames(), config) {
			return "", fmt.Errorf("%w: unknown topic config %q, known are %s", mq.ErrInvalidConfig, config, strings.Join(topic.ConfigNames(), ", "))
		}
		delete(after, config)
	}
	maps.Copy(after, set)
	parsed, err := topic.Parse(after)
	if err != nil {
		return "", err
	}
	before, err := topic.Parse(t.Configs)
	if err != nil {
		return "", err
	}
	old, changes := before.Map(), []string{}
	for config, value := range parsed.Map() {
		if value != old[config] {
			changes = append(changes, fmt.Sprintf("%s from %s to %s", config, old[config], value))
		}
	}
	if len(changes) == 0 {
		return "nothing changes", nil
	}
	slices.Sort(changes)
	return strings.Join(changes, ", "), nil
}

func newTopicAddPartitions(p *program) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add-partitions TOPIC TOTAL",
		Short: "Raise the number of partitions to TOTAL",
		Long: `Raise the number of partitions to TOTAL. Records stay where they are, so the
partition of a key may change.`,
		Args:              exactArgs("TOPIC", "TOTAL"),
		ValidArgsFunction: p.completeTopics(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			total, err := strconv.Atoi(args[1])
			if err != nil {
				return usage(fmt.Errorf("bad number of partitions %q", args[1]))
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				if dryRun {
					n, err := wouldAdd(ctx, a, args[0], total)
					return p.done(err, "would raise the partitions of %s from %d to %d", args[0], n, total)
				}
				_, err := a.AddPartitions(ctx, args[0], total)
				return p.done(err, "%s has %s", args[0], count(total, "partition"))
			})
		},
	}
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// wouldAdd tells how many partitions there are, or what AddPartitions would refuse.
func wouldAdd(ctx context.Context, a *mq.Admin, name string, total int) (int, error) {
	t, err := a.DescribeTopic(ctx, name)
	if err != nil {
		return 0, err
	}
	n := len(t.Partitions)
	if total <= n || total > topic.MaxPartitions {
		return n, fmt.Errorf("%w: %s has %d, and %d is not %d to %d", mq.ErrInvalidPartitions, name, n, total, n+1, topic.MaxPartitions)
	}
	return n, nil
}
