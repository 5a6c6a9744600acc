package main

import (
	"bufio"
	"context"
	"errors"
	"math"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/format"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

// pollRecords is how many records are printed between two flushes of stdout.
const pollRecords = 4096

// commitTime bounds the last commit.
const commitTime = 5 * time.Second

// defaultFormat prints a record as `mq produce` read it.
const defaultFormat = `%v\n`

func newConsume(p *program) *cobra.Command {
	var flags struct {
		offsets, format, group string
		number                 int
		partitions             []int32
	}
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print records",
		Long: `Print the records of a topic, as they are and as they come, until interrupted,
or those of a range.

--offset FROM[:TO], where FROM and TO are
  start    the oldest record           end    what is newest now
  N        offset N                    -N     N records before the end
  +N       N records after the start (FROM) or after FROM (TO)
  @TIME    the first record since 2006-01-02, 2006-01-02T15:04:05Z, a number of
           milliseconds since 1970, or a duration before now such as @-1h30m
TO itself is not printed. With a TO the command ends there.

--format: %t topic  %p partition  %o offset  %k key  %v value  %h{ %k=%v } headers
  %d timestamp in ms since 1970 (%d{rfc3339})  %e leader epoch  %T %K %V lengths
  %H number of headers  %%  \n \t \r \\ \xAB;  %k{hex} and %v{base64} encode`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			opt := consumeOptions{cfg: f.Consumer, limit: flags.number}
			opt.cfg.Topics = args
			if cmd.Flags().Changed("partitions") {
				opt.cfg.Partitions = flags.partitions
			}
			if cmd.Flags().Changed("group") {
				opt.cfg.GroupID = flags.group
			}
			if cmd.Flags().Changed("offset") {
				r, err := offsets.Parse(flags.offsets, time.Now())
				if err != nil {
					return usage(err)
				}
				opt.span = &r
			}
			if opt.format, err = format.Parse(flags.format); err != nil {
				return usage(err)
			}
			return p.consume(cmd.Context(), f.Client, opt)
		},
	}
	cmd.Flags().StringVarP(&flags.offsets, "offset", "o", "", "`range` to read (default: start, or where the group left off)")
	cmd.Flags().StringVarP(&flags.format, "format", "f", defaultFormat, "`pattern` of each record")
	cmd.Flags().StringVarP(&flags.group, "group", "g", "", "store offsets under this `name`, and go on from them")
	cmd.Flags().IntVarP(&flags.number, "number", "n", 0, "end after so many records")
	cmd.Flags().Int32SliceVarP(&flags.partitions, "partitions", "p", nil, "read only these partitions, as in 0,2")
	return cmd
}

type consumeOptions struct {
	cfg    mq.ConsumerConfig
	format *format.Formatter
	span   *offsets.Range // nil: as cfg says
	limit  int            // 0: none
}

// follows reports whether the records asked for have no end.
func (o consumeOptions) follows() bool {
	return o.limit == 0 && (o.span == nil || !o.span.HasTo)
}

// consume prints records until all that was asked for is printed or ctx ends,
// which is a clean end of what follows, or when nobody reads any more.
func (p *program) consume(ctx context.Context, client mq.ClientConfig, opt consumeOptions) (err error) {
	ctx, cancel := untilReaderGone(ctx, p.out)
	defer cancel()
	c, err := p.dial(ctx, client)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	var spans []span // none: as the config says
	if opt.span != nil {
		// An offset that is not in the log would be left to the reset policy.
		simple := !opt.span.HasTo && opt.span.From.Kind != offsets.Offset
		if start, ok := startOf(opt.span.From); ok && simple {
			opt.cfg.Start = start // and the topic need not exist yet
		} else {
			spans, err = resolve(ctx, mq.NewAdmin(c), opt.cfg.Topics[0], opt.cfg.Partitions, *opt.span)
			if err != nil || len(spans) == 0 {
				return err
			}
			opt.cfg.Partitions = nil
		}
	}
	for _, s := range spans {
		opt.cfg.Partitions = append(opt.cfg.Partitions, s.partition)
	}
	consumer, err := mq.NewConsumer(c, opt.cfg)
	if err != nil {
		return err
	}
	for _, s := range spans {
		tp := mq.TopicPartition{Topic: opt.cfg.Topics[0], Partition: s.partition}
		if err := consumer.Seek(ctx, mq.StartAt(s.seek), tp); err != nil {
			return errors.Join(err, consumer.Close())
		}
	}
	if len(spans) == 0 {
		p.sayMissing(ctx, mq.NewAdmin(c), opt.cfg.Topics)
	}
	err = p.print(ctx, consumer, opt, spans)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil
		if !opt.follows() && !errors.Is(context.Cause(ctx), syscall.EPIPE) {
			err = &exitError{exitInterrupted, errors.New("interrupted: not all that was asked for is printed")}
		}
	}
	if err != nil {
		_ = consumer.Close() // the first error is the one that tells
		return err
	}
	return consumer.Close()
}

// sayMissing names the topics that a consumer will wait for. Any other error
// is the consumer's to meet and tell.
func (p *program) sayMissing(ctx context.Context, admin *mq.Admin, topics []string) {
	for _, topic := range topics {
		if _, err := admin.DescribeTopic(ctx, topic); errors.Is(err, mq.ErrUnknownTopicOrPartition) {
			p.say("topic %s does not exist yet, waiting for it", topic)
		}
	}
}

// print writes records until ctx ends, the limit is reached, or every span, if
// there are any, is done. What was written is committed.
func (p *program) print(ctx context.Context, consumer *mq.Consumer, opt consumeOptions, spans []span) error {
	out := bufio.NewWriterSize(p.out, 256<<10)
	open := map[int32]span{}
	for _, s := range spans {
		open[s.partition] = s
	}
	left := opt.limit
	if left == 0 {
		left = math.MaxInt
	}
	var line []byte
	var written []*mq.Record
	for left > 0 && (len(spans) == 0 || len(open) > 0) {
		records, err := consumer.Poll(ctx, min(pollRecords, left))
		if err != nil {
			return errors.Join(err, commitWritten(ctx, consumer, opt.cfg, written))
		}
		written = written[:0]
		for _, r := range records {
			s, isOpen := open[r.Partition]
			if isOpen && r.Offset+1 >= s.to {
				delete(open, s.partition)
				consumer.Pause(mq.TopicPartition{Topic: r.Topic, Partition: r.Partition})
			}
			if len(spans) > 0 && (!isOpen || r.Offset < s.from || r.Offset >= s.to) {
				continue
			}
			line = opt.format.Append(line[:0], r)
			if _, err := out.Write(line); err != nil {
				return err
			}
			written = append(written, r)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		left -= len(written)
	}
	return commitWritten(ctx, consumer, opt.cfg, written)
}

// commitWritten commits the records of the last Poll that were written, unless
// commits are off. Those before them were finished by the next Poll.
func commitWritten(ctx context.Context, consumer *mq.Consumer, cfg mq.ConsumerConfig, written []*mq.Record) error {
	if cfg.GroupID == "" || cfg.AutoCommitInterval < 0 || len(written) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	return consumer.Commit(ctx, written...)
}
