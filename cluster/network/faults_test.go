package network_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestCutLosesInSilenceAndOneWay(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b")
		ra, rb := raftOn(t, a), raftOn(t, b)
		ab, ba := ra.lane("b"), rb.lane("a")
		arrives(t, "a", ab, rb)
		arrives(t, "b", ba, ra)
		for name, cut := range map[string]func(){
			"cut":      func() { w.faults.Set("a", "b", network.Rule{Cut: true}) },
			"isolated": func() { w.faults.Isolate("a") },
			"split":    func() { w.faults.Split([]string{"a", "c"}, []string{"b"}) },
		} {
			cut()
			if err := errors.Join(ab.SendMessageBatch(batch("a", 1, 1)), ba.SendMessageBatch(batch("b", 1, 1))); err != nil {
				t.Fatal(err)
			}
			if name == "cut" {
				if got := ra.next(); number(got) != 1 {
					t.Errorf("the other way: got %d", number(got))
				}
			}
			if w.faults.HealAll(); name != "cut" {
				w.faults.Heal("b") // which has nothing left to do
			}
			if err := errors.Join(ab.SendMessageBatch(batch("a", 2, 1)), ba.SendMessageBatch(batch("b", 2, 1))); err != nil {
				t.Fatal(err)
			}
			for _, e := range []*raftEnd{ra, rb} {
				if got := e.next(); number(got) != 2 {
					t.Errorf("%s: message %d came through", name, number(got))
				}
			}
		}
	})
}

// Through a cut nobody hears a farewell; who says it goes all the same.
func TestConnectionIsClosedThroughACut(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b")
		from, to := raftOn(t, a), raftOn(t, b)
		lane := from.lane("b")
		arrives(t, "a", lane, to)
		w.faults.Isolate("b")
		lane.Close()
		eventually(t, "the connection ends", func() bool { return a.Stats().Connections == 0 })
		if a.Stats().Broken != 0 {
			t.Error("it broke")
		}
	})
}

func TestHealOfOneBrokerLeavesTheOthersRules(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b, c := w.attach("a"), w.attach("b"), w.attach("c")
		ra, rb, rc := raftOn(t, a), raftOn(t, b), raftOn(t, c)
		ab, ac, ba, bc := ra.lane("b"), ra.lane("c"), rb.lane("a"), rb.lane("c")
		arrives(t, "a", ab, rb)
		arrives(t, "a", ac, rc)
		arrives(t, "b", ba, ra)
		arrives(t, "b", bc, rc)
		w.faults.Isolate("b")
		w.faults.SetBoth("a", "c", network.Rule{Cut: true})
		w.faults.Heal("b")
		if err := errors.Join(ac.SendMessageBatch(batch("a", 1, 1)), bc.SendMessageBatch(batch("b", 2, 1))); err != nil {
			t.Fatal(err)
		}
		if got := rc.next(); got.SourceAddress != "b" {
			t.Errorf("got a message from %s", got.SourceAddress)
		}
	})
}

func TestCallThroughACutHasUnknownOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		calls := 0
		a := w.attach("a")
		w.attach("b", answering(func(context.Context, network.Identity, string, []byte) ([]byte, error) {
			calls++
			return nil, nil
		}))
		call := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := a.Call(ctx, "b", "m", nil)
			return err
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
		w.faults.Set("a", "b", network.Rule{Cut: true})
		if err := call(); !errors.Is(err, mqerr.ErrTimeout) || calls != 1 {
			t.Errorf("request lost: %v after %d calls", err, calls)
		}
		w.faults.Set("a", "b", network.Rule{})
		w.faults.Set("b", "a", network.Rule{Cut: true})
		if err := call(); !errors.Is(err, mqerr.ErrTimeout) || calls != 2 {
			t.Errorf("answer lost: %v after %d calls", err, calls)
		}
		w.faults.HealAll()
		if err := call(); err != nil || calls != 3 {
			t.Errorf("healed: %v after %d calls", err, calls)
		}
	})
}

// Through a cut no connection is made, but it is as soon as the cut is gone.
func TestCutHoldsUpConnecting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		a, b := w.attach("a"), w.attach("b", answering(echo))
		w.faults.Isolate("b")
		start := time.Now()
		_, err := a.Call(t.Context(), "b", "m", nil)
		if d := time.Since(start); !errors.Is(err, mqerr.ErrLeaderNotAvailable) || d != 2*time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		result := make(chan error)
		go func() {
			_, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil)
			result <- err
		}()
		synctest.Wait()
		w.faults.Heal("b")
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestBrokenConnectionIsAnErrorAndAHint(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		there := make(chan struct{}, 1)
		broken := make(chan string, 100)
		hint := func(c *network.Config) { c.Handlers.OnBroken = func(id string) { broken <- id } }
		a := w.attach("a", hint)
		b := w.attach("b", answering(func(ctx context.Context, _ network.Identity, method string, payload []byte) ([]byte, error) {
			if method == "wait" {
				there <- struct{}{}
				<-ctx.Done()
			}
			return payload, nil
		}))
		c := w.attach("c", answering(echo))
		result := make(chan error, 1)
		go func() {
			_, err := a.Call(t.Context(), "b", "wait", nil)
			result <- err
		}()
		receive(t, there)
		w.faults.Set("a", "b", network.Rule{Broken: true})
		if err := receive(t, result); !errors.Is(err, mqerr.ErrTimeout) {
			t.Errorf("call in flight: %v", err)
		}
		if got := receive(t, broken); got != "b" {
			t.Errorf("told of %s", got)
		}
		if _, err := a.Call(t.Context(), "b", "m", nil); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("call meanwhile: %v", err)
		}
		if _, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("call of the address meanwhile: %v", err)
		}
		if _, err := a.Call(t.Context(), "c", "m", nil); err != nil {
			t.Errorf("call of another broker: %v", err)
		}
		w.faults.Heal("b")
		works := func(id string) {
			eventually(t, "calls work again", func() bool {
				_, err := a.Call(t.Context(), id, "m", nil)
				if err != nil && !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
					t.Fatal(err)
				}
				return err == nil
			})
		}
		works("b")
		if err := errors.Join(b.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
		got := []string{receive(t, broken), receive(t, broken)}
		slices.Sort(got)
		if !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("when two brokers died, told of %v", got)
		}
	})
}

func TestDelayKeepsOrderAndDoesNotAddUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		from, to := raftOn(t, w.attach("a")), raftOn(t, w.attach("b"))
		lane := from.lane("b")
		arrives(t, "a", lane, to)
		w.faults.Set("a", "b", network.Rule{Delay: 100 * time.Millisecond})
		start := time.Now()
		for i := range uint64(10) {
			if err := lane.SendMessageBatch(batch("a", i, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for i := range uint64(10) {
			got := to.next()
			if d := time.Since(start); number(got) != i || d != time.Duration(10*i+100)*time.Millisecond {
				t.Errorf("message %d arrives after %v, %d was due", number(got), d, i)
			}
		}
	})
}

func TestChanceIsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	const n = 200
	arrived := func(seed uint64) (got []uint64) {
		w := inMemory(t)
		w.faults = network.NewFaults(seed)
		from, to := raftOn(t, w.attach("a")), raftOn(t, w.attach("b"))
		lane := from.lane("b")
		arrives(t, "a", lane, to)
		send := func(i uint64) {
			if err := lane.SendMessageBatch(batch("a", i, 1)); err != nil {
				t.Fatal(err)
			}
		}
		w.faults.Set("a", "b", network.Rule{Drop: 0.3, Duplicate: 0.3})
		for i := range uint64(n) {
			send(i)
		}
		w.faults.Set("a", "b", network.Rule{})
		send(n)
		for {
			i := number(to.next())
			if i == n {
				return got
			}
			got = append(got, i)
		}
	}
	first := arrived(1)
	if again, other := arrived(1), arrived(2); !slices.Equal(first, again) || slices.Equal(first, other) {
		t.Errorf("the same seed gave %v and %v, another %v", first, again, other)
	}
	if distinct := len(slices.Compact(slices.Clone(first))); distinct < n/2 || distinct == n || distinct == len(first) {
		t.Errorf("%d of %d messages arrived, %d with those that came twice", distinct, n, len(first))
	}
}

func TestHeldSnapshotsWaitAndMessagesDoNot(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		from, to := raftOn(t, w.attach("a")), raftOn(t, w.attach("b"))
		lane := from.lane("b")
		c, err := from.trans.GetSnapshotConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.faults.Set("a", "b", network.Rule{HoldSnapshots: true})
		sent := make(chan error, 1)
		go func() { sent <- c.SendChunk(chunk(7, 3, 10)) }()
		arrives(t, "a", lane, to)
		if len(to.chunks) != 0 || len(sent) != 0 {
			t.Error("a chunk was not held")
		}
		w.faults.Set("a", "b", network.Rule{})
		if got := receive(t, to.chunks); got.ChunkId != 3 {
			t.Errorf("got chunk %d", got.ChunkId)
		}
		if err := receive(t, sent); err != nil {
			t.Error(err)
		}
	})
}
