package bench_test

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/bench"
)

// open starts a broker in memory and returns how to measure it.
func open(t *testing.T, cfg bench.Config) (bench.Config, *mq.Admin) {
	t.Helper()
	b, err := mq.OpenBroker(t.Context(), mq.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.Connect = func(context.Context) (mq.Endpoint, error) { return b, nil }
	return cfg, mq.NewAdmin(b)
}

func noTopics(t *testing.T, a *mq.Admin) {
	t.Helper()
	topics, err := a.ListTopics(context.Background())
	if err != nil || len(topics) > 0 {
		t.Errorf("topics that are left: %v, %v", topics, err)
	}
}

func TestEveryRecordIsCounted(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]bench.Config{
		"produce":                   {Kind: bench.Produce, Clients: 1, Partitions: 1, Size: 100},
		"produce, acks none":        {Kind: bench.Produce, Clients: 1, Partitions: 1, Size: 100, Acks: mq.AcksNone},
		"produce at a rate":         {Kind: bench.Produce, Clients: 3, Partitions: 2, Size: 0, Rate: 1e5, Compression: mq.CompressionZstd},
		"consume":                   {Kind: bench.Consume, Clients: 2, Partitions: 5, Size: 1000, Compression: mq.CompressionGzip},
		"end to end":                {Kind: bench.EndToEnd, Clients: 3, Partitions: 2, Size: 8},
		"end to end at a rate":      {Kind: bench.EndToEnd, Clients: 2, Partitions: 4, Size: 50, Rate: 1e4, KeepBytes: 1 << 30},
		"more clients than records": {Kind: bench.EndToEnd, Clients: 8, Partitions: 1, Size: 8, Records: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, admin := open(t, cfg)
			want := cmp.Or(cfg.Records, 501)
			cfg.Records = want
			r, err := bench.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.Records != want || r.Failed != 0 || r.Missing != 0 || r.Err != nil || r.Elapsed <= 0 {
				t.Errorf("measured %+v", r)
			}
			l := r.Latency
			if l.P50 < 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max || l.Max <= 0 {
				t.Errorf("latencies are %+v", l)
			}
			noTopics(t, admin)
		})
	}
}

func TestRunEndsAfterItsDuration(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 1000} {
		cfg, admin := open(t, bench.Config{Kind: bench.EndToEnd, Clients: 1, Partitions: 1, Size: 8, Rate: rate, Duration: 50 * time.Millisecond})
		r, err := bench.Run(t.Context(), cfg)
		if err != nil || r.Records < 1 || r.Missing != 0 {
			t.Errorf("rate %v: %+v, %v", rate, r, err)
		}
		if rate > 0 && r.Records != 50 {
			t.Errorf("%d records at 1000 per second in 50 ms", r.Records)
		}
		noTopics(t, admin)
	}
}

func TestInterruptedRunTellsWhatItHas(t *testing.T) {
	t.Parallel()
	for _, kind := range []bench.Kind{bench.Produce, bench.EndToEnd} {
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		cfg, admin := open(t, bench.Config{Kind: kind, Clients: 2, Partitions: 2, Size: 8, Rate: 2, Duration: time.Hour})
		go func() { // ends when the first record, which is due at once, is there
			defer cancel(enough)
			for t.Context().Err() == nil {
				topics, err := admin.ListTopics(t.Context())
				if err != nil || len(topics) == 0 {
					continue
				}
				ends, err := admin.ListOffsets(t.Context(), topics[0].Name, mq.StartLatest)
				if err == nil && ends[0].Offset+ends[1].Offset > 0 {
					return
				}
			}
		}()
		r, err := bench.Run(ctx, cfg)
		if !errors.Is(err, enough) || r.Failed > 0 {
			t.Errorf("%s: %+v, %v", kind, r, err)
		}
		noTopics(t, admin)
	}
}

func TestRunFailsWithItsRecords(t *testing.T) {
	t.Parallel()
	for _, kind := range []bench.Kind{bench.Produce, bench.Consume, bench.EndToEnd} {
		cfg, admin := open(t, bench.Config{Kind: kind, Clients: 1, Partitions: 1, Size: 2 << 20, Records: 3})
		if r, err := bench.Run(t.Context(), cfg); !errors.Is(err, mq.ErrRecordTooLarge) {
			t.Errorf("%s of records that are too large: %+v, %v", kind, r, err)
		}
		noTopics(t, admin)
	}
	absent := errors.New("absent")
	_, err := bench.Run(t.Context(), bench.Config{
		Kind: bench.Produce, Clients: 1, Partitions: 1, Records: 1,
		Connect: func(context.Context) (mq.Endpoint, error) { return nil, absent },
	})
	if !errors.Is(err, absent) {
		t.Errorf("without a broker: %v", err)
	}
}
