package mq

import (
	"time"

	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/record"
)

// run is some records of one partition, in order, and the lease for them.
type run struct {
	records []Record
	lease   fetch.Lease
}

// reader decodes batches and hands out their records. Not safe for concurrent
// use.
type reader struct {
	set    *fetch.Set
	ahead  int           // see fetch.Set.Deliver
	polled []fetch.Lease // what the last Poll handed out

	chunk   fetch.Chunk // the batch in hand
	records []Record    // its decoded records that were not handed out
	more    bool        // it has records behind those
	failed  error       // why those behind can't be read
	headers []Header    // room for headers of records
}

// maxDecoded is how many records of a batch are decoded at once: a small batch
// may hold a great many tiny ones, each of which takes 128 bytes here.
const maxDecoded = 1 << 16

// next returns up to limit records; ok is false when there are none now.
func (r *reader) next(limit int) (got run, ok bool, err error) {
	for {
		if len(r.records) > 0 {
			if got, ok := r.handOut(limit); ok {
				return got, true, nil
			}
			continue
		}
		switch {
		case r.more:
			r.decode(r.chunk.From)
			continue
		case r.failed != nil:
			r.set.Fail(&r.chunk, r.failed)
			r.failed = nil
		}
		chunk, failure, ok := r.set.Take()
		if failure != nil {
			return run{}, false, &PartitionError{TopicPartition(failure.Key), failure.Offset, failure.Next, failure.Err}
		}
		if !ok {
			return run{}, false, nil
		}
		r.chunk = chunk
		r.decode(chunk.From)
		if len(r.records) == 0 && r.failed == nil {
			r.set.Pass(&r.chunk)
		}
	}
}

// handOut returns records of the batch in hand, unless these don't count any
// more: then the batch is dropped.
func (r *reader) handOut(limit int) (run, bool) {
	n := min(limit, len(r.records))
	next := r.records[n-1].Offset + 1
	r.chunk.From = next
	if n == len(r.records) && !r.more && r.failed == nil {
		next = r.chunk.Next
	}
	lease, ok := r.set.Deliver(&r.chunk, r.records[0].Offset, next, r.ahead)
	if !ok {
		r.records, r.more, r.failed = nil, false, nil
		return run{}, false
	}
	got := run{r.records[:n:n], lease}
	if r.records = r.records[n:]; len(r.records) == 0 {
		r.records = nil // the caller alone decides how long they live
	}
	return got, true
}

// decode fills records with those of the batch in hand from an offset on. They
// get memory of their own, for they will belong to the caller.
func (r *reader) decode(from int64) {
	key, data := r.chunk.P.Key(), r.chunk.Data
	r.records, r.more, r.failed = nil, false, nil
	for rec, err := range record.Records(data, record.ReadOptions{SkipCRC: true}) {
		switch {
		case err != nil:
			r.failed = err
			return
		case rec.Offset < from:
			continue
		case len(r.records) == maxDecoded:
			r.more = true
			return
		case r.records == nil:
			r.records = make([]Record, 0, roomFor(data))
		}
		r.records = append(r.records, Record{
			Topic:       key.Topic,
			Partition:   key.Partition,
			Offset:      rec.Offset,
			LeaderEpoch: r.chunk.Epoch,
			Key:         rec.Key,
			Value:       rec.Value,
			Headers:     r.convert(rec.Headers),
			Timestamp:   time.UnixMilli(rec.Timestamp),
		})
	}
}

// roomFor is how many records of a batch to make room for. What the header
// says is believed as far as the batch is large enough to be honest.
func roomFor(batch []byte) int {
	info, err := record.Parse(batch)
	if err != nil {
		return 0
	}
	return min(int(info.Count), maxDecoded, max(len(batch), 1024))
}

// convert copies headers, those of many records into one piece of memory.
func (r *reader) convert(hs []record.Header) []Header {
	if len(hs) == 0 {
		return nil
	}
	if cap(r.headers)-len(r.headers) < len(hs) {
		r.headers = make([]Header, 0, max(len(hs), 256))
	}
	start := len(r.headers)
	for _, h := range hs {
		r.headers = append(r.headers, Header(h))
	}
	return r.headers[start:len(r.headers):len(r.headers)]
}

// finishPolled marks what the last Poll handed out as finished.
func (r *reader) finishPolled() {
	for _, l := range r.polled {
		r.set.Finish(l)
	}
	r.polled = r.polled[:0]
}
