package raftlog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/mqerr"
)

// noInjector makes the library end a worker that panics instead of the process.
type noInjector struct{}

func (noInjector) MaybeError(vfs.Op) error { return nil }

var errBroken = errors.New("the disk broke")

// breakOn makes the next change of that kind on a segment fail, and all after it.
func breakOn(d *powerDisk, what change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	broken := false
	d.before = func(c change, name string) error {
		if broken || c == what && strings.HasSuffix(name, ".seg") {
			broken = true
			return errBroken
		}
		return nil
	}
}

func TestFailingDiskEndsAcknowledgementsAndNotTheProcess(t *testing.T) {
	t.Parallel()
	for _, what := range []change{changeWrite, changeSync} {
		t.Run(string(what), func(t *testing.T) {
			t.Parallel()
			d := newPowerDisk()
			told := make(chan error, 1)
			opts := raftlog.Options{SegmentBytes: 64 << 10, FS: d, OnFailure: func(err error) { told <- err }}
			net := newNetwork()
			h := startHost(t, hostConfig{net: net, addr: "a", fs: vfs.Wrap(d, noInjector{}), dir: "/data", log: &opts})
			h.startShard(t, 3, 1, map[uint64]string{1: "a"}, &sumDisk{})
			h.leader(t, 3)
			h.propose(t, 3, []byte("good"))

			breakOn(d, what)
			rs, err := h.Propose(h.GetNoOPSession(3), []byte("lost"), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-told:
				if !errors.Is(err, errBroken) {
					t.Fatalf("told %v", err)
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("nobody was told")
			}
			if err := h.log.Err(); !errors.Is(err, errBroken) {
				t.Fatalf("Err is %v", err)
			}
			if err := h.startReplica(4); !errors.Is(err, errBroken) {
				t.Fatalf("a new replica got %v", err)
			}
			select {
			case r := <-rs.ResultC():
				if r.Completed() {
					t.Fatal("a proposal that is not on disk was acknowledged")
				}
			default:
			}
			h.log.Release()
			h.Close()
		})
	}
}

func TestLogRefusesWorkAfterFailure(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	l := open(t, raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1})
	save(t, l, update(1, 1, 3, 100))
	breakOn(d, changeSync)
	if err := l.SaveRaftState(updates(update(1, 4, 1, 100)), 1); !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	d.mu.Lock()
	d.before = nil // it was a passing fault, but what does the disk hold?
	d.mu.Unlock()
	if err := l.SaveRaftState(updates(update(1, 4, 1, 100)), 1); !errors.Is(err, errBroken) {
		t.Fatalf("a failed sync was tried again: %v", err)
	}
	has(t, l, 1, 1, 3, 100)
}

// A process whose sync failed ends, and the next one reads what it wrote out of
// the system's memory: what is built on that must not be lost with the power.
func TestGroupWhoseSyncFailedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	o := raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1}
	l := open(t, o)
	save(t, l, update(1, 1, 3, 100))
	breakOn(d, changeSync)
	if err := l.SaveRaftState(updates(update(1, 4, 1, 100)), 1); !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	l.Close()

	d.before = nil
	l = open(t, o)
	rs, err := l.ReadRaftState(1, 1, 0)
	if err != nil || rs.EntryCount < 3 {
		t.Fatalf("got %+v, %v", rs, err)
	}
	save(t, l, update(1, 1+rs.EntryCount, 2, 100))
	d.mu.Lock()
	o.FS = d.cut(allLost, nil)
	d.mu.Unlock()
	l = open(t, o)
	has(t, l, 1, 1, rs.EntryCount+2, 100)
}

// An owner may release the log at once.
func TestReleaseInsideOnFailure(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	var l *raftlog.Log
	o := raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1, OnFailure: func(error) { l.Release() }}
	l = open(t, o)
	save(t, l, update(1, 1, 3, 100))
	breakOn(d, changeSync)
	if err := l.SaveRaftState(updates(update(1, 4, 1, 100)), 1); !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
}

func TestReleaseGivesUpALogThatWaitsForRoom(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	o := raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1, OnFailure: func(error) {}}
	l := open(t, o)
	waitFor(t, d.ready)
	d.mu.Lock()
	d.limit = d.used
	d.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		for i := uint64(1); ; i++ {
			if err := l.SaveRaftState(updates(update(1, i, 1, 1000)), 1); err != nil {
				done <- err
				return
			}
		}
	}()
	waitFor(t, func() bool { return l.Stats().DiskFull })
	l.Release()
	if err := <-done; !errors.Is(err, mqerr.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestFullDiskHoldsCommitsUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	o := raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1}
	l := open(t, o)
	waitFor(t, d.ready)
	d.mu.Lock()
	d.limit = d.used + 3*o.SegmentBytes/2
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range uint64(100) {
			if err := l.SaveRaftState(updates(update(1, i+1, 1, 1000)), 1); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	waitFor(t, func() bool { return l.Stats().DiskFull })
	d.mu.Lock()
	d.limit = 0
	d.mu.Unlock()
	<-done
	has(t, l, 1, 1, 100, 1000)
	l.Close()
	l = open(t, o)
	has(t, l, 1, 1, 100, 1000)
}

// waitFor waits until cond holds.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for !cond() {
		if ctx.Err() != nil {
			t.Fatal("it never happened")
		}
		time.Sleep(time.Millisecond)
	}
}
