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
	acked   atomic.Int64
}

// newLoad sends to a topic, through each endpoint one record at a time and, from
// another producer, many.
func newLoad(t *testing.T, topic string, endpoints ...mq.Endpoint) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{checker: mqtest.NewChecker(t), stop: stop}
	t.Cleanup(l.end)
	for _, e := range endpoints {
		one := l.checker.Producer(e, mq.ProducerConfig{Topic: topic, Timeout: 5 * time.Second})
		many := l.checker.Producer(e, mq.ProducerConfig{Topic: topic, Timeout: 5 * time.Second, MaxBufferedRecords: 200, Linger: time.Millisecond})
		l.wg.Go(func() {
			for ctx.Err() == nil {
				err := one.Send(ctx)
				if l.count(err); errors.Is(err, mq.ErrClosed) {
					return // it was killed with its broker
				}
			}
		})
		l.wg.Go(func() {
			closed := make(chan struct{})
			var once sync.Once
			for pace := time.NewTicker(time.Millisecond); ; {
				select {
				case <-ctx.Done():
					pace.Stop()
					return
				case <-closed:
					pace.Stop()
					return
				case <-pace.C:
					many.SendAsync(ctx, func(_ *mq.Record, err error) {
						if l.count(err); errors.Is(err, mq.ErrClosed) {
							once.Do(func() { close(closed) })
						}
					})
				}
			}
		})
	}
	return l
}

func (l *load) count(err error) {
	if err == nil {
		l.acked.Add(1)
	}
}

// goesOn waits until many more records are acknowledged.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	const many = 200
	deadline := time.After(time.Minute)
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for until := l.acked.Load() + many; l.acked.Load() < until; {
		select {
		case <-every.C:
		case <-deadline:
			t.Fatalf("only %d of %d records were acknowledged", l.acked.Load(), until)
		}
	}
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// check ends the load and checks everything.
func (l *load) check(t *testing.T, c *mqtest.Cluster) {
	t.Helper()
	l.end()
	tally := l.checker.Check(c.Endpoint(), c.Brokers()...)
	t.Log(tally)
	if tally.Acknowledged < 100 || tally.Copies < 3*tally.Acknowledged {
		t.Errorf("the checker saw too little: %v", tally)
	}
}
