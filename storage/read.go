package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// Read appends to dst whole batches, the first of which holds offset or, over
// a gap, the next higher one, and returns next, the offset to go on with. It
// stops before the batch that would exceed maxBytes, but always gives the
// first. At the end of the log it gives nothing. An offset outside
// [Start, End] gives mqerr.ErrOffsetOutOfRange with an mqerr.Detail. What is
// appended to dst belongs to the caller.
func (l *Log) Read(dst []byte, offset int64, maxBytes int) (batches []byte, next int64, err error) {
	if err := l.enter(); err != nil {
		return dst, offset, err
	}
	defer l.s.gate.leave()
	m, it, err := l.view()
	if err != nil {
		return dst, offset, err
	}
	defer closeIter(it, &err)
	if offset < m.Start || offset > m.End {
		return dst, offset, &mqerr.Detail{
			Err:      fmt.Errorf("offset %d is not in %d to %d: %w", offset, m.Start, m.End, mqerr.ErrOffsetOutOfRange),
			LogStart: m.Start, HighWatermark: m.End,
		}
	}
	next = offset
	taken := 0
	for b, err := range l.batches(it, m, offset) {
		var v dataValue
		if err == nil {
			v, err = l.value(m, b)
		}
		if err != nil {
			return dst, next, fmt.Errorf("storage: log %s: read at offset %d: %w", l.id, next, err)
		}
		if taken > 0 && taken+len(v.batch) > maxBytes {
			return dst, next, nil
		}
		dst = append(dst, v.batch...)
		taken += len(v.batch)
		next = b.last + 1
	}
	if taken == 0 && offset < m.End {
		return dst, next, fmt.Errorf("storage: log %s: nothing at offset %d below the end %d: %w", l.id, offset, m.End, mqerr.ErrCorruptLog)
	}
	return dst, next, nil
}

// storedBatch is a batch under an iterator; it is valid until the next one.
type storedBatch struct {
	it   *pebble.Iterator
	last int64
}

// value reads and decodes a batch. The engine looks hard for the bit that is
// wrong in damaged data, half a minute for 1 MiB, so a batch found damaged is
// not read again.
func (l *Log) value(m *spaceMeta, b storedBatch) (dataValue, error) {
	if d := l.damaged.Load(); d != nil && d.gen == m.gen && d.last == b.last {
		return dataValue{}, d.err
	}
	raw, err := b.it.ValueAndErr()
	if err != nil {
		err = engineError(err)
		if errors.Is(err, mqerr.ErrCorruptLog) {
			l.damaged.Store(&damagedBatch{m.gen, b.last, err})
		}
		return dataValue{}, err
	}
	return decodeData(raw)
}

// damagedBatch is the batch that was last found damaged.
type damagedBatch struct {
	gen  uint64
	last int64
	err  error
}

// size is the length of the batch. It does not read the value when that lies
// in a file of its own.
func (b storedBatch) size() int64 {
	v := b.it.LazyValue()
	return int64(v.Len() - dataHeaderLen)
}

// batches goes over the batches of m whose last offset is not below from.
func (l *Log) batches(it *pebble.Iterator, m *spaceMeta, from int64) iter.Seq2[storedBatch, error] {
	return func(yield func(storedBatch, error) bool) {
		it.SetBounds(dataKey(l.id, m.gen, from), dataKey(l.id, m.gen, m.End))
		for ok := it.First(); ok; ok = it.Next() {
			if len(it.Key()) != dataLen {
				yield(storedBatch{}, fmt.Errorf("storage: batch key of %d bytes: %w", len(it.Key()), mqerr.ErrCorruptLog))
				return
			}
			if !yield(storedBatch{it, int64(binary.BigEndian.Uint64(it.Key()[spaceLen:]))}, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(storedBatch{}, engineError(err))
		}
	}
}

// marks goes over the sparse index from the first mark whose running maximum
// is not below ts.
func (l *Log) marks(it *pebble.Iterator, m *spaceMeta, ts int64) iter.Seq2[mark, error] {
	return func(yield func(mark, error) bool) {
		it.SetBounds(timeKey(l.id, m.gen, ts, 0), after(spaceKey(famTime, l.id, m.gen)))
		for ok := it.First(); ok; ok = it.Next() {
			mk, err := decodeMarkAt(it)
			if !yield(mk, err) || err != nil {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(mark{}, engineError(err))
		}
	}
}
