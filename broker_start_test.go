package mq_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/raftmq/mq"
)

// text is what a logger wrote.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// Nothing is wrong when brokers start for the first time, and so nothing is warned of.
// Not parallel: what raft says of any broker in the process comes to the logger that
// was given last, and other tests' brokers die.
func TestTheFirstStartOfThreeBrokersLooksLikeNoError(t *testing.T) {
	var said text
	logger := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	brokers := openCluster(t, 3, func(cfg *mq.BrokerConfig) { cfg.Logger = logger.With("broker", cfg.ID) })
	until(t, mq.NewAdmin(brokers[3]).ClusterHealth, func(c mq.ClusterHealth) bool { return healthy(c) && len(c.Brokers) == 3 })
	if s := said.String(); s != "" {
		t.Errorf("the brokers warned of:\n%s", s)
	}
}

// Who waits for a broker that fails hears why, however late it asks.
func TestWaitReadyTellsWhyTheBrokerFailed(t *testing.T) {
	t.Parallel()
	net := mq.NewNetwork()
	open := func(id int32, dir string, seeds ...string) *mq.Broker {
		b, err := mq.OpenBroker(t.Context(), mq.BrokerConfig{
			ID: id, DataDir: dir, MinFreeBytes: -1, Cluster: mq.ClusterConfig{Network: net, Seeds: seeds},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	first := open(1, t.TempDir())
	twin := open(1, t.TempDir(), first.PeerAddr()) // the number is taken
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		defer cancel()
		if err := twin.WaitReady(ctx); !errors.Is(err, mq.ErrInvalidRequest) || errors.Is(err, mq.ErrClosed) {
			t.Errorf("it says %v", err)
		}
		<-twin.Done()
	}
}
