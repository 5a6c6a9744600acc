package fetch

import (
	"context"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
)

// Key names a partition within a consumer.
type Key struct {
	Topic     string
	Partition int32
}

// NoLeader is the leader of a partition that waits for fresh metadata.
const NoLeader int32 = -1

// unknown stands for an offset that is not known yet.
const unknown int64 = -1

type state uint8

const (
	wantCommitted state = iota // the group's offset is to be asked for
	wantOffset                 // the offset of timestamp at is to be asked for
	reading
	failed
)

// Partition is the reading of one partition. Its fields are guarded by the
// Set's lock; other packages only pass it around.
type Partition struct {
	key         Key
	id          uuid.UUID
	leader      int32
	near        int32 // fetched from instead of the leader; 0 for none
	leaderEpoch int32 // newest known
	late        bool  // came into being while the consumer ran
	from        Start // where reading is to begin
	held        bool  // nothing is handed out yet

	ctx context.Context // ends when the partition is taken away
	end context.CancelCauseFunc

	state   state
	at      int64 // timestamp to look up in state wantOffset
	failure *Failure
	paused  bool

	// finished ≤ position ≤ fetchAt: the next offset to commit, to hand out
	// and to fetch. All are unknown until the first lookup is answered.
	finished, position, fetchAt int64
	finishedEpoch               int32
	committed                   int64 // the group's offset as last read or stored

	// out is what was handed out and is not behind finished, by offset; few is
	// room for some. finished is where the first of them begins, or position.
	out    []lent
	few    [4]lent
	leases uint64 // so far

	full    bool          // nothing more is handed out until out is half of ahead
	ahead   int           // how much may be in out
	drained chan struct{} // if not nil nothing more is handed out; closed when out is empty

	// buffers grows when what is in the queue and in the reader's hands stops
	// to count; seeks grows when answers to lookups do.
	buffers, seeks uint64
	flight         uint64 // the request under way; 0 without one
	queue          []batch
	queued         int  // bytes in queue
	ready          bool // is in Set.ready
	corrupt        int  // corrupt answers in a row
}

// batch is a RecordBatch waiting to be handed out, or, without data, a stretch
// of offsets that holds nothing for the reader.
type batch struct {
	data  []byte
	next  int64 // offset behind it
	epoch int32
}

// batchOverhead is counted for each batch besides its bytes, so that a flood
// of tiny ones stays inside the budget as well.
const batchOverhead = 64

func (b batch) cost() int { return len(b.data) + batchOverhead }

func newPartition(tp api.TopicPartition) *Partition {
	p := &Partition{
		key: Key{tp.Topic, tp.Partition}, id: tp.TopicID, leader: NoLeader, leaderEpoch: api.NoEpoch,
		finished: unknown, position: unknown, fetchAt: unknown, committed: unknown, finishedEpoch: api.NoEpoch,
	}
	p.ctx, p.end = context.WithCancelCause(context.Background())
	p.out = p.few[:0]
	return p
}

// Key returns the name of the partition.
func (p *Partition) Key() Key { return p.key }

func (p *Partition) tp() api.TopicPartition {
	return api.TopicPartition{Topic: p.key.Topic, TopicID: p.id, Partition: p.key.Partition}
}

// jump makes offset the next one to hand out.
func (p *Partition) jump(offset int64) {
	p.state, p.failure, p.corrupt = reading, nil, 0
	p.position, p.fetchAt = offset, offset
}

// start makes offset the place where reading and committing begin. There must
// be nothing in out.
func (p *Partition) start(offset int64) {
	p.jump(offset)
	p.finished, p.finishedEpoch = offset, api.NoEpoch
}

// lookUp asks for the offset of a timestamp, special ones included.
func (p *Partition) lookUp(timestamp int64) {
	p.state, p.at = wantOffset, timestamp
}

// fail stops the partition until a Seek. What is queued is still handed out.
func (p *Partition) fail(offset, next int64, err error) {
	p.state = failed
	p.failure = &Failure{Key: p.key, Offset: offset, Next: next, Err: err}
}

// source is the broker to fetch from, NoLeader when there is none.
func (p *Partition) source() int32 {
	if p.near != 0 {
		return p.near
	}
	return p.leader
}

// wantsFetch reports whether the source should be asked for more, now.
func (p *Partition) wantsFetch(maxBytes int) bool {
	return p.state == reading && !p.paused && p.drained == nil && p.source() != NoLeader && p.flight == 0 && p.queued < maxBytes
}
