package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
)

// machineRoom is a computer whose power can be cut: both file systems lose what
// was not synced. Every sync of either is a point at which it may happen.
type machineRoom struct {
	raft  *lvfs.MemFS
	store *vfs.MemFS

	lying    bool  // syncs of the raft log do nothing
	skipSync bool  // the state machine's Sync does nothing
	cutAt    int64 // the sync before which power fails; 0 never, cutAtEnd after the work
	unsynced int   // percent of the store's unsynced blocks that made it to the disk
	syncs    atomic.Int64

	mu struct {
		sync.Mutex
		acked  map[string]bool // values acknowledged so far
		commit int64           // newest committed offset acknowledged
		cut    *powerCut
	}
}

// powerCut is what was promised, and what is on disk, when the power failed.
type powerCut struct {
	acked  map[string]bool
	commit int64
	store  *vfs.MemFS
}

func newMachineRoom(cutAt int64, unsynced int) *machineRoom {
	m := &machineRoom{raft: lvfs.NewStrictMem(), store: vfs.NewCrashableMem(), cutAt: cutAt, unsynced: unsynced}
	m.mu.acked = map[string]bool{}
	return m
}

// MaybeError implements lvfs.Injector.
func (m *machineRoom) MaybeError(op lvfs.Op) error {
	if op == lvfs.OpSync {
		m.beforeSync()
	}
	return nil
}

func (m *machineRoom) storeInjector(op errorfs.Op) error {
	if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
		m.beforeSync()
	}
	return nil
}

func (m *machineRoom) beforeSync() {
	if m.syncs.Add(1) == m.cutAt {
		m.cut()
	}
}

// cutAtEnd cuts the power when all work is done and a raft log was cut.
const cutAtEnd = -1

func (m *machineRoom) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	acked := make(map[string]bool, len(m.mu.acked))
	for v := range m.mu.acked {
		acked[v] = true
	}
	// The store first: it may be older than the log, never newer.
	m.mu.cut = &powerCut{
		acked: acked, commit: m.mu.commit,
		store: m.store.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.unsynced, RNG: rand.New(rand.NewPCG(uint64(m.cutAt), 1))}),
	}
	m.raft.SetIgnoreSyncs(true)
}

func (m *machineRoom) isCut() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.cut != nil
}

func (m *machineRoom) config() Config {
	return Config{
		Dir: "/data",
		// Small, so that the raft log is cut and the store flushed many times.
		SnapshotBytes: 2 << 10, SnapshotTotalBytes: 4 << 10,
		RetentionInterval: 10 * time.Millisecond,
		Test: TestSeams{
			StoreFS:  errorfs.Wrap(m.store, errorfs.InjectorFunc(m.storeInjector)),
			RaftFS:   inject(m.raft, m),
			DiskFree: func() (uint64, uint64, bool) { return 0, 0, false },
			SkipSync: m.skipSync,
		},
	}
}

const cutBatches = 30

// work produces, commits offsets and trims until it is done or the power fails.
func (m *machineRoom) work(ctx context.Context) error {
	n, err := Open(ctx, m.config())
	if err != nil {
		return err
	}
	defer n.Close() // on a machine without power
	if _, err := n.CreateTopic(ctx, &api.CreateTopicRequest{Name: "t", Partitions: 2}); err != nil {
		return err
	}
	slots := make(chan struct{}, 4)
	for i := 0; i < cutBatches && !m.isCut(); i++ {
		slots <- struct{}{}
		values := []string{fmt.Sprintf("%d-a", i), fmt.Sprintf("%d-b", i)}
		n.Produce(ctx, &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
			TopicPartition: api.TopicPartition{Topic: "t", Partition: int32(i % 2)}, Batch: makeBatchOf(values),
		}}}, func(resp *api.ProduceResponse, err error) {
			if err == nil && resp.Partitions[0].Err == nil {
				m.mu.Lock()
				for _, v := range values {
					m.mu.acked[v] = true
				}
				m.mu.Unlock()
			}
			<-slots
		})
		if i%7 == 6 {
			_, err := n.CommitOffsets(ctx, &api.CommitOffsetsRequest{Group: "g", MemberEpoch: -1, Offsets: []api.OffsetCommit{{
				TopicPartition: api.TopicPartition{Topic: "t"}, Offset: int64(i),
			}}})
			if err == nil {
				m.mu.Lock()
				m.mu.commit = int64(i)
				m.mu.Unlock()
			}
		}
	}
	for range cap(slots) { // wait for those in flight
		slots <- struct{}{}
	}
	if m.cutAt == cutAtEnd {
		for n.Stats().RaftSnapshots == 0 {
			if err := backoff.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		m.cut()
	}
	return nil
}

// check opens what the power cut left and looks for what was promised.
func (c *powerCut) check(tb testing.TB, m *machineRoom) error {
	m.raft.ResetToSyncedState()
	m.raft.SetIgnoreSyncs(false)
	cfg := m.config()
	cfg.Test.StoreFS, cfg.Test.RaftFS = c.store, m.raft
	n, err := Open(tb.Context(), cfg)
	if err != nil {
		return fmt.Errorf("open after the power cut: %w", err)
	}
	defer n.Close() // read only
	if n.meta.state.Load().topics["t"] == nil {
		if len(c.acked) > 0 {
			return errors.New("the topic is gone")
		}
		return nil
	}
	seen := map[string]bool{}
	for p := range int32(2) {
		last := -1
		for i, v := range readAll(tb, n, "t", p, 0) {
			var batch int
			var half byte
			if _, err := fmt.Sscanf(v, "%d-%c", &batch, &half); err != nil || seen[v] {
				return fmt.Errorf("partition %d offset %d holds %q (read before: %v)", p, i, v, seen[v])
			}
			if batch < last {
				return fmt.Errorf("partition %d: batch %d follows %d", p, batch, last)
			}
			last = batch
			seen[v] = true
		}
	}
	for v := range c.acked {
		if !seen[v] {
			return fmt.Errorf("acknowledged record %q is lost (%d of %d there)", v, len(seen), len(c.acked))
		}
	}
	if c.commit > 0 {
		resp, err := n.FetchOffsets(tb.Context(), &api.FetchOffsetsRequest{Group: "g"})
		if err != nil {
			return err
		}
		if len(resp.Offsets) != 1 || resp.Offsets[0].Offset < c.commit {
			return fmt.Errorf("acknowledged commit of offset %d is lost: %+v", c.commit, resp.Offsets)
		}
	}
	return nil
}

func cutPower(tb testing.TB, cutAt int64, unsynced int) (syncs int64, err error) {
	return newMachineRoom(cutAt, unsynced).cutPower(tb)
}

func (m *machineRoom) cutPower(tb testing.TB) (syncs int64, err error) {
	m.raft.SetIgnoreSyncs(m.lying)
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if err := m.work(ctx); err != nil && !m.isCut() {
		return 0, err
	}
	m.mu.Lock()
	cut := m.mu.cut
	m.mu.Unlock()
	if cut == nil {
		return m.syncs.Load(), nil
	}
	return m.syncs.Load(), cut.check(tb, m)
}

func TestAcknowledgedRecordsSurviveAPowerCutAtEverySync(t *testing.T) {
	total, err := cutPower(t, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	points := 0
	for at := int64(1); at <= total; at += step {
		for _, unsynced := range []int{0, 50, 100} {
			if _, err := cutPower(t, at, unsynced); err != nil {
				t.Fatalf("power cut before sync %d of %d, %d%% of the unsynced store kept: %v", at, total, unsynced, err)
			}
			points++
		}
	}
	t.Logf("%d power cuts at %d syncs", points, total)
}

// The next two show that the test above is able to fail: they break what it
// relies on and expect it to notice.

func TestPowerCutNoticesARaftLogThatIsNotSynced(t *testing.T) {
	m := newMachineRoom(cutAtEnd, 0)
	m.lying = true
	if _, err := m.cutPower(t); err == nil {
		t.Fatal("nothing was missed although no sync of the raft log took place")
	} else {
		t.Log(err)
	}
}

func TestPowerCutNoticesASyncThatDoesNotFlush(t *testing.T) {
	m := newMachineRoom(cutAtEnd, 0)
	m.skipSync = true
	if _, err := m.cutPower(t); err == nil {
		t.Fatal("nothing was missed although the store was not flushed before the raft log was cut")
	} else {
		t.Log(err)
	}
}
