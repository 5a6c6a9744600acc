package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// maxValue bounds a batch or pair, so that a snapshot's frames are bounded.
const maxValue = 64 << 20

// markStep is how many bytes lie between two marks of the sparse index.
const markStep = 1 << 20

// LogBatch gathers changes of a log that take effect together with Commit, or
// not at all with Close. It is for one goroutine. The first change that fails
// makes Commit fail.
type LogBatch struct {
	l      *Log
	b      *pebble.Batch
	base   *spaceMeta
	next   spaceMeta
	staged []stagedBatch
	err    error
}

var errBatchUsed = errors.New("storage: batch is used up")

// stagedBatch is what a Trim in the same LogBatch must know of an Append.
type stagedBatch struct {
	last, size int64
	marked     bool  // a mark of the sparse index stands at it
	mark       int64 // the max timestamp in the mark's key
}

// NewBatch starts a batch on top of the newest committed one.
func (l *Log) NewBatch() *LogBatch {
	lb := &LogBatch{l: l, base: l.meta.Load()}
	lb.next = *lb.base
	if err := l.enter(); err != nil {
		lb.err = err
		return lb
	}
	defer l.s.gate.leave()
	lb.b = l.s.db.NewBatch()
	return lb
}

// State is the log as it will be after Commit, but for Applied.
func (lb *LogBatch) State() State { return lb.next.State }

// Append adds one record batch with the offsets first to last. first must not
// be below State().End; a gap is legal. maxTimestamp is the largest timestamp
// of its records and appendTime the time of appending, both in ms since 1970;
// an appendTime smaller than one before counts as that one. batch, of 64 MiB at
// the most, is stored as it is and copied.
func (lb *LogBatch) Append(batch []byte, first, last, maxTimestamp, appendTime int64) error {
	if lb.err != nil {
		return lb.err
	}
	n := &lb.next
	if first < n.End || last < first || len(batch) == 0 {
		lb.err = fmt.Errorf("storage: log %s: append of %d bytes at offsets %d to %d, end is %d: %w",
			lb.l.id, len(batch), first, last, n.End, mqerr.ErrInvalidRecord)
		return lb.err
	}
	if len(batch) > maxValue {
		lb.err = fmt.Errorf("storage: log %s: append of %d bytes: %w", lb.l.id, len(batch), mqerr.ErrRecordTooLarge)
		return lb.err
	}
	n.AppendTime = max(n.AppendTime, appendTime)
	n.MaxTimestamp = max(n.MaxTimestamp, maxTimestamp)
	n.tailMax = max(n.tailMax, maxTimestamp)

	op := lb.b.SetDeferred(dataLen, dataHeaderLen+len(batch))
	copy(op.Key, dataKey(lb.l.id, n.gen, last))
	putDataHeader(op.Value, n.AppendTime, maxTimestamp)
	copy(op.Value[dataHeaderLen:], batch)
	if err := op.Finish(); err != nil {
		return lb.fail(err)
	}

	n.Digest = chainDigest(n.Digest, n.Epoch, first, last, batch)
	n.End = last + 1
	n.Bytes += int64(len(batch))
	n.written += int64(len(batch))
	sb := stagedBatch{last: last, size: int64(len(batch))}
	if n.written-n.marked >= markStep {
		sb.marked, sb.mark = true, n.MaxTimestamp
		v := mark{bytes: n.written, appendTime: n.AppendTime, intervalMax: n.tailMax}
		if err := lb.b.Set(timeKey(lb.l.id, n.gen, n.MaxTimestamp, last), v.encode(), nil); err != nil {
			return lb.fail(err)
		}
		n.marked, n.tailMax = n.written, NoTimestamp
	}
	lb.staged = append(lb.staged, sb)
	return nil
}

// chainDigest is defined at State.Digest.
func chainDigest(digest uint64, epoch int32, first, last int64, batch []byte) uint64 {
	var h [28]byte
	binary.BigEndian.PutUint64(h[:], digest)
	binary.BigEndian.PutUint32(h[8:], uint32(epoch))
	binary.BigEndian.PutUint64(h[12:], uint64(first))
	binary.BigEndian.PutUint64(h[20:], uint64(last))
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(h[:])
	_, _ = d.Write(batch)
	return d.Sum64()
}

// BeginEpoch lets an epoch begin at the offset that the next append gets. An
// epoch that is not newer than the newest changes nothing.
func (lb *LogBatch) BeginEpoch(epoch int32) {
	if lb.err != nil || epoch <= lb.next.Epoch {
		return
	}
	lb.next.Epoch = epoch
	var v [8]byte
	binary.BigEndian.PutUint64(v[:], uint64(lb.next.End))
	_ = lb.fail(lb.b.Set(epochKey(lb.l.id, lb.next.gen, epoch), v[:], nil))
}

// SetFeature records the feature level that the log's commands have reached.
func (lb *LogBatch) SetFeature(level uint32) { lb.next.Feature = level }

// Commit writes the batch, and applied as the log's new mark, in one step and
// publishes the new state. It is durable after the next Sync. The batch is
// used up, whatever the result. After an error the log is unfit for further
// writing until the store is opened anew.
func (lb *LogBatch) Commit(applied uint64) error {
	if lb.err == nil {
		lb.next.Applied = applied
		next := lb.next
		lb.err = lb.l.commit(lb.b, lb.base, &next)
	}
	err := lb.err
	lb.Close()
	return err
}

// Close drops the batch. After Commit it does nothing.
func (lb *LogBatch) Close() {
	if lb.b != nil {
		_ = lb.b.Close()
		lb.b = nil
	}
	if lb.err == nil {
		lb.err = errBatchUsed
	}
}

// fail remembers the first error.
func (lb *LogBatch) fail(err error) error {
	if err != nil && lb.err == nil {
		lb.err = fmt.Errorf("storage: log %s: %w", lb.l.id, engineError(err))
	}
	return lb.err
}
