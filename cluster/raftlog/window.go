package raftlog

import (
	"container/list"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// entryOverhead is what an entry takes in memory besides its payload.
const entryOverhead = 96

// recent is the newest entries of one replica, kept in memory: a suffix of its
// log without a gap.
type recent struct {
	entries []pb.Entry
	bytes   int64
	at      *list.Element // place in window.order, nil when there are no entries
}

// window keeps recent entries of all replicas inside one budget. When it is
// full, the oldest entries of the replica that was silent longest go first.
type window struct {
	budget int64
	bytes  int64
	order  *list.List // of *replica; the longest silent one is in front
}

func newWindow(budget int64) window { return window{budget: budget, order: list.New()} }

func entryBytes(e *pb.Entry) int64 { return int64(len(e.Cmd)) + entryOverhead }

// add takes entries that follow the replica's last one. Their payloads are kept
// as they are; nobody changes the payload of a saved entry.
func (w *window) add(r *replica, entries []pb.Entry) {
	if w.budget <= 0 {
		return
	}
	q := &r.recent
	if q.at == nil {
		q.at = w.order.PushBack(r)
	} else {
		w.order.MoveToBack(q.at)
	}
	for i := range entries {
		q.bytes += entryBytes(&entries[i])
		w.bytes += entryBytes(&entries[i])
	}
	q.entries = append(q.entries, entries...)
	for w.bytes > w.budget {
		w.drop(w.order.Front().Value.(*replica), 1, true)
	}
}

// drop drops n entries at the front or at the back.
func (w *window) drop(r *replica, n int, front bool) {
	q := &r.recent
	gone, rest := q.entries[:n], q.entries[n:]
	if !front {
		gone, rest = q.entries[len(q.entries)-n:], q.entries[:len(q.entries)-n]
	}
	for i := range gone {
		q.bytes -= entryBytes(&gone[i])
		w.bytes -= entryBytes(&gone[i])
	}
	clear(gone) // the array lives on, the payloads need not
	q.entries = rest
	if len(rest) == 0 && q.at != nil {
		w.order.Remove(q.at)
		*q = recent{}
	}
}

// truncate drops the entries with index i and higher.
func (w *window) truncate(r *replica, i uint64) {
	q := r.recent.entries
	if n := len(q); n > 0 && q[n-1].Index >= i {
		w.drop(r, int(min(q[n-1].Index-i+1, uint64(n))), false)
	}
}

// dropTo drops the entries with index i and lower.
func (w *window) dropTo(r *replica, i uint64) {
	q := r.recent.entries
	if n := len(q); n > 0 && q[0].Index <= i {
		w.drop(r, int(min(i-q[0].Index+1, uint64(n))), true)
	}
}
