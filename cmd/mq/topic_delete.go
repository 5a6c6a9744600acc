package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

func newTopicDelete(p *program) *cobra.Command {
	var risk risk
	var ifExists bool
	cmd := &cobra.Command{
		Use:               "delete TOPIC",
		Short:             "Delete a topic and its records",
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: p.completeTopics(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := p.mayAsk(risk, "delete a topic"); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				err := p.deleteTopic(ctx, a, name, risk)
				if ifExists && errors.Is(err, mq.ErrUnknownTopicOrPartition) {
					p.say("there is no topic %s", name)
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "no topic of that name is fine")
	risk.flags(cmd)
	return cmd
}

func (p *program) deleteTopic(ctx context.Context, a *mq.Admin, name string, risk risk) error {
	t, err := a.DescribeTopic(ctx, name)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("delete topic %s: %s in %s", name, recordsOf(t), count(len(t.Partitions), "partition"))
	if ok, err := p.goAhead(ctx, risk, what); !ok || err != nil {
		return err
	}
	return p.done(a.DeleteTopic(ctx, name), "deleted %s", name)
}

// recordsOf counts what a topic holds.
func recordsOf(t mq.TopicInfo) string {
	n := 0
	for _, part := range t.Partitions {
		if part.HighWatermark < 0 {
			return "an unknown number of records"
		}
		n += int(part.HighWatermark - part.LogStart)
	}
	return count(n, "record")
}

func newTopicTrim(p *program) *cobra.Command {
	var to string
	var partitions []int32
	var risk risk
	cmd := &cobra.Command{
		Use:   "trim TOPIC",
		Short: "Delete the records before a place",
		Long: `Delete the records before a place: --to names the first record that stays, as
consume's --offset does. end leaves nothing, -N the last N of each partition.`,
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: p.completeTopics(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usage(errors.New("say --to which place"))
			}
			r, err := offsets.Parse(to, time.Now())
			if err != nil {
				return usage(err)
			}
			if err := checkPartitions(partitions); err != nil {
				return err
			}
			if r.HasTo || to == "start" {
				return usage(fmt.Errorf("--to %s: want end, N, +N, -N or @TIME", to))
			}
			if err := p.mayAsk(risk, "delete records"); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.trim(ctx, a, args[0], partitions, r.From, risk)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the first `offset` that stays")
	cmd.Flags().Int32SliceVarP(&partitions, "partitions", "p", nil, "only these partitions")
	risk.flags(cmd)
	return cmd
}

// trim cuts partition by partition, at the offsets that were shown.
func (p *program) trim(ctx context.Context, a *mq.Admin, name string, partitions []int32, to offsets.Point, risk risk) error {
	spans, err := resolve(ctx, a, name, partitions, offsets.Range{From: to})
	if err != nil {
		return err
	}
	var plan []string
	var cuts []span
	gone := 0
	for i, s := range spans {
		if s.from > s.seek {
			return fmt.Errorf("%w: %s; name partitions with -p", mq.ErrOffsetOutOfRange, outside(spans[i:i+1]))
		}
		if n := int(s.seek - s.first); n > 0 {
			gone += n
			plan = append(plan, fmt.Sprintf("partition %d: %s, up to offset %d", s.tp.Partition, count(n, "record"), s.seek-1))
			cuts = append(cuts, s)
		}
	}
	if len(cuts) == 0 {
		p.say("nothing to trim")
		return nil
	}
	what := fmt.Sprintf("delete %s of %s", count(gone, "record"), name)
	if ok, err := p.goAhead(ctx, risk, what, plan...); !ok || err != nil {
		return err
	}
	for i, s := range cuts {
		if _, err := a.TrimTopic(ctx, name, mq.StartAt(s.seek), s.tp.Partition); err != nil {
			if i > 0 {
				return &exitError{exitPartly, fmt.Errorf("%d of %s %s trimmed: %w", i, count(len(cuts), "partition"), were(i), err)}
			}
			return err
		}
	}
	p.say("deleted %s of %s", count(gone, "record"), name)
	return nil
}
