package mq

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/topic"
)

// Producer sends records. It collects them in batches per partition, sends the
// batches to the partitions' leaders, and repeats until each is acknowledged,
// its delivery timeout has passed, or it is refused for good. Records of one
// partition are stored once and in the order of the calls, also when answers
// are lost, leaders change or brokers restart (not with AcksNone; see there).
//
// Key, Value and Headers of a record must not change until it is settled; nor
// may it be sent twice at a time. When it is settled without an error, Topic,
// Partition, Offset, LeaderEpoch and Timestamp are filled in.
//
// An error is the record's own. With OutcomeUnknown the record may be stored
// nevertheless; with any other it is not, and will not be.
//
// A topic that does not exist is created if the brokers allow it, and otherwise
// its records fail with ErrUnknownTopicOrPartition after two seconds, in which
// a topic that was created just now becomes known everywhere.
//
// Safe for concurrent use. Close it before its Endpoint.
type Producer struct {
	cfg    ProducerConfig
	engine *produce.Engine
	waits  sync.Pool // of *wait, those that no Send uses
}

// NewProducer makes a producer. It does not talk to a broker before the first
// record is sent. Errors: ErrInvalidConfig.
func NewProducer(e Endpoint, cfg ProducerConfig) (*Producer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Producer{cfg: cfg, engine: produce.New(cfg.engine(e.router()))}, nil
}

// Send sends a record and waits until it is settled; it does not wait for
// Linger. When ctx ends before, the error is ctx's: a record that was not sent
// is dropped, and for one that was, OutcomeUnknown is true and the producer
// goes on to bring it into its partition.
func (p *Producer) Send(ctx context.Context, r *Record) error {
	w, _ := p.waits.Get().(*wait)
	if w == nil {
		w = &wait{done: make(chan error, 1)}
	}
	w.rec = r
	err := p.add(ctx, w, true)
	if err == nil {
		err = <-w.done
	}
	w.rec = nil
	p.waits.Put(w)
	return err
}

// SendBatch sends records and waits until all are settled, without waiting for
// Linger. Records of one partition stay in their order. If any fails, the error
// is a *BatchError.
func (p *Producer) SendBatch(ctx context.Context, rs ...*Record) error {
	if len(rs) == 0 {
		return nil
	}
	b := &batchWait{errs: make([]error, len(rs)), done: make(chan struct{})}
	b.left.Store(int64(len(rs)))
	parts := make([]batchPart, len(rs))
	for i, r := range rs {
		parts[i] = batchPart{batch: b, index: i, rec: r}
		if err := p.add(ctx, &parts[i], false); err != nil {
			b.settle(i, err)
		}
	}
	p.engine.Hurry()
	<-b.done
	if slices.ContainsFunc(b.errs, func(err error) bool { return err != nil }) {
		return &BatchError{Errs: b.errs}
	}
	return nil
}

// SendAsync sends a record and returns at once, except while the buffer is
// full. done, which may be nil, is called exactly once when the record is
// settled: in the order of the records of a partition, on the producer's one
// callback goroutine. It must not block, so it must not call Send, SendBatch,
// SendAsync, Flush, Shutdown or Close of this producer; TrySend is fine. Only
// a record that is refused at once, also because ctx ended while the buffer was
// full, has done called before SendAsync returns. When ctx ends later, the
// record fails as in Send.
func (p *Producer) SendAsync(ctx context.Context, r *Record, done func(*Record, error)) {
	c := &call{rec: r, done: done}
	if err := p.add(ctx, c, false); err != nil && done != nil {
		done(r, err)
	}
}

// TrySend is SendAsync that returns ErrBufferFull instead of waiting. If it
// returns an error, done is not called.
func (p *Producer) TrySend(r *Record, done func(*Record, error)) error {
	rec, err := p.prepare(&call{rec: r, done: done})
	if err != nil {
		return err
	}
	return p.engine.TryAdd(r.Topic, rec)
}

// Flush waits until all records accepted so far are settled, and ends their
// lingering. It returns the first error among them and those settled since the
// last Flush, or ctx's error when it ends before.
func (p *Producer) Flush(ctx context.Context) error { return p.engine.Flush(ctx) }

// Shutdown refuses further records with ErrClosed, waits until all are settled,
// and ends the producer; its error is that of Flush. When ctx ends before, the
// producer goes on, and Shutdown or Close may be called again.
func (p *Producer) Shutdown(ctx context.Context) error { return p.engine.Shutdown(ctx) }

// Close is Shutdown within CloseTimeout. Records that are not settled by then
// fail: with ErrClosed if they were not sent, else with an unknown outcome. No
// goroutine of the producer is left and no callback runs after it. It may be
// called more than once.
func (p *Producer) Close() error {
	ctx := context.Background()
	if p.cfg.CloseTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.cfg.CloseTimeout)
		defer cancel()
	}
	err := p.engine.Shutdown(ctx)
	p.engine.Close()
	return err
}

func (p *Producer) add(ctx context.Context, w promise, urgent bool) error {
	rec, err := p.prepare(w)
	if err != nil {
		return err
	}
	return p.engine.Add(ctx, w.sent().Topic, rec, urgent)
}

// prepare fills in what the user left to the producer, checks, and converts.
func (p *Producer) prepare(w promise) (produce.Record, error) {
	r := w.sent()
	if r == nil {
		return produce.Record{}, fmt.Errorf("%w: nil", mqerr.ErrInvalidRecord)
	}
	if r.Topic == "" {
		if p.cfg.Topic == "" {
			return produce.Record{}, fmt.Errorf("%w: %w", mqerr.ErrInvalidTopic, errNoTopic)
		}
		r.Topic = p.cfg.Topic
	} else if r.Topic != p.cfg.Topic {
		if err := topic.CheckName(r.Topic); err != nil {
			return produce.Record{}, err
		}
	}
	if r.Timestamp.IsZero() {
		r.Timestamp = time.Now()
	}
	r.Timestamp = r.Timestamp.Truncate(time.Millisecond)
	rec := produce.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixMilli(), Promise: w}
	if len(r.Headers) > 0 {
		rec.Headers = make([]record.Header, len(r.Headers))
		for i, h := range r.Headers {
			rec.Headers[i] = record.Header{Key: h.Key, Value: h.Value}
		}
	}
	return rec, nil
}

// BatchError tells which records of a SendBatch failed.
type BatchError struct {
	// Errs has an entry for each record, in their order, nil for one that was
	// stored.
	Errs []error
}

// Error says how many failed and why the first did.
func (e *BatchError) Error() string {
	failed := e.Unwrap()
	var b strings.Builder
	fmt.Fprintf(&b, "mq: %d of %d records failed", len(failed), len(e.Errs))
	if len(failed) > 0 {
		fmt.Fprintf(&b, ", the first with: %v", failed[0])
	}
	return b.String()
}

// Unwrap returns the errors of those that failed.
func (e *BatchError) Unwrap() []error {
	return slices.DeleteFunc(slices.Clone(e.Errs), func(err error) bool { return err == nil })
}

// promise is a record and who waits for it.
type promise interface {
	produce.Promise
	sent() *Record
}

// fill writes where a record was stored.
func fill(r *Record, res produce.Result) {
	if res.Err != nil {
		return
	}
	r.Partition, r.Offset, r.LeaderEpoch = res.Partition, res.Offset, res.LeaderEpoch
	if res.AppendTime >= 0 {
		r.Timestamp = time.UnixMilli(res.AppendTime)
	}
}

// wait is a Send that waits. Settle is the last to touch one, so Send may use
// it again.
type wait struct {
	rec  *Record
	done chan error // capacity 1
}

func (w *wait) sent() *Record { return w.rec }

// Settle implements produce.Promise.
func (w *wait) Settle(res produce.Result) {
	fill(w.rec, res)
	w.done <- res.Err
}

// call is a SendAsync whose callback is due.
type call struct {
	rec  *Record
	done func(*Record, error)
}

func (c *call) sent() *Record { return c.rec }

// Settle implements produce.Promise.
func (c *call) Settle(res produce.Result) {
	fill(c.rec, res)
	if c.done != nil {
		c.done(c.rec, res.Err)
	}
}

// batchWait is a SendBatch that waits.
type batchWait struct {
	left atomic.Int64 // records that are not settled
	errs []error      // each written once, by who settles the record
	done chan struct{}
}

func (b *batchWait) settle(i int, err error) {
	b.errs[i] = err
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}

// batchPart is one record of a SendBatch.
type batchPart struct {
	batch *batchWait
	index int
	rec   *Record
}

func (b *batchPart) sent() *Record { return b.rec }

// Settle implements produce.Promise.
func (b *batchPart) Settle(res produce.Result) {
	fill(b.rec, res)
	b.batch.settle(b.index, res.Err)
}
