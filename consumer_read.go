package mq

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
)

// Handler is called by Consumer.Run for each record: one at a time, or as many as
// ConsumerConfig.Concurrency says, from several goroutines then. When it returns
// nil, the record is finished. An error, or a panic, has the record tried again
// as ConsumerConfig.Retry says, then sent to the DeadLetterTopic; without any of
// these it stops Run, and the record comes again. ctx ends with Run's, with
// Close, and when the record's partition goes to another member of the group;
// context.Cause tells why, and an error is then only logged. The record belongs to the handler; its bytes may be needed for another
// attempt or a dead letter, so they must stay as they are where these are set.
type Handler interface {
	Handle(ctx context.Context, r *Record) error
}

// HandlerFunc makes a Handler of a function.
type HandlerFunc func(ctx context.Context, r *Record) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, r *Record) error { return f(ctx, r) }

// PanicError is how a handler failed that panicked. It holds
// ErrHandlerPanicked, and the value if that is an error.
type PanicError struct {
	Value any
	Stack []byte // of the panicking goroutine, as runtime/debug.Stack formats it
}

// Error implements error.
func (e *PanicError) Error() string {
	return fmt.Sprintf("%v: %v\n\n%s", ErrHandlerPanicked, e.Value, e.Stack)
}

// Unwrap implements errors.Is.
func (e *PanicError) Unwrap() []error {
	if err, ok := e.Value.(error); ok {
		return []error{ErrHandlerPanicked, err}
	}
	return []error{ErrHandlerPanicked}
}

// PartitionError says which partition can't be read any further, and why.
// Errors it may hold: ErrOffsetOutOfRange when the reset policy is ResetNone;
// ErrCorruptBatch, ErrRecordTooLarge (a decompression bomb),
// ErrUnsupportedCompression, ErrUnsupportedVersion or ErrInvalidRecord for a
// batch that does not decode; ErrUnknownTopicOrPartition for a partition number
// that the topic does not have; whatever a broker refused for good.
type PartitionError struct {
	TopicPartition
	Offset int64 // of what can't be read; -1 when no offset is known yet
	Next   int64 // behind the batch that can't be read, where a Seek would skip it; -1 when unknown
	Err    error
}

// Error implements error.
func (e *PartitionError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%v: %v", e.TopicPartition, e.Err)
	}
	return fmt.Sprintf("%v at offset %d: %v", e.TopicPartition, e.Offset, e.Err)
}

// Unwrap gives the cause.
func (e *PartitionError) Unwrap() error { return e.Err }

// Run calls h for each record until ctx ends, which is no error: Run then waits
// for the handler, commits what is finished, and returns nil. Otherwise it
// returns why it stopped, after the same: the handler's error, a *PanicError, an
// error from reading (see Consumer), or ErrClosed. A failed commit is reported,
// too. The first record of each partition that is not finished is the next one
// that is handed out, to whoever reads next. With a Concurrency above 1, records
// behind it may have been finished; they come again as well.
func (c *Consumer) Run(ctx context.Context, h Handler) error {
	if err := c.beginRead(); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer c.endRead()
	bound, cancel := c.bind(ctx)
	defer cancel()
	all := c.handleAll
	if c.cfg.Concurrency > 1 || c.cfg.Retry.MaxAttempts != 1 || c.dead != nil {
		all = c.work
	}
	err := all(bound, h)
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err())):
		err = nil // stopping is what was asked for
	case c.life.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed)):
		err = fmt.Errorf("run: %w", ErrClosed)
	}
	if commitErr := c.commitAtEnd(ctx); commitErr != nil {
		err = errors.Join(err, fmt.Errorf("run: last commit: %w", commitErr))
	}
	return err
}

func (c *Consumer) handleAll(ctx context.Context, h Handler) error {
	var own ownership
	defer own.release()
	for {
		run, err := c.next(ctx, 1)
		if err != nil {
			return err
		}
		err = c.handle(own.of(ctx, run.lease.P), h, run)
		switch {
		case err != nil && run.lease.P.Context().Err() != nil:
			c.log.Debug("a handler failed after its partition was taken away", "err", err)
		case err != nil:
			return err
		}
	}
}

// handle calls the handler for one record, which is either finished afterwards
// or given back.
func (c *Consumer) handle(ctx context.Context, h Handler, run run) error {
	finished := false
	defer func() { // also when the handler ends its goroutine
		if finished {
			c.set.Finish(run.lease)
		} else {
			c.set.Return(run.lease)
		}
	}()
	r := &run.records[0]
	if err := callHandler(ctx, h, r); err != nil {
		return handlerError(r, err)
	}
	finished = true
	return nil
}

// callHandler makes an error of a panic.
func callHandler(ctx context.Context, h Handler, r *Record) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return h.Handle(ctx, r)
}

func handlerError(r *Record, err error) error {
	return fmt.Errorf("handler failed at %s: %w", describe(r), err)
}

// Messages reads records one by one. A record is finished when the next one is
// asked for; one that the loop left with break, return or a panic is not, and
// is handed out again to whoever reads next, unless Commit finished it. The
// iterator ends when ctx ends or the consumer is closed. An error (see
// Consumer) is yielded with a nil record, and ends it, too.
func (c *Consumer) Messages(ctx context.Context) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		if err := c.beginRead(); err != nil {
			yield(nil, fmt.Errorf("messages: %w", err))
			return
		}
		defer c.endRead()
		bound, cancel := c.bind(ctx)
		defer cancel()
		for {
			run, err := c.next(bound, 1)
			if err != nil {
				if ctx.Err() == nil && c.life.Err() == nil {
					yield(nil, err)
				}
				return
			}
			if !c.offer(run, yield) {
				return
			}
		}
	}
}

// offer yields one record, which is either finished afterwards or given back.
func (c *Consumer) offer(run run, yield func(*Record, error) bool) (more bool) {
	defer func() {
		if more {
			c.set.Finish(run.lease)
		} else {
			c.set.Return(run.lease)
		}
	}()
	return yield(&run.records[0], nil)
}

// Poll returns up to limit records, as soon as there is one. Those of a
// partition are in order. They are finished when Poll, Run or Messages is
// called next, or when Commit names them before, and Close leaves them
// unfinished. A member of a group keeps their partitions until then, or for
// RebalanceTimeout. Errors: ctx's, ErrClosed, or an error from reading (see
// Consumer), only when there is no record.
func (c *Consumer) Poll(ctx context.Context, limit int) ([]*Record, error) {
	if limit <= 0 {
		return nil, fmt.Errorf("poll: %w: limit %d is not positive", ErrInvalidRequest, limit)
	}
	if err := c.beginRead(); err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	defer c.endRead()
	c.polling.Store(true)
	defer c.polling.Store(false)
	bound, cancel := c.bind(ctx)
	defer cancel()
	got, err := c.next(bound, limit)
	if err != nil {
		return nil, fmt.Errorf("poll: %w", c.whyEnded(ctx, err))
	}
	records := make([]*Record, 0, len(got.records))
	for ok := true; ok; {
		for i := range got.records {
			records = append(records, &got.records[i])
		}
		c.reader.polled = append(c.reader.polled, got.lease)
		if len(records) == limit {
			break
		}
		got, ok, _ = c.reader.next(limit - len(records)) // an error comes again next time
	}
	return records, nil
}

// beginRead takes the right to read. What the last Poll returned is finished.
func (c *Consumer) beginRead() error {
	if c.life.Err() != nil {
		return ErrClosed
	}
	select {
	case c.reading <- struct{}{}:
	default:
		return fmt.Errorf("%w: another Run, Messages or Poll of this consumer is under way", ErrInvalidRequest)
	}
	c.reader.finishPolled()
	return nil
}

// endRead gives back the right to read. If the consumer was closed meanwhile,
// Close has left the group to whoever read.
func (c *Consumer) endRead() {
	<-c.reading
	if c.member == nil || c.life.Err() == nil {
		return
	}
	select {
	case c.reading <- struct{}{}:
		_ = c.member.farewell() // Run has said what became of its last commit
		<-c.reading
	default: // Close was faster
	}
}

// nextNow returns up to limit records of one partition; ok is false when there
// are none now.
func (c *Consumer) nextNow(limit int) (r run, ok bool, err error) {
	r, ok, err = c.reader.next(limit)
	if !ok && err == nil {
		err = c.member.failure()
	}
	return r, ok, err
}

// next returns up to limit records of one partition when there are some. ctx is
// bound to the consumer, but learns of its end a little later.
func (c *Consumer) next(ctx context.Context, limit int) (run, error) {
	for {
		if c.life.Err() != nil {
			return run{}, ErrClosed
		}
		if ctx.Err() != nil {
			return run{}, context.Cause(ctx)
		}
		r, ok, err := c.nextNow(limit)
		if ok || err != nil {
			return r, err
		}
		select {
		case <-c.set.News():
		case <-ctx.Done():
		}
	}
}
