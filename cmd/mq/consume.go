package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/format"
	"github.com/raftmq/mq/cmd/mq/internal/jsonl"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

// defaultFormat prints a record as `mq produce` read it.
const defaultFormat = `%v\n`

// consumeOptions are what to read and what to do with it.
type consumeOptions struct {
	cfg    mq.ConsumerConfig
	format printer
	span   *offsets.Range // nil: from where cfg says
	exit   bool           // end at what is newest now
	limit  int            // of records printed; 0: none
	filter filter
	time   time.Duration // for all of it; 0: no limit
}

// printer appends a record to a buffer as it is to be printed.
type printer interface {
	Append(dst []byte, r *mq.Record) []byte
}

type jsonLines struct{}

func (jsonLines) Append(dst []byte, r *mq.Record) []byte { return jsonl.Append(dst, r) }

// bounded reports whether the range has an end.
func (o consumeOptions) bounded() bool { return o.exit || o.span != nil && o.span.HasTo }

// follows reports whether the records asked for have no end.
func (o consumeOptions) follows() bool { return o.limit == 0 && !o.bounded() }

// commits reports whether offsets of a group are stored.
func (o consumeOptions) commits() bool { return o.cfg.GroupID != "" && o.cfg.AutoCommitInterval >= 0 }

func newConsume(p *program) *cobra.Command {
	var flags consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Print records",
		Long: `Print the records of topics, as they are and as they come, until interrupted,
or those of a range.

--offset FROM[:TO], where FROM and TO are
  start    the oldest record           end    what is newest now
  N        offset N                    -N     N records before the end
  +N       N records after the start (FROM) or after FROM (TO)
  @TIME    the first record since 2006-01-02, 2006-01-02T15:04:05Z, a number of
           milliseconds since 1970, or a duration before now such as @-1h30m
TO itself is not printed. With a TO the command ends there. All of this is per
partition. --tail N is -o -N:end, with --follow -o -N; --exit without --offset
goes on from where the group left off, and ends at what is newest now.

--filter-key, --filter-value and --filter-header NAME[=REGEXP] print only the
records that match all of them. An expression (https://golang.org/s/re2syntax)
may match anywhere: ^ and $ tie it down. A key or value that is null counts as
empty. -n counts what is printed.

--format json prints JSON lines, from which produce makes the same records again.
Any other is a pattern: %t topic  %p partition  %o offset  %k key  %v value
  %h{ %k=%v } headers  %d timestamp in ms since 1970 (%d{rfc3339})
  %e leader epoch  %T %K %V lengths  %H number of headers  %%
  \n \t \r \\ \xAB;  %k{hex} and %v{base64} encode`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(fmt.Errorf("%s wants a TOPIC (see %[1]s --help)", cmd.CommandPath()))
			}
			return nil
		},
		ValidArgsFunction: p.completeTopics(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			opt, err := flags.options(cmd, f.Consumer, args)
			if err != nil {
				return usage(err)
			}
			return p.consume(cmd.Context(), f.Client, opt)
		},
	}
	cmd.Flags().StringVarP(&flags.offsets, "offset", "o", "", "`range` to read (default: start, or where the group left off)")
	cmd.Flags().IntVar(&flags.tail, "tail", 0, "print the last `N` records of each partition and end")
	cmd.Flags().BoolVar(&flags.exit, "exit", false, "end at what is newest now")
	cmd.Flags().BoolVar(&flags.follow, "follow", false, "go on with what comes; what consume does anyhow, except with --tail")
	cmd.Flags().IntVarP(&flags.number, "number", "n", 0, "end after so many records")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", 0, "end after this `duration`; with exit code 4 if there is less than was asked for")
	cmd.Flags().StringVarP(&flags.format, "format", "f", defaultFormat, "json, or the `pattern` of each record")
	cmd.Flags().StringVarP(&flags.group, "group", "g", "", "be a member of the group of this `name`: share the partitions with others, store offsets, and go on from them")
	_ = cmd.RegisterFlagCompletionFunc("group", p.completeGroups(0))
	cmd.Flags().Int32SliceVarP(&flags.partitions, "partitions", "p", nil, "read only these partitions, as in 0,2, whatever others of the group read")
	cmd.Flags().TextVar(&flags.from, "read-from", mq.ReadLeader, "`broker` to read from: leader, or nearest, one of the same --rack")
	cmd.Flags().StringVar(&flags.rack, "rack", "", "`name` of the rack where this program runs, for --read-from nearest")
	flags.filter.add(cmd)
	return cmd
}

// consumeFlags are the flags as they were typed.
type consumeFlags struct {
	offsets, format, group string
	number, tail           int
	exit, follow           bool
	timeout                time.Duration
	partitions             []int32
	filter                 filterFlags
	from                   mq.ReadFrom
	rack                   string
}

// options puts the flags above what a file says.
func (f *consumeFlags) options(cmd *cobra.Command, cfg mq.ConsumerConfig, topics []string) (consumeOptions, error) {
	opt := consumeOptions{cfg: cfg, limit: f.number, exit: f.exit, time: f.timeout}
	opt.cfg.Topics, opt.cfg.TopicPattern = topics, ""
	changed := cmd.Flags().Changed
	if changed("partitions") {
		opt.cfg.Partitions = f.partitions
	}
	if changed("group") {
		opt.cfg.GroupID = f.group
	}
	if changed("read-from") {
		opt.cfg.ReadFrom = f.from
	}
	if changed("rack") {
		opt.cfg.Rack = f.rack
	}
	if err := errors.Join(checkPartitions(f.partitions), checkGroup(f.group)); err != nil {
		return opt, err
	}
	if f.number < 0 || changed("number") && f.number == 0 {
		return opt, fmt.Errorf("bad --number %d: want 1 or more", f.number)
	}
	if f.timeout < 0 || changed("timeout") && f.timeout == 0 {
		return opt, fmt.Errorf("bad --timeout %v: want more than nothing", f.timeout)
	}
	switch {
	case f.follow && f.exit:
		return opt, errors.New("--follow and --exit contradict each other")
	case changed("tail") && changed("offset"):
		return opt, errors.New("--tail is a range, leave out --offset")
	case changed("tail") && f.tail <= 0:
		return opt, fmt.Errorf("bad --tail %d: want 1 or more", f.tail)
	}
	span := f.offsets
	if changed("tail") {
		span = fmt.Sprintf("-%d", f.tail)
		opt.exit = !f.follow
	}
	if changed("offset") || changed("tail") {
		r, err := offsets.Parse(span, time.Now())
		if err != nil {
			return opt, err
		}
		if r.HasTo && (f.exit || f.follow) {
			return opt, errors.New("--offset says already where to end: leave out --exit or --follow")
		}
		if opt.exit {
			r.To, r.HasTo = offsets.Point{Kind: offsets.End}, true
		}
		opt.span = &r
	}
	var err error
	if opt.filter, err = f.filter.parse(); err != nil {
		return opt, err
	}
	opt.format, err = printerOf(f.format)
	return opt, err
}

// printerOf reads --format.
func printerOf(text string) (printer, error) {
	if text == "json" {
		return jsonLines{}, nil
	}
	return format.Parse(text)
}
