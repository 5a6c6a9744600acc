package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

// peekFormat tells where a record is, which is what one wants to know of what a
// group hangs at.
const peekFormat = `%t/%p@%o\t%v\n`

func newGroupPeek(p *program) *cobra.Command {
	var which groupPartitions
	var number int
	var pattern string
	cmd := &cobra.Command{
		Use:   "peek GROUP",
		Short: "Print the records that a group gets next",
		Long: `Print the records that a group gets next, of each partition of the topics for which
it has offsets stored, without moving it: those behind what it has stored, or the
oldest where it has stored nothing. A member may be at work on them already.
--format is that of consume.`,
		Example: `  mq group peek printers --topic jobs -p 3 -n 5
  mq group peek printers -f json`,
		Args:              exactArgs("GROUP"),
		ValidArgsFunction: p.completeGroups(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if number < 1 {
				return usage(fmt.Errorf("bad --number %d: want 1 or more", number))
			}
			if err := which.check(); err != nil {
				return err
			}
			format, err := printerOf(pattern)
			if err != nil {
				return usage(err)
			}
			f, err := p.load()
			if err != nil {
				return err
			}
			return p.peek(cmd.Context(), f, args[0], which, int64(number), format)
		},
	}
	cmd.Flags().IntVarP(&number, "number", "n", 1, "records of each partition, at most")
	cmd.Flags().StringVarP(&pattern, "format", "f", peekFormat, "json, or the `pattern` of each record")
	which.flags(cmd, p, "only of the topic of this `name`")
	return cmd
}

// peek prints the next records of one partition after the other.
func (p *program) peek(ctx context.Context, f config.File, groupID string, which groupPartitions, number int64, format printer) (err error) {
	ctx, cancel := untilReaderGone(ctx, p.out)
	defer cancel()
	c, err := p.dial(ctx, f.Client)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	a := mq.NewAdmin(c)
	lags, err := a.GroupLag(ctx, groupID)
	if err != nil {
		return err
	}
	var known []mq.TopicPartition
	unknown, left := 0, false
	for _, l := range lags {
		if !which.has(l.Topic, l.Partition) {
			continue
		}
		tp := mq.TopicPartition{Topic: l.Topic, Partition: l.Partition}
		known = append(known, tp)
		switch {
		case l.Lag < 0:
			unknown++
		case l.Lag > 0:
			left = true
			if err := p.peekAt(ctx, c, f, tp, max(l.CommittedOffset, l.LogStart), number, format); err != nil {
				return err
			}
		}
	}
	what, missing := which.missing(known)
	switch {
	case missing:
		return fmt.Errorf("%s is not read by group %s", what, groupID)
	case unknown > 0:
		return &exitError{exitPartly, fmt.Errorf("%s %s no leader to tell what comes next", count(unknown, "partition"), word(unknown == 1, "has", "have"))}
	case !left:
		p.say("group %s has read everything", groupID)
	}
	return nil
}

// peekAt prints records of a partition as a consumer without a group.
func (p *program) peekAt(ctx context.Context, c *mq.Client, f config.File, tp mq.TopicPartition, from, number int64, format printer) error {
	run := &consumption{
		p: p, admin: mq.NewAdmin(c), brokers: f.Client.Brokers, verb: "printed",
		opt: consumeOptions{
			cfg: mq.ConsumerConfig{
				Topics: []string{tp.Topic}, Partitions: []int32{tp.Partition},
				Timeout: f.Consumer.Timeout, Logger: f.Consumer.Logger,
			},
			span: &offsets.Range{
				From:  offsets.Point{Kind: offsets.Offset, N: from},
				To:    offsets.Point{Kind: offsets.Offset, N: plus(from, number)},
				HasTo: true,
			},
		},
		out: &recordWriter{w: impatient{p.out, ctx.Done()}, format: format},
	}
	return run.run(ctx, c)
}
