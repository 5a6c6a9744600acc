package main

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/csv"
	"github.com/raftmq/mq/cmd/mq/internal/format"
	"github.com/raftmq/mq/cmd/mq/internal/jsonl"
)

// produceFlags are the flags of produce that are not the producer's own.
type produceFlags struct {
	input, format string
	columns       []string
	key, null     string
	headers       []string
	partition     int32
	rate          int
	quiet         bool
}

func newProduce(p *program) *cobra.Command {
	var flags produceFlags
	var acks mq.Acks
	var codec mq.Compression
	cmd := &cobra.Command{
		Use:   "produce TOPIC [FILE...]",
		Short: "Send lines, files or records in other forms",
		Long: `Send the records of stdin or of files, then wait until all are acknowledged.

--input lines   each line, without its newline, is a value (the default)
        json    JSON lines, as mq consume writes them: key, value, headers, partition,
                timestamp; key_b64 and value_b64 where text can't say it
        csv     columns key, value, partition, timestamp, header.NAME and - (nothing),
                named by the first row or by --columns
        raw     each file is one value

--format reads what mq consume --format prints. Headers want their number before
them; keys and values their length before them or text behind them:
  '%k\t%v\n'                                     a key and a value per line
  '%p %d %K %V %H %k%v%h{%K %V %k%v}\n'          everything, whatever bytes it is

A record goes to the partition that its input tells, else to that of its key,
else to any. A broker that restarts meanwhile is waited for, up to two minutes
per record. The first ctrl-C sends what was read and ends, the second just ends.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactArgs("TOPIC")(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: p.completeTopicAndFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			set := cmd.Flags().Changed
			opt := produceOptions{cfg: f.Producer, rate: flags.rate, quiet: flags.quiet}
			opt.cfg.Topic = args[0]
			if set("acks") {
				opt.cfg.Acks = acks
			}
			if set("compression") {
				opt.cfg.Compression = codec
			}
			if opt.in, err = flags.newInput(set, args[1:]); err != nil {
				return usage(err)
			}
			if opt.edit, err = flags.editor(set); err != nil {
				return usage(err)
			}
			switch {
			case !set("partition"):
				opt.cfg.Partitioner = ownPartition{opt.cfg.Partitioner}
			case flags.partition >= 0:
				opt.cfg.Partitioner = mq.FixedPartition(flags.partition)
			case flags.partition < -1:
				return usage(fmt.Errorf("--partition %d: want 0 or more, or -1", flags.partition))
			default:
				opt.cfg.Partitioner = nil
			}
			return p.produce(cmd.Context(), f.Client, opt)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&flags.input, "input", "i", "lines", "what the input is: lines, json, csv or raw")
	fs.StringVarP(&flags.format, "format", "f", "", "`pattern` of each record in the input, or json")
	fs.StringSliceVar(&flags.columns, "columns", nil, "names of the columns of CSV that has no row for them")
	fs.StringVarP(&flags.key, "key", "k", "", "`key` of records that have none")
	fs.StringArrayVarP(&flags.headers, "header", "H", nil, "`name=value` to add to each record's headers; may be repeated")
	fs.StringVar(&flags.null, "null", "", "`text` that stands for null as a key or value; '' makes empty ones null")
	fs.Int32VarP(&flags.partition, "partition", "p", 0, "send everything to this partition; -1: whatever the input says, to that of the key")
	fs.IntVar(&flags.rate, "rate", 0, "send no more than so many records per second")
	fs.BoolVarP(&flags.quiet, "quiet", "q", false, "no progress and no summary, only errors")
	fs.TextVar(&acks, "acks", mq.AcksAll, "when a record counts as sent: all, leader or none")
	fs.TextVarP(&codec, "compression", "z", mq.CompressionNone, "none, gzip, snappy, lz4 or zstd")
	return cmd
}

// newInput returns the input that the flags describe.
func (f *produceFlags) newInput(set func(flag string) bool, files []string) (*input, error) {
	if len(files) == 0 {
		files = []string{"-"}
	}
	in := &input{files: files, unit: "record"}
	form := f.input
	switch {
	case set("format") && set("input"):
		return nil, errors.New("--format and --input can't both say what the input is")
	case f.format == "json": // as consume calls it
		form = "json"
	case set("format"):
		form = ""
	}
	switch {
	case set("columns") && form != "csv":
		return nil, errors.New("--columns is for --input csv")
	case set("null") && form == "json":
		return nil, errors.New("--null is not for JSON, where null is null")
	}
	switch form {
	case "":
		pattern, err := format.ParseReader(f.format)
		if err != nil {
			return nil, err
		}
		in.read = pattern.Read
	case "lines":
		in.read, in.unit = readLines, "line"
	case "json":
		in.read = jsonl.Read
	case "raw":
		in.read = readRaw
	case "csv":
		var cols csv.Columns // nil: the first row names them
		if set("columns") {
			var err error
			if cols, err = csv.ParseColumns(f.columns); err != nil {
				return nil, fmt.Errorf("--columns: %w", err)
			}
		}
		in.read = func(r io.Reader) iter.Seq2[*mq.Record, error] { return csv.Read(r, cols) }
	default:
		return nil, fmt.Errorf("no --input %s; there are lines, json, csv and raw", form)
	}
	return in, nil
}

// editor returns what the flags do to each record before it is sent.
func (f *produceFlags) editor(set func(flag string) bool) (func(*mq.Record), error) {
	var headers []mq.Header
	for _, h := range f.headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok {
			return nil, fmt.Errorf("--header %q: want name=value", h)
		}
		headers = append(headers, mq.Header{Key: key, Value: []byte(value)})
	}
	if f.rate < 0 {
		return nil, fmt.Errorf("--rate %d is negative", f.rate)
	}
	hasKey, hasNull := set("key"), set("null")
	unless := func(b []byte) []byte {
		if hasNull && string(b) == f.null {
			return nil
		}
		return b
	}
	return func(r *mq.Record) {
		r.Topic = "" // it was that of where the record comes from
		r.Key, r.Value = unless(r.Key), unless(r.Value)
		for i := range r.Headers {
			r.Headers[i].Value = unless(r.Headers[i].Value)
		}
		if hasKey && r.Key == nil {
			r.Key = []byte(f.key)
		}
		r.Headers = append(r.Headers, headers...)
	}, nil
}

// ownPartition is the partition that a record came with, or else that of the
// next partitioner.
type ownPartition struct{ next mq.Partitioner }

func (o ownPartition) Partition(r *mq.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	if o.next == nil {
		return mq.HashKeys().Partition(r, n)
	}
	return o.next.Partition(r, n)
}
