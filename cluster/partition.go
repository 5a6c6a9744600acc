package cluster

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

// partition is the application of a topic partition's shard: a log of record
// batches. Offsets are assigned here, from 0 and without gaps; a raft index is
// never an offset.
type partition struct {
	store     *storage.Store
	id        storage.ReplicaID
	log       *storage.Log // set by open
	producers producers
	scratch   []byte // a batch while its offset is patched in
	readers   readers
	tp        topicPartition
	traffic   *traffic
	grown     func(bytes int)  // told of appended bytes
	resized   func(size int64) // told of the size at rest

	marks          atomic.Pointer[marks]
	size           atomic.Int64 // at rest, as last told to resized
	oldestProducer atomic.Int64 // no producer was silent for longer, ms
	sinceRetention int          // bytes appended since retention was nudged
}

type topicPartition = api.TopicPartition

var _ application = (*partition)(nil)

func (p *partition) open() (uint64, error) {
	log, err := p.store.OpenLog(p.id)
	if err != nil {
		return 0, err
	}
	p.log = log
	p.marks.Store(startMarks(log.State()))
	p.resized(log.State().Bytes)
	return log.Applied(), p.loadProducers()
}

func (p *partition) loadProducers() error {
	var entries []storage.ProducerEntry
	err := p.log.Producers(func(e storage.ProducerEntry) error {
		entries = append(entries, e)
		return nil
	})
	p.producers.load(entries)
	p.oldestProducer.Store(p.producers.oldest())
	return err
}

func (p *partition) sync() error { return p.log.Sync() }

func (p *partition) snapshot() (*storage.Snapshot, error) { return p.log.Snapshot() }

func (p *partition) restore(r io.Reader, stop <-chan struct{}) (uint64, error) {
	if err := p.log.Restore(r, stop); err != nil {
		return 0, err
	}
	p.marks.Store(startMarks(p.log.State()))
	p.resized(p.log.State().Bytes)
	p.readers.wake()
	return p.log.State().Applied, p.loadProducers()
}

func (p *partition) begin() tx {
	return &partitionTx{p: p, batch: p.log.NewBatch(), marks: *p.marks.Load()}
}

// partitionTx is one Update of a partition.
type partitionTx struct {
	p        *partition
	batch    *storage.LogBatch
	marks    marks
	records  int
	appended int // bytes
}

func (t *partitionTx) epoch() int32 { return t.batch.State().Epoch }

func (t *partitionTx) beginEpoch(epoch int32, feature uint8) {
	t.batch.BeginEpoch(epoch)
	t.batch.SetFeature(uint32(feature))
}

func (t *partitionTx) apply(h header, body []byte) result {
	switch h.kind { //nolint:exhaustive // the rest is refused
	case kindAppend:
		return t.append(h, body)
	case kindTrim:
		return t.trim(body)
	case kindExpireProducers:
		for _, id := range t.p.producers.expire(trimTarget(body)) {
			t.batch.DeleteProducer(id)
		}
		t.p.oldestProducer.Store(t.p.producers.oldest())
		return result{}
	}
	return refused(fmt.Errorf("%w: command kind %d in a partition", mqerr.ErrInternal, h.kind))
}

func (t *partitionTx) append(h header, body []byte) result {
	info, err := record.Parse(body)
	if err != nil {
		return refused(err)
	}
	st := t.batch.State()
	if info.ProducerID >= 0 {
		v, offset, err := t.p.producers.check(info, max(h.time, st.AppendTime))
		switch {
		case err != nil:
			return refused(err)
		case v != fresh:
			t.p.traffic.duplicates.Add(1)
			return result{offset: offset, logStart: st.Start}
		}
	}
	first := st.End
	last := first + int64(info.LastOffsetDelta)
	// The broker's append time never runs backwards, whoever leads.
	now := max(h.time, st.AppendTime)
	// body aliases raft's log in memory and must stay as it is.
	t.p.scratch = append(t.p.scratch[:0], body...)
	record.Patch(t.p.scratch, first, h.epoch)
	if err := t.batch.Append(t.p.scratch, first, last, info.MaxTimestamp, now); err != nil {
		return refused(err)
	}
	t.marks.grow(first, t.batch.State())
	if info.ProducerID >= 0 {
		entry, forget, full := t.p.producers.add(info, first, now)
		if full {
			t.batch.DeleteProducer(forget)
		}
		t.batch.SetProducer(entry)
		if now < t.p.oldestProducer.Load() {
			t.p.oldestProducer.Store(now)
		}
	}
	t.records += int(info.Count)
	t.appended += len(body)
	return result{offset: first, logStart: st.Start}
}

func (t *partitionTx) trim(body []byte) result {
	st := t.batch.State()
	target := trimTarget(body)
	if target < 0 || target > st.End {
		return refused(&mqerr.Detail{
			Err:      fmt.Errorf("%w: trim to %d, log is %d to %d", mqerr.ErrOffsetOutOfRange, target, st.Start, st.End),
			LogStart: st.Start, HighWatermark: st.End,
		})
	}
	if target > st.Start {
		t.batch.Trim(target)
	}
	return result{logStart: t.batch.State().Start}
}

func (t *partitionTx) commit(applied uint64) error {
	if err := t.batch.Commit(applied); err != nil {
		return err
	}
	t.p.resized(t.p.log.State().Bytes)
	// Counted when readers can see it and before they are woken: see Fetch.
	t.p.traffic.produced(t.records, t.appended)
	t.p.readers.wake()
	if t.appended > 0 {
		now := t.marks
		t.p.marks.Store(&now)
		t.p.grown(t.appended)
	}
	return nil
}

func (t *partitionTx) close() { t.batch.Close() }

// A trim's body is the new log start, an expiry's the cutoff time.
func trimBody(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func trimTarget(body []byte) int64 {
	if len(body) != 8 {
		return -1
	}
	return int64(binary.BigEndian.Uint64(body))
}
