package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/lines"
)

const (
	demoTopic    = "demo-topic"
	demoMessages = 5
)

func newDemo(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "demo [FILE]",
		Short: "Run a broker, a producer and a consumer in this process",
		Long: `Without an argument: run a broker in memory, send it a few records, and show
them coming back. No socket is opened.

With a file: send each of its lines through a broker that keeps its data in a
temporary directory, and compare what comes back with the file.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := p.logger(slog.LevelError) // that it is in memory, it says itself
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return demoFile(cmd.Context(), p.out, mq.BrokerConfig{Logger: log}, args[0])
			}
			return demo(cmd.Context(), p.out, mq.BrokerConfig{Logger: log})
		},
	}
}

// demo sends one record after the other and shows each coming back.
func demo(ctx context.Context, out io.Writer, cfg mq.BrokerConfig) (err error) {
	fmt.Fprintf(out, "=== mq: producer and consumer in one process ===\n\nStep 1: start a broker\n")
	broker, err := mq.OpenBroker(ctx, cfg)
	if err != nil {
		return err
	}
	defer closing(broker, &err)
	fmt.Fprintf(out, "✓ broker runs in memory, without a socket\n\nStep 2: make a producer\n")
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: demoTopic})
	if err != nil {
		return err
	}
	defer closing(producer, &err)
	fmt.Fprintf(out, "✓ producer sends to %s\n\nStep 3: make a consumer\n", demoTopic)
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{demoTopic}})
	if err != nil {
		return err
	}
	defer closing(consumer, &err)
	fmt.Fprintf(out, "✓ consumer reads %s from the start\n\nStep 4: send messages\n", demoTopic)
	for n := 1; n <= demoMessages; n++ {
		text := fmt.Sprintf("Message number %d", n)
		if err := producer.Send(ctx, &mq.Record{Value: []byte(text)}); err != nil {
			return err
		}
		fmt.Fprintf(out, "[producer] sent: %s\n", text)
		got, err := consumer.Poll(ctx, 1)
		if err != nil {
			return err
		}
		for _, r := range got {
			fmt.Fprintf(out, "[consumer] message #%d: [%s:%d:%d] %s\n", n, r.Topic, r.Partition, r.Offset, r.Value)
		}
	}
	_, err = fmt.Fprintf(out, "\n✓ %d messages sent and received\n", demoMessages)
	return err
}

// demoFile sends a file's lines through a broker on disk and compares what
// comes back with the file.
func demoFile(ctx context.Context, out io.Writer, cfg mq.BrokerConfig, path string) (err error) {
	input, err := openTwice(path)
	if err != nil {
		return usage(err)
	}
	defer closing(input, &err)
	if cfg.DataDir, err = os.MkdirTemp("", "mq-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.DataDir)) }()
	broker, err := mq.OpenBroker(ctx, cfg)
	if err != nil {
		return err
	}
	defer closing(broker, &err)
	admin := mq.NewAdmin(broker)
	if _, err := admin.CreateTopic(ctx, mq.TopicSpec{Name: demoTopic, Partitions: 1}); err != nil {
		return err
	}

	began := time.Now()
	sent, err := sendFile(ctx, broker, input)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s of %s sent through a broker on disk in %v\n", count(sent, "line"), path, time.Since(began).Round(time.Millisecond))
	end, err := admin.ListOffsets(ctx, demoTopic, mq.StartLatest, 0)
	if err != nil {
		return err
	}
	if _, err := input.Seek(0, io.SeekStart); err != nil {
		return err
	}
	began = time.Now()
	equal, err := compareFile(ctx, broker, input, end[0].Offset)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s came back in %v\n", count(end[0].Offset, "record"), time.Since(began).Round(time.Millisecond))
	if !equal {
		return errors.New("what came back differs from the file")
	}
	_, err = fmt.Fprintln(out, "✓ equal, line by line, in order")
	return err
}

// openTwice opens a file that can be read twice.
func openTwice(path string) (*os.File, error) {
	info, err := os.Stat(path) // opening a pipe might wait for its writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file, and it is read twice", path)
	}
	return os.Open(path)
}

// sendFile sends the lines of r and returns their number.
func sendFile(ctx context.Context, e mq.Endpoint, r io.Reader) (_ int, err error) {
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: demoTopic})
	if err != nil {
		return 0, err
	}
	defer closing(producer, &err)
	sent := newTally()
	readErr := sendAll(ctx, producer, r, plainLines(mq.ProducerConfig{}), sent)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	_ = producer.Flush(ctx) // the tally has its error, with the line
	return sent.ok, sent.outcome(demoTopic, readErr, false)
}

// compareFile reads the topic up to offset end and reports whether its records
// are the lines of r, no more and no less.
func compareFile(ctx context.Context, e mq.Endpoint, r io.Reader, end int64) (equal bool, err error) {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{demoTopic}})
	if err != nil {
		return false, err
	}
	defer closing(consumer, &err)
	next, stop := iter.Pull2(lines.Read(r))
	defer stop()
	equal = true
	for got := int64(0); got < end; {
		records, err := consumer.Poll(ctx, pollRecords)
		if err != nil {
			return false, err
		}
		for _, record := range records {
			line, err, ok := next()
			if err != nil {
				return false, err
			}
			equal = equal && ok && bytes.Equal(record.Value, line)
			got = record.Offset + 1
		}
	}
	_, err, more := next()
	return equal && !more, err
}
