package storage

import (
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// freeStep bounds what lies trimmed but not deleted in a log. Each deletion
// leaves a tombstone in the engine, so small trims are gathered.
const freeStep = 4 << 20

// Trim makes records below newStart unreadable and deletes the batches that
// lie below it as a whole, many at a time. It is cut to the end of the log; a
// start that is not above the present one changes nothing.
func (lb *LogBatch) Trim(newStart int64) {
	n := &lb.next
	newStart = min(newStart, n.End)
	if lb.err != nil || newStart <= n.Start {
		return
	}
	if err := lb.l.enter(); err != nil {
		lb.err = err
		return
	}
	defer lb.l.s.gate.leave()
	_ = lb.fail(lb.trim(newStart))
}

func (lb *LogBatch) trim(newStart int64) (err error) {
	l, n := lb.l, &lb.next
	it, err := l.s.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer closeIter(it, &err)

	cut, err := l.cutBelow(it, lb.base, point{n.Start, n.written - n.Bytes}, newStart)
	if err != nil {
		return err
	}
	for _, sb := range lb.staged {
		if sb.last >= newStart {
			break
		}
		if sb.last < cut.offset {
			continue
		}
		cut.bytes += sb.size
	}
	n.Start, n.Bytes = newStart, n.written-cut.bytes
	if pending := cut.bytes - n.freedBytes; pending < min(freeStep, n.Bytes) {
		return nil
	}
	return lb.free(it, cut.bytes)
}

// free deletes what lies below the start.
func (lb *LogBatch) free(it *pebble.Iterator, bytes int64) error {
	l, n := lb.l, &lb.next
	if err := lb.b.DeleteRange(dataKey(l.id, n.gen, n.freed), dataKey(l.id, n.gen, n.Start), nil); err != nil {
		return err
	}
	var end []byte // behind the last mark below the start
	for mk, err := range l.marks(it, lb.base, math.MinInt64) {
		if err != nil {
			return err
		}
		if mk.last >= n.Start {
			break
		}
		end = timeKey(l.id, n.gen, mk.maxTimestamp, mk.last+1)
	}
	for _, sb := range lb.staged {
		if sb.marked && sb.last < n.Start {
			end = timeKey(l.id, n.gen, sb.mark, sb.last+1)
		}
	}
	if end != nil {
		if err := lb.b.DeleteRange(spaceKey(famTime, l.id, n.gen), end, nil); err != nil {
			return err
		}
	}
	n.freed, n.freedBytes = n.Start, bytes
	return lb.freeEpochs(it)
}

// freeEpochs deletes epochs that end at or below the start.
func (lb *LogBatch) freeEpochs(it *pebble.Iterator) error {
	l, n := lb.l, &lb.next
	it.SetBounds(spaceKey(famEpoch, l.id, n.gen), after(spaceKey(famEpoch, l.id, n.gen)))
	keep, seen := NoEpoch, 0
	for ok := it.First(); ok; ok = it.Next() {
		epoch, start, err := decodeEpoch(it)
		if err != nil {
			return err
		}
		if start > n.Start {
			break
		}
		keep = epoch
		seen++
	}
	if err := it.Error(); err != nil || seen < 2 {
		return err
	}
	return lb.b.DeleteRange(spaceKey(famEpoch, l.id, n.gen), epochKey(l.id, n.gen, keep), nil)
}

// point is a boundary between two batches: all below offset takes bytes.
type point struct{ offset, bytes int64 }

// cutBelow finds the boundary below the batch that holds offset, starting from
// a known one, with steps over the sparse index and then over single batches.
func (l *Log) cutBelow(it *pebble.Iterator, m *spaceMeta, from point, offset int64) (point, error) {
	return l.advance(it, m, from,
		func(mk mark) bool { return mk.last < offset },
		func(b storedBatch, _ point) (bool, error) { return b.last < offset, nil })
}

// advance moves a boundary forward over whole intervals of the sparse index
// while skipMark says so, then over batches while skipBatch says so.
func (l *Log) advance(it *pebble.Iterator, m *spaceMeta, p point, skipMark func(mark) bool, skipBatch func(storedBatch, point) (bool, error)) (point, error) {
	for mk, err := range l.marks(it, m, math.MinInt64) {
		if err != nil {
			return p, err
		}
		if mk.last < p.offset {
			continue
		}
		if mk.last >= m.End || !skipMark(mk) {
			break
		}
		p = point{mk.last + 1, mk.bytes}
	}
	for b, err := range l.batches(it, m, p.offset) {
		if err != nil {
			return p, err
		}
		skip, err := skipBatch(b, p)
		if err != nil || !skip {
			return p, err
		}
		p = point{b.last + 1, p.bytes + b.size()}
	}
	return p, nil
}

// TrimPoint finds the smallest start at which what remains is not more than
// retentionBytes and has no batch appended before olderThan, in ms since 1970.
// Negative means no limit. The answer is a boundary between batches, not below
// the present start; it can be the end of the log.
func (l *Log) TrimPoint(retentionBytes, olderThan int64) (start int64, err error) {
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.s.gate.leave()
	m, it, err := l.view()
	if err != nil {
		return 0, err
	}
	defer closeIter(it, &err)
	tooMuch := func(bytesBelow int64) bool { return retentionBytes >= 0 && m.written-bytesBelow > retentionBytes }
	tooOld := func(appendTime int64) bool { return olderThan >= 0 && appendTime < olderThan }
	p, err := l.advance(it, m, point{m.Start, m.written - m.Bytes},
		func(mk mark) bool { return tooMuch(mk.bytes) || tooOld(mk.appendTime) },
		func(b storedBatch, p point) (bool, error) {
			if tooMuch(p.bytes) {
				return true, nil
			}
			if olderThan < 0 {
				return false, nil
			}
			v, err := l.value(m, b)
			return tooOld(v.appendTime), err
		})
	return p.offset, err
}
