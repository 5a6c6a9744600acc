package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

func newTopicCopy(p *program) *cobra.Command {
	var flags struct {
		offsets       string
		partitions    []int32
		filter        filterFlags
		byKey, dryRun bool
	}
	cmd := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy the records of a topic into another",
		Long: `Copy the records that topic FROM has now, or those of a range, behind those of
topic TO: keys, values, headers, timestamps, and what is null. Each stays in its
partition and in its order there. If TO has another number of partitions, say
--by-key; keys then decide. A topic TO that does not exist is created like FROM.

--offset FROM:TO and the filters are those of consume.`,
		Args:              exactArgs("FROM", "TO"),
		ValidArgsFunction: p.completeTopics(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			if args[0] == args[1] {
				return usage(fmt.Errorf("a copy of %s onto itself would not end", args[0]))
			}
			job := copying{p: p, from: args[0], to: args[1], byKey: flags.byKey, dryRun: flags.dryRun}
			job.opt = consumeOptions{cfg: mq.ConsumerConfig{
				Topics: args[:1], Partitions: flags.partitions, Isolation: f.Consumer.Isolation, Logger: f.Consumer.Logger,
			}}
			if err := checkPartitions(flags.partitions); err != nil {
				return err
			}
			r, err := offsets.Parse(flags.offsets, time.Now())
			if err != nil {
				return usage(err)
			}
			if !r.HasTo {
				r.To, r.HasTo = offsets.Point{Kind: offsets.End}, true
			}
			job.opt.span = &r
			if job.opt.filter, err = flags.filter.parse(); err != nil {
				return usage(err)
			}
			return job.run(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVarP(&flags.offsets, "offset", "o", "start", "`range` to copy; without an end, up to what is newest now")
	cmd.Flags().Int32SliceVarP(&flags.partitions, "partitions", "p", nil, "copy only these partitions, as in 0,2")
	cmd.Flags().BoolVar(&flags.byKey, "by-key", false, "let keys choose the partitions")
	flags.filter.add(cmd)
	dryRunFlag(cmd, &flags.dryRun)
	return cmd
}

// copying is one run of topic copy.
type copying struct {
	p             *program
	from, to      string
	opt           consumeOptions
	byKey, dryRun bool
}

func (c *copying) run(ctx context.Context, f config.File) (err error) {
	client, err := c.p.dial(ctx, f.Client)
	if err != nil {
		return err
	}
	defer closing(client, &err)
	admin := mq.NewAdmin(client)
	if err := c.prepare(ctx, admin); err != nil || c.dryRun {
		return err
	}
	cfg := f.Producer
	if cfg.MaxRecordBytes == 0 {
		cfg.MaxRecordBytes = maxRecordBytes // the topic's limit counts
	}
	cfg.Topic, cfg.Partitioner = c.to, ownPartition{}
	if c.byKey {
		cfg.Partitioner = mq.HashKeys()
	}
	producer, err := mq.NewProducer(client, cfg)
	if err != nil {
		return err
	}
	defer closing(producer, &err)
	out := &copier{producer: producer}
	defer c.p.explainEnd(ctx, out.waiting)()
	read := &consumption{p: c.p, admin: admin, brokers: f.Client.Brokers, opt: c.opt, out: out, verb: "copied"}
	readErr := read.run(ctx, client)
	_ = producer.Flush(context.WithoutCancel(ctx)) // out knows of every error
	return c.report(out, readErr)
}

// prepare checks the topics, and creates the second one if it is missing.
func (c *copying) prepare(ctx context.Context, admin *mq.Admin) error {
	from, err := admin.DescribeTopic(ctx, c.from)
	if err != nil {
		return err
	}
	spans, err := resolve(ctx, admin, c.from, c.opt.cfg.Partitions, *c.opt.span)
	if err != nil {
		return err
	}
	to, err := admin.DescribeTopic(ctx, c.to)
	missing := errors.Is(err, mq.ErrUnknownTopicOrPartition)
	switch {
	case err != nil && !missing:
		return err
	case missing && c.dryRun:
		c.p.say("would create %s with %s", c.to, count(len(from.Partitions), "partition"))
	case missing:
		spec := mq.TopicSpec{Name: c.to, Partitions: len(from.Partitions), ReplicationFactor: replicas(from), Configs: from.Configs}
		to, err = admin.CreateTopic(ctx, spec)
		if err != nil {
			return err
		}
		c.p.say("created %s with %s", c.to, count(len(to.Partitions), "partition"))
	}
	if !missing && !c.byKey && len(from.Partitions) != len(to.Partitions) {
		return usage(fmt.Errorf("%s has %s and %s has %d: say --by-key to let keys choose the partitions",
			c.from, count(len(from.Partitions), "partition"), c.to, len(to.Partitions)))
	}
	if to.Configs[mq.ConfigTimestampType] == "LogAppendTime" {
		c.p.say("%s has its records stamped by the broker: timestamps are not kept", c.to)
	}
	if c.dryRun {
		n := 0
		for _, s := range spans {
			n += int(max(s.to-s.seek, 0))
		}
		c.p.say("would copy %s from %s to %s", count(n, "record"), c.from, c.to)
	}
	return nil
}

// report tells how many records were copied, and why not all, if so.
func (c *copying) report(out *copier, readErr error) error {
	ok, failed, sendErr := out.result()
	if sendErr != nil {
		readErr = sendErr // reading ended because of it
	}
	if readErr == nil {
		c.p.say("copied %s from %s to %s", count(ok, "record"), c.from, c.to)
		return nil
	}
	err := fmt.Errorf("copied only %s from %s to %s: %w", count(ok, "record"), c.from, c.to, readErr)
	if failed > 0 && ok > 0 {
		return &exitError{exitPartly, err}
	}
	return err
}

// copier is a sink that sends records. Its results come from the producer's
// goroutine.
type copier struct {
	producer *mq.Producer

	mu                sync.Mutex
	added, ok, failed int
	err               error // the first
}

func (c *copier) begin()                {}
func (c *copier) skip(*mq.Record)       {}
func (c *copier) flush() error          { return nil }
func (c *copier) handled() []*mq.Record { return nil }

func (c *copier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.added
}

// waiting tells what there is no answer to yet.
func (c *copier) waiting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return waitingFor(c.added - c.ok - c.failed)
}

// add sends a record unless one before it failed.
func (c *copier) add(r *mq.Record) error {
	if err := c.next(); err != nil {
		return err
	}
	sent := &mq.Record{Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
	// What was read is sent also when ctx ends; the delivery timeout bounds it.
	c.producer.SendAsync(context.Background(), sent, c.settled)
	return nil
}

// next counts one more, or returns why there should be none.
func (c *copier) next() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.added++
	}
	return c.err
}

func (c *copier) settled(_ *mq.Record, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.ok++
	case c.err == nil:
		c.err = err
		fallthrough
	default:
		c.failed++
	}
}

func (c *copier) result() (ok, failed int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ok, c.failed, c.err
}
