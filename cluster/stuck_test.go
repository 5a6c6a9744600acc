package cluster

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// sickDisk is a disk on which no file can be created while err is set.
type sickDisk struct{ err atomic.Pointer[syscall.Errno] }

func (d *sickDisk) fail(err syscall.Errno) { d.err.Store(&err) }

func (d *sickDisk) create(path string) error {
	if err := d.err.Load(); err != nil {
		return &os.PathError{Op: "create", Path: path, Err: *err}
	}
	return nil
}

func (d *sickDisk) store() vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate {
			return d.create(op.Path)
		}
		return nil
	}))
}

// raft is the same for the raft log's segments.
func (d *sickDisk) raft() lvfs.FS { return sickRaft{lvfs.NewMem(), d} }

type sickRaft struct {
	lvfs.FS
	disk *sickDisk
}

func (s sickRaft) Create(name string) (lvfs.File, error) {
	if strings.Contains(name, "raftlog") {
		if err := s.disk.create(name); err != nil {
			return nil, err
		}
	}
	return s.FS.Create(name)
}

func sickConfig(store vfs.FS, raft lvfs.FS) Config {
	return Config{
		Dir: "/data", SnapshotBytes: 2 << 10, ProposeTimeout: 5 * time.Second,
		Test: TestSeams{
			StoreFS: store, RaftFS: raft, StoreGrace: time.Second,
			DiskFree: func() (uint64, uint64, bool) { return 0, 0, false },
		},
	}
}

func openSick(t *testing.T, store vfs.FS, raft lvfs.FS) *Node {
	t.Helper()
	n, err := Open(t.Context(), sickConfig(store, raft))
	if err != nil {
		t.Fatal(err)
	}
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "before")
	return n
}

// closes fails the test, rather than let it hang, when Close does not return.
func closes(t *testing.T, n *Node) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- n.Close() }()
	select {
	case <-done: // that the store could not be flushed is no news
	case <-time.After(time.Minute):
		t.Fatal("Close hangs")
	}
}

// produceUntilStuck sends until there is no answer but a refusal.
func produceUntilStuck(t *testing.T, n *Node) error {
	t.Helper()
	batch := makeBatch(t, strings.Repeat("x", 500_000))
	for range 1000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := produce(ctx, n, "t", 0, batch)
		cancel()
		if err != nil {
			return err
		}
	}
	t.Fatal("the disk takes everything")
	return nil
}

func TestCloseReturnsWhileTheStoresDiskIsFull(t *testing.T) {
	t.Parallel()
	var disk sickDisk
	n := openSick(t, disk.store(), lvfs.NewMem())
	disk.fail(syscall.ENOSPC)
	// Its key space is dropped with a flush, which can't come.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.DeleteTopic(ctx, &api.DeleteTopicRequest{Name: "t"}); !errors.Is(err, mqerr.ErrTimeout) {
		t.Fatalf("delete: %v, want ErrTimeout", err)
	}
	closes(t, n)
}

func TestCloseReturnsWhileTheRaftLogsDiskIsFull(t *testing.T) {
	t.Parallel()
	var disk sickDisk
	n := openSick(t, vfs.NewMem(), disk.raft())
	disk.fail(syscall.ENOSPC)
	// Raft's clock stands still while it waits for the disk; the answer comes.
	if err := produceUntilStuck(t, n); !errors.Is(err, mqerr.ErrTimeout) {
		t.Fatalf("produce: %v, want ErrTimeout", err)
	}
	closes(t, n)
}

func TestAStoreThatCantWriteFailsTheNode(t *testing.T) {
	t.Parallel()
	var disk sickDisk
	n := openSick(t, disk.store(), lvfs.NewMem())
	disk.fail(syscall.EIO)
	// The raft log is cut behind these, which asks the store to flush.
	_ = produceUntilStuck(t, n)
	select {
	case <-n.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the node does not call itself failed")
	}
	if err := n.Failure(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Failure() = %v, want the disk's error", err)
	}
	closes(t, n)
}

func TestRaftLogOfShortRunsIsCut(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), MinFreeBytes: -1, SnapshotBytes: 1 << 20}
	for run := range 2 {
		n, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if run == 0 {
			newTopic(t, n, "t", 1, nil)
		}
		mustProduce(t, n, "t", 0, strings.Repeat("x", 700_000))
		if run > 0 { // the first run's part counts
			waitFor(t, "a cut", func() bool { return n.Stats().RaftSnapshots > 0 })
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManySmallRaftLogsAreCutTogether(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{SnapshotTotalBytes: 1 << 20})
	newTopic(t, n, "t", 20, nil)
	for i := range int32(40) {
		mustProduce(t, n, "t", i%20, strings.Repeat("x", 100_000))
	}
	waitFor(t, "less than the total", func() bool { return n.Stats().UnsavedLogBytes <= 1<<20 })
}

func TestAutoCreationTellsWhyItFailed(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), MinFreeBytes: 1 << 30, Test: TestSeams{
		DiskFree: func() (uint64, uint64, bool) { return 1 << 20, 1 << 40, true },
	}}
	n := openNode(t, cfg)
	resp, err := n.Metadata(t.Context(), &api.MetadataRequest{Topics: []string{"new"}, AutoCreate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Topics[0].Err; !errors.Is(err, mqerr.ErrDiskFull) {
		t.Fatalf("the topic's error is %v, want ErrDiskFull, which producers wait out", err)
	}
}

func TestFetchDoesNotReadWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 10, nil)
	req := &api.FetchRequest{MaxBytes: 150_000}
	for p := range int32(10) {
		mustProduce(t, n, "t", p, strings.Repeat("x", 100_000))
		req.Partitions = append(req.Partitions, fetchAt("t", p, 0))
	}
	resp, _, _ := n.fetchOnce(req)
	if len(resp.Partitions) != 1 {
		t.Fatalf("%d partitions have data, room is for one", len(resp.Partitions))
	}
	_, full := n.fetchPartition(req, &req.Partitions[1], 50_000, false)
	if _, skipped := n.fetchPartition(req, &req.Partitions[2], 0, false); !full || skipped {
		t.Fatalf("full = %v, then %v: the first that does not fit has to end the reading", full, skipped)
	}
}
