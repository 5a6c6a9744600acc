package network_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/mqerr"
)

// hints makes a broker tell of broken connections, with the time since start.
func hints(broken chan<- time.Duration) func(*network.Config) {
	start := time.Now()
	return func(c *network.Config) {
		c.Handlers.OnBroken = func(string) { broken <- time.Since(start) }
	}
}

func TestIdleConnectionStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		broken := make(chan time.Duration, 10)
		a, b := w.attach("a", hints(broken)), w.attach("b", hints(broken), answering(echo))
		from, to := raftOn(t, a), raftOn(t, b)
		arrives(t, "a", from.lane("b"), to)
		if _, err := a.Call(t.Context(), "b", "m", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if sa, sb := a.Stats(), b.Stats(); sa.Connections != 2 || sb.Connections != 2 || sa.Broken+sb.Broken != 0 || len(broken) != 0 {
			t.Errorf("after an hour: %+v, %+v", sa, sb)
		}
	})
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		there, result := make(chan struct{}, 1), make(chan error, 1)
		broken := make(chan time.Duration, 10)
		a := w.attach("a", hints(broken))
		w.attach("b", answering(func(ctx context.Context, _ network.Identity, _ string, _ []byte) ([]byte, error) {
			there <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		go func() {
			_, err := a.Call(t.Context(), "b", "m", nil)
			result <- err
		}()
		<-there
		w.faults.Isolate("b")
		if err := <-result; !errors.Is(err, mqerr.ErrTimeout) {
			t.Errorf("got %v", err)
		}
		if d := <-broken; d < 6*time.Second || d > 10*time.Second {
			t.Errorf("given up after %v, with pings every 2 s", d)
		}
	})
}

func TestStuckPeerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		broken := make(chan time.Duration, 10)
		a, b := w.attach("a", hints(broken)), w.attach("b")
		there, release := make(chan struct{}, 10), make(chan struct{})
		to := b.Raft().Create(config.NodeHostConfig{}, func(raftpb.MessageBatch) {
			there <- struct{}{}
			<-release
		}, nil)
		if err := to.Start(); err != nil {
			t.Fatal(err)
		}
		lane := raftOn(t, a).lane("b")
		for range 2 {
			if err := lane.SendMessageBatch(batch("a", 1, 1<<20)); err != nil {
				t.Error(err)
			}
		}
		<-there
		if d := <-broken; d < 6*time.Second || d > 10*time.Second {
			t.Errorf("given up after %v, with a look every 2 s", d)
		}
		close(release)
		if err := to.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A raft connection that is no longer needed goes without alarm.
func TestConnectionClosedOnPurposeIsNotBroken(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		broken := make(chan time.Duration, 10)
		a, b := w.attach("a", hints(broken)), w.attach("b", hints(broken), answering(echo))
		from, to := raftOn(t, a), raftOn(t, b)
		for range 5 {
			lane := from.lane("b")
			arrives(t, "a", lane, to)
			lane.Close()
			if _, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the connections end", func() bool { return a.Stats().Connections+b.Stats().Connections == 0 })
		if a.Stats().Broken+b.Stats().Broken != 0 || len(broken) != 0 {
			t.Error("somebody was alarmed")
		}
	})
}

// A handler that works on for a dead peer must not hold up the alarm.
func TestOutageIsToldWhileHandlersRun(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		broken := make(chan time.Duration, 10)
		there, release := make(chan struct{}, 1), make(chan struct{})
		w.attach("a", hints(broken), answering(func(context.Context, network.Identity, string, []byte) ([]byte, error) {
			there <- struct{}{}
			<-release
			return nil, nil
		}))
		b := w.attach("b")
		result := make(chan error, 1)
		go func() {
			_, err := b.Call(t.Context(), "a", "m", nil)
			result <- err
		}()
		receive(t, there)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		receive(t, broken)
		close(release)
		receive(t, result)
	})
}

func TestOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		broken := make(chan time.Duration, 100)
		a, b := w.attach("a", hints(broken)), w.attach("b", answering(echo))
		from, to := raftOn(t, a), raftOn(t, b)
		for range 4 {
			arrives(t, "a", from.lane("b"), to)
		}
		if _, err := a.Call(t.Context(), "b", "m", nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(broken) != 1 || a.Stats().Broken != 5 {
			t.Errorf("told %d times of %d connections", len(broken), a.Stats().Broken)
		}
	})
}

// A peer that connects shows that it can be reached: nothing waits any longer.
func TestPeerThatConnectsEndsTheBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		a := w.attach("a", answering(echo))
		w.lives("b", "b's address")
		call := func() error { _, err := a.Call(t.Context(), "b", "m", nil); return err }
		for range 100 { // until the back-off is as long as it gets
			if err := call(); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if err := call(); err == nil {
			t.Fatal("nobody answered")
		}
		b := w.attach("b", answering(echo), func(c *network.Config) { c.Listen = "b's address" })
		if err := call(); err == nil {
			t.Fatal("there was no back-off")
		}
		if _, err := b.Call(t.Context(), "a", "m", nil); err != nil {
			t.Fatal(err)
		}
		if err := call(); err != nil {
			t.Errorf("the back-off goes on: %v", err)
		}
	})
}

func TestAttemptsAreAtMostASecondApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		var attempts []time.Time
		a := w.attach("a", func(c *network.Config) {
			c.Resolve = func(string) (string, error) {
				attempts = append(attempts, time.Now())
				return "", errors.New("unknown")
			}
		})
		lane := raftOn(t, a).lane("b")
		for range 100_000 { // a hundred seconds
			if err := lane.SendMessageBatch(batch("a", 1, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		for i, at := range attempts[1:] {
			if gap := at.Sub(attempts[i]); gap > time.Second || i > 10 && gap < 500*time.Millisecond {
				t.Errorf("attempt %d after %v", i+1, gap)
			}
		}
		if len(attempts) < 100 {
			t.Errorf("%d attempts", len(attempts))
		}
	})
}

func TestCloseWhileEverybodySends(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a", answering(echo)), w.attach("b", answering(echo))
		ra, rb := raftOn(t, a), raftOn(t, b)
		var senders sync.WaitGroup
		loop := func(fn func() error) {
			senders.Go(func() {
				for {
					if err := fn(); errors.Is(err, mqerr.ErrClosed) {
						return
					}
				}
			})
		}
		drain := make(chan struct{})
		for _, e := range []*raftEnd{ra, rb} {
			go func() {
				for {
					select {
					case <-e.batches:
					case <-e.chunks:
					case <-drain:
						return
					}
				}
			}()
		}
		for _, side := range []struct {
			link *network.Link
			raft *raftEnd
			id   string
			to   string
		}{{a, ra, "a", "b"}, {b, rb, "b", "a"}} {
			for range 2 {
				lane := side.raft.lane(side.to)
				loop(func() error { return lane.SendMessageBatch(batch(side.id, 1, 1000)) })
				loop(func() error { _, err := side.link.Call(t.Context(), side.to, "m", make([]byte, 1000)); return err })
				loop(func() error {
					c, err := side.raft.trans.GetSnapshotConnection(t.Context(), side.to)
					if err != nil {
						return err
					}
					defer c.Close()
					return c.SendChunk(chunk(7, 0, 1000))
				})
			}
		}
		eventually(t, "everything moves", func() bool {
			sa, sb := a.Stats(), b.Stats()
			return sa.BatchesReceived > 100 && sb.BatchesReceived > 100 && sa.SnapshotBytes > 10_000 && sb.SnapshotBytes > 10_000
		})
		var closers sync.WaitGroup
		for _, l := range []*network.Link{b, b, a, a} { // twice at the same time, one side first
			closers.Go(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			if l == b {
				eventually(t, "one side is gone", func() bool { return b.Stats().Connections == 0 })
			}
		}
		closers.Wait()
		senders.Wait()
		close(drain)
	})
}
