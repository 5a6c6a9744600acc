package produce_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
)

func TestShutdownSettlesEverything(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Linger = time.Minute }, func(h *harness) {
		a := h.linger("a")
		if err := h.Shutdown(h.Context()); err != nil {
			h.Fatal(err)
		}
		if !a.settled() || a.offset() != 0 {
			h.Fatal("not stored")
		}
		h.refusesEverything()
	})
}

func (h *harness) refusesEverything() {
	h.Helper()
	rec, _ := h.record(0, "late")
	if err := h.Add(context.Background(), "t", rec, true); !errors.Is(err, mqerr.ErrClosed) {
		h.Fatalf("Add: %v", err)
	}
	if err := h.TryAdd("t", rec); !errors.Is(err, mqerr.ErrClosed) {
		h.Fatalf("TryAdd: %v", err)
	}
	if err := h.Flush(context.Background()); err != nil {
		h.Fatalf("Flush: %v", err)
	}
	if err := h.Shutdown(context.Background()); err != nil {
		h.Fatalf("Shutdown: %v", err)
	}
	h.Close()
}

func TestShutdownThatTimesOutGoesOn(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.fates(fate{delay: 10 * time.Second})
		a := h.send("a")
		ctx, cancel := context.WithTimeout(h.Context(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			h.Fatal(err)
		}
		if err := h.Shutdown(h.Context()); err != nil {
			h.Fatal(err)
		}
		a.offset()
	})
}

func TestCloseFailsWhatIsLeft(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BatchRecords, cfg.MaxInFlight, cfg.BufferRecords = 1, 1, 3 }, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{silent: true})
		sent, unsent, parked := h.send("sent"), h.send("unsent"), &pending{t: h.T, done: make(chan produce.Result, 1)}
		if err := h.Add(h.Context(), "nowhere", produce.Record{Promise: parked}, true); err != nil {
			h.Fatal(err)
		}
		blocked := make(chan error, 1)
		go func() {
			rec, _ := h.record(0, "blocked")
			blocked <- h.Add(context.Background(), "t", rec, true)
		}()
		synctest.Wait()
		h.Close()
		if err := sent.failure(); !mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("sent: %v", err)
		}
		if err := unsent.failure(); mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("unsent: %v", err)
		}
		if err := parked.failure(); mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("parked: %v", err)
		}
		if err := <-blocked; !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("blocked: %v", err)
		}
	})
}

func TestClosedRouterFailsWhatIsLeft(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.topics["t"].partitions[0].leader = -1 })
		p := h.send("a")
		time.Sleep(time.Second)
		_ = h.r.Close()
		if err := p.failure(); !errors.Is(err, mqerr.ErrClosed) {
			h.Fatal(err)
		}
		rec, _ := h.record(0, "late")
		if err := h.Add(h.Context(), "t", rec, true); !errors.Is(err, mqerr.ErrClosed) {
			h.Fatal(err)
		}
	})
}

// again is a promise that sends a record when it is settled.
type again struct {
	h    *harness
	left int
	done chan error
}

func (a *again) Settle(r produce.Result) {
	if r.Err != nil || a.left == 0 {
		a.done <- r.Err
		return
	}
	a.left--
	if err := a.h.TryAdd("t", produce.Record{Promise: a}); err != nil {
		a.done <- err
	}
}

func TestCallbackMaySendMore(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BufferRecords = 2 }, func(h *harness) {
		a := &again{h: h, left: 10, done: make(chan error, 1)}
		if err := h.TryAdd("t", produce.Record{Promise: a}); err != nil {
			h.Fatal(err)
		}
		if err := <-a.done; err != nil {
			h.Fatal(err)
		}
		if got := len(h.c.values("t", 0)); got != 11 {
			h.Fatalf("%d records", got)
		}
	})
}
