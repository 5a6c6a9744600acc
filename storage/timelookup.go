package storage

import (
	"fmt"
	"slices"
)

// OffsetForTimestamp finds the first readable batch, not below the offset
// from, that holds a record with a timestamp not below ts. The caller finds
// the record: batch is a copy of the whole batch and next the offset behind
// it. When all such records lie below the start or below from, as they can in
// the first batch, the caller asks again from next. A nil batch means that
// there is none.
func (l *Log) OffsetForTimestamp(ts, from int64) (batch []byte, next int64, err error) {
	if err := l.enter(); err != nil {
		return nil, 0, err
	}
	defer l.s.gate.leave()
	m, it, err := l.view()
	if err != nil {
		return nil, 0, err
	}
	defer closeIter(it, &err)
	from = max(from, m.Start)
	if ts > m.MaxTimestamp {
		return nil, m.End, nil
	}

	// The first mark whose running maximum reaches ts ends the interval that
	// has the batch; the mark before it ends the part that cannot have it. But
	// the maximum may come from a batch that has been trimmed: then all marks
	// reach ts, and their own interval's maximum says which to look into.
	begin := from
	it.SetBounds(spaceKey(famTime, l.id, m.gen), timeKey(l.id, m.gen, ts, 0))
	if it.Last() {
		mk, err := decodeMarkAt(it)
		if err != nil {
			return nil, 0, err
		}
		begin = max(begin, mk.last+1)
	}
	if err := it.Error(); err != nil {
		return nil, 0, engineError(err)
	}
	for mk, err := range l.marks(it, m, ts) {
		if err != nil {
			return nil, 0, err
		}
		if mk.last < begin {
			continue
		}
		if mk.last >= m.End || mk.intervalMax >= ts {
			break
		}
		begin = mk.last + 1
	}
	for b, err := range l.batches(it, m, begin) {
		var v dataValue
		if err == nil {
			v, err = l.value(m, b)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("storage: log %s: look up a time: %w", l.id, err)
		}
		if v.maxTimestamp >= ts {
			return slices.Clone(v.batch), b.last + 1, nil
		}
	}
	return nil, m.End, nil
}
