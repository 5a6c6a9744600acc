package raftlog_test

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
)

// open opens a log with small segments, and closes it when the test ends.
func open(t testing.TB, o raftlog.Options) *raftlog.Log {
	t.Helper()
	l, err := raftlog.Open("/log", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func memory() raftlog.Options {
	return raftlog.Options{FS: vfs.NewMem(), SegmentBytes: 16 << 10, FlushInterval: -1}
}

// update is a proposal of n entries from index first on, committed before.
func update(shard, first uint64, n, size int) pb.Update {
	u := pb.Update{ShardID: shard, ReplicaID: 1, State: pb.State{Term: 1, Vote: 1, Commit: first - 1}}
	for i := range uint64(n) {
		u.EntriesToSave = append(u.EntriesToSave, pb.Entry{Term: 1, Index: first + i, Cmd: payload(shard, first+i, size)})
	}
	return u
}

// payload is what entry i of a shard holds.
func payload(shard, i uint64, size int) []byte {
	b := make([]byte, size)
	copy(b, fmt.Sprintf("%d/%d.", shard, i))
	for k := 16; k < size; k++ {
		b[k] = byte(uint64(k)*i + shard)
	}
	return b
}

func updates(us ...pb.Update) []pb.Update { return us }

func save(t testing.TB, l raftio.ILogDB, us ...pb.Update) {
	t.Helper()
	if err := l.SaveRaftState(us, 1); err != nil {
		t.Fatal(err)
	}
}

// has checks that the log of a shard is entries first..last, each as update
// makes them.
func has(t testing.TB, l raftio.ILogDB, shard, first, last uint64, size int) {
	t.Helper()
	ents, _, err := l.IterateEntries(nil, 0, shard, 1, first, last+2, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(len(ents)) != last-first+1 {
		t.Fatalf("shard %d has %d entries from %d on, want up to %d", shard, len(ents), first, last)
	}
	for i, e := range ents {
		if e.Index != first+uint64(i) || string(e.Cmd) != string(payload(shard, e.Index, size)) {
			t.Fatalf("shard %d entry %d: got index %d, payload %.20q", shard, first+uint64(i), e.Index, e.Cmd)
		}
	}
}

func TestWhatWasSavedIsThereAfterReopening(t *testing.T) {
	t.Parallel()
	o := memory()
	l := open(t, o)
	for i := range uint64(200) {
		save(t, l, update(1, 1+2*i, 2, 100), update(2, 1+i, 1, 300))
	}
	has(t, l, 1, 1, 400, 100)
	l.Close()
	for range 3 {
		l = open(t, o)
		has(t, l, 1, 1, 400, 100)
		has(t, l, 2, 1, 200, 300)
		l.Close()
	}
}

func TestLogIsTruncatedBySegments(t *testing.T) {
	t.Parallel()
	o := memory()
	o.MemoryBudget = 4 << 10
	l := open(t, o)
	for i := range uint64(2000) {
		save(t, l, update(1, 1+i, 1, 500))
		if i > 20 && i%10 == 0 {
			if err := l.RemoveEntriesTo(1, 1, i-20); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := l.Stats()
	if s.DiskBytes > 10*o.SegmentBytes {
		t.Errorf("log of 1 MB takes %d bytes", s.DiskBytes)
	}
	if s.MemoryBytes > o.MemoryBudget {
		t.Errorf("%d bytes in memory", s.MemoryBytes)
	}
	has(t, l, 1, 1980, 2000, 500)
	l.Close()
	l = open(t, o)
	has(t, l, 1, 1980, 2000, 500)
}

// Where replicas with as much to do are cut together, many segments retire at once.
func TestSegmentsThatRetireTogetherAreAllUsedAgain(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	l := open(t, raftlog.Options{FS: d, SegmentBytes: 16 << 10, FlushInterval: -1})
	next := uint64(1)
	fill := func(segments int64) {
		for from := l.Stats().Groups; l.Stats().Groups < from+17*segments; next++ { // 15 entries, a seal, a checkpoint
			save(t, l, update(1, next, 1, 1000))
		}
	}
	fill(6)
	if err := l.RemoveEntriesTo(1, 1, next-1); err != nil {
		t.Fatal(err)
	}
	fill(1) // its checkpoint retires those before
	created := 0
	d.mu.Lock()
	d.before = func(what change, _ string) error {
		if what == changeCreate {
			created++
		}
		return nil
	}
	d.mu.Unlock()
	before := l.Stats().DiskBytes
	fill(4)
	d.mu.Lock()
	defer d.mu.Unlock()
	if after := l.Stats().DiskBytes; created != 0 || after > before {
		t.Errorf("4 segments more made %d new files, the log grew from %d to %d bytes", created, before, after)
	}
}

// 100 shards of which 99 are idle, save for one entry each at a time of its own,
// and the other one writes 40 times what the log may take. RAFTLOG_GB=20 makes it 20 GB on a disk, and 512 MiB.
func TestIdleShardsDoNotPinTheLog(t *testing.T) {
	t.Parallel()
	o := memory()
	o.MaxBytes = 256 << 10
	o.MemoryBudget = -1
	o.FlushInterval = time.Hour // nothing waits for that
	size, n, dir := 1000, uint64(10_000), "/log"
	if gb, err := strconv.ParseUint(os.Getenv("RAFTLOG_GB"), 10, 8); err == nil {
		o = raftlog.Options{MaxBytes: 512 << 20}
		size, n, dir = 256<<10, gb<<30/(256<<10), t.TempDir()
	}
	l, err := raftlog.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	const idle, busy = 99, 1000
	for shard := uint64(1); shard <= idle; shard++ {
		save(t, l, update(shard, 1, 3, 200))
	}
	largest := int64(0)
	for i := range n {
		save(t, l, update(busy, 1+i, 1, size))
		if i%20 == 0 && i > 0 {
			if err := l.RemoveEntriesTo(busy, 1, i-10); err != nil {
				t.Fatal(err)
			}
		}
		if shard := i / (n / idle); i%(n/idle) == 0 && shard > 0 && shard <= idle {
			save(t, l, update(shard, 4, 1, 200)) // wakes up once, and goes back to sleep
		}
		largest = max(largest, l.Stats().DiskBytes)
	}
	s := l.Stats()
	t.Logf("log took up to %d of %d bytes: %+v", largest, o.MaxBytes, s)
	if largest > o.MaxBytes {
		t.Errorf("log took up to %d bytes, want at most %d", largest, o.MaxBytes)
	}
	if s.Carried == 0 {
		t.Error("nothing was copied forward")
	}
	check := func() {
		t.Helper()
		for shard := uint64(1); shard <= idle; shard++ {
			has(t, l, shard, 1, 4, 200)
		}
		has(t, l, busy, n-5, n, size)
	}
	check()
	for range 3 {
		l.Close()
		if l, err = raftlog.Open(dir, o); err != nil {
			t.Fatal(err)
		}
		check()
	}
}
