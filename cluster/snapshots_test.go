package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq/storage"
)

// unsavedOf is the raft log of a partition that no snapshot covers.
func (n *Node) unsavedOf(tb testing.TB, topic string) int64 {
	tb.Helper()
	return n.replica(n.shardOf(tb, topic, 0).Shard).unsaved.Load()
}

func TestTheRaftLogOfAShardIsCutWhenItIsLong(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{SnapshotBytes: 100_000})
	newTopic(t, n, "t", 1, nil)
	newTopic(t, n, "short", 1, nil)
	mustProduce(t, n, "short", 0, strings.Repeat("x", 50_000))
	mustProduce(t, n, "t", 0, strings.Repeat("x", 50_000))
	if got := n.Stats(); got.RaftSnapshots != 0 || got.UnsavedLogBytes < 100_000 {
		t.Errorf("%d snapshots, %d bytes not covered", got.RaftSnapshots, got.UnsavedLogBytes)
	}
	mustProduce(t, n, "t", 0, strings.Repeat("x", 60_000))
	waitFor(t, "the log to be cut", func() bool { return n.unsavedOf(t, "t") == 0 })
	if got := n.unsavedOf(t, "short"); got < 50_000 {
		t.Errorf("a short log was cut to %d", got)
	}
	if got := n.Stats().RaftSnapshots; got != 1 {
		t.Errorf("%d snapshots were taken", got)
	}
}

func TestTheLongestRaftLogIsCutWhenAllTogetherAreLong(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{SnapshotTotalBytes: 100_000})
	for _, name := range []string{"a", "b", "c"} {
		newTopic(t, n, name, 1, nil)
	}
	mustProduce(t, n, "a", 0, strings.Repeat("x", 30_000))
	mustProduce(t, n, "b", 0, strings.Repeat("x", 50_000))
	mustProduce(t, n, "c", 0, strings.Repeat("x", 30_000))
	n.snapshots.nudge()
	waitFor(t, "the longest to be cut", func() bool { return n.unsavedOf(t, "b") == 0 })
	if a, c := n.unsavedOf(t, "a"), n.unsavedOf(t, "c"); a < 30_000 || c < 30_000 {
		t.Errorf("the others were cut to %d and %d", a, c)
	}
}

func TestARaftLogIsCutWhenItIsOld(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "x")
	clock.advance(snapshotAge + time.Millisecond)
	n.snapshots.nudge()
	waitFor(t, "all to be cut", func() bool { return n.Stats().UnsavedLogBytes == 0 })
	before := n.Stats().RaftSnapshots
	clock.advance(snapshotAge + time.Millisecond)
	if r := n.nextSnapshot(); r != nil {
		t.Errorf("%s is to be cut again, nothing was written", r.name)
	}
	if err := n.saveSnapshot(n.metaRep.Load()); err != nil {
		t.Errorf("a snapshot of what is covered: %v", err)
	}
	if before < 2 {
		t.Errorf("%d snapshots were taken", before)
	}
}

func TestAShardThatCannotBeCutDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{SnapshotBytes: 100_000})
	newTopic(t, n, "stuck", 1, nil)
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "stuck", 0, strings.Repeat("x", 90_000))
	stuck := n.replica(n.shardOf(t, "stuck", 0).Shard)
	if err := n.host.StopReplica(stuck.id.Shard, stuck.id.Replica); err != nil {
		t.Fatal(err)
	}
	stuck.unsaved.Store(1 << 40)
	mustProduce(t, n, "t", 0, strings.Repeat("x", 110_000))
	waitFor(t, "the other to be cut", func() bool { return n.unsavedOf(t, "t") == 0 })
	if stuck.failedAt.Load() == 0 {
		t.Error("the stuck one was not tried")
	}
}

func TestAParkedReplicaIsNotPickedToBeCut(t *testing.T) {
	t.Parallel()
	d := drivePartition(t, openStore(t, storage.NewMemFS()), 1024)
	n, r := d.node, d.replica
	n.replicas.byShard = map[uint64]*replica{1024: r}
	r.unsaved.Store(n.cfg.SnapshotBytes + 1)
	if got := n.nextSnapshot(); got != r {
		t.Errorf("%v is cut", got)
	}
	r.machine.park(1, featureLevel+1)
	if got := n.nextSnapshot(); got != nil {
		t.Error("a parked one is cut")
	}
}

// The log stays bounded under load and over restarts.
func TestRecordsOutliveTheRaftLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	total := 0
	for range 4 {
		n := openNode(t, Config{Dir: dir, SnapshotBytes: 20_000})
		if total == 0 {
			newTopic(t, n, "t", 1, nil)
		}
		for range 30 {
			mustProduce(t, n, "t", 0, strings.Repeat("x", 3_000))
			total++
		}
		if got := len(readAll(t, n, "t", 0, 0)); got != total {
			t.Errorf("%d records, want %d", got, total)
		}
		waitFor(t, "the log to be cut", func() bool { return n.unsavedOf(t, "t") <= 20_000 })
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
