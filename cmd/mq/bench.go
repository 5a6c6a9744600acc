package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/bench"
	"github.com/raftmq/mq/cmd/mq/internal/machine"
)

func newBench(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "bench",
		Short: "Measure how many records get through, and how long they take",
		Long: `Measure throughput and latency of a broker: of the one that --broker names, or
without it of one in this process, in memory or with --data-dir on a disk. What
was measured is part of the answer.

A topic is made for it and deleted afterwards; nothing else is touched.`,
	},
		newBenchKind(p, bench.Produce, "Send records and measure until they are acknowledged",
			`Send records and measure until they are acknowledged.

With --rate, latency counts from when a record was due, also when the broker
held up those before it. Without, records are sent as fast as they get through,
and latency is mostly the wait behind those before.`),
		newBenchKind(p, bench.Consume, "Read records that are there already",
			`Fill a topic and measure how fast it is read. The latency is that of one Poll,
which returns up to 1000 records.`),
		newBenchKind(p, bench.EndToEnd, "Send records and measure until a consumer has them",
			`Send records at a rate and measure until a consumer has them. Latency counts
from when a record was due, also when the broker held up those before it.`),
	)
}

// benchFlags are what the kinds of bench have in common.
type benchFlags struct {
	bench.Config
	dataDir string
	out     *output
}

const (
	benchDuration = 10 * time.Second
	benchRecords  = 100_000   // to consume
	benchRate     = 1000      // end to end
	benchKeep     = 1 << 30   // bytes of records that a disk keeps for consumers
	benchMemory   = 128 << 20 // and memory
	maxBenchSize  = 1 << 20

	maxBenchRecords = 1_000_000_000_000
	minBenchRate    = 0.001
	maxBenchRate    = 1_000_000_000
)

func newBenchKind(p *program, kind bench.Kind, short, long string) *cobra.Command {
	f := &benchFlags{Config: bench.Config{Kind: kind}}
	cmd := &cobra.Command{
		Use:   string(kind),
		Short: short,
		Long:  long,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set := cmd.Flags().Changed
			if !set("partitions") {
				f.Partitions = f.Clients
			}
			if err := f.check(set, p.broker != ""); err != nil {
				return usage(err)
			}
			return p.bench(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.Clients, "clients", 1, "producers and consumers at a time")
	flags.IntVar(&f.Partitions, "partitions", 0, "partitions of the topic (default: as many as clients)")
	flags.IntVar(&f.Size, "size", 1024, "`bytes` of a record's value")
	flags.TextVar(&f.Compression, "compression", mq.CompressionNone, "none, gzip, snappy, lz4 or zstd")
	flags.StringVar(&f.dataDir, "data-dir", "", "`directory` below which a broker in this process keeps its data meanwhile")
	if kind == bench.Consume {
		flags.Int64Var(&f.Records, "records", benchRecords, "how many records")
	} else {
		flags.Int64Var(&f.Records, "records", 0, "how many records, instead of --duration")
		flags.DurationVar(&f.Duration, "duration", benchDuration, "how long to send")
		flags.Float64Var(&f.Rate, "rate", 0, "records per second, over all clients; 0: as fast as they get through")
		flags.TextVar(&f.Acks, "acks", mq.AcksAll, "when a record counts as sent: all, leader or none")
	}
	if kind == bench.EndToEnd {
		f.Rate = benchRate
		flags.Lookup("rate").DefValue = fmt.Sprint(benchRate)
	}
	f.out = outputFlag(cmd)
	return cmd
}

// check finds what can't be measured.
func (f *benchFlags) check(set func(string) bool, remote bool) error {
	least := 0
	if f.Kind == bench.EndToEnd {
		least = bench.StampBytes
	}
	switch {
	case f.Clients < 1 || f.Clients > 1000:
		return fmt.Errorf("--clients %d: want 1 to 1000", f.Clients)
	case f.Partitions < 1 || f.Partitions > 10_000:
		return fmt.Errorf("--partitions %d: want 1 to 10000", f.Partitions)
	case f.Kind == bench.Consume && f.Partitions < f.Clients:
		return fmt.Errorf("--partitions %d: want as many as --clients, %d, or more", f.Partitions, f.Clients)
	case f.Size < least || f.Size > maxBenchSize-1024:
		return fmt.Errorf("--size %d: want %d to %d", f.Size, least, maxBenchSize-1024)
	case set("records") && (f.Records < 1 || f.Records > maxBenchRecords):
		return fmt.Errorf("--records %d: want 1 to %d", f.Records, int64(maxBenchRecords))
	case set("records") && set("duration"):
		return errors.New("--records and --duration: want one of them")
	case f.Kind != bench.Consume && f.Records == 0 && f.Duration <= 0:
		return fmt.Errorf("--duration %v: want more than 0", f.Duration)
	case f.Rate != 0 && !(f.Rate >= minBenchRate && f.Rate <= maxBenchRate): // nor if it is no number
		return fmt.Errorf("--rate %v: want %v to %d, or 0", f.Rate, minBenchRate, int(maxBenchRate))
	case f.Kind == bench.EndToEnd && f.Acks == mq.AcksNone:
		return errors.New("--acks none: nothing would tell when all records have arrived")
	case remote && f.dataDir != "":
		return errors.New("--data-dir is for a broker in this process, --broker for one elsewhere: want one of them")
	case f.Kind == bench.Consume && !remote && f.dataDir == "" && f.Records*int64(f.Size+100) > benchMemory:
		return fmt.Errorf("%s of %s are too much for a broker in memory: want fewer, or --data-dir", count(f.Records, "record"), count(f.Size, "byte"))
	}
	return nil
}

// bench measures and tells.
func (p *program) bench(ctx context.Context, f *benchFlags) (err error) {
	cfg := f.Config
	report := benchReport{
		Bench: string(cfg.Kind), Acks: cfg.Acks.String(), Compression: cfg.Compression.String(),
		Clients: cfg.Clients, Partitions: cfg.Partitions, Size: cfg.Size, Rate: cfg.Rate,
		Version: mq.Version(), Platform: fmt.Sprintf("%s/%s, CPUs: %d", runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0)),
	}
	if p.broker != "" {
		err = p.benchRemote(&cfg, &report)
	} else {
		var stop func() error
		if stop, err = p.benchHere(ctx, &cfg, &report, f.dataDir); err == nil {
			defer func() { err = errors.Join(err, stop()) }()
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, report.close()) }()
	defer p.explainEnd(ctx, func() string { return "waiting for the topic to be deleted" })()
	p.say("%s, %s", report.Bench, report.Broker)
	result, err := bench.Run(ctx, cfg)
	if result.Records == 0 && err != nil {
		return err
	}
	report.take(result)
	return answered(p.show(f.out, report, report.table), errors.Join(err, report.err()))
}

// benchRemote measures the broker that --broker names, through a connection for
// each client.
func (p *program) benchRemote(cfg *bench.Config, report *benchReport) error {
	file, err := p.load()
	if err != nil {
		return err
	}
	report.Broker = strings.Join(file.Client.Brokers, ", ")
	report.Fsync = "as that broker does: before an acknowledgement with a data directory, never in memory"
	if cfg.Kind != bench.Consume {
		cfg.KeepBytes = benchKeep
	}
	cfg.Connect = func(ctx context.Context) (mq.Endpoint, error) {
		c, err := p.dial(ctx, file.Client)
		if err != nil {
			return nil, err
		}
		report.closers = append(report.closers, c.Close)
		return c, nil
	}
	return nil
}

// benchHere measures a broker of its own, which stop ends.
func (p *program) benchHere(ctx context.Context, cfg *bench.Config, report *benchReport, dataDir string) (stop func() error, err error) {
	file, err := p.load()
	if err != nil {
		return nil, err
	}
	own := mq.BrokerConfig{Logger: file.Client.Logger} // that it is in memory is said
	report.Broker, report.Fsync = "a broker in this process, in memory", "none"
	keep := int64(benchMemory / 2)
	remove := func() error { return nil }
	if dataDir != "" {
		if own.DataDir, err = os.MkdirTemp(dataDir, "mq-bench-"); err != nil {
			return nil, err
		}
		remove = func() error { return os.RemoveAll(own.DataDir) }
		report.Broker, report.Fsync = "a broker in this process, data below "+dataDir, "before each acknowledgement"
		if system, err := machine.FileSystemOf(dataDir); err == nil && system.Volatile == "tmpfs" {
			report.Fsync += ", but tmpfs is no disk"
		}
		keep = benchKeep
	}
	if cfg.Kind != bench.Consume {
		cfg.KeepBytes = keep
	}
	b, err := mq.OpenBroker(ctx, own)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	cfg.Connect = func(context.Context) (mq.Endpoint, error) { return b, nil }
	return func() error { return errors.Join(b.Close(), remove()) }, nil
}
