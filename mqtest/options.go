package mqtest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/backoff"
)

// Option says something about a broker or a cluster.
type Option func(*options)

type options struct {
	topics []mq.TopicSpec
	config func(*mq.BrokerConfig)
	seed   uint64
	clocks map[int32]time.Duration // by broker, how wrong
	log    bool
}

// Topics creates topics.
func Topics(partitions int, names ...string) Option {
	return func(o *options) {
		for _, name := range names {
			o.topics = append(o.topics, mq.TopicSpec{Name: name, Partitions: partitions})
		}
	}
}

// Config changes the configuration of every broker, whenever it is opened. The ID
// is set already, and changing it does nothing; nor do DataDir, Listen, Advertise and
// Cluster, which are set afterwards. A Logger gets what would be told on failure.
func Config(change func(*mq.BrokerConfig)) Option {
	return func(o *options) { o.config = change }
}

// Seed decides what power cuts leave. Default by chance; a test that failed tells it.
func Seed(seed uint64) Option {
	return func(o *options) { o.seed = seed }
}

// ClockOff makes the clock of a broker wrong: ahead of time, or behind.
func ClockOff(id int32, by time.Duration) Option {
	return func(o *options) {
		if o.clocks == nil {
			o.clocks = make(map[int32]time.Duration)
		}
		o.clocks[id] = by
	}
}

// Log writes what brokers have to say to the test's output at once, not only, and
// the end of it, when the test has failed.
func Log() Option {
	return func(o *options) { o.log = true }
}

func newOptions(opts []Option) options {
	o := options{config: func(*mq.BrokerConfig) {}}
	for _, opt := range opts {
		opt(&o)
	}
	o.seed = cmp.Or(o.seed, rand.Uint64())
	return o
}

// maxKept bounds the log that is kept for a failure.
const maxKept = 256 << 10

// output is where brokers log to. They may do so after the test, when it goes
// nowhere.
type output struct {
	tb testing.TB
	mu struct {
		sync.Mutex
		live bool // write at once
		done bool
		kept []byte
	}
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mu.done:
	case o.mu.live:
		return o.tb.Output().Write(p)
	default:
		if len(o.mu.kept) > maxKept {
			o.mu.kept = append(o.mu.kept[:0], o.mu.kept[maxKept/2:]...)
		}
		o.mu.kept = append(o.mu.kept, p...)
	}
	return len(p), nil
}

// end tells what was kept if the test has failed.
func (o *output) end(seed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.done = true
	if o.tb.Failed() {
		fmt.Fprintf(o.tb.Output(), "mqtest.Seed(%d); what the brokers logged last:\n%s", seed, o.mu.kept)
	}
}

func (o *output) logger(id int32) *slog.Logger {
	return slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelInfo})).With("broker", id)
}

// patience is how long anything may take that should happen by itself.
const patience = 2 * time.Minute

// eventually tries until it gets no error.
func eventually(tb testing.TB, what string, try func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for failures := 1; ; failures++ {
		err := try(ctx)
		if err == nil {
			return
		}
		if backoff.Sleep(ctx, tryAgain.Delay(failures)) != nil {
			tb.Fatalf("mqtest: %s: %v", what, err)
		}
	}
}

var tryAgain = backoff.Policy{Base: 5 * time.Millisecond, Max: 100 * time.Millisecond}
