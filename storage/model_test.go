package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// A log does what the slow twin below does, whatever comes in which order.
func TestLogEqualsModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := &modelRun{t: t, rng: rand.New(rand.NewPCG(seed, 99)), fs: vfs.NewMem()}
			r.reopen()
			for step := range 160 {
				r.step(step)
			}
			must(t, r.s.Close())
		})
	}
}

// modelLog is a log as slices.
type modelLog struct {
	batches    []modelBatch // all that ever were
	start, end int64
	epoch      int32
	epochs     []modelEpoch
	producers  map[[2]int64]storage.ProducerEntry
	appendTime int64
}

type modelBatch struct {
	data               []byte
	first, last        int64
	maxTimestamp, time int64
}

type modelEpoch struct {
	epoch int32
	start int64
}

func (m *modelLog) readable() []modelBatch {
	return m.batches[m.at(m.start):]
}

// at is the index of the batch that holds offset or comes next.
func (m *modelLog) at(offset int64) int {
	for i, b := range m.batches {
		if b.last >= offset {
			return i
		}
	}
	return len(m.batches)
}

type modelRun struct {
	t   *testing.T
	rng *rand.Rand
	fs  vfs.FS
	s   *storage.Store
	l   *storage.Log
	m   modelLog
	id  storage.ReplicaID
	now int64
}

func (r *modelRun) reopen() {
	if r.s != nil {
		must(r.t, r.s.Close())
	} else {
		r.id = storage.ReplicaID{Shard: 1024, Replica: 1}
		r.m = modelLog{epoch: storage.NoEpoch, appendTime: storage.NoTimestamp, producers: map[[2]int64]storage.ProducerEntry{}}
	}
	r.s = mustOpen(r.t, r.fs, storage.Options{MemTableBytes: 1 << 20})
	r.l = mustOpenLog(r.t, r.s, r.id)
}

func (r *modelRun) step(step int) {
	switch op := r.rng.IntN(100); {
	case op < 60:
		r.change(step)
	case op < 63:
		r.reopen()
	case op < 66:
		r.move()
	case op < 70:
		must(r.t, r.l.Sync())
	}
	r.compare()
}

// change commits a batch of random changes.
func (r *modelRun) change(step int) {
	lb := r.l.NewBatch()
	for range 1 + r.rng.IntN(4) {
		switch op := r.rng.IntN(10); {
		case op < 6:
			r.append(lb)
		case op < 7:
			lb.BeginEpoch(r.m.epoch + 1)
			r.m.epoch++
			r.m.epochs = append(r.m.epochs, modelEpoch{r.m.epoch, r.m.end})
		case op < 8:
			start := r.m.start + r.rng.Int64N(r.m.end-r.m.start+1)
			if r.rng.IntN(3) > 0 {
				start = r.m.start + (start-r.m.start)/4
			}
			lb.Trim(start)
			r.m.start = max(r.m.start, start)
		case op < 9:
			p := storage.ProducerEntry{ID: r.rng.Int64N(3), Slot: uint8(r.rng.IntN(4)), BaseOffset: r.m.end, FirstSeq: int32(step)}
			lb.SetProducer(p)
			r.m.producers[[2]int64{p.ID, int64(p.Slot)}] = p
		default:
			id := r.rng.Int64N(3)
			lb.DeleteProducer(id)
			for k := range r.m.producers {
				if k[0] == id {
					delete(r.m.producers, k)
				}
			}
		}
	}
	must(r.t, lb.Commit(r.l.Applied()+1))
}

func (r *modelRun) append(lb *storage.LogBatch) {
	r.now += r.rng.Int64N(5)
	b := modelBatch{first: r.m.end, time: r.now, maxTimestamp: r.now + r.rng.Int64N(60) - 30}
	if r.rng.IntN(8) == 0 {
		b.first += r.rng.Int64N(10) // a gap
	}
	b.last = b.first + r.rng.Int64N(10)
	size := 1 + r.rng.IntN(2000)
	if r.rng.IntN(4) == 0 {
		size = 1 + r.rng.IntN(500<<10)
	}
	b.data = bytes.Repeat(fmt.Appendf(nil, "%d.", b.first), size)[:size]
	given := b.time
	if r.rng.IntN(10) == 0 {
		given -= 1000 // counts as the newest
	}
	r.m.appendTime = max(r.m.appendTime, given)
	b.time = r.m.appendTime
	must(r.t, lb.Append(b.data, b.first, b.last, b.maxTimestamp, given))
	r.m.batches = append(r.m.batches, b)
	r.m.end = b.last + 1
}

// move restores a snapshot of the log under another name and goes on there.
func (r *modelRun) move() {
	sn, err := r.l.Snapshot()
	must(r.t, err)
	var buf bytes.Buffer
	must(r.t, sn.WriteTo(&buf, nil))
	must(r.t, sn.Close())
	old := r.id
	r.id.Replica++
	r.l = mustOpenLog(r.t, r.s, r.id)
	must(r.t, r.l.Restore(&buf, nil))
	must(r.t, r.s.Drop(old))
}

func (r *modelRun) compare() {
	r.t.Helper()
	r.compareState()
	r.compareRead()
	r.compareTrimPoint()
	r.compareTime()
	r.compareEpoch()
}

func (r *modelRun) compareState() {
	r.t.Helper()
	var size int64
	for _, b := range r.m.readable() {
		size += int64(len(b.data))
	}
	st := r.l.State()
	if st.Start != r.m.start || st.End != r.m.end || st.Epoch != r.m.epoch || st.Bytes != size || st.AppendTime != r.m.appendTime {
		r.t.Fatalf("state %+v, want start %d end %d epoch %d bytes %d append time %d", st, r.m.start, r.m.end, r.m.epoch, size, r.m.appendTime)
	}
	seen := map[[2]int64]storage.ProducerEntry{}
	must(r.t, r.l.Producers(func(p storage.ProducerEntry) error {
		seen[[2]int64{p.ID, int64(p.Slot)}] = p
		return nil
	}))
	if fmt.Sprint(seen) != fmt.Sprint(r.m.producers) {
		r.t.Fatalf("producers %v, want %v", seen, r.m.producers)
	}
}

func (r *modelRun) compareRead() {
	r.t.Helper()
	offset, limit := r.m.start-2+r.rng.Int64N(r.m.end-r.m.start+5), r.rng.IntN(100<<10)
	got, next, err := r.l.Read(nil, offset, limit)
	if offset < r.m.start || offset > r.m.end {
		if !errors.Is(err, mqerr.ErrOffsetOutOfRange) {
			r.t.Fatalf("read at %d of %d to %d: %v", offset, r.m.start, r.m.end, err)
		}
		return
	}
	must(r.t, err)
	var want []byte
	wantNext := offset
	for _, b := range r.m.batches[r.m.at(offset):] {
		if len(want) > 0 && len(want)+len(b.data) > limit {
			break
		}
		want, wantNext = append(want, b.data...), b.last+1
	}
	if !bytes.Equal(got, want) || next != wantNext {
		r.t.Fatalf("read at %d gave %d bytes up to %d, want %d up to %d", offset, len(got), next, len(want), wantNext)
	}
}

func (r *modelRun) compareTrimPoint() {
	r.t.Helper()
	limit, older := int64(-1), int64(-1)
	if r.rng.IntN(3) > 0 {
		limit = r.rng.Int64N(r.l.State().Bytes + 2)
	}
	if r.rng.IntN(3) > 0 {
		older = r.now - r.rng.Int64N(200)
	}
	batches := r.m.readable()
	var size int64
	for _, b := range batches {
		size += int64(len(b.data))
	}
	want := r.m.start
	for _, b := range batches {
		if (limit < 0 || size <= limit) && (older < 0 || b.time >= older) {
			break
		}
		size -= int64(len(b.data))
		want = b.last + 1
	}
	got, err := r.l.TrimPoint(limit, older)
	must(r.t, err)
	if got != want {
		r.t.Fatalf("trim point of %d bytes, older than %d: %d, want %d", limit, older, got, want)
	}
}

func (r *modelRun) compareTime() {
	r.t.Helper()
	ts, from := r.now-r.rng.Int64N(300), r.m.start+r.rng.Int64N(r.m.end-r.m.start+1)
	if r.rng.IntN(2) == 0 {
		from = 0
	}
	var want []byte
	wantNext := r.m.end
	for _, b := range r.m.readable() {
		if b.last >= from && b.maxTimestamp >= ts {
			want, wantNext = b.data, b.last+1
			break
		}
	}
	got, next, err := r.l.OffsetForTimestamp(ts, from)
	must(r.t, err)
	if !bytes.Equal(got, want) || next != wantNext {
		r.t.Fatalf("time %d from %d gave the batch up to %d, want %d", ts, from, next, wantNext)
	}
}

func (r *modelRun) compareEpoch() {
	r.t.Helper()
	if r.m.epoch < 0 {
		return
	}
	// Epochs that ended below the start may be forgotten.
	known := r.m.epochs
	for len(known) > 1 && known[1].start <= r.m.start {
		known = known[1:]
	}
	ask := known[0].epoch + r.rng.Int32N(int32(len(known)))
	i := slices.IndexFunc(known, func(e modelEpoch) bool { return e.epoch == ask })
	want := r.m.end
	if i+1 < len(known) {
		want = known[i+1].start
	}
	found, end, err := r.l.EpochEnd(ask)
	must(r.t, err)
	if found != ask || end != want {
		r.t.Fatalf("epoch %d ends (%d, %d), want %d", ask, found, end, want)
	}
}
