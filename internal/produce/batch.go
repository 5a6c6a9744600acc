package produce

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/record"
)

// Record is a record on its way. Key, Value and Headers must not change until
// it is settled.
type Record struct {
	Key, Value []byte
	Headers    []record.Header
	Timestamp  int64 // ms since 1970
	Promise    Promise
}

// Promise is who waits for a record.
type Promise interface {
	// Settle is called once, on the engine's callback goroutine, in the order
	// of the records of a partition. It must not block.
	Settle(Result)
}

// Result is what became of a record.
type Result struct {
	Partition   int32
	LeaderEpoch int32
	Offset      int64 // -1 when the broker does not tell
	AppendTime  int64 // -1 unless the broker stamped the record
	Err         error // then nothing else is set but Partition, -1 if none was chosen
}

// size is what Append of record.Builder adds to a batch, at most: the deltas
// of timestamp and offset, which are not known yet, may take 13 bytes more than
// those of a first record, and the length in front another.
func (r *Record) size() int {
	var b record.Builder
	return b.SizeOf(r.Key, r.Value, r.Headers, r.Timestamp) + 14
}

// aloneSize is the size of a batch of this record, without compression.
func (r *Record) aloneSize() int { return r.size() - 14 + record.HeaderSize }

// entry is a record in a batch. A nil Promise means that it was settled before
// its batch, because its ctx ended.
type entry struct {
	Record
	ctx  context.Context
	size int
	gen  *generation
}

func (en *entry) ctxEnded() bool { return en.Promise != nil && en.ctx.Err() != nil }

// identity is what the broker knows a producer by.
type identity struct {
	id    int64
	epoch int16
}

var noIdentity = identity{id: record.NoProducerID, epoch: record.NoProducerEpoch}

// batch is records that travel together. Its state is the engine's, guarded by
// its lock; only while building is set the sender owns entries and bytes.
type batch struct {
	entries []entry
	size    int       // bound of the encoded size, without compression
	limit   int       // no record is added that would make size exceed it
	due     time.Time // when it stops waiting for more records
	expires time.Time // delivery deadline, zero for none
	closed  bool      // takes no more records

	watched <-chan struct{} // Done of the newest ctx that is watched
	unwatch []func() bool   // stop watching

	bytes    []byte   // once built
	restamp  bool     // bytes carry an identity of the past
	id       identity // valid while sent
	sequence int32    // of the first record; valid while sent
	sent     bool     // has an identity and a sequence
	building bool     // its sender is encoding it, outside the lock
	attempts int      // how often it was sent, under any identity
	flying   bool     // the newest attempt waits for its answer
	oldest   bool     // nothing unresolved stood before it when that attempt began
	answerBy time.Time
	sentTo   uuid.UUID // topic of the newest attempt
	unknown  bool      // some attempt got no answer: there may be a copy in the log
	doubtful uuid.UUID // topic of that log
	lastErr  error     // why the newest attempt failed

	done   bool   // the outcome is decided
	told   bool   // and passed on
	result Result // of the first record
	gap    bool   // its sequence can't be used up: nothing may follow under this identity
}

// add appends a record; the caller checked that it fits.
func (b *batch) add(en entry) {
	b.entries = append(b.entries, en)
	b.size += en.size
}

// takes reports whether a record of this size may join.
func (b *batch) takes(size, maxRecords int) bool {
	return !b.closed && len(b.entries) < maxRecords && b.size+size <= b.limit
}

// unwatched reports whether ctx needs a watch: a run of records with the same
// ctx shares one.
func (b *batch) unwatched(ctx context.Context) bool {
	done := ctx.Done()
	return done != nil && done != b.watched
}

// watch calls ended, on a goroutine of its own, when ctx ends.
func (b *batch) watch(ctx context.Context, ended func()) {
	b.watched = ctx.Done()
	b.unwatch = append(b.unwatch, context.AfterFunc(ctx, ended))
}

func (b *batch) stopWatching() {
	for _, stop := range b.unwatch {
		stop()
	}
	b.unwatch, b.watched = nil, nil
}

// removeEnded takes out the records whose ctx has ended. Only before the batch
// is built.
func (b *batch) removeEnded() (removed []entry) {
	b.entries = slices.DeleteFunc(b.entries, func(en entry) bool {
		if !en.ctxEnded() {
			return false
		}
		b.size -= en.size
		removed = append(removed, en)
		return true
	})
	return removed
}

// takeEnded returns the records whose ctx has ended and settles them here; they
// keep their places in the batch.
func (b *batch) takeEnded() (ended []entry) {
	for i := range b.entries {
		if en := &b.entries[i]; en.ctxEnded() {
			ended = append(ended, *en)
			en.Promise = nil
		}
	}
	return ended
}

// build encodes the batch, or gives the bytes another identity.
func (b *batch) build(builder *record.Builder, codec record.Codec) error {
	if b.bytes != nil {
		if b.restamp { // then no broker reads the bytes of an earlier attempt
			record.SetProducer(b.bytes, b.id.id, b.id.epoch, b.sequence)
			b.restamp = false
		}
		return nil
	}
	builder.Reset()
	for i := range b.entries {
		en := &b.entries[i]
		builder.Append(en.Key, en.Value, en.Headers, en.Timestamp)
		en.Key, en.Value, en.Headers = nil, nil, nil
	}
	var dst []byte
	if codec == record.None {
		dst = make([]byte, 0, builder.Size())
	}
	var err error
	b.bytes, err = builder.Build(dst, record.BuildOptions{
		Codec: codec, ProducerID: b.id.id, ProducerEpoch: b.id.epoch, BaseSequence: b.sequence,
	})
	return err
}

// wireSize is the size of the bytes, or their bound.
func (b *batch) wireSize() int {
	if b.bytes != nil {
		return len(b.bytes)
	}
	return b.size
}
