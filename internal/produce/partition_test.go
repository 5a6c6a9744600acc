package produce

import (
	"math"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

func TestEpochsThatRunOutCallForANewProducerID(t *testing.T) {
	t.Parallel()
	r := &rules{idempotent: true, maxFlying: 5, maxRecords: 1, attempt: time.Second}
	now := time.Now()
	p := newPartition(newTopicState("t", 1000), 0)
	e := &Engine{rules: *r}
	e.mu.id = 7
	p.id, p.sequence = identity{id: 7, epoch: math.MaxInt16}, 3

	b := p.add(r, entry{}, 1000, now)
	p.begin(r, b, now)
	p.failed(r, b, 1, mqerr.ErrOutOfOrderSequence, now)
	p.resolve()
	if p.id != noIdentity || p.sequence != 0 || b.sent || len(p.queue) != 1 {
		t.Fatalf("id %v, sequence %d, batch sent: %v", p.id, p.sequence, b.sent)
	}
	if e.identifyLocked(p) || e.mu.id != record.NoProducerID {
		t.Fatal("uses the id whose epochs are spent")
	}
	e.mu.id = 8
	if !e.identifyLocked(p) || p.id != (identity{id: 8}) {
		t.Fatalf("id %v", p.id)
	}
}

func TestSequencesWrap(t *testing.T) {
	t.Parallel()
	r := &rules{idempotent: true, maxFlying: 5, maxRecords: 2}
	now := time.Now()
	p := newPartition(newTopicState("t", 1000), 0)
	p.id, p.sequence = identity{id: 1}, math.MaxInt32
	p.add(r, entry{}, 1000, now)
	b := p.add(r, entry{}, 1000, now)
	p.begin(r, b, now)
	if b.sequence != math.MaxInt32 || p.sequence != 1 {
		t.Fatalf("batch at %d, next at %d", b.sequence, p.sequence)
	}
}
