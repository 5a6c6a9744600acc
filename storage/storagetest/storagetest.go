// Package storagetest holds what a store must do on any file system.
package storagetest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/raftmq/mq/storage"
)

// Run runs the conformance suite. Each test calls fresh for a file system and
// a directory on it that nothing else uses.
func Run(t *testing.T, fresh func(t *testing.T) (fs storage.FS, dir string)) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"an empty log has nothing to read", testEmptyLog},
		{"what was appended is read from any offset", testReadFromAnyOffset},
		{"a read gives whole batches, the first always", testReadWholeBatches},
		{"a gap between offsets is read over", testReadOverGap},
		{"a read outside the log tells its bounds", testReadOutOfRange},
		{"a bad append makes the batch fail and changes nothing", testBadAppend},
		{"a closed batch changes nothing", testDroppedBatch},
		{"a batch on top of an old state is refused", testStaleBatch},
		{"a large batch goes through a small memtable", testLargeBatch},
		{"state survives reopening", testReopen},
		{"equal batches give equal states", testDeterminism},
		{"trim hides records and counts whole batches", testTrim},
		{"trim sees what its own batch appends", testTrimInBatch},
		{"trim point by size is exact", testTrimPointBySize},
		{"trim point by age is exact", testTrimPointByAge},
		{"trim point meets both limits", testTrimPointBoth},
		{"time lookup finds the first batch", testTimeLookup},
		{"time lookup outlives a trimmed outlier", testTimeLookupAfterOutlier},
		{"epoch ends follow Kafka", testEpochEnds},
		{"producers are remembered by slot", testProducers},
		{"replicas do not see each other", testReplicasAreApart},
		{"pairs can be set, deleted and scanned", testKV},
		{"a log is no key-value space", testKindsAreApart},
		{"a restored log equals its source", testRestoreLog},
		{"restored pairs replace all old ones", testRestoreKV},
		{"a snapshot does not see later batches", testSnapshotIsAPoint},
		{"a stopped or damaged restore changes nothing", testRestoreFails},
		{"drop leaves nothing and closes the handle", testDrop},
		{"the space of what was dropped and trimmed comes back", testReclaim},
		{"opening again closes the handle before", testReopenedHandle},
		{"everything is closed after close", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fs, dir := fresh(t)
			b := &bench{T: t, fs: fs, dir: dir}
			b.open()
			t.Cleanup(b.close)
			c.run(t, b)
		})
	}
}

// options keep the engine small.
var options = storage.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10}

// bench is a store under test. Helpers fail the test.
type bench struct {
	*testing.T
	fs  storage.FS
	dir string
	s   *storage.Store
}

var (
	logID = storage.ReplicaID{Shard: 1024, Replica: 1}
	kvID  = storage.ReplicaID{Shard: 1, Replica: 1}
)

func (b *bench) open() {
	b.Helper()
	o := options
	o.FS = b.fs
	s, err := storage.Open(b.dir, o)
	b.must(err)
	b.s = s
}

func (b *bench) close() {
	b.Helper()
	b.must(b.s.Close())
}

func (b *bench) reopen() {
	b.Helper()
	b.close()
	b.open()
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) log(id storage.ReplicaID) *log {
	b.Helper()
	l, err := b.s.OpenLog(id)
	b.must(err)
	return &log{Log: l, b: b}
}

func (b *bench) kv(id storage.ReplicaID) *storage.KV {
	b.Helper()
	kv, err := b.s.OpenKV(id)
	b.must(err)
	return kv
}

// log is a log under test.
type log struct {
	*storage.Log
	b *bench
}

// batch makes the bytes of a record batch that no other offset has.
func batch(first int64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d;", first), size)[:size]
}

// update runs fn on a batch and commits it under the next applied index.
func (l *log) update(fn func(*storage.LogBatch)) {
	l.b.Helper()
	lb := l.NewBatch()
	defer lb.Close()
	fn(lb)
	l.b.must(lb.Commit(l.Applied() + 1))
}

// add appends one batch of n records and size bytes at a time.
func (l *log) add(n int64, size int, time int64) (first int64) {
	l.b.Helper()
	l.update(func(lb *storage.LogBatch) {
		first = lb.State().End
		l.b.must(lb.Append(batch(first, size), first, first+n-1, time, time))
	})
	return first
}

func (l *log) trim(start int64) {
	l.b.Helper()
	l.update(func(lb *storage.LogBatch) { lb.Trim(start) })
}

// read reads once and checks that what comes are the batches that begin at
// firsts, of one size.
func (l *log) wantRead(offset int64, maxBytes int, wantNext int64, size int, firsts ...int64) {
	l.b.Helper()
	got, next, err := l.Read([]byte("kept"), offset, maxBytes)
	l.b.must(err)
	want := []byte("kept")
	for _, f := range firsts {
		want = append(want, batch(f, size)...)
	}
	if !bytes.Equal(got, want) {
		l.b.Fatalf("read at %d gave %d bytes %.40q, want the batches at %v", offset, len(got), got, firsts)
	}
	if next != wantNext {
		l.b.Fatalf("read at %d says go on at %d, want %d", offset, next, wantNext)
	}
}

func (l *log) wantState(want storage.State) {
	l.b.Helper()
	if got := l.State(); got != want {
		l.b.Fatalf("state\n got %+v\nwant %+v", got, want)
	}
}

// all reads the whole log.
func (l *log) all() []byte {
	l.b.Helper()
	var data []byte
	for offset := l.State().Start; offset < l.State().End; {
		var err error
		data, offset, err = l.Read(data, offset, 64<<10)
		l.b.must(err)
	}
	return data
}

func (l *log) producers() []storage.ProducerEntry {
	l.b.Helper()
	var all []storage.ProducerEntry
	l.b.must(l.Producers(func(p storage.ProducerEntry) error {
		all = append(all, p)
		return nil
	}))
	return all
}

// pairs reads all pairs under a prefix.
func (b *bench) pairs(kv *storage.KV, prefix string) (all []string) {
	b.Helper()
	b.must(kv.Scan([]byte(prefix), func(k, v []byte) error {
		all = append(all, fmt.Sprintf("%s=%s", k, v))
		return nil
	}))
	return all
}

func (b *bench) wantPairs(kv *storage.KV, prefix string, want ...string) {
	b.Helper()
	if got := b.pairs(kv, prefix); !slices.Equal(got, want) {
		b.Fatalf("pairs under %q: %q, want %q", prefix, got, want)
	}
}
