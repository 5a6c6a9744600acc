package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

func testKV(t *testing.T, b *bench) {
	kv := b.kv(kvID)
	kb := kv.NewBatch()
	kb.Set([]byte("a/1"), []byte("one"))
	kb.Set([]byte("a/2"), []byte("two"))
	kb.Set([]byte("b"), nil)
	kb.Set([]byte{0xff, 0xff}, []byte("last"))
	b.must(kb.Commit(5))
	kb = kv.NewBatch()
	kb.Delete([]byte("a/1"))
	kb.Delete([]byte("a/9"))
	kb.Set([]byte("a/3"), []byte("three"))
	b.must(kb.Commit(6))
	dropped := kv.NewBatch()
	dropped.Set([]byte("a/4"), nil)
	dropped.Close()

	check := func() {
		t.Helper()
		if kv.Applied() != 6 {
			t.Fatalf("applied %d", kv.Applied())
		}
		b.wantPairs(kv, "a/", "a/2=two", "a/3=three")
		b.wantPairs(kv, "", "a/2=two", "a/3=three", "b=", "\xff\xff=last")
		b.wantPairs(kv, "\xff", "\xff\xff=last")
		b.wantPairs(kv, "c")
		if v, ok, err := kv.Get([]byte("b")); err != nil || !ok || len(v) != 0 {
			t.Fatalf("get of an empty value: %q %v %v", v, ok, err)
		}
		if _, ok, err := kv.Get([]byte("a/1")); err != nil || ok {
			t.Fatalf("get of a deleted key: %v %v", ok, err)
		}
	}
	check()
	b.must(kv.Sync())
	check()
	b.reopen()
	kv = b.kv(kvID)
	check()
	// A callback may read and write.
	b.must(kv.Scan([]byte("a/"), func(k, _ []byte) error {
		if _, ok, err := kv.Get(k); !ok || err != nil {
			return fmt.Errorf("get inside scan: %v %w", ok, err)
		}
		kb := kv.NewBatch()
		kb.Delete(k)
		return kb.Commit(7)
	}))
	b.wantPairs(kv, "a/")
}

func testKindsAreApart(t *testing.T, b *bench) {
	b.log(logID).add(1, 10, 1)
	kb := b.kv(kvID).NewBatch()
	b.must(kb.Commit(1))
	if _, err := b.s.OpenKV(logID); err == nil {
		t.Fatal("a log was opened as pairs")
	}
	if _, err := b.s.OpenLog(kvID); err == nil {
		t.Fatal("pairs were opened as a log")
	}
}

// snapshot takes a snapshot and reads it whole.
func (b *bench) snapshot(take func() (*storage.Snapshot, error)) []byte {
	b.Helper()
	sn, err := take()
	b.must(err)
	var buf bytes.Buffer
	b.must(sn.WriteTo(&buf, nil))
	b.must(sn.Close())
	b.must(sn.Close())
	return buf.Bytes()
}

func testRestoreLog(t *testing.T, b *bench) {
	src, dst := b.log(logID), b.log(storage.ReplicaID{Shard: 1024, Replica: 2})
	src.update(func(lb *storage.LogBatch) { lb.BeginEpoch(1) })
	src.fill(30)
	src.update(func(lb *storage.LogBatch) {
		lb.BeginEpoch(2)
		lb.SetProducer(storage.ProducerEntry{ID: 9, Slot: 3, LastSeq: 4, BaseOffset: 5})
		lb.Trim(12)
	})
	src.fill(5)
	// What the receiver has before must not show through.
	for range 100 {
		dst.add(3, 100, 5)
	}
	dst.update(func(lb *storage.LogBatch) {
		lb.BeginEpoch(77)
		lb.SetProducer(storage.ProducerEntry{ID: 1})
	})
	stream := b.snapshot(src.Snapshot)
	b.must(dst.Restore(bytes.NewReader(stream), nil))
	check := func() {
		t.Helper()
		dst.wantState(src.State())
		if !bytes.Equal(dst.all(), src.all()) {
			t.Fatal("data differs")
		}
		if !reflect.DeepEqual(dst.producers(), src.producers()) {
			t.Fatalf("producers %v, want %v", dst.producers(), src.producers())
		}
		for e := range int32(3) {
			se, send, _ := src.EpochEnd(e)
			de, dend, err := dst.EpochEnd(e)
			if err != nil || se != de || send != dend {
				t.Fatalf("epoch %d ends (%d, %d), want (%d, %d), %v", e, de, dend, se, send, err)
			}
		}
	}
	check()
	if !bytes.Equal(b.snapshot(dst.Snapshot), stream) {
		t.Fatal("a snapshot of the restored log is another one")
	}
	b.must(dst.Sync())
	b.reopen()
	src, dst = b.log(logID), b.log(dst.ID())
	check()
	// It goes on like its source, and takes a second snapshot.
	for _, l := range []*log{src, dst} {
		l.update(func(lb *storage.LogBatch) {
			e := lb.State().End
			b.must(lb.Append(batch(e, 2<<20), e, e, 1, 1))
			lb.Trim(e - 3)
		})
	}
	check()
	b.must(dst.Restore(bytes.NewReader(b.snapshot(src.Snapshot)), nil))
	check()
}

func testRestoreKV(_ *testing.T, b *bench) {
	src, dst := b.kv(kvID), b.kv(storage.ReplicaID{Shard: 1, Replica: 2})
	for i, kv := range []*storage.KV{src, dst} {
		kb := kv.NewBatch()
		kb.Set(fmt.Append(nil, "only", i), []byte("x"))
		kb.Set([]byte("both"), fmt.Append(nil, i))
		b.must(kb.Commit(uint64(i + 10)))
	}
	b.must(dst.Restore(bytes.NewReader(b.snapshot(src.Snapshot)), nil))
	b.wantPairs(dst, "", "both=0", "only0=x")
	if dst.Applied() != 10 {
		b.Fatalf("applied %d", dst.Applied())
	}
	b.reopen()
	b.wantPairs(b.kv(dst.ID()), "", "both=0", "only0=x")
}

func testSnapshotIsAPoint(t *testing.T, b *bench) {
	l := b.log(logID)
	for range 50 {
		l.add(1, 1000, 1)
	}
	want := l.all()
	sn, err := l.Snapshot()
	b.must(err)
	defer func() { b.must(sn.Close()) }()
	at := l.State()
	for range 50 {
		l.add(1, 1000, 1)
	}
	l.trim(80)
	if sn.State() != at || sn.Applied() != 50 {
		t.Fatalf("snapshot says %+v", sn.State())
	}
	var buf bytes.Buffer
	b.must(sn.WriteTo(&buf, nil))
	dst := b.log(storage.ReplicaID{Shard: 1024, Replica: 2})
	b.must(dst.Restore(&buf, nil))
	dst.wantState(at)
	if !bytes.Equal(dst.all(), want) {
		t.Fatal("data is not that of the moment")
	}

	stop := make(chan struct{})
	close(stop)
	if err := sn.WriteTo(io.Discard, stop); !errors.Is(err, storage.ErrStopped) {
		t.Fatalf("stopped snapshot: %v", err)
	}
	broken := errors.New("broken pipe")
	if err := sn.WriteTo(writerFunc(func([]byte) (int, error) { return 0, broken }), nil); !errors.Is(err, broken) {
		t.Fatalf("error of the writer came back as %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func testRestoreFails(t *testing.T, b *bench) {
	src, dst := b.log(logID), b.log(storage.ReplicaID{Shard: 1024, Replica: 2})
	src.fill(20)
	dst.add(1, 100, 1)
	before, data := dst.State(), dst.all()
	stream := b.snapshot(src.Snapshot)
	unchanged := func() {
		t.Helper()
		dst.wantState(before)
		if !bytes.Equal(dst.all(), data) {
			t.Fatal("data changed")
		}
	}
	stop := make(chan struct{})
	close(stop)
	if err := dst.Restore(bytes.NewReader(stream), stop); !errors.Is(err, storage.ErrStopped) {
		t.Fatalf("stopped restore: %v", err)
	}
	unchanged()
	for _, n := range []int{0, 3, 7, 40, len(stream) / 2, len(stream) - 1} {
		if err := dst.Restore(bytes.NewReader(stream[:n]), nil); !errors.Is(err, mqerr.ErrCorruptLog) {
			t.Fatalf("stream cut to %d bytes: %v", n, err)
		}
	}
	for i := 0; i < len(stream); i += 1 + len(stream)/97 {
		bad := bytes.Clone(stream)
		bad[i] ^= 0x40
		if err := dst.Restore(bytes.NewReader(bad), nil); !errors.Is(err, mqerr.ErrCorruptLog) && !errors.Is(err, mqerr.ErrNewerFormat) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	if err := b.kv(kvID).Restore(bytes.NewReader(stream), nil); !errors.Is(err, mqerr.ErrCorruptLog) {
		t.Fatalf("log restored as pairs: %v", err)
	}
	unchanged()
	b.reopen()
	dst = b.log(dst.ID())
	unchanged()
	b.must(dst.Restore(bytes.NewReader(stream), nil))
	dst.wantState(b.log(logID).State())
}

func testDrop(t *testing.T, b *bench) {
	l, other := b.log(logID), b.log(storage.ReplicaID{Shard: 1024, Replica: 2})
	l.fill(10)
	l.update(func(lb *storage.LogBatch) {
		lb.BeginEpoch(1)
		lb.SetProducer(storage.ProducerEntry{ID: 1})
	})
	other.add(1, 10, 1)
	b.must(b.s.Drop(logID))
	b.must(b.s.Drop(logID))
	b.must(b.s.Drop(storage.ReplicaID{Shard: 5, Replica: 5}))
	if _, _, err := l.Read(nil, 0, 1); !errors.Is(err, mqerr.ErrClosed) {
		t.Fatalf("read of a dropped log: %v", err)
	}
	if err := l.NewBatch().Commit(99); !errors.Is(err, mqerr.ErrClosed) {
		t.Fatalf("commit to a dropped log: %v", err)
	}
	check := func() {
		t.Helper()
		ids, err := b.s.Replicas()
		b.must(err)
		if len(ids) != 1 || ids[0] != other.ID() {
			t.Fatalf("replicas %v", ids)
		}
		again := b.log(logID)
		if st := again.State(); st.End != 0 || st.Applied != 0 || st.Epoch != storage.NoEpoch {
			t.Fatalf("dropped log came back with %+v", st)
		}
		if len(again.producers()) != 0 {
			t.Fatal("producers survived")
		}
	}
	check()
	b.reopen()
	check()
	b.log(other.ID()).wantRead(0, 1, 1, 10, 0)
}

func testReclaim(t *testing.T, b *bench) {
	dropped, trimmed := b.log(logID), b.log(storage.ReplicaID{Shard: 1024, Replica: 2})
	const size = 1 << 20
	for range 60 {
		dropped.add(1, size, 1)
		trimmed.add(1, size, 1)
	}
	trimmed.trim(58)
	b.must(b.s.Drop(logID))
	// Space is freed in the background. Each turn makes a flush, and so takes
	// a while.
	for range 2000 {
		if b.s.Metrics().DiskBytes < 10*size {
			trimmed.wantRead(58, 1<<30, 60, size, 58, 59)
			return
		}
		trimmed.update(func(*storage.LogBatch) {})
		b.must(trimmed.Sync())
	}
	t.Fatalf("two batches of %d bytes left, on disk are %d", size, b.s.Metrics().DiskBytes)
}

func testReopenedHandle(t *testing.T, b *bench) {
	old := b.log(logID)
	old.add(1, 10, 1)
	now := b.log(logID)
	now.add(1, 10, 1)
	if err := old.NewBatch().Commit(9); !errors.Is(err, mqerr.ErrClosed) {
		t.Fatalf("commit through an old handle: %v", err)
	}
	b.must(old.Close())
	now.wantRead(0, 1<<20, 2, 10, 0, 1)
	b.must(now.Close())
	b.must(now.Close())
	if _, _, err := now.Read(nil, 0, 1); !errors.Is(err, mqerr.ErrClosed) {
		t.Fatalf("read through a closed handle: %v", err)
	}
	if st := now.State(); st.End != 2 {
		t.Fatalf("state of a closed handle: %+v", st)
	}
	b.log(logID).wantRead(0, 1<<20, 2, 10, 0, 1)
}

func testClosed(t *testing.T, b *bench) {
	l, kv := b.log(logID), b.kv(kvID)
	l.add(1, 10, 1)
	open := l.NewBatch()
	b.must(open.Append([]byte("x"), 1, 1, 1, 1))
	pending := kv.NewBatch()
	sn, err := l.Snapshot()
	b.must(err)
	b.must(b.s.Close())
	b.must(b.s.Close())
	calls := map[string]func() error{
		"OpenLog":            func() error { _, err := b.s.OpenLog(logID); return err },
		"OpenKV":             func() error { _, err := b.s.OpenKV(kvID); return err },
		"Replicas":           func() error { _, err := b.s.Replicas(); return err },
		"Drop":               func() error { return b.s.Drop(logID) },
		"Read":               func() error { _, _, err := l.Read(nil, 0, 1); return err },
		"EpochEnd":           func() error { _, _, err := l.EpochEnd(0); return err },
		"OffsetForTimestamp": func() error { _, _, err := l.OffsetForTimestamp(0, 0); return err },
		"TrimPoint":          func() error { _, err := l.TrimPoint(0, 0); return err },
		"Producers":          func() error { return l.Producers(nil) },
		"Sync":               l.Sync,
		"Unsynced":           func() error { _, err := l.Unsynced(); return err },
		"Snapshot":           func() error { _, err := l.Snapshot(); return err },
		"Restore":            func() error { return l.Restore(bytes.NewReader(nil), nil) },
		"Commit":             func() error { return open.Commit(2) },
		"new Commit":         func() error { return l.NewBatch().Commit(2) },
		"Append":             func() error { return l.NewBatch().Append([]byte("x"), 1, 1, 1, 1) },
		"WriteTo":            func() error { return sn.WriteTo(io.Discard, nil) },
		"Get":                func() error { _, _, err := kv.Get(nil); return err },
		"Scan":               func() error { return kv.Scan(nil, nil) },
		"KV Commit":          func() error { return pending.Commit(1) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, mqerr.ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
	lb := l.NewBatch()
	lb.BeginEpoch(1)
	lb.Trim(1)
	lb.SetProducer(storage.ProducerEntry{})
	lb.DeleteProducer(1)
	lb.Close()
	b.must(sn.Close())
	b.must(l.Close())
	if m := b.s.Metrics(); m != (storage.Metrics{}) {
		t.Errorf("metrics after close: %+v", m)
	}
	if l.State().End != 1 || kv.Applied() != 0 {
		t.Error("state after close is not that before")
	}
}
