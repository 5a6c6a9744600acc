package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// ProducerEntry is one batch of an idempotent producer that the log remembers.
// A producer has as many as the caller uses slots; setting a slot replaces
// what it held, so the caller writes one small entry per batch.
type ProducerEntry struct {
	ID                int64 // producer id
	Epoch             int16
	Slot              uint8
	FirstSeq, LastSeq int32 // sequences of the batch
	BaseOffset        int64 // offset its first record got
	Time              int64 // append time of the batch, ms since 1970
}

const producerValueLen = 1 + 2 + 4 + 4 + 8 + 8

func (p ProducerEntry) encode() []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, producerValueLen), FormatVersion)
	b = be.AppendUint16(b, uint16(p.Epoch))
	b = be.AppendUint32(b, uint32(p.FirstSeq))
	b = be.AppendUint32(b, uint32(p.LastSeq))
	b = be.AppendUint64(b, uint64(p.BaseOffset))
	return be.AppendUint64(b, uint64(p.Time))
}

func decodeProducer(k, v []byte) (ProducerEntry, error) {
	if len(k) != producerLen || len(v) != producerValueLen || v[0] == 0 {
		return ProducerEntry{}, fmt.Errorf("storage: producer entry of %d and %d bytes: %w", len(k), len(v), mqerr.ErrCorruptLog)
	}
	if v[0] > FormatVersion {
		return ProducerEntry{}, fmt.Errorf("storage: producer entry of format %d: %w", v[0], mqerr.ErrNewerFormat)
	}
	be := binary.BigEndian
	return ProducerEntry{
		ID:         fromOrderedInt64(be.Uint64(k[spaceLen:])),
		Slot:       k[spaceLen+8],
		Epoch:      int16(be.Uint16(v[1:])),
		FirstSeq:   int32(be.Uint32(v[3:])),
		LastSeq:    int32(be.Uint32(v[7:])),
		BaseOffset: int64(be.Uint64(v[11:])),
		Time:       int64(be.Uint64(v[19:])),
	}, nil
}

// SetProducer remembers a batch of a producer in one of its slots.
func (lb *LogBatch) SetProducer(p ProducerEntry) {
	if lb.err != nil {
		return
	}
	_ = lb.fail(lb.b.Set(producerKey(lb.l.id, lb.next.gen, p.ID, p.Slot), p.encode(), nil))
}

// DeleteProducer forgets a producer with all its slots.
func (lb *LogBatch) DeleteProducer(id int64) {
	if lb.err != nil {
		return
	}
	first, last := producerKey(lb.l.id, lb.next.gen, id, 0), producerKey(lb.l.id, lb.next.gen, id, 255)
	_ = lb.fail(lb.b.DeleteRange(first, append(last, 0), nil))
}

// Producers calls fn for all remembered batches by producer id and slot, and
// stops with the first error of fn. It is meant for opening a log: entries
// committed meanwhile may or may not be seen.
func (l *Log) Producers(fn func(ProducerEntry) error) error {
	return l.scan(famProducer, nil, func(k, v []byte) error {
		p, err := decodeProducer(k, v)
		if err != nil {
			return err
		}
		return fn(p)
	})
}
