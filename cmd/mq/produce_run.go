package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/progress"
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

// tally counts what became of records. Its methods may be called from any goroutine.
type tally struct {
	broken chan struct{} // closed on an error that is not of one record alone

	mu         sync.Mutex
	read       int
	ok, failed int
	bytes      int64 // of those that are ok
	first      error // and its record's place
	at         place
}

func newTally() *tally { return &tally{broken: make(chan struct{})} }

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read++
}

func (t *tally) done(at place, r *mq.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.ok++
		t.bytes += int64(len(r.Key) + len(r.Value))
		for _, h := range r.Headers {
			t.bytes += int64(len(h.Key) + len(h.Value))
		}
		return
	case errors.Is(err, mq.ErrClosed):
		return // it came too late and counts as not read
	}
	t.failed++
	if t.first == nil {
		t.first, t.at = err, at
	}
	if !errors.Is(err, mq.ErrRecordTooLarge) && !t.hopeless() {
		close(t.broken)
	}
}

func (t *tally) hopeless() bool {
	select {
	case <-t.broken:
		return true
	default:
		return false
	}
}

// sample is how far the work has come, as far as the size of the input is known.
func (t *tally) sample(in *input) progress.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := progress.Sample{At: time.Now(), Records: int64(t.ok), Bytes: t.bytes}
	if in.bytes > 0 && t.read > 0 {
		// Part of what was read is still on its way.
		s.Part = min(1, float64(in.got.Load())/float64(in.bytes)) * float64(t.ok+t.failed) / float64(t.read)
	}
	return s
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sizeLocked()
}

func (t *tally) sizeLocked() string {
	return fmt.Sprintf("%s (%s)", progress.Records(int64(t.ok)), progress.Bytes(t.bytes))
}

// outcome is what was not sent, or not even read.
func (t *tally) outcome(topic string, readErr error, interrupted bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.failed > 0 {
		err = fmt.Errorf("%d of %d records were not sent; the first is %v: %w", t.failed, t.ok+t.failed, t.at, t.first)
		if errors.Is(t.first, mq.ErrRecordTooLarge) {
			err = fmt.Errorf("%w (a topic takes more with: mq topic alter %s --set max.message.bytes=N, up to %d)", err, topic, maxRecordBytes)
		}
	}
	switch {
	case readErr != nil && err == nil && t.ok > 0:
		err = fmt.Errorf("%w; sent before that: %s", readErr, t.sizeLocked())
	case readErr != nil:
		err = errors.Join(err, readErr)
	case err == nil && interrupted:
		return &exitError{exitInterrupted, fmt.Errorf("interrupted: sent %s; the rest of the input was not read", t.sizeLocked())}
	}
	if err != nil && t.ok > 0 {
		return &exitError{exitPartly, err}
	}
	return err
}

// pacer lets so many records per second pass.
type pacer struct {
	interval time.Duration // 0: no wait
	next     time.Time     // when the next may pass
}

// catchUp is how far a pacer that was held up may run ahead of its interval.
const catchUp = 100 * time.Millisecond

func newPacer(rate int) *pacer {
	p := &pacer{next: time.Now()}
	if rate > 0 {
		p.interval = time.Second / time.Duration(rate)
	}
	return p
}

// wait returns when the next record may pass, or when ctx ends.
func (p *pacer) wait(ctx context.Context) {
	if p.interval == 0 {
		return
	}
	now := time.Now()
	if earliest := now.Add(-catchUp); p.next.Before(earliest) {
		p.next = earliest
	}
	if early := p.next.Sub(now); early > 0 {
		timer := time.NewTimer(early)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	p.next = p.next.Add(p.interval)
}
