package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/lines"
)

func newProduce(p *program) *cobra.Command {
	var acks mq.Acks
	var codec mq.Compression
	var partition int32
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Send each line of stdin as a record",
		Long: `Send each line of stdin, without its newline, as the value of a record, until
stdin ends; then wait until all are acknowledged. Nothing else is changed:
empty lines are empty records and a carriage return is part of the value.

A broker that restarts meanwhile is waited for, up to two minutes per record.`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			cfg := f.Producer
			cfg.Topic = args[0]
			if cmd.Flags().Changed("acks") {
				cfg.Acks = acks
			}
			if cmd.Flags().Changed("compression") {
				cfg.Compression = codec
			}
			if cmd.Flags().Changed("partition") {
				cfg.Partitioner = mq.FixedPartition(partition)
			}
			return p.produce(cmd.Context(), f.Client, cfg)
		},
	}
	cmd.Flags().Int32VarP(&partition, "partition", "p", 0, "send everything to this partition")
	cmd.Flags().TextVar(&acks, "acks", mq.AcksAll, "when a record counts as sent: all, leader or none")
	cmd.Flags().TextVarP(&codec, "compression", "z", mq.CompressionNone, "none, gzip, snappy, lz4 or zstd")
	return cmd
}

// produce sends the lines of p.in. When ctx ends it stops reading, and what
// was read is still sent.
func (p *program) produce(ctx context.Context, client mq.ClientConfig, cfg mq.ProducerConfig) (err error) {
	c, err := p.dial(ctx, client)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	producer, err := mq.NewProducer(c, cfg)
	if err != nil {
		return err
	}
	defer closing(producer, &err)

	var sent tally
	read := make(chan error, 1)
	go func() { read <- sendLines(ctx, producer, p.in, &sent) }() // ends with the input, or stays in Read until the process ends
	var readErr error
	select {
	case readErr = <-read:
	case <-ctx.Done():
		if !isTerminal(p.in) {
			readErr = &exitError{exitInterrupted, errors.New("interrupted: the rest of the input was not read")}
		}
	}
	// Every record ends within its delivery deadline, so this does too.
	flushErr := producer.Flush(context.WithoutCancel(ctx))
	if err := sent.err(); err != nil {
		return err
	}
	if readErr == nil {
		readErr = flushErr
	}
	return readErr
}

// sendLines hands every line over. An error of one record does not keep the
// others from being sent; any other error ends it.
func sendLines(ctx context.Context, producer *mq.Producer, r io.Reader, sent *tally) error {
	next := 1
	for line, err := range lines.Read(r) {
		if err != nil {
			return fmt.Errorf("reading the input: %w", err)
		}
		if ctx.Err() != nil || sent.hopeless() {
			return nil
		}
		number := next
		// What was read is sent even if ctx ends.
		producer.SendAsync(context.WithoutCancel(ctx), &mq.Record{Value: line}, func(_ *mq.Record, err error) { sent.done(number, err) })
		next++
	}
	return nil
}

// tally counts what became of records. Its methods may be called from any goroutine.
type tally struct {
	mu         sync.Mutex
	ok, failed int
	first      error // and its line
	line       int
	stop       bool // an error that is not of one record alone
}

func (t *tally) done(line int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.ok++
		return
	}
	t.failed++
	if t.first == nil {
		t.first, t.line = err, line
	}
	t.stop = t.stop || !errors.Is(err, mq.ErrRecordTooLarge)
}

func (t *tally) hopeless() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stop
}

// err tells what was not sent.
func (t *tally) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == 0 {
		return nil
	}
	err := fmt.Errorf("%d of %d records were not sent; the first is line %d: %w", t.failed, t.ok+t.failed, t.line, t.first)
	if t.ok > 0 {
		return &exitError{exitPartly, err}
	}
	return err
}
