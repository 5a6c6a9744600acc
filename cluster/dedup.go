package cluster

import (
	"cmp"
	"container/list"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

const (
	// producerWindow is how many of a producer's newest batches a partition
	// remembers; a client must not have more in flight. Kafka remembers 5.
	producerWindow = 32

	// maxProducers bounds the producers a partition remembers. Beyond it the one
	// that was silent longest is forgotten, if it was so for producerGrace; else a
	// new one is refused. A producer that is forgotten while it sends a batch again
	// would have it appended twice, so the grace is longer than a delivery takes.
	maxProducers  = 20000
	producerGrace = 5 * time.Minute
)

// producerState is what a partition remembers of one idempotent producer: its
// newest batches of one epoch, oldest first, at most producerWindow. slot is
// where the next one is stored; slots are reused in turn.
type producerState struct {
	epoch  int16
	slot   uint8
	window []storage.ProducerEntry // never empty
}

func (p *producerState) newest() storage.ProducerEntry { return p.window[len(p.window)-1] }

// verdict is what the window says of a batch.
type verdict uint8

const (
	fresh         verdict = iota
	duplicate             // offset of the original is known
	duplicateGone         // older than the window
)

// producers is a partition's idempotence table (KIP-98). It belongs to the
// state machine: every replica takes the same decisions from the same log.
//
// A producer that is unknown, or comes with a new epoch, must begin at sequence
// 0. Kafka lets an unknown one begin anywhere (KIP-360); with several batches
// in flight that would accept the second when the first was refused, and then
// take the first for an old duplicate.
type producers struct {
	byID  map[int64]*producerState
	order *list.List // of *producerState, the one silent longest first
	place map[int64]*list.Element
}

// load fills the table from the store's entries, which come in any order.
func (t *producers) load(entries []storage.ProducerEntry) {
	t.byID, t.order, t.place = make(map[int64]*producerState), list.New(), make(map[int64]*list.Element)
	// By offset, since sequences wrap.
	slices.SortFunc(entries, func(a, b storage.ProducerEntry) int { return cmp.Compare(a.BaseOffset, b.BaseOffset) })
	for _, e := range entries {
		p := t.byID[e.ID]
		if p == nil || p.epoch != e.Epoch {
			// Slots of an older epoch that were not overwritten yet say nothing.
			if p != nil {
				t.forget(e.ID)
			}
			p = t.remember(e.ID, e.Epoch)
		}
		t.order.MoveToBack(t.place[e.ID])
		p.window = append(p.window, e)
		p.slot = (e.Slot + 1) % producerWindow
	}
}

// check says whether a batch is new. The error is a refusal.
func (t *producers) check(b record.Info, now int64) (verdict, int64, error) {
	p := t.byID[b.ProducerID]
	if p == nil || b.ProducerEpoch > p.epoch {
		if b.BaseSequence != 0 {
			return fresh, 0, fmt.Errorf("%w: producer %d epoch %d begins at sequence %d, want 0",
				mqerr.ErrOutOfOrderSequence, b.ProducerID, b.ProducerEpoch, b.BaseSequence)
		}
		if p == nil {
			return fresh, 0, t.room(now)
		}
		return fresh, 0, nil
	}
	if b.ProducerEpoch < p.epoch {
		return fresh, 0, fmt.Errorf("%w: producer %d epoch %d, newest is %d",
			mqerr.ErrProducerFenced, b.ProducerID, b.ProducerEpoch, p.epoch)
	}
	for _, e := range p.window {
		if e.FirstSeq == b.BaseSequence && e.LastSeq == b.LastSequence() {
			return duplicate, e.BaseOffset, nil
		}
	}
	next := record.AddSequence(p.newest().LastSeq, 1)
	if b.BaseSequence == next {
		return fresh, 0, nil
	}
	// An older one is a duplicate only as a whole: one that overlaps what is
	// remembered, but is not among it, has records that were never appended.
	if len(p.window) == producerWindow && liesBefore(b, p.window[0].FirstSeq) {
		return duplicateGone, -1, nil
	}
	return fresh, 0, fmt.Errorf("%w: producer %d sequence %d, want %d",
		mqerr.ErrOutOfOrderSequence, b.ProducerID, b.BaseSequence, next)
}

// liesBefore reports whether all of a batch comes before a sequence. Sequences
// count modulo 2^31; the nearer half behind is the past.
func liesBefore(b record.Info, seq int32) bool {
	behind := uint32(seq-b.BaseSequence) & math.MaxInt32
	return behind <= 1<<30 && uint32(b.Count) <= behind
}

// remember makes room for a producer's batches; the first must follow.
func (t *producers) remember(id int64, epoch int16) *producerState {
	p := &producerState{epoch: epoch}
	t.byID[id], t.place[id] = p, t.order.PushBack(p)
	return p
}

func (t *producers) forget(id int64) {
	t.order.Remove(t.place[id])
	delete(t.place, id)
	delete(t.byID, id)
}

// silentLongest returns the producer whose newest batch is the oldest, nil when
// there are none.
func (t *producers) silentLongest() *producerState {
	if front := t.order.Front(); front != nil {
		return front.Value.(*producerState)
	}
	return nil
}

// room says whether a producer that is not known yet may be added.
func (t *producers) room(now int64) error {
	if len(t.byID) < maxProducers {
		return nil
	}
	if silent := now - t.silentLongest().newest().Time; silent < producerGrace.Milliseconds() {
		return fmt.Errorf("%w: %d producers sent to this partition within %v", mqerr.ErrBusy, len(t.byID), producerGrace)
	}
	return nil
}

// add remembers an appended batch and gives the entry to store, and the
// producer to forget if there were too many.
func (t *producers) add(b record.Info, offset, now int64) (entry storage.ProducerEntry, forget int64, full bool) {
	p := t.byID[b.ProducerID]
	if p == nil {
		if len(t.byID) >= maxProducers {
			forget, full = t.silentLongest().newest().ID, true
			t.forget(forget)
		}
		p = t.remember(b.ProducerID, b.ProducerEpoch)
	}
	t.order.MoveToBack(t.place[b.ProducerID])
	if b.ProducerEpoch != p.epoch {
		p.epoch, p.window = b.ProducerEpoch, p.window[:0]
	}
	entry = storage.ProducerEntry{
		ID: b.ProducerID, Epoch: p.epoch, Slot: p.slot,
		FirstSeq: b.BaseSequence, LastSeq: b.LastSequence(), BaseOffset: offset, Time: now,
	}
	p.slot = (p.slot + 1) % producerWindow
	if len(p.window) == producerWindow {
		p.window = slices.Delete(p.window, 0, 1)
	}
	p.window = append(p.window, entry)
	return entry, forget, full
}

// expire forgets the producers whose newest batch is older than cutoff (ms) and
// returns them, the one silent longest first.
func (t *producers) expire(cutoff int64) []int64 {
	var ids []int64
	for p := t.silentLongest(); p != nil && p.newest().Time < cutoff; p = t.silentLongest() {
		ids = append(ids, p.newest().ID)
		t.forget(p.newest().ID)
	}
	return ids
}

// oldest returns the time of the newest batch of the producer that was silent
// longest, or the largest time when there are none.
func (t *producers) oldest() int64 {
	if p := t.silentLongest(); p != nil {
		return p.newest().Time
	}
	return math.MaxInt64
}
