package cluster

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

var errBadDisk = errors.New("the disk is bad")

// badDisk is a computer whose files can be made to fail.
type badDisk struct {
	raft                  *lvfs.MemFS
	store                 *vfs.MemFS
	raftFails, storeFails atomic.Bool
}

func newBadDisk() *badDisk { return &badDisk{raft: lvfs.NewMem(), store: vfs.NewMem()} }

// MaybeError implements lvfs.Injector: writes of the raft log fail.
func (d *badDisk) MaybeError(op lvfs.Op) error {
	if d.raftFails.Load() && (op == lvfs.OpWrite || op == lvfs.OpSync) {
		return errBadDisk
	}
	return nil
}

// injected is a file system all of whose files are under an injector: that of
// lvfs leaves out those it opens again for writing, as the raft log does.
type injected struct {
	lvfs.FS
	injector lvfs.Injector
}

func inject(fs lvfs.FS, injector lvfs.Injector) lvfs.FS {
	return injected{lvfs.Wrap(fs, injector), injector}
}

// ReuseForWrite implements lvfs.FS.
func (fs injected) ReuseForWrite(from, to string) (lvfs.File, error) {
	f, err := fs.FS.ReuseForWrite(from, to)
	if err != nil {
		return nil, err
	}
	return lvfs.WrapFile(f, fs.injector), nil
}

// storeError makes reads of the store's tables fail.
func (d *badDisk) storeError(op errorfs.Op) error {
	if d.storeFails.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
		return errBadDisk
	}
	return nil
}

func (d *badDisk) config() Config {
	return Config{Dir: "/data", Test: TestSeams{
		StoreFS:  errorfs.Wrap(d.store, errorfs.InjectorFunc(d.storeError)),
		RaftFS:   inject(d.raft, d),
		DiskFree: func() (uint64, uint64, bool) { return 0, 0, false },
	}}
}

// hasFailed waits until the node has failed and checks that it takes nothing.
func (n *Node) hasFailed(tb testing.TB, want error) {
	tb.Helper()
	select {
	case <-n.Failed():
	case <-timeout(tb).Done():
		tb.Fatal("the broker does not notice")
	}
	if err := n.Failure(); !errors.Is(err, want) {
		tb.Errorf("the broker failed with %v", err)
	}
	for p := range int32(2) {
		if _, err := produce(timeout(tb), n, "t", p, makeBatch(tb, "no")); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			tb.Errorf("a failed broker answers %v", err)
		}
	}
	if _, err := n.CreateTopic(timeout(tb), &api.CreateTopicRequest{Name: "new"}); err == nil {
		tb.Error("a failed broker makes a topic")
	}
}

func TestARaftLogThatCannotBeWrittenFailsTheBrokerNotTheProcess(t *testing.T) {
	t.Parallel()
	disk := newBadDisk()
	n := openNode(t, disk.config())
	newTopic(t, n, "t", 2, nil)
	mustProduce(t, n, "t", 0, "acknowledged")
	disk.raftFails.Store(true)
	if _, err := produce(timeout(t), n, "t", 0, makeBatch(t, "lost")); !mqerr.OutcomeUnknown(err) {
		t.Errorf("a record on a bad disk: %v", err)
	}
	n.hasFailed(t, errBadDisk)
	if got := readAll(t, n, "t", 0, 0); len(got) != 1 || got[0] != "acknowledged" {
		t.Errorf("until it is closed it gives %q", got)
	}
	_ = n.Close() // what the disk has to say is its affair
	disk.raftFails.Store(false)
	n = openNode(t, disk.config())
	if got := readAll(t, n, "t", 0, 0); len(got) == 0 || got[0] != "acknowledged" {
		t.Errorf("after the repair it gives %q", got)
	}
}

func TestAFailureOfTheRaftLogKeepsItsCause(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cause, want error }{
		{&raftlog.DamageError{File: "7.seg", Reason: "torn"}, mqerr.ErrCorruptLog},
		{fmt.Errorf("read: %w", &raftlog.DamageError{File: "7.seg", Reason: "torn"}), mqerr.ErrCorruptLog},
		{&os.PathError{Op: "write", Err: syscall.ENOSPC}, mqerr.ErrDiskFull},
		{&os.PathError{Op: "write", Err: syscall.EDQUOT}, mqerr.ErrDiskFull},
		{&os.PathError{Op: "open", Err: syscall.EMFILE}, mqerr.ErrInternal},
		{&os.PathError{Op: "sync", Err: syscall.EIO}, mqerr.ErrInternal},
	} {
		n := openNode(t, Config{})
		n.raftLogFailed(c.cause)
		err := n.Failure()
		if !errors.Is(err, c.cause) {
			t.Errorf("%v was made of %v", err, c.cause)
		}
		for _, kind := range []error{mqerr.ErrCorruptLog, mqerr.ErrDiskFull, mqerr.ErrInternal} {
			if got := errors.Is(err, kind); got != (kind == c.want) {
				t.Errorf("%v is %v: %v", err, kind, got)
			}
		}
	}
}

func TestAStoreThatCannotBeReadFailsTheBrokerNotTheProcess(t *testing.T) {
	t.Parallel()
	disk := newBadDisk()
	n := openNode(t, disk.config())
	newTopic(t, n, "t", 2, nil)
	for range 10 {
		mustProduce(t, n, "t", 0, strings.Repeat("x", 2000), "y")
	}
	f, err := n.find(api.TopicPartition{Topic: "t"})
	if err != nil || f.part.sync() != nil {
		t.Fatal(err)
	}
	disk.storeFails.Store(true)
	resp, err := n.TrimTopic(timeout(t), &api.TrimTopicRequest{Partitions: []api.TrimPartition{{TopicPartition: api.TopicPartition{Topic: "t"}, Offset: 15}}})
	if err != nil || !mqerr.OutcomeUnknown(resp.Partitions[0].Err) {
		t.Errorf("a trim on a bad disk: %+v, %v", resp, err)
	}
	n.hasFailed(t, errBadDisk)
	saved := make(chan error, 1)
	go func() { saved <- n.saveSnapshot(f.rep) }() // a look-out that did not notice yet
	_ = n.Close()
	if err := <-saved; err == nil {
		t.Error("the raft log was cut behind what the store lacks")
	}
	disk.storeFails.Store(false)
	n = openNode(t, disk.config())
	if l := logOf(t, n, "t"); l.LogStart != 15 || l.HighWatermark != 20 {
		t.Errorf("after the repair the log is %+v", l)
	}
	mustProduce(t, n, "t", 0, "on")
}
