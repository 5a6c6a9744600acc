package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

func newTopic(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, look at and change topics",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usage(fmt.Errorf("no command %q (see %s --help)", args[0], cmd.CommandPath()))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTopicCreate(p), newTopicList(p), newTopicDescribe(p), newTopicAlter(p),
		newTopicAddPartitions(p), newTopicTrim(p), newTopicDelete(p))
	return cmd
}

func newTopicCreate(p *program) *cobra.Command {
	var spec mq.TopicSpec
	var settings map[string]string
	var ifNotExists bool
	cmd := &cobra.Command{
		Use:   "create TOPIC",
		Short: "Create a topic",
		Args:  exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Name, spec.Configs = args[0], settings
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				t, err := a.CreateTopic(ctx, spec)
				if ifNotExists && errors.Is(err, mq.ErrTopicExists) {
					return nil
				}
				return p.done(err, "created %s with %d partitions", t.Name, len(t.Partitions))
			})
		},
	}
	cmd.Flags().IntVarP(&spec.Partitions, "partitions", "p", 0, "number of partitions (default: the broker's)")
	cmd.Flags().IntVarP(&spec.ReplicationFactor, "replicas", "r", 0, "brokers that store each partition (default: the broker's)")
	cmd.Flags().StringToStringVarP(&settings, "set", "s", nil, "`name=value` of a topic config, such as "+mq.ConfigRetentionMs+"=3600000")
	cmd.Flags().BoolVar(&ifNotExists, "if-not-exists", false, "a topic of that name is fine")
	return cmd
}

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
		Use:   "describe TOPIC",
		Short: "Show a topic's configs and partitions",
		Args:  exactArgs("TOPIC"),
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
					w.head("PARTITION", "LEADER", "EPOCH", "REPLICAS", "START", "END", "BYTES")
					for _, part := range t.Partitions {
						w.row(part.Partition, known(part.Leader), known(part.LeaderEpoch), strings.Trim(fmt.Sprint(part.Replicas), "[]"),
							known(part.LogStart), known(part.HighWatermark), known(part.SizeBytes))
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

func newTopicAlter(p *program) *cobra.Command {
	var settings map[string]string
	var reset []string
	cmd := &cobra.Command{
		Use:   "alter TOPIC",
		Short: "Change a topic's configs; what is not named stays",
		Args:  exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(settings)+len(reset) == 0 {
				return usage(errors.New("nothing to change: name a --set or a --reset"))
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				_, err := a.AlterTopic(ctx, args[0], settings, reset...)
				return p.done(err, "altered %s", args[0])
			})
		},
	}
	cmd.Flags().StringToStringVarP(&settings, "set", "s", nil, "`name=value`")
	cmd.Flags().StringSliceVar(&reset, "reset", nil, "`name` of a config that goes back to its default")
	return cmd
}

func newTopicAddPartitions(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "add-partitions TOPIC TOTAL",
		Short: "Raise the number of partitions to TOTAL",
		Long: `Raise the number of partitions to TOTAL. Records stay where they are, so the
partition of a key may change.`,
		Args: exactArgs("TOPIC", "TOTAL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			total, err := strconv.Atoi(args[1])
			if err != nil {
				return usage(fmt.Errorf("bad number of partitions %q", args[1]))
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				_, err := a.AddPartitions(ctx, args[0], total)
				return p.done(err, "%s has %d partitions", args[0], total)
			})
		},
	}
}

func newTopicDelete(p *program) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete TOPIC",
		Short: "Delete a topic and its records",
		Args:  exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.confirm(yes, "delete topic %s and all its records", args[0]); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.done(a.DeleteTopic(ctx, args[0]), "deleted %s", args[0])
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func newTopicTrim(p *program) *cobra.Command {
	var to string
	var partitions []int32
	var yes bool
	cmd := &cobra.Command{
		Use:   "trim TOPIC",
		Short: "Delete the records before a place",
		Args:  exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := offsets.Parse(to, time.Now())
			if err != nil {
				return usage(err)
			}
			start, ok := startOf(r.From)
			if !ok || r.HasTo || start == mq.StartEarliest {
				return usage(fmt.Errorf("--to %s: want end, an offset or @TIME", to))
			}
			if err := p.confirm(yes, "delete all records of %s before %s", args[0], to); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				_, err := a.TrimTopic(ctx, args[0], start, partitions...)
				return p.done(err, "trimmed %s", args[0])
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the first `offset` that stays: end (nothing stays), N or @TIME")
	cmd.Flags().Int32SliceVarP(&partitions, "partitions", "p", nil, "only these partitions")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// admin runs fn with an Admin of the configured broker.
func (p *program) admin(ctx context.Context, fn func(context.Context, *mq.Admin) error) (err error) {
	f, err := p.load()
	if err != nil {
		return err
	}
	c, err := p.dial(ctx, f.Client)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	return fn(ctx, mq.NewAdmin(c))
}

// done tells a person what was done, unless it failed.
func (p *program) done(err error, format string, args ...any) error {
	if err == nil {
		p.say(format, args...)
	}
	return err
}

// confirm asks before something that can't be undone.
func (p *program) confirm(yes bool, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	switch {
	case yes:
		return nil
	case !isTerminal(p.in):
		return usage(fmt.Errorf("to %s without a terminal say --yes", what))
	}
	fmt.Fprintf(p.errOut, "%s? [y/N] ", what)
	answer, _ := bufio.NewReader(p.in).ReadString('\n') // no answer is no
	if strings.ToLower(strings.TrimSpace(answer)) != "y" {
		return errors.New("not done")
	}
	return nil
}

func replicas(t mq.TopicInfo) int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Replicas)
}

// known prints -1, which stands for unknown, as a dash.
func known[T int32 | int64](n T) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(int64(n), 10)
}
