package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
)

// hasty waits a thousandth of what it is asked to.
type hasty struct{ clock.System }

func (hasty) Sleep(ctx context.Context, d time.Duration) error {
	return clock.System{}.Sleep(ctx, d/1000)
}

// Every operation of the disk fails once. The log stops or goes on, and what it
// acknowledged is there afterwards, also when the power goes.
func TestFailureOfAnyOperationLosesNothing(t *testing.T) {
	t.Parallel()
	n := 80
	if testing.Short() {
		n = 40
	}
	steps := workload(3, n)
	states := models(steps)
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			points, stopped := 0, 0
			for at := 0; ; at++ {
				d, seen := newPowerDisk(), 0
				d.before = func(change, string) error {
					if seen++; seen == at+1 {
						return fault
					}
					return nil
				}
				o := cutOptions(d)
				o.Clock = hasty{}
				done := 0
				l, err := raftlog.Open("/log", o)
				if err == nil {
					for done < len(steps) && steps[done].call(l) == nil {
						done++
					}
					if done < len(steps) || l.Err() != nil {
						stopped++
					}
					d.mu.Lock()
					d.before = nil // while closing, all is well
					d.mu.Unlock()
					l.Close()
				}
				d.mu.Lock()
				hit := seen > at
				images := []*powerDisk{d.cut(allLost, nil), d.cut(allKept, nil)}
				d.mu.Unlock()
				for i, c := range images {
					l, err := recovered(c, states, done)
					if err != nil {
						t.Fatalf("operation %d failed, then %d steps, fate %d: %v", at, done, i, err)
					}
					l.Close()
				}
				if !hit {
					break
				}
				points++
			}
			t.Logf("%d operations failed, the log stopped at %d of them", points, stopped)
		})
	}
}

// The disk has room for less and less: the log waits for more, and goes on.
func TestFullDiskAtAnyPointLosesNothing(t *testing.T) {
	t.Parallel()
	steps := workload(4, 120)
	states := models(steps)
	waits := 0
	for limit := int64(17 << 10); limit < 120<<10; limit += 5 << 10 {
		d := newPowerDisk()
		d.limit = limit
		o := cutOptions(d)
		o.Clock = hasty{}
		l, err := raftlog.Open("/log", o)
		if err != nil {
			t.Fatal(err)
		}
		var acked atomic.Int64
		progress := make(chan struct{}, len(steps))
		go func() {
			defer close(progress)
			for i, s := range steps {
				if err := s.call(l); err != nil {
					t.Errorf("step %d, %s: %v", i, s.name, err)
				}
				acked.Add(1)
				progress <- struct{}{}
			}
		}()
		for more := true; more; {
			select {
			case _, more = <-progress:
			case <-time.After(20 * time.Millisecond): // it waits, or is slow
				d.mu.Lock() // and makes no more than one step until the disk is free again
				full, done := l.Stats().DiskFull, int(acked.Load())
				c := d.cut(allLost, nil)
				if full {
					d.limit = 0
				}
				d.mu.Unlock()
				if !full {
					continue
				}
				waits++
				r, err := recovered(c, states, done)
				if err != nil {
					t.Fatalf("disk full at %d bytes after %d steps: %v", limit, done, err)
				}
				r.Close()
			}
		}
		if err := states[len(steps)].matches(l); err != nil {
			t.Errorf("disk of %d bytes: %v", limit, err)
		}
		l.Close()
	}
	if waits == 0 {
		t.Error("the disk was never full")
	}
	t.Logf("%d times full", waits)
}

// Nothing was promised for a segment that is not in use.
func TestNextSegmentIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, what := range []change{changeCreate, changeWrite, changeSync, changeRename} {
		t.Run(string(what), func(t *testing.T) {
			t.Parallel()
			d := newPowerDisk()
			o := raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1, Clock: hasty{}, OnFailure: func(error) {}}
			l := open(t, o)
			waitFor(t, d.ready)
			tries := 0
			d.mu.Lock()
			d.before = func(c change, name string) error {
				if c == what && (c == changeRename || strings.HasSuffix(name, ".tmp")) && tries < 5 {
					tries++
					return syscall.EMFILE
				}
				return nil
			}
			d.mu.Unlock()
			for i := range uint64(60) {
				save(t, l, update(1, i+1, 1, 1000))
			}
			if d.mu.Lock(); tries < 5 {
				t.Errorf("%d tries failed", tries)
			}
			d.mu.Unlock()
			l.Close()
			l = open(t, o)
			has(t, l, 1, 1, 60, 1000)
		})
	}
}

func TestNextSegmentThatFailsForLongFailsTheLog(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	told := make(chan error, 1)
	o := raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1, Clock: hasty{}, OnFailure: func(err error) { told <- err }}
	l := open(t, o)
	save(t, l, update(1, 1, 3, 1000))
	waitFor(t, d.ready)
	d.mu.Lock()
	d.before = func(_ change, name string) error {
		if strings.HasSuffix(name, ".tmp") {
			return syscall.EMFILE
		}
		return nil
	}
	d.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		for i := uint64(4); ; i++ {
			if err := l.SaveRaftState(updates(update(1, i, 1, 1000)), 1); err != nil {
				done <- err
				return
			}
		}
	}()
	var damage *raftlog.DamageError
	select {
	case err := <-told:
		if !errors.Is(err, syscall.EMFILE) || errors.As(err, &damage) {
			t.Fatalf("told %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("nobody was told")
	}
	l.Release()
	if err := <-done; !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("got %v", err)
	}
}

func TestOpeningOnAFullDiskSaysSo(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	d.limit = 1 << 10
	if _, err := raftlog.Open("/log", raftlog.Options{FS: d, SegmentBytes: 16 << 10}); !errors.Is(err, mqerr.ErrDiskFull) {
		t.Fatalf("got %v", err)
	}
	d.limit = 0
	l := open(t, raftlog.Options{FS: d, SegmentBytes: 16 << 10})
	save(t, l, update(1, 1, 1, 10))
}

// Close does not wait for room that only copying wants.
func TestCloseDoesNotWaitForAFullDisk(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	o := memory()
	o.FS = d
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
	l.Close()
	if err := <-done; !errors.Is(err, mqerr.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// What raft must not ask for fails the log, and its owner is told.
func TestUpdatesThatCannotBeTakenFailTheLog(t *testing.T) {
	t.Parallel()
	gap := update(1, 4, 3, 10)
	gap.EntriesToSave = append(gap.EntriesToSave[:1], gap.EntriesToSave[2])
	behind := update(1, 9, 2, 10)
	behind.Snapshot = pb.Snapshot{Index: 7, Term: 1}
	large := update(1, 4, 65, 0)
	for i, cmd := 0, make([]byte, 16<<20); i < len(large.EntriesToSave); i++ {
		large.EntriesToSave[i].Cmd = cmd
	}
	for name, u := range map[string]pb.Update{
		"gap before": update(1, 5, 1, 10), "gap inside": gap, "gap behind a snapshot": behind, "too large": large,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan error, 1)
			o := memory()
			o.OnFailure = func(err error) { told <- err }
			l := open(t, o)
			save(t, l, update(1, 1, 3, 10))
			done := make(chan error, 1)
			go func() { done <- l.SaveRaftState(updates(u), 1) }()
			select {
			case err := <-told:
				if err == nil || !errors.Is(l.Err(), err) {
					t.Fatalf("told %v, failed with %v", err, l.Err())
				}
			case err := <-done:
				t.Fatalf("the call returned %v and nobody was told", err)
			case <-time.After(2 * time.Minute):
				t.Fatal("nobody was told")
			}
			select {
			case err := <-done:
				t.Fatalf("the call was not held: %v", err)
			default:
			}
			l.Release()
			if err := <-done; !errors.Is(err, l.Err()) {
				t.Fatalf("got %v", err)
			}
			l.Close()
			o.OnFailure = nil
			l = open(t, o)
			has(t, l, 1, 1, 3, 10)
			save(t, l, update(1, 4, 1, 10))
		})
	}
}

func TestEntryLargerThanASegment(t *testing.T) {
	t.Parallel()
	for _, budget := range []int64{-1, 0} {
		o := memory()
		o.MemoryBudget = budget
		l := open(t, o)
		for i := range uint64(6) {
			save(t, l, update(1, 1+i, 1, 100_000))
			save(t, l, update(2, 1+i, 1, 100))
		}
		for range 2 {
			has(t, l, 1, 1, 6, 100_000)
			has(t, l, 2, 1, 6, 100)
			l.Close()
			l = open(t, o)
		}
	}
}

func TestRecentEntriesComeFromMemory(t *testing.T) {
	t.Parallel()
	o := memory()
	o.MemoryBudget = 20 << 10
	l := open(t, o)
	for i := range uint64(50) {
		save(t, l, update(1, 1+i, 1, 1000))
	}
	has(t, l, 1, 40, 50, 1000)
	if s := l.Stats(); s.ReadBack != 0 || s.MemoryBytes == 0 || s.MemoryBytes > o.MemoryBudget {
		t.Errorf("got %+v", s)
	}
	has(t, l, 1, 1, 50, 1000)
	if s := l.Stats(); s.ReadBack < 25 || s.ReadBack > 40 {
		t.Errorf("%d entries were read back", s.ReadBack)
	}
	// An overwritten suffix must not come from memory either.
	u := update(1, 45, 1, 10)
	save(t, l, u)
	ents, _, err := l.IterateEntries(nil, 0, 1, 1, 44, 60, math.MaxUint64)
	if err != nil || len(ents) != 2 || len(ents[1].Cmd) != 10 {
		t.Errorf("got %d entries, %v", len(ents), err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []raftlog.Options{{SegmentBytes: 1}, {SegmentBytes: 1 << 40}, {MaxBytes: -1}} {
		o.FS = vfs.NewMem()
		if _, err := raftlog.Open("/log", o); !errors.Is(err, mqerr.ErrInvalidConfig) {
			t.Errorf("%s: got %v", fmt.Sprint(o.SegmentBytes, o.MaxBytes), err)
		}
	}
}
