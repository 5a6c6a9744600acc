package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestCallIsAnswered(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a := w.attach("a")
		b := w.attach("b", answering(func(_ context.Context, from network.Identity, method string, payload []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s %s %s %s", from.DirectoryID, from.Addr, method, payload), nil
		}))
		for _, payload := range []string{"", "x", string(pattern(1, 3<<20))} {
			got, err := a.Call(t.Context(), "b", "greet", []byte(payload))
			if want := "a " + a.Addr() + " greet " + payload; err != nil || string(got) != want {
				t.Fatalf("got %.80q (%d bytes), %v", got, len(got), err)
			}
		}
		if got, err := b.Call(t.Context(), "b", "self", nil); err != nil || string(got) != "b "+b.Addr()+" self " {
			t.Fatalf("a broker that calls itself got %q, %v", got, err)
		}
	})
}

func TestPayloadAndAnswerBelongToTheCaller(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		held := make(chan []byte, 1)
		a := w.attach("a")
		w.attach("b", answering(func(_ context.Context, _ network.Identity, _ string, payload []byte) ([]byte, error) {
			held <- payload
			return payload, nil
		}))
		payload := []byte("mine")
		got, err := a.Call(t.Context(), "b", "m", payload)
		if err != nil {
			t.Fatal(err)
		}
		copy(payload, "XXXX")
		copy(got, "YYYY")
		if theirs := <-held; string(theirs) != "mine" {
			t.Errorf("the handler's payload became %q", theirs)
		}
	})
}

func TestErrorOfAHandlerKeepsSentinelFactsAndText(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		var fail error
		a := w.attach("a")
		w.attach("b", answering(func(context.Context, network.Identity, string, []byte) ([]byte, error) { return nil, fail }))
		for _, row := range mqerr.Table() {
			fail = fmt.Errorf("topic %q: %w", "t", row)
			if _, err := a.Call(t.Context(), "b", "m", nil); mqerr.Of(err) != row {
				t.Errorf("%v came back as %v", fail, err)
			}
		}
		want := mqerr.Detail{
			Err: mqerr.ErrNotLeader, Leader: 3, LeaderAddr: "there:1", LeaderEpoch: 7, LogStart: -1, HighWatermark: 1 << 40,
		}
		fail = fmt.Errorf("wrapped: %w", &want)
		_, err := a.Call(t.Context(), "b", "m", nil)
		var got *mqerr.Detail
		if !errors.As(err, &got) || !errors.Is(err, mqerr.ErrNotLeader) {
			t.Fatalf("got %v", err)
		}
		got.Err = want.Err
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
		for cause, want := range map[error]error{
			mqerr.ErrClosed:          mqerr.ErrLeaderNotAvailable,
			context.DeadlineExceeded: mqerr.ErrTimeout,
			errors.New("surprise"):   mqerr.ErrInternal,
		} {
			fail = cause
			if _, err := a.Call(t.Context(), "b", "m", nil); !errors.Is(err, want) {
				t.Errorf("%v came back as %v", cause, err)
			}
		}
	})
}

func TestCallThatCanNotLeaveSaysSo(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a := w.attach("a")
		b := w.attach("b", answering(echo))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"unknown broker": func() error { _, err := a.Call(t.Context(), "nobody", "m", nil); return err },
			"closed broker":  func() error { _, err := a.Call(t.Context(), "b", "m", nil); return err },
			"back-off":       func() error { _, err := a.Call(t.Context(), "b", "m", nil); return err },
			"closed address": func() error { _, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil); return err },
			"no time":        func() error { _, err := a.Call(ended, "b", "m", nil); return err },
		} {
			if err := call(); !errors.Is(err, mqerr.ErrLeaderNotAvailable) || !mqerr.Retriable(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Call(t.Context(), "b", "m", nil); !errors.Is(err, mqerr.ErrClosed) {
			t.Errorf("closed link: %v", err)
		}
		if _, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil); !errors.Is(err, mqerr.ErrClosed) {
			t.Errorf("closed link: %v", err)
		}
	})
}

func TestBrokerWithoutHandlerDoesNotAnswerCalls(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a := w.attach("a")
		w.attach("b")
		if _, err := a.Call(t.Context(), "b", "m", nil); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCallWithoutAnswerHasUnknownOutcome(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		there := make(chan context.Context, 1)
		handler := answering(func(ctx context.Context, _ network.Identity, _ string, _ []byte) ([]byte, error) {
			there <- ctx
			<-ctx.Done()
			return nil, ctx.Err()
		})
		a := w.attach("a")
		b := w.attach("b", handler)

		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		call := func(ctx context.Context) {
			_, err := a.Call(ctx, "b", "m", nil)
			result <- err
		}
		go call(ctx)
		theirs := receive(t, there)
		cancel(enough)
		if err := receive(t, result); !errors.Is(err, mqerr.ErrTimeout) || !mqerr.OutcomeUnknown(err) || !errors.Is(err, enough) {
			t.Errorf("ctx ended: %v", err)
		}
		receive(t, theirs.Done()) // or the handler would still run

		go call(t.Context())
		receive(t, there)
		if err := b.Close(); err != nil { // and ends the handler
			t.Fatal(err)
		}
		if err := receive(t, result); !errors.Is(err, mqerr.ErrTimeout) {
			t.Errorf("broker died: %v", err)
		}
	})
}

func TestHandlerHasTheCallersDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		start := time.Now()
		ended := make(chan time.Duration, 1)
		a := w.attach("a")
		w.attach("b", answering(func(ctx context.Context, _ network.Identity, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			ended <- time.Since(start)
			return nil, ctx.Err()
		}))
		// The caller's own ctx has the deadline but can't end: the broker that was
		// called ends it.
		deadline, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := a.Call(neverDone{deadline}, "b", "m", nil)
		if d := <-ended; d != 3*time.Second || !errors.Is(err, mqerr.ErrTimeout) {
			t.Errorf("ended after %v, %v", d, err)
		}
	})
}

// neverDone is a ctx that has a deadline and does not end.
type neverDone struct{ context.Context }

func (neverDone) Done() <-chan struct{} { return nil }

func TestThousandsOfCallsInFlightAreBounded(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		const limit = 3000
		release := make(chan struct{})
		a := w.attach("a", func(c *network.Config) { c.MaxCalls = limit })
		w.attach("b", func(c *network.Config) { c.MaxCalls = limit }, answering(
			func(_ context.Context, _ network.Identity, _ string, payload []byte) ([]byte, error) {
				<-release
				return payload, nil
			}))
		var calls sync.WaitGroup
		failed := make(chan error, limit)
		for i := range uint64(limit) {
			calls.Go(func() {
				got, err := a.Call(t.Context(), "b", "m", pattern(i, 100))
				if err != nil || !bytes.Equal(got, pattern(i, 100)) {
					failed <- fmt.Errorf("call %d: %w", i, err)
				}
			})
		}
		eventually(t, "all calls in flight", func() bool { return a.Stats().CallsInFlight == limit })
		if _, err := a.Call(t.Context(), "b", "m", nil); !errors.Is(err, mqerr.ErrBusy) {
			t.Errorf("one more: %v", err)
		}
		close(release)
		calls.Wait()
		close(failed)
		for err := range failed {
			t.Error(err)
		}
		if _, err := a.Call(t.Context(), "b", "m", nil); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestBrokerThatIsAskedTooMuchIsBusy(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		const theirs = 5 // and twice that for a caller who thinks otherwise
		release := make(chan struct{})
		a := w.attach("a")
		w.attach("b", func(c *network.Config) { c.MaxCalls = theirs }, answering(
			func(context.Context, network.Identity, string, []byte) ([]byte, error) {
				<-release
				return nil, nil
			}))
		results := make(chan error, 3*theirs)
		for range 3 * theirs {
			go func() {
				_, err := a.Call(t.Context(), "b", "m", nil)
				results <- err
			}()
		}
		for range theirs {
			if err := receive(t, results); !errors.Is(err, mqerr.ErrBusy) {
				t.Errorf("got %v", err)
			}
		}
		close(release)
		for range 2 * theirs {
			if err := receive(t, results); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestCallsAndAnswersAreBoundedInSize(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		small := func(c *network.Config) { c.MaxCallBytes = 1000 }
		a := w.attach("a", small)
		w.attach("b", small, answering(func(_ context.Context, _ network.Identity, _ string, payload []byte) ([]byte, error) {
			return slices.Concat(payload, payload), nil
		}))
		if _, err := a.Call(t.Context(), "b", "m", make([]byte, 1001)); !errors.Is(err, mqerr.ErrInvalidRequest) {
			t.Errorf("large call: %v", err)
		}
		if _, err := a.Call(t.Context(), "b", "m", make([]byte, 501)); !errors.Is(err, mqerr.ErrInternal) {
			t.Errorf("large answer: %v", err)
		}
		if got, err := a.Call(t.Context(), "b", "m", make([]byte, 500)); err != nil || len(got) != 1000 {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

// A caller whose peer reads nothing must not pile up memory.
func TestCallsThatWaitToBeWrittenAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		deaf(t, w)
		a := w.attach("a", func(c *network.Config) { c.CallQueueBytes = 1_000_000 })
		results := make(chan error, 20)
		ctx, cancel := context.WithCancel(t.Context())
		for range cap(results) {
			go func() {
				_, err := a.Call(ctx, "deaf", "m", make([]byte, 100_000))
				results <- err
			}()
		}
		synctest.Wait()
		busy := len(results)
		for range busy {
			if err := <-results; !errors.Is(err, mqerr.ErrBusy) {
				t.Errorf("got %v", err)
			}
		}
		if busy < 10 || busy > 12 {
			t.Errorf("%d of %d calls found no room", busy, cap(results))
		}
		cancel()
		unknown := 0
		for range cap(results) - busy {
			if err := <-results; mqerr.OutcomeUnknown(err) {
				unknown++
			} else if !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
				t.Errorf("got %v", err)
			}
		}
		if unknown == 0 {
			t.Error("nothing was being written")
		}
	})
}
