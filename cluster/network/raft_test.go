package network_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestRaftMessagesArriveInOrder(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b")
		from, to := raftOn(t, a), raftOn(t, b)
		lane := from.lane("b")
		const n = 1000
		for i := range uint64(n) {
			if err := lane.SendMessageBatch(batch("a", i, int(i)+1)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range uint64(n) {
			if got, want := to.next(), batch("a", i, int(i)+1); number(got) != i || !reflect.DeepEqual(got, want) {
				t.Fatalf("message %d is\n%+v, want\n%+v", i, got, want)
			}
		}
		if s := a.Stats(); s.BatchesSent != n || s.BatchesDropped != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestLargeRaftMessageArrives(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		small := func(c *network.Config) { c.RaftQueueBytes = 1 << 20 }
		from, to := raftOn(t, w.attach("a", small)), raftOn(t, w.attach("b"))
		lane := from.lane("b")
		for _, size := range []int{5 << 20, 10, 2 << 20} { // larger than the queue
			if err := lane.SendMessageBatch(batch("a", 5, size)); err != nil {
				t.Fatal(err)
			}
			if got := to.next(); !bytes.Equal(got.Requests[0].Entries[0].Cmd, pattern(5, size)) {
				t.Errorf("message of %d bytes was changed", size)
			}
		}
	})
}

// The library reuses what it sent as soon as it is sent.
func TestSentMessagesAreNotAliased(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		from, to := raftOn(t, w.attach("a")), raftOn(t, w.attach("b"))
		w.faults.Set("a", "b", network.Rule{Duplicate: 1})
		lane := from.lane("b")
		sent := batch("a", 1, 100)
		if err := lane.SendMessageBatch(sent); err != nil {
			t.Fatal(err)
		}
		clear(sent.Requests[0].Entries[0].Cmd)
		sent.Requests[0].Entries = nil
		first := to.next()
		if !reflect.DeepEqual(first, batch("a", 1, 100)) {
			t.Errorf("the sender changed what was sent: %+v", first)
		}
		clear(first.Requests[0].Entries[0].Cmd)
		if second := to.next(); !reflect.DeepEqual(second, batch("a", 1, 100)) {
			t.Errorf("the receiver changed the second one: %+v", second)
		}

		snapshots, err := from.trans.GetSnapshotConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer snapshots.Close()
		c := chunk(7, 0, 1000)
		if err := snapshots.SendChunk(c); err != nil {
			t.Fatal(err)
		}
		clear(c.Data)
		if got := receive(t, to.chunks); !reflect.DeepEqual(got, chunk(7, 0, 1000)) {
			t.Errorf("chunk was changed: %+v", got)
		}
	})
}

func TestSnapshotChunksArriveAndRefusalIsTold(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b")
		from := raftOn(t, a)
		snapshots, err := from.trans.GetSnapshotConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer snapshots.Close()
		if err := snapshots.SendChunk(chunk(7, 0, 1)); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("chunk for a broker without NodeHost: %v", err)
		}
		to := raftOn(t, b)
		for i := range uint64(10) {
			if err := snapshots.SendChunk(chunk(7, i, 2<<20)); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, to.chunks); !reflect.DeepEqual(got, chunk(7, i, 2<<20)) {
				t.Errorf("chunk %d was changed", i)
			}
		}
		if got := a.Stats().SnapshotBytes; got != 10*2<<20 {
			t.Errorf("%d bytes sent", got)
		}
		if err := snapshots.SendChunk(chunk(13, 0, 1)); err == nil {
			t.Error("a chunk that was refused is reported as accepted")
		}
		if _, err := from.trans.GetSnapshotConnection(t.Context(), "nobody"); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("snapshot for nobody: %v", err)
		}
	})
}

func TestSnapshotsKeepToTheirRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := inMemory(t)
		a := w.attach("a", func(c *network.Config) { c.SnapshotBytesPerSecond = 1 << 20 })
		from, to := raftOn(t, a), raftOn(t, w.attach("b"))
		snapshots, err := from.trans.GetSnapshotConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer snapshots.Close()
		start := time.Now()
		took := func() time.Duration {
			if err := snapshots.SendChunk(chunk(7, 0, 1<<20)); err != nil {
				t.Fatal(err)
			}
			receive(t, to.chunks)
			return time.Since(start)
		}
		for i := range time.Duration(4) {
			if got := took(); got != i*time.Second {
				t.Errorf("chunk %d arrives after %v", i, got)
			}
		}
		a.SetSnapshotRate(-1)
		for range 10 {
			if got := took(); got != 3*time.Second {
				t.Errorf("without a rate, one arrives after %v", got)
			}
		}
	})
}

// Neither does a snapshot that waits, nor a peer that is slow to take one.
func TestSnapshotDoesNotDelayMessagesOrCalls(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b", answering(echo))
		from := raftOn(t, a)
		batches := make(chan raftpb.MessageBatch, 100)
		arrived, release := make(chan struct{}, 10), make(chan struct{})
		to := b.Raft().Create(config.NodeHostConfig{DeploymentID: deployment},
			func(b raftpb.MessageBatch) { batches <- b },
			func(raftpb.Chunk) bool {
				arrived <- struct{}{}
				<-release
				return true
			})
		if err := to.Start(); err != nil {
			t.Fatal(err)
		}
		const streams = 10 // of 2 MiB each, more than the queue takes
		sent := make(chan error, streams)
		for range streams {
			go func() {
				c, err := from.trans.GetSnapshotConnection(t.Context(), "b")
				if err != nil {
					sent <- err
					return
				}
				defer c.Close()
				sent <- c.SendChunk(chunk(7, 0, 2<<20))
			}()
		}
		receive(t, arrived)
		lane := from.lane("b")
		for i := range uint64(50) {
			if err := lane.SendMessageBatch(batch("a", i, 10)); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, batches); number(got) != i {
				t.Fatalf("got %d, want %d", number(got), i)
			}
			if _, err := a.Call(t.Context(), "b", "m", nil); err != nil {
				t.Fatal(err)
			}
		}
		if len(sent) != 0 {
			t.Errorf("a chunk was through before it was accepted: %v", <-sent)
		}
		close(release)
		for range streams {
			if err := receive(t, sent); err != nil {
				t.Error(err)
			}
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSlowPeerCostsMessagesNotMemoryOrTime(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a := w.attach("a", func(c *network.Config) { c.RaftQueueBytes = 1 << 20 })
		b := w.attach("b", answering(echo))
		release := make(chan struct{})
		batches := make(chan raftpb.MessageBatch, 10_000)
		to := b.Raft().Create(config.NodeHostConfig{}, func(b raftpb.MessageBatch) {
			<-release
			batches <- b
		}, nil)
		if err := to.Start(); err != nil {
			t.Fatal(err)
		}
		from := raftOn(t, a)
		lane := from.lane("b")
		eventually(t, "the queue is full", func() bool {
			if err := lane.SendMessageBatch(batch("a", 0, 100_000)); err != nil {
				t.Fatal(err)
			}
			return a.Stats().BatchesDropped > 100
		})
		if _, err := a.Call(t.Context(), "b", "m", nil); err != nil {
			t.Errorf("a call meanwhile: %v", err)
		}
		close(release)
		eventually(t, "messages arrive again", func() bool {
			if err := lane.SendMessageBatch(batch("a", 1, 1)); err != nil {
				t.Fatal(err)
			}
			for len(batches) > 0 {
				if number(<-batches) == 1 {
					return true
				}
			}
			return false
		})
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// To raft, a broker that can't be reached is one that loses messages.
func TestSendingToALostPeerIsNoError(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b")
		from := raftOn(t, a)
		nobody, lane := from.lane("nobody"), from.lane("b")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := errors.Join(nobody.SendMessageBatch(batch("a", 1, 1)), lane.SendMessageBatch(batch("a", 1, 1))); err != nil {
				t.Fatal(err)
			}
		}
		if got := a.Stats().BatchesDropped; got != 200 {
			t.Errorf("%d of 200 were dropped", got)
		}
		lane.Close()
		if err := lane.SendMessageBatch(batch("a", 1, 1)); !errors.Is(err, mqerr.ErrClosed) {
			t.Errorf("sending on a closed connection: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := nobody.SendMessageBatch(batch("a", 1, 1)); !errors.Is(err, mqerr.ErrClosed) {
			t.Errorf("sending on a closed link: %v", err)
		}
	})
}

// The first vote of a replica must not get lost because nobody has dialled yet.
func TestFirstMessageIsNotLost(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		from, to := raftOn(t, w.attach("a")), raftOn(t, w.attach("b"))
		for i := range uint64(10) {
			if err := from.lane("b").SendMessageBatch(batch("a", i, 1)); err != nil {
				t.Fatal(err)
			}
			if got := to.next(); number(got) != i {
				t.Errorf("got %d, want %d", number(got), i)
			}
		}
	})
}

func TestNoMessageIsHandedOverAfterTheTransportIsClosed(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a, b := w.attach("a"), w.attach("b", answering(echo))
		from, to := raftOn(t, a), raftOn(t, b)
		lane := from.lane("b")
		arrives(t, "a", lane, to)
		if err := to.trans.Close(); err != nil {
			t.Fatal(err)
		}
		close(to.batches) // and so it would panic
		if err := lane.SendMessageBatch(batch("a", 1, 1)); err != nil {
			t.Fatal(err)
		}
		if b.Deliver(raftpb.Message{}) {
			t.Error("a NodeHost that is closed took a message")
		}
		again := raftOn(t, b) // as a NodeHost that is opened once more
		arrives(t, "a", lane, again)
		second := b.Raft().Create(config.NodeHostConfig{}, nil, nil)
		if err := second.Start(); err == nil {
			t.Error("two NodeHosts on one link")
		}
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
		arrives(t, "a", lane, again)
	})
}

func TestDeliverReachesTheOwnNodeHost(t *testing.T) {
	t.Parallel()
	w := inMemory(t)
	a := w.attach("a")
	m := raftpb.Message{Type: raftpb.TimeoutNow, ShardID: 1, From: 2, To: 2}
	if a.Deliver(m) {
		t.Error("delivered to nobody")
	}
	e := raftOn(t, a)
	if !a.Deliver(m) {
		t.Fatal("not delivered")
	}
	want := raftpb.MessageBatch{DeploymentId: deployment, BinVer: raftio.TransportBinVersion, Requests: []raftpb.Message{m}}
	if got := e.next(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestBrokerDropsWhatItDoesNotWantToKeep(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		from := raftOn(t, w.attach("a"))
		to := raftOn(t, w.attach("b", func(c *network.Config) {
			c.Handlers.Keep = func(m *raftpb.Message) bool { return m.Type != raftpb.Replicate }
			c.Handlers.KeepChunk = func(c *raftpb.Chunk) bool { return c.ShardID == 1 }
		}))
		b := batch("a", 1, 1)
		b.Requests = append(b.Requests, raftpb.Message{Type: raftpb.Heartbeat, From: 1, To: 2})
		if err := from.lane("b").SendMessageBatch(b); err != nil {
			t.Fatal(err)
		}
		if got := to.next().Requests; len(got) != 1 || got[0].Type != raftpb.Heartbeat {
			t.Errorf("got %+v", got)
		}
		c, err := from.trans.GetSnapshotConnection(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SendChunk(chunk(7, 0, 1)); err == nil {
			t.Error("accepted")
		}
		if err := c.SendChunk(chunk(1, 0, 1)); err != nil {
			t.Error(err)
		}
	})
}

func TestSnapshotEndsWithItsContextAndConnection(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		from := raftOn(t, w.attach("a"))
		b := w.attach("b")
		started := make(chan struct{}, 3)
		release := make(chan struct{})
		to := b.Raft().Create(config.NodeHostConfig{}, nil, func(raftpb.Chunk) bool {
			started <- struct{}{}
			<-release
			return true
		})
		if err := to.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		result := make(chan error, 1)
		send := func(ctx context.Context) {
			c, err := from.trans.GetSnapshotConnection(ctx, "b")
			if err != nil {
				result <- err
				return
			}
			defer c.Close()
			result <- c.SendChunk(chunk(7, 0, 10))
		}
		go send(ctx)
		receive(t, started)
		cancel()
		if err := receive(t, result); !errors.Is(err, context.Canceled) {
			t.Errorf("ctx ended: %v", err)
		}
		go send(t.Context())
		receive(t, started)
		w.faults.Set("a", "b", network.Rule{Broken: true})
		if err := receive(t, result); err == nil {
			t.Error("the connection broke and the chunk was accepted")
		}
		close(release)
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRaftAddressesAreDirectoryIDs(t *testing.T) {
	t.Parallel()
	f := inMemory(t).attach("a").Raft()
	if !f.Validate("0b6e9a41-93b7-4a8f-b5c6-26c2dd5f3a41") || f.Validate("") || f.Validate(string(make([]byte, 1000))) {
		t.Error("wrong verdict on an address")
	}
}
