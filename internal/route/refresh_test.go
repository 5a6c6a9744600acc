package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// oneBroker is a cluster of one broker as a Router sees it. What Routers don't
// call is not there.
type oneBroker struct {
	api.Broker
	mu     sync.Mutex
	topics map[string]uuid.UUID
	asked  int
	down   bool
}

func (b *oneBroker) add(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[name] = uuid.New()
}

func (b *oneBroker) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func (b *oneBroker) Metadata(_ context.Context, req *api.MetadataRequest) (*api.MetadataResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.down {
		return nil, mqerr.ErrLeaderNotAvailable
	}
	resp := &api.MetadataResponse{Brokers: []api.BrokerInfo{{ID: 1}}}
	for _, name := range req.Topics {
		info := api.TopicInfo{Name: name, ID: b.topics[name], Partitions: []api.PartitionInfo{{Leader: 1}}}
		if info.ID == uuid.Nil {
			info.Err = mqerr.ErrUnknownTopicOrPartition
		}
		resp.Topics = append(resp.Topics, info)
	}
	return resp, nil
}

// waitFor asks for a topic that is missing until ctx ends, as a consumer does.
func waitFor(ctx context.Context, r *Router, name string) {
	for ctx.Err() == nil {
		changed := r.Changed()
		r.Want(name, false)
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func TestWaitingForOneTopicDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &oneBroker{topics: map[string]uuid.UUID{}}
		r := New(Config{Local: b, LocalID: 1, MaxAge: time.Hour})
		defer r.Close()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); waitFor(ctx, r, "missing") }()
		time.Sleep(time.Minute) // of the bubble
		before := b.requests()
		time.Sleep(time.Minute)
		if n := b.requests() - before; n < 40 || n > 80 {
			t.Errorf("%d refreshes in a minute for a topic that is missing, want about one a second", n)
		}
		for i := range 100 {
			name := fmt.Sprint("topic-", i)
			b.add(name)
			began := time.Now()
			if _, err := r.Topic(t.Context(), name, false); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("topic %d of a hundred was found after %v", i, took)
			}
		}
		stop()
		<-done
	})
}

func TestRefreshesThatFailAreSpacedForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &oneBroker{down: true, topics: map[string]uuid.UUID{"t": uuid.New()}}
		r := New(Config{Local: b, LocalID: 1, MaxAge: time.Hour})
		defer r.Close()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		done := make(chan struct{})
		for i := range 10 {
			go func() { waitFor(ctx, r, fmt.Sprint("topic-", i)); done <- struct{}{} }()
		}
		for range 10 {
			<-done
		}
		if n := b.requests(); n < 40 || n > 80 {
			t.Errorf("%d refreshes in a minute without a broker, want about one a second", n)
		}
		if _, err := r.Topic(t.Context(), "t", false); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("without a broker: %v", err)
		}
		b.mu.Lock()
		b.down = false
		b.mu.Unlock()
		if _, err := r.Topic(t.Context(), "t", false); err != nil {
			t.Errorf("with the broker back: %v", err)
		}
	})
}
