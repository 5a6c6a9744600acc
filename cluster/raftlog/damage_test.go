package raftlog_test

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/mqerr"
)

func damageOptions(d *powerDisk) raftlog.Options {
	return raftlog.Options{FS: d, SegmentBytes: 4 << 10, FlushInterval: -1, MemoryBudget: -1}
}

// written is a disk with a log of several segments, and how many entries each
// of two shards has. The log was closed if clean, else the power went.
func written(t testing.TB, clean bool) (d *powerDisk, entries uint64) {
	t.Helper()
	d = newPowerDisk()
	l, err := raftlog.Open("/log", damageOptions(d))
	if err != nil {
		t.Fatal(err)
	}
	entries = 25
	for i := range entries {
		save(t, l, update(1, 1+i, 1, 200), update(2, 1+i, 1, 60))
	}
	waitFor(t, d.ready)
	if !clean {
		d.mu.Lock()
		c := d.cut(allKept, nil)
		d.mu.Unlock()
		l.Close()
		return c, entries
	}
	l.Close()
	return d.clone(), entries
}

// everything opens a log and reads all of it, and says how many entries each
// shard has.
func everything(d *powerDisk, o raftlog.Options) (counts [2]uint64, err error) {
	var failure error
	o.OnFailure = func(err error) { failure = err }
	l, err := raftlog.Open("/log", o)
	if err != nil {
		return counts, err
	}
	defer l.Close()
	for shard := uint64(1); shard <= 2; shard++ {
		size := []int{200, 60}[shard-1]
		done := make(chan error, 1)
		go func() {
			ents, _, err := l.IterateEntries(nil, 0, shard, 1, 1, 1000, math.MaxUint64)
			for i, e := range ents {
				if e.Index != uint64(i)+1 || string(e.Cmd) != string(payload(shard, e.Index, size)) {
					err = fmt.Errorf("shard %d entry %d is wrong", shard, i+1)
				}
			}
			counts[shard-1] = uint64(len(ents))
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				return counts, err
			}
		case <-l.Failed():
			l.Release()
			<-done
			return counts, failure
		}
	}
	return counts, nil
}

// isDamage checks that err names a file of the log.
func isDamage(t testing.TB, err error, file string) {
	t.Helper()
	var damage *raftlog.DamageError
	if !errors.As(err, &damage) || !errors.Is(err, mqerr.ErrCorruptLog) {
		t.Errorf("got %v, want damage", err)
		return
	}
	if file != "" && path.Base(damage.File) != path.Base(file) || !strings.Contains(err.Error(), damage.File) {
		t.Errorf("got %v, want damage of %s", err, file)
	}
}

func TestFlippedBitIsFoundOrHarmless(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean=", clean), func(t *testing.T) {
			t.Parallel()
			d, entries := written(t, clean)
			points, found, short := 0, 0, 0
			for _, name := range d.segments() {
				for off := 0; off < len(d.file(name).data); off += stride(7) {
					c := d.clone()
					c.file(name).data[off] ^= 1 << (off % 8)
					points++
					counts, err := everything(c, damageOptions(c))
					switch {
					case err != nil:
						found++
						isDamage(t, err, name)
					case counts == [2]uint64{entries, entries}:
					case !clean && counts == [2]uint64{entries - 1, entries - 1}:
						short++ // the last group, for which nobody vouches
					default:
						t.Errorf("bit at %d of %s: got %v entries and no error", off, name, counts)
					}
				}
			}
			t.Logf("%d bits in %d segments, %d found, the rest in bytes that do not count, %d took the last group away", points, len(d.segments()), found, short)
			if !clean && short == 0 {
				t.Error("no flipped bit hit the last group")
			}
		})
	}
}

// stride is n, or more in a short run.
func stride(n int) int {
	if testing.Short() {
		return 10*n + 1
	}
	return n
}

// used are the segments that hold something: all but the prepared one.
func used(d *powerDisk) []string {
	all := d.segments()
	return all[:len(all)-1]
}

func TestMissingSegmentIsFound(t *testing.T) {
	t.Parallel()
	d, _ := written(t, false)
	for i, name := range used(d) {
		c := d.clone()
		delete(c.now, name)
		_, err := raftlog.Open("/log", damageOptions(c))
		isDamage(t, err, name)

		if i == len(used(d))-1 { // and the prepared one with it
			delete(c.now, d.segments()[i+1])
			_, err := raftlog.Open("/log", damageOptions(c))
			isDamage(t, err, name)
		}
	}
	o := damageOptions(newPowerDisk())
	o.MustExist = true
	_, err := raftlog.Open("/log", o)
	isDamage(t, err, "log")
}

func TestMissingPreparedSegmentIsMadeAgain(t *testing.T) {
	t.Parallel()
	d, entries := written(t, false)
	all := d.segments()
	delete(d.now, all[len(all)-1])
	counts, err := everything(d, damageOptions(d))
	if err != nil || counts[0] != entries {
		t.Fatalf("got %v, %v", counts, err)
	}
}

func TestCutSegmentIsFound(t *testing.T) {
	t.Parallel()
	d, _ := written(t, false)
	points := 0
	for _, name := range d.segments() {
		size := len(d.file(name).data)
		for to := 0; to < size; to += stride(37) {
			c := d.clone()
			c.file(name).data = c.file(name).data[:to]
			_, err := raftlog.Open("/log", damageOptions(c))
			isDamage(t, err, name)
			points++
		}
	}
	t.Logf("%d lengths", points)
}

func TestDuplicatedSegmentIsFound(t *testing.T) {
	t.Parallel()
	d, _ := written(t, false)
	points, all := 0, d.segments()
	for _, from := range all {
		for _, to := range append(all, "/log/0000000099.seg") {
			if from == to {
				continue
			}
			c := d.clone()
			c.now[to] = &inode{data: c.file(from).data}
			_, err := everything(c, damageOptions(c))
			isDamage(t, err, to)
			points++
		}
	}
	t.Logf("%d copies", points)
}

func TestSwappedSegmentsAreFound(t *testing.T) {
	t.Parallel()
	d, _ := written(t, false)
	points, all := 0, d.segments()
	for i := range all {
		for k := range i {
			c := d.clone()
			c.now[all[i]], c.now[all[k]] = c.now[all[k]], c.now[all[i]]
			_, err := everything(c, damageOptions(c))
			isDamage(t, err, "")
			points++
		}
	}
	t.Logf("%d pairs", points)
}

func TestSegmentOfAnotherLogIsFound(t *testing.T) {
	t.Parallel()
	d, _ := written(t, false)
	other, _ := written(t, false)
	all := d.segments()
	for i, name := range all {
		c := d.clone()
		c.now[name] = other.file(name)
		_, err := everything(c, damageOptions(c))
		if i == len(all)-2 {
			name = "" // the tail: it is taken for the right one, and the others for foreign
		}
		isDamage(t, err, name)
	}
}

func TestOtherFormatIsRefused(t *testing.T) {
	t.Parallel()
	d, _ := written(t, true)
	for _, name := range d.segments() {
		c := d.clone()
		raftlog.SetVersionForTest(c.file(name).data, raftlog.FormatVersion+1)
		if _, err := everything(c, damageOptions(c)); !errors.Is(err, mqerr.ErrNewerFormat) || !strings.Contains(err.Error(), name) {
			t.Errorf("newer: got %v", err)
		}
		raftlog.SetVersionForTest(c.file(name).data, 0)
		_, err := everything(c, damageOptions(c))
		isDamage(t, err, name)
	}
}

// Opening costs the same however long the history is.
func TestOpeningReadsNothingOfOldSegments(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{25, 250} {
		d := newPowerDisk()
		o := damageOptions(d)
		l := open(t, o)
		for i := range n {
			save(t, l, update(1, 1+i, 1, 200))
		}
		waitFor(t, d.ready)
		l.Close()
		o.FS = d.clone()
		l = open(t, o)
		read := o.FS.(*powerDisk).namesRead()
		all := d.segments()
		// The prepared one, the tail, and of the one before it the header.
		if want := all[len(all)-3:]; !slices.Equal(read, want) {
			t.Errorf("of %d segments %v were read, want %v", len(all), read, want)
		}
		has(t, l, 1, 1, n, 200)
		l.Close()
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	d, entries := written(t, true)
	for _, name := range []string{"/log/README", "/log/1.seg", "/log/0000000001.seg.bak"} {
		d.now[name] = &inode{data: []byte("mine")}
	}
	counts, err := everything(d, damageOptions(d))
	if err != nil || counts[0] != entries || d.now["/log/1.seg"] == nil {
		t.Fatalf("got %v, %v", counts, err)
	}
}

// A flipped bit in a payload that is only read later stops the log then.
func TestDamageFoundWhileReadingStopsTheLog(t *testing.T) {
	t.Parallel()
	d, _ := written(t, true)
	o := damageOptions(d)
	told := make(chan error, 1)
	o.OnFailure = func(err error) { told <- err }
	l, err := raftlog.Open("/log", o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	name := d.segments()[0]
	d.mu.Lock()
	data := d.file(name).data
	data[len(data)/2] ^= 1
	d.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		_, _, err := l.IterateEntries(nil, 0, 1, 1, 1, 1000, math.MaxUint64)
		done <- err
	}()
	isDamage(t, <-told, name)
	l.Release()
	isDamage(t, <-done, name)
	if err := l.SaveRaftState(updates(update(1, 26, 1, 10)), 1); err == nil {
		t.Error("the log went on")
	}
}

var (
	_ raftio.ILogDB = (*raftlog.Log)(nil)
	_ vfs.FS        = (*powerDisk)(nil)
)
