package mqtest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// load is producers that send all the time.
type load struct {
	checker *mqtest.Checker
	wg      sync.WaitGroup
	stop    context.CancelFunc
	acked   []atomic.Int64 // by partition
}

// newLoad sends to all partitions of a topic through each endpoint: one record at
// a time, and from another producer many.
func newLoad(t *testing.T, topic string, partitions int, endpoints ...mq.Endpoint) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{checker: mqtest.NewChecker(t), stop: stop, acked: make([]atomic.Int64, partitions)}
	t.Cleanup(l.end)
	cfg := mq.ProducerConfig{Topic: topic, Timeout: 500 * time.Millisecond, MaxBufferedRecords: 200, Linger: time.Millisecond}
	for _, e := range endpoints {
		l.wg.Go(func() { l.sendOneByOne(ctx, l.checker.Producer(e, cfg)) })
		l.wg.Go(func() { l.sendMany(ctx, l.checker.Producer(e, cfg)) })
	}
	return l
}

// sendOneByOne ends with ctx, or when the producer is killed with its broker.
func (l *load) sendOneByOne(ctx context.Context, p *mqtest.CheckedProducer) {
	settled := make(chan error, 1)
	for ctx.Err() == nil {
		p.SendAsync(ctx, func(r *mq.Record, err error) {
			l.count(r, err)
			settled <- err
		})
		if errors.Is(<-settled, mq.ErrClosed) {
			return
		}
	}
}

// sendMany is sendOneByOne without waiting for one before the next is sent.
func (l *load) sendMany(ctx context.Context, p *mqtest.CheckedProducer) {
	ctx, killed := context.WithCancel(ctx)
	defer killed()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		p.SendAsync(ctx, func(r *mq.Record, err error) {
			if l.count(r, err); errors.Is(err, mq.ErrClosed) {
				killed()
			}
		})
		<-pace.C
	}
}

func (l *load) count(r *mq.Record, err error) {
	if err == nil {
		l.acked[r.Partition].Add(1)
	}
}

// goesOn waits until many more records of each partition are acknowledged.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	const many = 50
	deadline := time.After(2 * time.Minute)
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for p := range l.acked {
		for until := l.acked[p].Load() + many; l.acked[p].Load() < until; {
			select {
			case <-every.C:
			case <-deadline:
				t.Fatalf("partition %d: %d records were acknowledged, not %d", p, l.acked[p].Load(), until)
			}
		}
	}
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// check ends the load and checks everything.
func (l *load) check(t *testing.T, c *mqtest.Cluster) mqtest.Tally {
	t.Helper()
	l.end()
	tally := l.checker.Check(c.Endpoint(), c.Brokers()...)
	t.Log(tally)
	if tally.Acknowledged < 100 || tally.Stored < tally.Acknowledged || tally.Copies != 3*tally.Stored {
		t.Errorf("the checker saw too little: %v", tally)
	}
	return tally
}
