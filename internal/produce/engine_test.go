package produce_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/internal/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is an engine on a cluster of one broker with topic t, which has two
// partitions.
type harness struct {
	*testing.T
	*produce.Engine
	c *cluster
	r *route.Router
}

// run runs a test in virtual time.
func run(t *testing.T, change func(*produce.Config), test func(h *harness)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{T: t, c: newCluster(1)}
		h.c.createTopic("t", 2)
		h.r = h.c.router(t)
		h.Engine = produce.New(config(func(cfg *produce.Config) {
			cfg.Router = h.r
			cfg.Partition = func(p produce.Promise, _ int) int {
				if p, ok := p.(*pending); ok {
					return p.partition
				}
				return 0
			}
			if change != nil {
				change(cfg)
			}
		}))
		defer h.Close()
		test(h)
	})
}

// pending is a record that was added.
type pending struct {
	t         *testing.T
	partition int
	done      chan produce.Result
	at        time.Time // of settling
}

func (p *pending) Settle(r produce.Result) {
	p.at = time.Now()
	p.done <- r
}

func (h *harness) record(partition int, value string) (produce.Record, *pending) {
	p := &pending{t: h.T, partition: partition, done: make(chan produce.Result, 1)}
	return produce.Record{Value: []byte(value), Promise: p}, p
}

func (h *harness) add(ctx context.Context, partition int, value string, urgent bool) *pending {
	h.Helper()
	rec, p := h.record(partition, value)
	if err := h.Add(ctx, "t", rec, urgent); err != nil {
		h.Fatalf("add %.20s: %v", value, err)
	}
	return p
}

// linger adds a record that is not urgent to partition 0.
func (h *harness) linger(value string) *pending {
	h.Helper()
	return h.add(context.Background(), 0, value, false)
}

// send adds an urgent record to partition 0.
func (h *harness) send(value string) *pending {
	h.Helper()
	return h.add(context.Background(), 0, value, true)
}

// offset waits for the acknowledgement.
func (p *pending) offset() int64 {
	p.t.Helper()
	r := <-p.done
	if r.Err != nil {
		p.t.Fatalf("not acknowledged: %v", r.Err)
	}
	return r.Offset
}

// failure waits for the error.
func (p *pending) failure() error {
	p.t.Helper()
	r := <-p.done
	if r.Err == nil {
		p.t.Fatalf("acknowledged at %d", r.Offset)
	}
	return r.Err
}

func (p *pending) settled() bool { return len(p.done) > 0 }

func (h *harness) holds(partition int, want ...string) {
	h.Helper()
	if got := h.c.values("t", partition); !slices.Equal(got, want) {
		h.Fatalf("partition %d holds %q, want %q", partition, got, want)
	}
}

// watchBatches returns the sizes of the batches that arrive, in records.
func (h *harness) watchBatches() func() []int {
	var sizes []int
	h.c.set(func() {
		h.c.fate = func(_ *partitionLog, b batch) fate {
			sizes = append(sizes, len(b.values))
			return fate{}
		}
	})
	return func() (got []int) {
		h.c.set(func() { got = slices.Clone(sizes) })
		return got
	}
}

// fates lets the next batches have these fates, in turn.
func (h *harness) fates(fs ...fate) {
	h.c.set(func() {
		h.c.fate = func(*partitionLog, batch) fate {
			if len(fs) == 0 {
				return fate{}
			}
			f := fs[0]
			fs = fs[1:]
			return f
		}
	})
}

func TestRecordsThatLingerShareABatch(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset() // everything is known from here on
		sizes := h.watchBatches()
		start := time.Now()
		a, b := h.linger("a"), h.linger("b")
		time.Sleep(4 * time.Millisecond)
		c := h.linger("c")
		if a.offset() != 1 || b.offset() != 2 || c.offset() != 3 {
			h.Fatal("offsets out of order")
		}
		if waited := c.at.Sub(start); waited != 5*time.Millisecond {
			h.Fatalf("settled after %v", waited)
		}
		if got := sizes(); !slices.Equal(got, []int{3}) {
			h.Fatalf("batches of %v records", got)
		}
	})
}

func TestUrgentRecordTakesTheLingeringAlong(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Linger = time.Hour; cfg.DeliveryTimeout = 0 }, func(h *harness) {
		start := time.Now()
		a := h.linger("a")
		b := h.send("b")
		if a.offset() != 0 || b.offset() != 1 || time.Since(start) > time.Second {
			h.Fatalf("took %v", time.Since(start))
		}
	})
}

func TestFullBatchDoesNotLinger(t *testing.T) {
	run(t, func(cfg *produce.Config) {
		cfg.Linger, cfg.DeliveryTimeout = time.Hour, 0
		cfg.BatchRecords = 2
		cfg.BatchBytes = 1000
	}, func(h *harness) {
		h.linger("a")
		h.linger("b").offset() // full by count

		big := h.linger(strings.Repeat("c", 900))
		next := h.linger(strings.Repeat("d", 900)) // does not fit beside
		big.offset()
		time.Sleep(time.Minute)
		if next.settled() {
			h.Fatal("the batch that is not full was sent")
		}
	})
}

func TestRecordAboveBatchBytesTravelsAlone(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BatchBytes = 1000 }, func(h *harness) {
		sizes := h.watchBatches()
		h.linger("a")
		h.linger(strings.Repeat("b", 100_000))
		h.linger("c").offset()
		if got := sizes(); !slices.Equal(got, []int{1, 1, 1}) {
			h.Fatalf("batches of %v records", got)
		}
	})
}

func TestRecordAboveTheLimitIsRefused(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.MaxRecordBytes = 1000 }, func(h *harness) {
		value := make([]byte, 1000-record.HeaderSize-9) // length, attributes, deltas, key, value, headers
		rec, p := h.record(0, string(value))
		if err := h.Add(h.Context(), "t", rec, true); err != nil {
			h.Fatalf("largest: %v", err)
		}
		p.offset()
		rec, _ = h.record(0, string(value)+"x")
		if err := h.Add(h.Context(), "t", rec, true); !errors.Is(err, mqerr.ErrRecordTooLarge) {
			h.Fatalf("one byte more: %v", err)
		}
		if err := h.TryAdd("t", rec); !errors.Is(err, mqerr.ErrRecordTooLarge) {
			h.Fatalf("one byte more: %v", err)
		}
	})
}

func TestBatchesStayBelowTheTopicsLimit(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.topics["t"].configs = map[string]string{topic.MaxMessageBytes: "500"} })
		sizes := h.watchBatches()
		for range 10 {
			h.linger(strings.Repeat("x", 150)) // two fit
		}
		if err := h.Flush(h.Context()); err != nil {
			h.Fatal(err)
		}
		if got := sizes(); slices.Max(got) != 2 {
			h.Fatalf("batches of %v records", got)
		}
	})
}

func TestFlushEndsLingeringAndReportsTheFirstFailure(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Linger = time.Minute }, func(h *harness) {
		start := time.Now()
		h.linger("a")
		if err := h.Flush(h.Context()); err != nil || time.Since(start) > time.Second {
			h.Fatalf("after %v: %v", time.Since(start), err)
		}
		h.holds(0, "a")

		h.fates(fate{refuse: mqerr.ErrInvalidRecord})
		h.linger("b")
		if err := h.Flush(h.Context()); !errors.Is(err, mqerr.ErrInvalidRecord) {
			h.Fatalf("flush: %v", err)
		}
		if err := h.Flush(h.Context()); err != nil {
			h.Fatalf("a failure was reported twice: %v", err)
		}
	})
}

func TestFlushWaitsOnlyForWhatCameBefore(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{delay: time.Second}, fate{delay: time.Hour})
		h.send("a")
		flushed := make(chan error, 1)
		go func() { flushed <- h.Flush(context.Background()) }()
		synctest.Wait()
		h.send("b")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(flushed) == 0 {
			h.Fatal("flush waits for a record that came later")
		}
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.fates(fate{silent: true})
		h.send("a")
		ctx, cancel := context.WithTimeout(h.Context(), time.Second)
		defer cancel()
		if err := h.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			h.Fatal(err)
		}
	})
}

func TestFullBufferMakesAddWait(t *testing.T) {
	for name, change := range map[string]func(*produce.Config){
		"records": func(cfg *produce.Config) { cfg.BufferRecords = 2 },
		"bytes":   func(cfg *produce.Config) { cfg.BufferBytes = 2100 },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(cfg *produce.Config) { change(cfg); cfg.Linger = time.Minute }, func(h *harness) {
				value := strings.Repeat("x", 1000)
				h.linger(value)
				h.linger(value)
				rec, _ := h.record(0, value)
				if err := h.TryAdd("t", rec); !errors.Is(err, mqerr.ErrBufferFull) {
					h.Fatalf("TryAdd: %v", err)
				}
				start := time.Now()
				h.linger(value) // waits until there is room: one that lingered is stored at once
				if got := len(h.c.values("t", 0)); got < 1 || time.Since(start) > time.Second {
					h.Fatalf("%d records stored after %v", got, time.Since(start))
				}
			})
		})
	}
}

func TestNothingLingersWhileSomebodyWaitsForRoom(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BufferRecords = 1; cfg.Linger = time.Minute }, func(h *harness) {
		h.linger("a")
		done := make(chan error, 2)
		for range 2 {
			go func() {
				rec, _ := h.record(0, "b")
				done <- h.Add(context.Background(), "t", rec, false)
			}()
		}
		time.Sleep(time.Second)
		h.holds(0, "a", "b") // the other may linger: nobody waits any more
		if err := errors.Join(<-done, <-done); err != nil {
			h.Fatal(err)
		}
	})
}

func TestAddThatWaitsForRoomEndsWithItsContext(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BufferRecords = 1 }, func(h *harness) {
		h.fates(fate{silent: true})
		h.send("a")
		ctx, cancel := context.WithTimeout(h.Context(), time.Second)
		defer cancel()
		rec, p := h.record(0, "b")
		err := h.Add(ctx, "t", rec, true)
		if !errors.Is(err, context.DeadlineExceeded) || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		h.Close()
		if p.settled() {
			h.Fatal("settled although Add failed")
		}
		h.holds(0, "a")
	})
}

// In real time, for encoders keep channels, which must not leave a bubble.
func TestEveryCodecArrives(t *testing.T) {
	t.Parallel()
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		c := newCluster(1)
		c.createTopic("t", 1)
		h := &harness{T: t, c: c, r: c.router(t)}
		h.Engine = produce.New(config(func(cfg *produce.Config) { cfg.Router, cfg.Codec = h.r, codec }))
		value := strings.Repeat("the same again ", 1000)
		h.send(value).offset()
		h.holds(0, value)
		h.Close()
	}
}
