package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

// naiveTable is the idempotence table without any cleverness: it remembers all
// batches of each producer for ever and looks at the newest 32 only.
type naiveTable struct {
	byID  map[int64]*naiveProducer
	limit int
}

type naiveProducer struct {
	epoch   int16
	history []storage.ProducerEntry // of this epoch
}

// behind counts how far a sequence lies before next, 0 to 2^31-1.
func behind(seq, next int32) int64 { return (int64(next) - int64(seq) + 1<<31) % (1 << 31) }

func (m *naiveTable) check(b record.Info) (verdict, int64, error) {
	p := m.byID[b.ProducerID]
	switch {
	case p == nil, b.ProducerEpoch > p.epoch:
		if b.BaseSequence != 0 {
			return fresh, 0, mqerr.ErrOutOfOrderSequence
		}
		return fresh, 0, nil
	case b.ProducerEpoch < p.epoch:
		return fresh, 0, mqerr.ErrProducerFenced
	}
	recent := p.history[max(0, len(p.history)-producerWindow):]
	for _, e := range recent {
		if e.FirstSeq == b.BaseSequence && e.LastSeq == b.LastSequence() {
			return duplicate, e.BaseOffset, nil
		}
	}
	next := record.AddSequence(recent[len(recent)-1].LastSeq, 1)
	if b.BaseSequence == next {
		return fresh, 0, nil
	}
	// It is old only if all of it lies before what is remembered.
	d := behind(b.BaseSequence, recent[0].FirstSeq)
	gone := len(p.history) >= producerWindow && d <= 1<<30 && int64(b.Count) <= d
	if gone {
		return duplicateGone, -1, nil
	}
	return fresh, 0, mqerr.ErrOutOfOrderSequence
}

func (m *naiveTable) add(b record.Info, offset, now int64) {
	p := m.byID[b.ProducerID]
	if p == nil && len(m.byID) >= m.limit {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(m.byID)), func(a, b int64) int {
			return cmp.Or(cmp.Compare(m.silentSince(a), m.silentSince(b)), cmp.Compare(a, b))
		})
		delete(m.byID, oldest)
	}
	if p == nil || p.epoch != b.ProducerEpoch {
		p = &naiveProducer{epoch: b.ProducerEpoch}
		m.byID[b.ProducerID] = p
	}
	p.history = append(p.history, storage.ProducerEntry{
		ID: b.ProducerID, Epoch: b.ProducerEpoch, FirstSeq: b.BaseSequence, LastSeq: b.LastSequence(), BaseOffset: offset, Time: now,
	})
}

func (m *naiveTable) silentSince(id int64) int64 {
	h := m.byID[id].history
	return h[len(h)-1].Time
}

func (m *naiveTable) expire(cutoff int64) {
	maps.DeleteFunc(m.byID, func(id int64, _ *naiveProducer) bool { return m.silentSince(id) < cutoff })
}

// table is the real one together with the entries a store would hold.
type table struct {
	producers
	stored map[[2]int64]storage.ProducerEntry
}

func newTable() *table {
	t := &table{stored: map[[2]int64]storage.ProducerEntry{}}
	t.load(nil)
	return t
}

func (t *table) put(b record.Info, offset, now int64) {
	entry, forget, full := t.add(b, offset, now)
	if full {
		t.forget(forget)
	}
	t.stored[[2]int64{entry.ID, int64(entry.Slot)}] = entry
}

func (t *table) forget(id int64) {
	maps.DeleteFunc(t.stored, func(k [2]int64, _ storage.ProducerEntry) bool { return k[0] == id })
}

// reloaded is the table that a restart would make of the store.
func (t *table) reloaded() producers {
	var p producers
	entries := slices.Collect(maps.Values(t.stored))
	rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	p.load(entries)
	return p
}

func (t *table) compare(m *naiveTable) error {
	if got := t.reloaded(); !reflect.DeepEqual(got, t.producers) {
		return errors.New("the table differs after a restart")
	}
	if len(t.byID) != len(m.byID) {
		return fmt.Errorf("%d producers, want %d", len(t.byID), len(m.byID))
	}
	oldest := int64(math.MaxInt64)
	for id, want := range m.byID {
		got := t.byID[id]
		if got == nil || got.epoch != want.epoch {
			return fmt.Errorf("producer %d is %+v, want %+v", id, got, want)
		}
		window := slices.Clone(got.window)
		for i := range window {
			window[i].Slot = 0
		}
		if recent := want.history[max(0, len(want.history)-producerWindow):]; !slices.Equal(window, recent) {
			return fmt.Errorf("producer %d remembers %v, want %v", id, window, recent)
		}
		oldest = min(oldest, m.silentSince(id))
	}
	if t.oldest() != oldest {
		return fmt.Errorf("oldest is %d, want %d", t.oldest(), oldest)
	}
	return nil
}

// sender is a producer as the table sees it: batches in flight that come again
// when an answer is lost, out of order, or with a new epoch.
type sender struct {
	id    int64
	epoch int16
	next  int32
	sent  []record.Info // all of this epoch
	taken int           // how many of these were appended
}

func (c *sender) batch(rng *rand.Rand) record.Info {
	if len(c.sent) > 0 && c.sent[0].ProducerEpoch != c.epoch {
		c.sent, c.next, c.taken = nil, 0, 0
	}
	count := 1 + rng.Int32N(5)
	if rng.IntN(40) == 0 {
		count = 1<<28 + rng.Int32N(1<<28) // wraps after a few of them
	}
	b := record.Info{
		ProducerID: c.id, ProducerEpoch: c.epoch, BaseSequence: c.next, Count: count, LastOffsetDelta: count - 1,
	}
	c.next = record.AddSequence(c.next, count)
	c.sent = append(c.sent, b)
	return b
}

// pick gives what arrives next from a sender.
func (c *sender) pick(rng *rand.Rand) record.Info {
	recent := func() record.Info { return c.sent[max(0, len(c.sent)-1-rng.IntN(60))] }
	switch roll := rng.IntN(200); {
	case c.taken < len(c.sent) && roll < 80: // again what was refused
		return c.sent[c.taken]
	case roll < 100 || len(c.sent) == 0:
		return c.batch(rng)
	case roll < 160: // the answer was lost
		return recent()
	case roll < 175: // one that overtook others
		c.batch(rng)
		return c.batch(rng)
	case roll < 185: // cut otherwise than the one sent
		b := recent()
		b.Count += rng.Int32N(3)
		b.LastOffsetDelta = b.Count - 1
		b.BaseSequence = record.AddSequence(b.BaseSequence, rng.Int32N(2))
		return b
	case roll < 190:
		b := recent()
		b.BaseSequence = rng.Int32()
		return b
	case roll < 199: // an old epoch
		b := recent()
		b.ProducerEpoch--
		return b
	default:
		c.epoch++
		return c.batch(rng)
	}
}

func TestDuplicatesAreFoundAsANaiveTableFindsThem(t *testing.T) {
	t.Parallel()
	seen := map[string]int{} // verdicts
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tab, model := newTable(), &naiveTable{byID: map[int64]*naiveProducer{}, limit: maxProducers}
		senders := make([]*sender, 1+rng.IntN(6))
		for i := range senders {
			senders[i] = &sender{id: int64(i)}
		}
		offset, now := int64(0), int64(1000)
		for step := range 3000 {
			now += rng.Int64N(3)
			if rng.IntN(500) == 0 {
				cutoff := now - rng.Int64N(50)
				for _, id := range tab.expire(cutoff) {
					tab.forget(id)
				}
				model.expire(cutoff)
			}
			from := senders[rng.IntN(len(senders))]
			b := from.pick(rng)
			v, off, err := tab.check(b, now)
			wantV, wantOff, wantErr := model.check(b)
			if v != wantV || off != wantOff || !errors.Is(err, wantErr) {
				t.Fatalf("seed %d step %d: %+v gives (%d, %d, %v), want (%d, %d, %v)", seed, step, b, v, off, err, wantV, wantOff, wantErr)
			}
			seen[fmt.Sprint(v, mqerr.Of(err))]++
			if v == fresh && err == nil {
				tab.put(b, offset, now)
				model.add(b, offset, now)
				offset += int64(b.Count)
				if from.taken < len(from.sent) && from.sent[from.taken] == b {
					from.taken++
				}
			}
			if step%100 == 0 {
				if err := tab.compare(model); err != nil {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
			}
		}
	}
	if len(seen) != 5 {
		t.Fatalf("only these verdicts were seen: %v", seen)
	}
}

func sequenced(id int64, epoch int16, base, count int32) record.Info {
	return record.Info{ProducerID: id, ProducerEpoch: epoch, BaseSequence: base, Count: count, LastOffsetDelta: count - 1}
}

func TestSequencesGoOnAtZeroAfterTheLargest(t *testing.T) {
	t.Parallel()
	tab := newTable()
	offset := int64(0)
	put := func(b record.Info) {
		t.Helper()
		if v, _, err := tab.check(b, 1); v != fresh || err != nil {
			t.Fatalf("batch %+v: %v, %v", b, v, err)
		}
		tab.put(b, offset, 1)
		offset += int64(b.Count)
	}
	put(sequenced(7, 0, 0, math.MaxInt32-1)) // next is 2^31-2
	put(sequenced(7, 0, math.MaxInt32-1, 4)) // covers 2^31-2, 2^31-1, 0, 1
	put(sequenced(7, 0, 2, 1))
	if v, off, err := tab.check(sequenced(7, 0, math.MaxInt32-1, 4), 1); v != duplicate || off != math.MaxInt32-1 || err != nil {
		t.Fatalf("the batch that wraps came again: %v at %d, %v", v, off, err)
	}
	if v, _, err := tab.check(sequenced(7, 0, 4, 1), 1); !errors.Is(err, mqerr.ErrOutOfOrderSequence) {
		t.Fatalf("a gap behind the wrap: %v, %v", v, err)
	}
	if got := tab.reloaded(); !reflect.DeepEqual(got, tab.producers) {
		t.Fatal("the table differs after a restart")
	}
}

func TestARetryIsKnownAmongTheNewest32Batches(t *testing.T) {
	t.Parallel()
	tab := newTable()
	for i := range int32(100) {
		tab.put(sequenced(1, 0, i, 1), int64(i), 1)
	}
	for i := range int32(100) {
		v, off, err := tab.check(sequenced(1, 0, i, 1), 1)
		if want := (i >= 100-producerWindow); err != nil || want && (v != duplicate || off != int64(i)) || !want && (v != duplicateGone || off != -1) {
			t.Fatalf("batch %d of 100 came again: %v at %d, %v", i, v, off, err)
		}
	}
}

// A batch that is cut otherwise than the one remembered has records that were
// never appended, so it must not pass as a duplicate.
func TestABatchThatOverlapsOthersIsNoDuplicate(t *testing.T) {
	t.Parallel()
	tab := newTable()
	for i := range int32(50) {
		tab.put(sequenced(1, 0, i*10, 10), int64(i*10), 1)
	}
	for _, b := range []record.Info{
		sequenced(1, 0, 495, 10), // ends behind the newest
		sequenced(1, 0, 490, 11),
		sequenced(1, 0, 490, 9),
		sequenced(1, 0, 170, 20), // begins before what is remembered
		sequenced(1, 0, 400, 20),
	} {
		if v, off, err := tab.check(b, 1); !errors.Is(err, mqerr.ErrOutOfOrderSequence) {
			t.Errorf("sequences %d to %d: %v at %d, %v", b.BaseSequence, b.LastSequence(), v, off, err)
		}
	}
}

func TestTheProducerThatWasSilentLongestMakesRoom(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	tab, model := newTable(), &naiveTable{byID: map[int64]*naiveProducer{}, limit: maxProducers}
	offset := int64(0)
	put := func(b record.Info, now int64) {
		tab.put(b, offset, now)
		model.add(b, offset, now)
		offset++
	}
	for id := range int64(maxProducers) {
		put(sequenced(id, 0, 0, 1), id/2) // pairs of equal age
	}
	for i := range int64(3) {
		put(sequenced(i, 0, 1, 1), maxProducers) // these spoke again
	}
	for i := range int64(200) {
		put(sequenced(maxProducers+i, 0, 0, 1), maxProducers+rng.Int64N(2))
	}
	if err := tab.compare(model); err != nil {
		t.Fatal(err)
	}
	if len(tab.byID) != maxProducers {
		t.Fatalf("%d producers are remembered, at most %d may be", len(tab.byID), maxProducers)
	}
	if _, _, err := tab.check(sequenced(50, 0, 1, 1), 1); !errors.Is(err, mqerr.ErrOutOfOrderSequence) {
		t.Errorf("a forgotten producer went on: %v", err)
	}
	if v, _, err := tab.check(sequenced(1, 0, 2, 1), 1); v != fresh || err != nil {
		t.Errorf("a producer that spoke again was forgotten: %v, %v", v, err)
	}
}

// Forgetting a producer whose answer is on its way would append its retry again.
func TestAFreshProducerIsRefusedRatherThanOneForgottenThatMayRetry(t *testing.T) {
	t.Parallel()
	tab := newTable()
	const start = int64(1_000_000)
	for id := range int64(maxProducers) {
		tab.put(sequenced(id, 0, 0, 1), id, start)
	}
	soon := start + producerGrace.Milliseconds() - 1
	if _, _, err := tab.check(sequenced(maxProducers, 0, 0, 1), soon); !errors.Is(err, mqerr.ErrBusy) {
		t.Fatalf("one producer too many within the grace: %v, want ErrBusy", err)
	}
	if v, off, err := tab.check(sequenced(0, 0, 0, 1), soon); v != duplicate || off != 0 || err != nil {
		t.Fatalf("the retry of the oldest producer: %v at %d, %v", v, off, err)
	}
	if v, _, err := tab.check(sequenced(maxProducers, 0, 0, 1), soon+1); v != fresh || err != nil {
		t.Fatalf("one producer more after the grace: %v, %v", v, err)
	}
}
