package main

import (
	"io"

	"github.com/raftmq/mq"
)

// flushBytes is how much is collected before it is written.
const flushBytes = 256 << 10

// recordWriter prints records and knows which of them were written as a whole.
// It is a sink.
type recordWriter struct {
	w      io.Writer
	format printer

	buf     []byte
	entries []entry // records in buf

	done    []*mq.Record // written or skipped since begin, in order
	printed int          // of all those written
}

// entry is a record whose text ends at an offset of the buffer.
type entry struct {
	record  *mq.Record
	end     int
	printed bool
}

// begin forgets what was handled.
func (w *recordWriter) begin() { w.done = w.done[:0] }

func (w *recordWriter) handled() []*mq.Record { return w.done }
func (w *recordWriter) count() int            { return w.printed }

// skip passes over a record, which is handled when those before it are.
func (w *recordWriter) skip(r *mq.Record) {
	w.entries = append(w.entries, entry{r, len(w.buf), false})
}

func (w *recordWriter) add(r *mq.Record) error {
	w.buf = w.format.Append(w.buf, r)
	w.entries = append(w.entries, entry{r, len(w.buf), true})
	if len(w.buf) < flushBytes {
		return nil
	}
	return w.flush()
}

// flush writes what was added. If that fails half-way, the records that went
// out as a whole are handled nevertheless.
func (w *recordWriter) flush() error {
	var n int
	var err error
	if len(w.buf) > 0 {
		n, err = w.w.Write(w.buf)
	}
	for _, e := range w.entries {
		if e.end > n {
			break
		}
		w.done = append(w.done, e.record)
		if e.printed {
			w.printed++
		}
	}
	w.buf, w.entries = w.buf[:0], w.entries[:0]
	return err
}
