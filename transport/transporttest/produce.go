package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
)

// Outcome is what a produce request was done with.
type Outcome struct {
	Answer *api.ProduceResponse
	Err    error
}

// Produce hands a request over and returns where its outcome will be. A second
// outcome fails the test.
func Produce(ctx context.Context, t testing.TB, b api.Broker, q *api.ProduceRequest) <-chan Outcome {
	outcome := make(chan Outcome, 1)
	var done atomic.Bool
	b.Produce(ctx, q, func(a *api.ProduceResponse, err error) {
		if done.Swap(true) {
			t.Error("done was called twice")
			return
		}
		outcome <- Outcome{a, err}
	})
	return outcome
}

// Await waits for what comes out of c.
func Await[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case v := <-c:
		return v
	case <-ctx.Done():
		t.Fatal("it did not come")
		panic("unreachable")
	}
}

// Numbered is a produce request with a number, which Number reads and Answered
// gives back.
func Numbered(n int, batch []byte) *api.ProduceRequest {
	return &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{
		{TopicPartition: api.TopicPartition{Topic: "t", Partition: int32(n)}, Batch: batch},
	}}
}

// Number is the number of a request or of an answer to one.
func Number(q *api.ProduceRequest) int { return int(q.Partitions[0].Partition) }

// Answered is the answer to a numbered request.
func Answered(q *api.ProduceRequest) *api.ProduceResponse {
	n := Number(q)
	return &api.ProduceResponse{Partitions: []api.ProduceResult{
		{TopicPartition: q.Partitions[0].TopicPartition, BaseOffset: int64(n) * 10},
	}}
}

func expectAnswer(t *testing.T, n int, o Outcome) {
	t.Helper()
	if o.Err != nil {
		t.Fatalf("request %d: %v", n, o.Err)
	}
	if got := o.Answer.Partitions[0]; int(got.Partition) != n || got.BaseOffset != int64(n)*10 {
		t.Fatalf("request %d got the answer %+v", n, got)
	}
}

func testProduceMovesEveryField(t *testing.T, newBroker newDoor) {
	var asked *api.ProduceRequest
	var answer *api.ProduceResponse
	door := newBroker(t, &Backend{ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		asked = q
		done(answer, nil)
	}})
	for _, resultErr := range append(tableErrors(), nil) {
		question := filled[api.ProduceRequest](nil)
		answer = filled[api.ProduceResponse](resultErr)
		o := Await(t, Produce(t.Context(), t, door, question))
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if d := difference(asked, question); d != "" {
			t.Errorf("request%s", d)
		}
		if d := difference(o.Answer, answer); d != "" {
			t.Errorf("answer%s", d)
		}
	}
	for _, acks := range []int16{api.AcksNone, api.AcksLeader, api.AcksAll} {
		Await(t, Produce(t.Context(), t, door, &api.ProduceRequest{Acks: acks}))
		if asked.Acks != acks {
			t.Errorf("acks %d arrived as %d", acks, asked.Acks)
		}
	}
}

func testProduceMovesErrors(t *testing.T, newBroker newDoor) {
	var want error
	door := newBroker(t, &Backend{ProduceFunc: func(_ context.Context, _ *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		done(nil, want)
	}})
	for _, want = range tableErrors() {
		o := Await(t, Produce(t.Context(), t, door, Numbered(1, nil)))
		if d := differentError(o.Err, want); d != "" {
			t.Error(d)
		}
		if o.Answer != nil {
			t.Errorf("an answer came with the error %v", want)
		}
	}
}

func testProduceKeepsOrder(t *testing.T, newBroker newDoor) {
	const requests = 3000
	var arrived []int
	door := newBroker(t, &Backend{ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		arrived = append(arrived, Number(q))
		done(Answered(q), nil)
	}})
	var outcomes []<-chan Outcome
	for n := range requests {
		outcomes = append(outcomes, Produce(t.Context(), t, door, Numbered(n, []byte("batch"))))
	}
	for n, c := range outcomes {
		expectAnswer(t, n, Await(t, c))
	}
	for n, got := range arrived {
		if got != n {
			t.Fatalf("request %d arrived in place %d", got, n)
		}
	}
}

func testProduceAnswersOutOfOrder(t *testing.T, newBroker newDoor) {
	const requests = 10
	var waiting []func()
	door := newBroker(t, &Backend{ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		waiting = append(waiting, func() { done(Answered(q), nil) })
		if len(waiting) == requests {
			go func() {
				for n := requests - 1; n >= 0; n-- {
					waiting[n]()
				}
			}()
		}
	}})
	var mu sync.Mutex
	var order []int
	all := make(chan struct{})
	for n := range requests {
		door.Produce(t.Context(), Numbered(n, nil), func(a *api.ProduceResponse, err error) {
			if err != nil || a.Partitions[0].BaseOffset != int64(n)*10 {
				t.Errorf("request %d: %+v, %v", n, a, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if order = append(order, n); len(order) == requests {
				close(all)
			}
		})
	}
	Await(t, all)
	for i, n := range order {
		if n != requests-1-i {
			t.Fatalf("answers came in the order %v", order)
		}
	}
}

// A broker that takes nothing more holds the callers back: their number and
// memory stay bounded, and a caller's context gets it out.
func testProduceWaits(t *testing.T, newBroker newDoor) {
	const enough = 20_000
	resume := make(chan struct{})
	door := newBroker(t, &Backend{ProduceFunc: func(ctx context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		select {
		case <-resume:
			done(Answered(q), nil)
		case <-ctx.Done():
			done(nil, ctx.Err())
		}
	}})
	batch := make([]byte, 16<<10)
	handedOver := 0
	var outcomes []<-chan Outcome
	for refused := false; !refused; {
		if handedOver == enough {
			t.Fatalf("%d requests were handed to a broker that takes none", enough)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
		c := Produce(ctx, t, door, Numbered(handedOver, batch))
		select {
		case o := <-c:
			if refused = true; !errors.Is(o.Err, context.DeadlineExceeded) {
				t.Errorf("the call whose context ended was done with %v", o.Err)
			}
		default:
			outcomes = append(outcomes, c)
			handedOver++
		}
		cancel()
	}
	close(resume)
	for n, c := range outcomes {
		expectAnswer(t, n, Await(t, c))
	}
}

func testProduceOutlivesContext(t *testing.T, newBroker newDoor) {
	taken, finish := make(chan struct{}), make(chan struct{})
	door := newBroker(t, &Backend{ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		go func() {
			close(taken)
			<-finish
			done(Answered(q), nil)
		}()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	c := Produce(ctx, t, door, Numbered(4, nil))
	Await(t, taken)
	cancel()
	close(finish)
	expectAnswer(t, 4, Await(t, c))
}

func testBytesUnchanged(t *testing.T, newBroker newDoor) {
	var stored []byte
	door := newBroker(t, &Backend{
		ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
			stored = q.Partitions[0].Batch
			done(Answered(q), nil)
		},
		FetchFunc: func(context.Context, *api.FetchRequest) (*api.FetchResponse, error) {
			return &api.FetchResponse{Partitions: []api.FetchResult{{Batches: stored}}}, nil
		},
	})
	rng := rand.NewChaCha8([32]byte{})
	for _, size := range []int{0, 1, 61, 16 << 10, 1 << 20, 1<<20 + 512} {
		batch := make([]byte, size)
		_, _ = rng.Read(batch)
		if o := Await(t, Produce(t.Context(), t, door, Numbered(1, batch))); o.Err != nil {
			t.Fatal(o.Err)
		}
		if !bytes.Equal(stored, batch) {
			t.Errorf("a batch of %d bytes arrived changed", size)
		}
		a, err := door.Fetch(t.Context(), &api.FetchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Partitions[0].Batches, batch) {
			t.Errorf("a batch of %d bytes came back changed", size)
		}
	}
}

func testManyCallers(t *testing.T, newBroker newDoor) {
	door := newBroker(t, &Backend{
		ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
			go done(Answered(q), nil)
		},
		ListOffsetsFunc: func(_ context.Context, q *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error) {
			p := q.Partitions[0]
			return &api.ListOffsetsResponse{Partitions: []api.ListOffsetsResult{{TopicPartition: p.TopicPartition, Offset: p.Timestamp}}}, nil
		},
	})
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for i := range 100 {
				n := caller*1000 + i
				o := Await(t, Produce(t.Context(), t, door, Numbered(n, []byte("b"))))
				if o.Err != nil || o.Answer.Partitions[0].BaseOffset != int64(n)*10 {
					t.Errorf("request %d: %+v, %v", n, o.Answer, o.Err)
				}
				a, err := door.ListOffsets(t.Context(), &api.ListOffsetsRequest{Partitions: []api.ListOffsetsPartition{
					{TopicPartition: api.TopicPartition{Topic: fmt.Sprint(n)}, Timestamp: int64(n)},
				}})
				if err != nil || a.Partitions[0].Offset != int64(n) || a.Partitions[0].Topic != fmt.Sprint(n) {
					t.Errorf("call %d: %+v, %v", n, a, err)
				}
			}
		})
	}
	callers.Wait()
}
