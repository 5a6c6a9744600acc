package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/progress"
	"github.com/raftmq/mq/internal/topic"
)

// maxRecordBytes is the most that any topic can be set to take. Which it does
// is the topic's business.
const maxRecordBytes = 16 << 20

type produceOptions struct {
	cfg   mq.ProducerConfig
	in    *input
	edit  func(*mq.Record) // before it is sent
	rate  int              // records per second, 0: any
	quiet bool
}

// plainLines is a produce without flags: the lines of stdin as they are.
func plainLines(cfg mq.ProducerConfig) produceOptions {
	return produceOptions{
		cfg:  cfg,
		in:   &input{read: readLines, unit: "line", files: []string{"-"}},
		edit: func(*mq.Record) {},
	}
}

// produce sends the records of an input. When ctx ends it stops reading, and
// what was read is still sent.
func (p *program) produce(ctx context.Context, client mq.ClientConfig, opt produceOptions) (err error) {
	if err := topic.CheckName(opt.cfg.Topic); err != nil {
		return err
	}
	if err := opt.in.check(p.in); err != nil {
		return usage(err)
	}
	c, err := p.dial(ctx, client)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	if opt.cfg.MaxRecordBytes == 0 {
		opt.cfg.MaxRecordBytes = maxRecordBytes
	}
	producer, err := mq.NewProducer(c, opt.cfg)
	if err != nil {
		return err
	}
	defer closing(producer, &err)
	if err := checkPartition(ctx, mq.NewAdmin(c), opt.cfg); err != nil {
		return err
	}

	typed := isTerminal(p.in) && opt.in.files[0] == "-"
	if typed && !opt.quiet {
		p.say("type a %s for %s, and so on; ctrl-D ends", opt.in.unit, opt.cfg.Topic)
	}
	began := time.Now()
	sent := newTally()
	live := p.startLive(opt.quiet || typed, func() progress.Sample { return sent.sample(opt.in) })
	defer live.stop()
	if !live.on {
		defer p.explainEnd(ctx, sent.waiting)()
	}
	read := make(chan error, 1)
	go func() { read <- sendAll(ctx, producer, p.in, opt, sent) }() // ends with the input, or stays in Read until the process ends
	var readErr error
	select {
	case readErr = <-read:
	case <-sent.broken:
	case <-ctx.Done():
		select {
		case readErr = <-read: // the end came first
		default:
			readErr = errStopped
		}
		live.say("finishing, ctrl-C again kills  ")
	}
	interrupted := errors.Is(readErr, errStopped)
	if interrupted {
		readErr = nil
	}
	// Every record ends within its delivery deadline, so this does too. Close
	// is for a record that was on its way into the buffer.
	flushErr := errors.Join(producer.Flush(context.WithoutCancel(ctx)), producer.Close())
	live.stop()
	if err := sent.outcome(opt.cfg.Topic, readErr, interrupted && !typed); err != nil {
		return err
	}
	if typed && interrupted {
		fmt.Fprintln(p.errOut) // the terminal has written ^C
	}
	if flushErr == nil && !opt.quiet {
		p.say("sent %s to %s in %v", sent, opt.cfg.Topic, time.Since(began).Round(time.Millisecond))
	}
	return flushErr
}

// errStopped says that ctx ended before the input did.
var errStopped = errors.New("stopped")

// sendAll hands every record over. An error of one record does not keep the
// others from being sent; any other error ends it, and ctx does, with errStopped.
func sendAll(ctx context.Context, producer *mq.Producer, stdin io.Reader, opt produceOptions, sent *tally) error {
	pace := newPacer(opt.rate)
	var stopped error
	err := opt.in.each(stdin, func(at place, r *mq.Record) bool {
		if ctx.Err() != nil {
			stopped = errStopped
		}
		if stopped != nil || sent.hopeless() {
			return false
		}
		opt.edit(r)
		pace.wait(ctx)
		sent.add()
		// What was read is sent even if ctx ends.
		producer.SendAsync(context.WithoutCancel(ctx), r, func(r *mq.Record, err error) { sent.done(at, r, err) })
		return true
	})
	return errors.Join(err, stopped)
}
