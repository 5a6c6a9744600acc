package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raftmq/mq"
)

// consume fills the topic and measures how fast that is read.
func (r *run) consume(ctx context.Context) (Result, error) {
	filled, err := r.produce(ctx, 0, nil)
	if err == nil {
		err = filled.Err
	}
	if err != nil {
		return Result{}, fmt.Errorf("filling the topic: %w", err)
	}
	ends := newEnds()
	if err := ends.find(ctx, r); err != nil {
		return Result{}, err
	}
	start := time.Now()
	result, err := r.receive(ctx, ends, start, func(t *tally, rs []*mq.Record, asked time.Time) {
		t.done += int64(len(rs))
		t.last = time.Now()
		t.took.add(t.last.Sub(asked))
	})
	result.Missing = max(filled.Records-result.Records, 0)
	return result, err
}

// endToEnd sends and receives at the same time. A value says when it was due.
func (r *run) endToEnd(ctx context.Context) (Result, error) {
	start := time.Now()
	ends := newEnds()
	both, stop := context.WithCancelCause(ctx) // whoever fails first ends the other, too
	defer stop(nil)
	var received Result
	var receiver sync.WaitGroup
	receiver.Go(func() { // ends when it has all that was sent, or with both
		var err error
		received, err = r.receive(both, ends, start, func(t *tally, rs []*mq.Record, _ time.Time) {
			for _, record := range rs {
				t.settle(start.Add(getStamp(record.Value)), nil)
			}
		})
		if err != nil {
			stop(err)
		}
	})
	sent, err := r.produce(both, r.Rate, func(value []byte, due time.Time) { putStamp(value, due.Sub(start)) })
	if err = errors.Join(err, ends.find(both, r)); err != nil {
		stop(err)
	}
	receiver.Wait()
	received.Failed, received.Err = sent.Failed, sent.Err
	received.Missing = max(sent.Records-received.Records, 0)
	return received, context.Cause(both)
}

func putStamp(value []byte, d time.Duration) { binary.BigEndian.PutUint64(value, uint64(d)) }

func getStamp(value []byte) time.Duration {
	if len(value) < StampBytes { // not ours
		return 0
	}
	return time.Duration(binary.BigEndian.Uint64(value))
}

// ends are the offsets at which partitions end, known once all is sent.
type ends struct {
	known   context.Context // ends when they are
	tell    context.CancelFunc
	offsets []int64 // by partition; not before known
}

func newEnds() *ends {
	e := &ends{}
	e.known, e.tell = context.WithCancel(context.Background())
	return e
}

func (e *ends) find(ctx context.Context, r *run) error {
	found, err := r.admin.ListOffsets(ctx, r.topic, mq.StartLatest)
	if err != nil {
		return err
	}
	for _, o := range found {
		e.offsets = append(e.offsets, o.Offset)
	}
	e.tell()
	return nil
}

// wait returns a ctx for one Poll: until the ends are known, or after that for
// as long as there is patience.
func (e *ends) wait(ctx context.Context) (context.Context, func()) {
	if e.known.Err() != nil {
		return context.WithTimeoutCause(ctx, patience, errNothingCame)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.known, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

var errNothingCame = fmt.Errorf("nothing more came to a consumer: %w", context.DeadlineExceeded)

// receive reads the topic to its ends with one consumer per client. count is
// given what each Poll returned, and when it was called.
func (r *run) receive(ctx context.Context, e *ends, start time.Time, count func(*tally, []*mq.Record, time.Time)) (Result, error) {
	n := min(r.Clients, r.Partitions)
	tallies, errs := make([]*tally, n), make([]error, n)
	var clients sync.WaitGroup
	for i := range n {
		t := &tally{}
		tallies[i] = t
		clients.Go(func() { // ends when it has all, or with ctx
			errs[i] = r.read(ctx, i, n, e, func(rs []*mq.Record, asked time.Time) { count(t, rs, asked) })
		})
	}
	clients.Wait()
	return total(start, tallies), errors.Join(errs...)
}

// read is one of n consumers, which share the partitions.
func (r *run) read(ctx context.Context, client, n int, e *ends, count func([]*mq.Record, time.Time)) (err error) {
	cfg := mq.ConsumerConfig{Topics: []string{r.topic}}
	for p := client; p < r.Partitions; p += n {
		cfg.Partitions = append(cfg.Partitions, int32(p))
	}
	c, err := mq.NewConsumer(r.endpoints[client], cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	next := make(map[int32]int64, len(cfg.Partitions))
	all := func() bool {
		for _, p := range cfg.Partitions {
			if next[p] < e.offsets[p] {
				return false
			}
		}
		return true
	}
	for {
		last := e.known.Err() != nil
		if last && all() {
			return nil
		}
		asked := time.Now()
		waiting, done := e.wait(ctx)
		rs, err := c.Poll(waiting, pollRecords)
		done()
		switch {
		case len(rs) > 0:
			count(rs, asked)
			for _, record := range rs {
				next[record.Partition] = record.Offset + 1
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && (last || e.known.Err() == nil):
			return err
		}
	}
}
