package transport_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/transporttest"
)

func TestOversizedRequestIsRefusedAndTheStreamLives(t *testing.T) {
	t.Parallel()
	c := dial(t, serve(t, answering(), transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
	batch := make([]byte, 1<<20)
	var outcomes []<-chan transporttest.Outcome
	for n, size := range []int{1 << 20, 33 << 20, 1 << 20} {
		q := transporttest.Numbered(n, batch)
		for len(q.Partitions)*len(batch) < size {
			q.Partitions = append(q.Partitions, q.Partitions[0])
		}
		outcomes = append(outcomes, transporttest.Produce(t.Context(), t, c, q))
	}
	for n, want := range []error{nil, mqerr.ErrRecordTooLarge, nil} {
		if o := transporttest.Await(t, outcomes[n]); !errors.Is(o.Err, want) {
			t.Errorf("request %d: got %v, want %v", n, o.Err, want)
		}
	}
}

// When the stream breaks, what had left is unknown and the rest did not
// happen; both are told in the order of the calls, and once.
func TestBrokenStreamFailsRequestsInOrder(t *testing.T) {
	t.Parallel()
	const requests = 300
	broker := newHolding()
	s := serve(t, broker, transport.ServerConfig{MaxInFlight: 2})
	c := dial(t, s.Addr().String(), transport.ClientConfig{MaxInFlight: requests, MaxInFlightBytes: 1 << 30})
	var mu sync.Mutex
	var order []int
	errs := make([]error, requests)
	all := make(chan struct{})
	for n := range requests { // far more than fits into the windows of flow control
		c.Produce(t.Context(), transporttest.Numbered(n, make([]byte, 64<<10)), func(_ *api.ProduceResponse, err error) {
			mu.Lock()
			defer mu.Unlock()
			errs[n] = err
			if order = append(order, n); len(order) == requests {
				close(all)
			}
		})
	}
	transporttest.Await(t, broker.taken)
	transporttest.Await(t, broker.taken)
	_ = s.Close()
	transporttest.Await(t, all)

	unknown := 0
	for i, n := range order {
		switch {
		case i != n:
			t.Fatalf("request %d was done in place %d", n, i)
		case errors.Is(errs[n], mqerr.ErrTimeout) && unknown == n:
			unknown++
		case !errors.Is(errs[n], mqerr.ErrLeaderNotAvailable):
			t.Fatalf("request %d, after %d of unknown outcome, is done with %v", n, unknown, errs[n])
		}
	}
	if unknown < 2 || unknown == requests {
		t.Errorf("%d of %d requests are of unknown outcome", unknown, requests)
	}
}

func TestCloseEndsEveryRequestOnce(t *testing.T) {
	t.Parallel()
	const bound = 3
	broker := newHolding()
	s := serve(t, broker, transport.ServerConfig{})
	c := dial(t, s.Addr().String(), transport.ClientConfig{MaxInFlight: bound})
	var left []<-chan transporttest.Outcome
	for n := range bound {
		left = append(left, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(n, nil)))
		transporttest.Await(t, broker.taken)
	}
	waiting := make(chan transporttest.Outcome, 4)
	for n := range cap(waiting) {
		go func() {
			waiting <- transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(n, nil)))
		}()
	}
	var closers sync.WaitGroup
	for range 2 {
		closers.Go(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closers.Wait()
	for _, o := range left {
		if o := transporttest.Await(t, o); !errors.Is(o.Err, mqerr.ErrTimeout) {
			t.Errorf("a request that had left is done with %v", o.Err)
		}
	}
	for range cap(waiting) {
		if o := transporttest.Await(t, waiting); !errors.Is(o.Err, mqerr.ErrClosed) {
			t.Errorf("a request that waited is done with %v", o.Err)
		}
	}

	if o := transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))); !errors.Is(o.Err, mqerr.ErrClosed) {
		t.Errorf("Produce after Close: %v", o.Err)
	}
	if _, err := c.Metadata(within(t), &api.MetadataRequest{}); !errors.Is(err, mqerr.ErrClosed) {
		t.Errorf("Metadata after Close: %v", err)
	}
	if _, err := c.CreateTopic(within(t), &api.CreateTopicRequest{}); !errors.Is(err, mqerr.ErrClosed) {
		t.Errorf("CreateTopic after Close: %v", err)
	}
	if err := c.WaitConnected(within(t)); !errors.Is(err, mqerr.ErrClosed) {
		t.Errorf("WaitConnected after Close: %v", err)
	}
}

func TestProduceWithEndedContextHandsNothingOver(t *testing.T) {
	t.Parallel()
	broker := newHolding()
	c := dial(t, serve(t, broker, transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
	ended, end := context.WithCancel(t.Context())
	end()
	for range 20 {
		if o := transporttest.Await(t, transporttest.Produce(ended, t, c, transporttest.Numbered(1, nil))); !errors.Is(o.Err, context.Canceled) {
			t.Fatalf("got %v", o.Err)
		}
	}
	if len(broker.taken) != 0 {
		t.Error("the broker was handed a request")
	}
}

func TestClientBoundsWhatIsUnanswered(t *testing.T) {
	t.Parallel()
	broker := newHolding()
	s := serve(t, broker, transport.ServerConfig{})
	for _, c := range []struct {
		name string
		cfg  transport.ClientConfig
	}{
		{"by requests", transport.ClientConfig{MaxInFlight: 2}},
		{"by bytes", transport.ClientConfig{MaxInFlightBytes: 250}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := dial(t, s.Addr().String(), c.cfg)
			first := transporttest.Produce(t.Context(), t, client, transporttest.Numbered(1, make([]byte, 100)))
			second := transporttest.Produce(t.Context(), t, client, transporttest.Numbered(2, make([]byte, 100)))
			ctx, cancel := context.WithCancel(t.Context())
			third := make(chan transporttest.Outcome, 1)
			go func() {
				third <- transporttest.Await(t, transporttest.Produce(ctx, t, client, transporttest.Numbered(3, make([]byte, 100))))
			}()
			held := []heldRequest{transporttest.Await(t, broker.taken), transporttest.Await(t, broker.taken)}
			cancel()
			if o := transporttest.Await(t, third); !errors.Is(o.Err, context.Canceled) {
				t.Errorf("the third of two: %+v, %v", o.Answer, o.Err)
			}
			held[1].answer() // makes room for one
			if o := transporttest.Await(t, second); o.Err != nil {
				t.Error(o.Err)
			}
			fourth := transporttest.Produce(t.Context(), t, client, transporttest.Numbered(4, make([]byte, 100)))
			transporttest.Await(t, broker.taken).answer()
			held[0].answer()
			for _, c := range []<-chan transporttest.Outcome{first, fourth} {
				if o := transporttest.Await(t, c); o.Err != nil {
					t.Error(o.Err)
				}
			}
		})
	}
}
