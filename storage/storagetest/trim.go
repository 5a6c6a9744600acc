package storagetest

import (
	"errors"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

func testTrim(t *testing.T, b *bench) {
	l := b.log(logID)
	for range 10 {
		l.add(10, 1000, 1)
	}
	digest := l.State().Digest
	want := func(start, end, bytes int64) {
		t.Helper()
		if st := l.State(); st.Start != start || st.End != end || st.Bytes != bytes || st.Digest != digest {
			t.Fatalf("state %+v, want start %d end %d bytes %d", st, start, end, bytes)
		}
	}
	l.trim(5) // inside the first batch
	want(5, 100, 10000)
	l.wantRead(5, 1, 10, 1000, 0)
	l.trim(10)
	want(10, 100, 9000)
	l.trim(3) // back: nothing
	want(10, 100, 9000)
	l.trim(55)
	want(55, 100, 5000)
	l.wantRead(55, 1<<20, 100, 1000, 50, 60, 70, 80, 90)
	b.reopen()
	l = b.log(logID)
	want(55, 100, 5000)
	l.wantRead(59, 1, 60, 1000, 50)
	if _, _, err := l.Read(nil, 54, 1); !errors.Is(err, mqerr.ErrOffsetOutOfRange) {
		t.Fatalf("read of a trimmed record: %v", err)
	}
	l.trim(1 << 40) // cut to the end
	want(100, 100, 0)
	l.wantRead(100, 1, 100, 0)
	l.add(10, 500, 1)
	digest = l.State().Digest
	want(100, 110, 500)
	l.wantRead(100, 1, 110, 500, 100)
}

func testTrimInBatch(t *testing.T, b *bench) {
	l := b.log(logID)
	l.add(10, 1000, 1)
	l.update(func(lb *storage.LogBatch) {
		for range 5 {
			e := lb.State().End
			b.must(lb.Append(batch(e, 600<<10), e, e+9, 1, 1))
		}
		lb.Trim(35) // 0, 10 and 20 go
		if st := lb.State(); st.Bytes != 3*600<<10 || st.Start != 35 {
			t.Fatalf("staged state %+v", st)
		}
		lb.Trim(50)
	})
	if st := l.State(); st.Start != 50 || st.End != 60 || st.Bytes != 600<<10 {
		t.Fatalf("state %+v", st)
	}
	l.wantRead(50, 1, 60, 600<<10, 50)
	l.update(func(lb *storage.LogBatch) {
		b.must(lb.Append(batch(60, 10), 60, 60, 1, 1))
		lb.Trim(61)
		b.must(lb.Append(batch(61, 20), 61, 61, 1, 1))
	})
	if st := l.State(); st.Start != 61 || st.End != 62 || st.Bytes != 20 {
		t.Fatalf("state %+v", st)
	}
	l.wantRead(61, 1, 62, 20, 61)
}

// fill appends batches of different sizes, some MiB in all, so that the sparse
// index has several marks, one record each, appended at 10, 20, 30 ...
func (l *log) fill(n int) (sizes []int64) {
	l.b.Helper()
	for i := range n {
		size := 1 + (i*7919)%(300<<10)
		l.add(1, size, int64(i+1)*10)
		sizes = append(sizes, int64(size))
	}
	return sizes
}

func (l *log) wantTrimPoint(bytes, olderThan, want int64) {
	l.b.Helper()
	got, err := l.TrimPoint(bytes, olderThan)
	l.b.must(err)
	if got != want {
		l.b.Fatalf("trim point for %d bytes, older than %d: %d, want %d", bytes, olderThan, got, want)
	}
}

func testTrimPointBySize(_ *testing.T, b *bench) {
	l := b.log(logID)
	l.wantTrimPoint(0, -1, 0)
	sizes := l.fill(60)
	check := func(start int) {
		b.Helper()
		var keep int64
		l.wantTrimPoint(0, -1, 60)
		for i := 59; i >= start; i-- {
			keep += sizes[i]
			l.wantTrimPoint(keep-1, -1, int64(i+1))
			l.wantTrimPoint(keep, -1, int64(i))
		}
		l.wantTrimPoint(keep+1, -1, int64(start))
		l.wantTrimPoint(-1, -1, int64(start))
	}
	check(0)
	l.trim(7)
	check(7)
	l.trim(31)
	check(31)
	b.reopen()
	l = b.log(logID)
	check(31)
}

func testTrimPointByAge(_ *testing.T, b *bench) {
	l := b.log(logID)
	l.wantTrimPoint(-1, 1000, 0)
	l.fill(60)
	check := func(start int64) {
		b.Helper()
		for i := start; i < 60; i++ {
			l.wantTrimPoint(-1, (i+1)*10, i)
			l.wantTrimPoint(-1, (i+1)*10+1, i+1)
		}
		l.wantTrimPoint(-1, 0, start)
	}
	check(0)
	l.trim(9)
	check(9)
	b.reopen()
	l = b.log(logID)
	check(9)
}

func testTrimPointBoth(_ *testing.T, b *bench) {
	l := b.log(logID)
	for i := range 10 {
		l.add(10, 100, int64(i))
	}
	l.wantTrimPoint(500, 3, 50)
	l.wantTrimPoint(500, 7, 70)
	l.wantTrimPoint(50, 3, 100)
	l.trim(75) // in a batch: the start stays where it is
	l.wantTrimPoint(1000, 7, 75)
	l.wantTrimPoint(250, 7, 80)
}

func testTimeLookup(t *testing.T, b *bench) {
	l := b.log(logID)
	if got, _, err := l.OffsetForTimestamp(0, 0); got != nil || err != nil {
		t.Fatalf("empty log gave %q, %v", got, err)
	}
	// Times go up and down; three MiB, so there are marks between.
	var times []int64
	for i := range int64(60) {
		time := 1000 + i*10 + (i%7)*25 - (i%3)*30
		l.add(10, 50<<10, time)
		times = append(times, time)
	}
	check := func(start int64) {
		t.Helper()
		for ts := int64(900); ts < 1900; ts += 7 {
			for _, from := range []int64{0, 5, 95, 377} {
				want := int64(-1)
				for i := int64(0); i < 60 && want < 0; i++ {
					if end := (i + 1) * 10; times[i] >= ts && end > from && end > start {
						want = i * 10
					}
				}
				got, next, err := l.OffsetForTimestamp(ts, from)
				b.must(err)
				if want < 0 {
					if got != nil || next != l.State().End {
						t.Fatalf("time %d from %d gave something up to %d", ts, from, next)
					}
					continue
				}
				if next != want+10 || string(got) != string(batch(want, 50<<10)) {
					t.Fatalf("time %d from %d gave the batch up to %d, want the one at %d", ts, from, next, want)
				}
			}
		}
	}
	check(0)
	l.trim(123)
	check(123)
	b.reopen()
	l = b.log(logID)
	check(123)
}

func testTimeLookupAfterOutlier(t *testing.T, b *bench) {
	l := b.log(logID)
	l.add(1, 10, 1<<50)
	for i := range int64(40) {
		l.add(1, 100<<10, i)
	}
	want := func(ts, next int64) {
		t.Helper()
		_, got, err := l.OffsetForTimestamp(ts, 0)
		b.must(err)
		if got != next {
			t.Fatalf("time %d: batch up to %d, want %d", ts, got, next)
		}
	}
	want(30, 1)
	l.trim(1)
	want(30, 32)
	want(39, 41)
	want(40, 41) // none: the end
	b.reopen()
	l = b.log(logID)
	want(30, 32)
}
