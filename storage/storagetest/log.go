package storagetest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

func testEmptyLog(t *testing.T, b *bench) {
	l := b.log(logID)
	l.wantState(storage.State{Epoch: storage.NoEpoch, AppendTime: storage.NoTimestamp, MaxTimestamp: storage.NoTimestamp})
	l.wantRead(0, 1<<20, 0, 0)
	if _, _, err := l.Read(nil, 1, 1); !errors.Is(err, mqerr.ErrOffsetOutOfRange) {
		t.Fatalf("read behind the end: %v", err)
	}
	b.must(l.Sync())
	ids, err := b.s.Replicas()
	b.must(err)
	if len(ids) != 0 {
		t.Fatalf("opening a log wrote %v", ids)
	}
}

func testReadFromAnyOffset(_ *testing.T, b *bench) {
	l := b.log(logID)
	for range 20 {
		l.add(10, 100, 1)
	}
	check := func() {
		for offset := range int64(200) {
			first := offset / 10 * 10
			l.wantRead(offset, 1, first+10, 100, first)
		}
		l.wantRead(200, 1<<20, 200, 0)
	}
	check()
	b.must(l.Sync())
	check()
	b.reopen()
	l = b.log(logID)
	check()
}

func testReadWholeBatches(_ *testing.T, b *bench) {
	l := b.log(logID)
	for range 5 {
		l.add(2, 1000, 1)
	}
	l.wantRead(0, 0, 2, 1000, 0)
	l.wantRead(0, 999, 2, 1000, 0)
	l.wantRead(0, 1999, 2, 1000, 0)
	l.wantRead(0, 2000, 4, 1000, 0, 2)
	l.wantRead(3, 2000, 6, 1000, 2, 4)
	l.wantRead(0, 1<<20, 10, 1000, 0, 2, 4, 6, 8)
	l.wantRead(9, -1, 10, 1000, 8)
}

func testReadOverGap(_ *testing.T, b *bench) {
	l := b.log(logID)
	l.add(1, 10, 1)
	l.update(func(lb *storage.LogBatch) { b.must(lb.Append(batch(50, 10), 50, 59, 1, 1)) })
	l.wantRead(1, 1, 60, 10, 50)
	l.wantRead(30, 1, 60, 10, 50)
}

func testReadOutOfRange(t *testing.T, b *bench) {
	l := b.log(logID)
	for range 4 {
		l.add(5, 10, 1)
	}
	l.trim(7)
	for _, offset := range []int64{-5, 0, 6, 21} {
		dst := []byte("kept")
		got, _, err := l.Read(dst, offset, 1)
		var d *mqerr.Detail
		if !errors.Is(err, mqerr.ErrOffsetOutOfRange) || !errors.As(err, &d) || d.LogStart != 7 || d.HighWatermark != 20 {
			t.Fatalf("read at %d: %v, detail %+v", offset, err, d)
		}
		if !bytes.Equal(got, dst) {
			t.Fatalf("read at %d gave %q", offset, got)
		}
	}
	l.wantRead(7, 1, 10, 10, 5) // the batch that holds 7 begins below it
}

func testBadAppend(t *testing.T, b *bench) {
	l := b.log(logID)
	l.add(10, 10, 1)
	before := l.State()
	for _, bad := range []struct {
		name        string
		first, last int64
		batch       []byte
		want        error
	}{
		{"below the end", 10, 12, []byte("x"), mqerr.ErrInvalidRecord},
		{"ending before it begins", 12, 11, []byte("x"), mqerr.ErrInvalidRecord},
		{"empty", 11, 11, nil, mqerr.ErrInvalidRecord},
		{"too large", 11, 11, make([]byte, 64<<20+1), mqerr.ErrRecordTooLarge},
	} {
		lb := l.NewBatch()
		b.must(lb.Append([]byte("good"), 10, 10, 1, 1))
		if err := lb.Append(bad.batch, bad.first, bad.last, 1, 1); !errors.Is(err, bad.want) {
			t.Errorf("append of a batch %s: %v", bad.name, err)
		}
		if err := lb.Commit(9); !errors.Is(err, bad.want) {
			t.Errorf("commit after a batch %s: %v", bad.name, err)
		}
	}
	l.wantState(before)
	l.wantRead(10, 1, 10, 0)
}

func testDroppedBatch(t *testing.T, b *bench) {
	l := b.log(logID)
	lb := l.NewBatch()
	b.must(lb.Append([]byte("x"), 0, 0, 1, 1))
	lb.Close()
	if err := lb.Commit(1); err == nil {
		t.Fatal("a closed batch was committed")
	}
	l.add(1, 10, 1)
	l.wantRead(0, 1, 1, 10, 0)
	lb = l.NewBatch()
	if err := lb.Commit(0); err == nil {
		t.Fatal("the applied index went back")
	}
}

func testStaleBatch(t *testing.T, b *bench) {
	l := b.log(logID)
	old := l.NewBatch()
	b.must(old.Append([]byte("old"), 0, 0, 1, 1))
	l.add(1, 10, 1)
	if err := old.Commit(2); err == nil {
		t.Fatal("two batches on top of one state were committed")
	}
	l.wantRead(0, 1<<20, 1, 10, 0)
}

func testLargeBatch(_ *testing.T, b *bench) {
	l := b.log(logID)
	const size = 3 << 20
	l.add(1, 10, 1)
	l.add(1000, size, 1)
	l.add(1, size, 1)
	l.wantRead(1, 1, 1001, size, 1)
	b.must(l.Sync())
	l.wantRead(1, 1, 1001, size, 1)
}

func testReopen(_ *testing.T, b *bench) {
	l := b.log(logID)
	l.update(func(lb *storage.LogBatch) {
		lb.BeginEpoch(3)
		lb.SetFeature(2)
		b.must(lb.Append(batch(0, 500), 0, 9, 70, 90))
		lb.Trim(4)
	})
	want := storage.State{Applied: 1, Start: 4, End: 10, Epoch: 3, Bytes: 500, AppendTime: 90, MaxTimestamp: 70, Digest: l.State().Digest, Feature: 2}
	l.wantState(want)
	b.reopen()
	l = b.log(logID)
	l.wantState(want)
	// Append time never goes back.
	l.update(func(lb *storage.LogBatch) { b.must(lb.Append([]byte("x"), 10, 10, 80, 50)) })
	if st := l.State(); st.AppendTime != 90 || st.MaxTimestamp != 80 || st.End != 11 {
		b.Fatalf("state %+v", st)
	}
}

func testDeterminism(t *testing.T, b *bench) {
	one, two := b.log(logID), b.log(storage.ReplicaID{Shard: 1024, Replica: 2})
	other := b.log(storage.ReplicaID{Shard: 1024, Replica: 3})
	for i := range 50 {
		for _, l := range []*log{one, two, other} {
			l.update(func(lb *storage.LogBatch) {
				lb.BeginEpoch(int32(i / 10))
				e := lb.State().End
				data := batch(e, 5000)
				if l == other && i == 20 {
					data[0]++
				}
				b.must(lb.Append(data, e, e+3, int64(i), int64(i)))
				lb.Trim(e - 100)
			})
		}
	}
	if one.State() != two.State() {
		t.Fatalf("states differ:\n%+v\n%+v", one.State(), two.State())
	}
	if one.State().Digest == other.State().Digest {
		t.Fatal("digest does not see one changed byte")
	}
}

func testEpochEnds(t *testing.T, b *bench) {
	l := b.log(logID)
	begin := func(epoch int32) { l.update(func(lb *storage.LogBatch) { lb.BeginEpoch(epoch) }) }
	type answer struct {
		epoch int32
		end   int64
	}
	want := func(ask int32, a answer) {
		t.Helper()
		epoch, end, err := l.EpochEnd(ask)
		b.must(err)
		if (answer{epoch, end}) != a {
			t.Fatalf("end of epoch %d: (%d, %d), want %+v", ask, epoch, end, a)
		}
	}
	want(0, answer{-1, -1})
	begin(2)
	l.add(10, 10, 1)
	begin(3) // no record
	begin(5)
	begin(4) // too late
	l.add(10, 10, 1)
	begin(9)
	want(-1, answer{-1, -1})
	want(0, answer{0, 0})
	want(2, answer{2, 10})
	want(3, answer{3, 10})
	want(4, answer{3, 10})
	want(5, answer{5, 20})
	want(8, answer{5, 20})
	want(9, answer{9, 20})
	want(10, answer{-1, -1})
	l.add(1, 10, 1)
	want(9, answer{9, 21})

	l.trim(15) // the epochs that end below are forgotten
	want(5, answer{5, 20})
	want(9, answer{9, 21})
	b.reopen()
	l = b.log(logID)
	want(5, answer{5, 20})
	l.trim(21)
	want(9, answer{9, 21})
}

func testProducers(t *testing.T, b *bench) {
	l := b.log(logID)
	entry := func(id int64, slot uint8, seq int32) storage.ProducerEntry {
		return storage.ProducerEntry{ID: id, Epoch: 7, Slot: slot, FirstSeq: seq, LastSeq: seq + 4, BaseOffset: int64(seq) * 10, Time: 99}
	}
	l.update(func(lb *storage.LogBatch) {
		for _, p := range []storage.ProducerEntry{entry(2, 1, 5), entry(1, 31, 1), entry(2, 0, 0), entry(3, 255, 1), entry(3, 0, 2)} {
			lb.SetProducer(p)
		}
	})
	l.update(func(lb *storage.LogBatch) {
		lb.SetProducer(entry(2, 0, 10)) // replaces
		lb.DeleteProducer(3)
		lb.DeleteProducer(4)
		lb.SetProducer(entry(4, 3, 3))
	})
	want := []storage.ProducerEntry{entry(1, 31, 1), entry(2, 0, 10), entry(2, 1, 5), entry(4, 3, 3)}
	check := func() {
		t.Helper()
		got := l.producers()
		if len(got) != len(want) {
			t.Fatalf("producers %+v", got)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("producer %d is %+v, want %+v", i, got[i], want[i])
			}
		}
	}
	check()
	b.reopen()
	l = b.log(logID)
	check()
	stop := errors.New("enough")
	if err := l.Producers(func(storage.ProducerEntry) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("error of the callback came back as %v", err)
	}
}

func testReplicasAreApart(t *testing.T, b *bench) {
	ids := []storage.ReplicaID{{Shard: 1, Replica: 1}, {Shard: 1, Replica: 2}, {Shard: 2, Replica: 1}, {Shard: 1 << 60, Replica: 1<<64 - 1}}
	for i, id := range ids {
		l := b.log(id)
		for range i + 1 {
			l.add(1, 100+i, int64(i))
		}
	}
	got, err := b.s.Replicas()
	b.must(err)
	if len(got) != len(ids) {
		t.Fatalf("replicas %v, want %v", got, ids)
	}
	for i, id := range ids {
		if got[i] != id {
			t.Fatalf("replicas %v, want %v", got, ids)
		}
		l := b.log(id)
		if st := l.State(); st.End != int64(i+1) || st.Bytes != int64((i+1)*(100+i)) {
			t.Fatalf("log %v has %+v", id, st)
		}
		l.wantRead(0, 100, 1, 100+i, 0)
	}
}
