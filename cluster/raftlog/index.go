package raftlog

import (
	"fmt"
	"slices"
	"sync"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// index is what the log knows about every replica, in memory: its records and
// where its entries are. It changes in the order of the log: by the writer when
// a group has reached stable storage, by recovery when a group is read back. The
// one exception, facts that may be lost in a crash, is what dirty is for.
type index struct {
	mu       sync.Mutex // held for work in memory only
	replicas map[nodeID]*replica
	dirty    []*replica // have facts that are not in the log yet
	window   window
	entries  int64 // live entries of all replicas
	live     int64 // about how many bytes they take in segments

	// sealed are the segments before the tail that the newest checkpoint names,
	// oldest first. The writer changes it.
	sealed []*segment
}

// replica is what the log knows about one replica.
type replica struct {
	id        nodeID
	boot      []byte // marshalled pb.Bootstrap, nil when there is none
	snap      []byte // marshalled pb.Snapshot, nil when there is none
	snapIndex uint64
	state     pb.State
	hasState  bool
	removedTo uint64 // the entries up to here were removed

	runs []run  // where the entries are, in order and without a gap
	last uint64 // last index of the log; what was removed counts

	recent recent

	// Facts not in the log yet. Nothing is lost with them: a commit index is
	// learnt again, removed entries are only in the way.
	dirtyState, dirtyRemoved bool
}

// run is a sequence of entries whose frames are in one segment.
type run struct {
	seg         *segment
	first, last uint64
	locs        []loc // nil when not known: the segment has to be read first
	bytes       int64 // of the frames
}

func newIndex(budget int64) *index {
	return &index{replicas: make(map[nodeID]*replica), window: newWindow(budget)}
}

// at returns the replica, new if it isn't known.
func (x *index) at(id nodeID) *replica {
	r := x.replicas[id]
	if r == nil {
		r = &replica{id: id}
		x.replicas[id] = r
	}
	return r
}

// apply does what o says. The locs of o count from offset base of seg. An error
// means that the log contradicts itself; nothing has changed then.
func (x *index) apply(o *op, seg *segment, base uint32) error {
	switch o.kind {
	case kindEntry:
		return x.append(x.at(o.id), o, seg, base)
	case kindCarried:
		x.relocate(o, seg, base)
	case kindState:
		r := x.at(o.id)
		r.state, r.hasState = o.state, true
	case kindSnapshot, kindInstall:
		r := x.at(o.id)
		if o.index <= r.snapIndex { // a newer one came in between
			return nil
		}
		r.snap, r.snapIndex = o.record, o.index
		if o.kind == kindInstall {
			x.dropFrom(r, 0)
			r.last, r.removedTo = o.index, o.index
		}
	case kindBootstrap:
		x.at(o.id).boot = o.record
	case kindRemoveTo:
		if r := x.replicas[o.id]; r != nil {
			x.dropTo(r, o.index)
		}
	case kindRemoveReplica:
		if r := x.replicas[o.id]; r != nil {
			x.dropFrom(r, 0)
			r.dirtyState, r.dirtyRemoved = false, false
			delete(x.replicas, o.id)
		}
	case kindReplica, kindSegments:
		return fmt.Errorf("checkpoint record outside a checkpoint")
	}
	return nil
}

// append puts entries at the end of the replica's log, in place of those that
// have the same indexes or higher ones.
func (x *index) append(r *replica, o *op, seg *segment, base uint32) error {
	first := o.index
	if (r.last > 0 || len(r.runs) > 0) && first > r.last+1 {
		return fmt.Errorf("entry %d of shard %d replica %d follows entry %d", first, r.id.shard, r.id.replica, r.last)
	}
	x.dropFrom(r, first)
	n := len(r.runs)
	if n == 0 || r.runs[n-1].seg != seg || r.runs[n-1].locs == nil {
		r.runs = append(r.runs, run{seg: seg, first: first})
		n++
		seg.runs++
	}
	t := &r.runs[n-1]
	for _, l := range o.locs {
		t.locs = append(t.locs, loc{base + l.off, l.size})
		x.account(t, int64(l.size), 1)
	}
	r.last = first + uint64(len(o.locs)) - 1
	t.last = r.last
	if o.entries != nil {
		x.window.add(r, o.entries)
	}
	return nil
}

// account adds n entries of so many bytes in all to a run.
func (x *index) account(t *run, bytes, n int64) {
	t.bytes += bytes
	t.seg.live += bytes
	x.live += bytes
	x.entries += n
}

// dropFrom drops the entries with index i and higher.
func (x *index) dropFrom(r *replica, i uint64) {
	if i > r.last {
		return
	}
	for n := len(r.runs); n > 0; n = len(r.runs) {
		t := &r.runs[n-1]
		if t.last < i {
			break
		}
		if t.first < i {
			x.cut(t, i, t.last)
			t.last = i - 1
			break
		}
		x.cut(t, t.first, t.last)
		t.seg.runs--
		r.runs = r.runs[:n-1]
	}
	if i > 0 {
		r.last = i - 1
	} else {
		r.last = 0
	}
	x.window.truncate(r, i)
}

// dropTo drops the entries with index i and lower.
func (x *index) dropTo(r *replica, i uint64) {
	r.removedTo = max(r.removedTo, min(i, r.last))
	k := 0
	for ; k < len(r.runs) && r.runs[k].last <= i; k++ {
		t := &r.runs[k]
		x.cut(t, t.first, t.last)
		t.seg.runs--
	}
	r.runs = slices.Delete(r.runs, 0, k)
	if len(r.runs) > 0 && r.runs[0].first <= i {
		t := &r.runs[0]
		x.cut(t, t.first, i)
		t.first = i + 1
	}
	x.window.dropTo(r, i)
}

// cut takes the entries from..to, which are at one end of the run, out of the
// books and out of its locs. The caller moves first or last.
func (x *index) cut(t *run, from, to uint64) {
	n := to - from + 1
	if t.locs == nil {
		x.account(t, -int64(uint64(t.bytes)*n/(t.last-t.first+1)), -int64(n))
		return
	}
	gone := t.locs[from-t.first : to-t.first+1]
	bytes := int64(0)
	for _, l := range gone {
		bytes += int64(l.size)
	}
	x.account(t, -bytes, -int64(n))
	if from == t.first {
		t.locs = t.locs[n:]
	} else {
		t.locs = t.locs[:from-t.first]
	}
}

// relocate makes a copied entry the one that counts, if it is still the first
// of a run in the segment it was copied from.
func (x *index) relocate(o *op, seg *segment, base uint32) bool {
	r := x.replicas[o.id]
	if r == nil {
		return false
	}
	k := slices.IndexFunc(r.runs, func(t run) bool { return t.seg.number == o.from && t.first == o.index })
	if k < 0 {
		return false
	}
	t := &r.runs[k]
	x.cut(t, o.index, o.index)
	if t.first == t.last {
		t.seg.runs--
		r.runs = slices.Delete(r.runs, k, k+1)
	} else {
		t.first++
	}
	if k == 0 || r.runs[k-1].seg != seg || r.runs[k-1].locs == nil {
		r.runs = slices.Insert(r.runs, k, run{seg: seg, first: o.index})
		seg.runs++
		k++
	}
	t = &r.runs[k-1]
	t.locs = append(t.locs, loc{base + o.locs[0].off, o.locs[0].size})
	t.last = o.index
	x.account(t, int64(o.locs[0].size), 1)
	return true
}

// markState notes a state that may be lost in a crash.
func (x *index) markState(r *replica, st pb.State) {
	r.state = st
	x.mark(r)
	r.dirtyState = true
}

// markRemoved drops entries, which may be forgotten in a crash.
func (x *index) markRemoved(r *replica, i uint64) {
	x.dropTo(r, i)
	x.mark(r)
	r.dirtyRemoved = true
}

func (x *index) mark(r *replica) {
	if !r.dirtyState && !r.dirtyRemoved {
		x.dirty = append(x.dirty, r)
	}
}

// takeDirty returns the facts that are not in the log, and takes them for
// written. nil means there are none.
func (x *index) takeDirty() *batch {
	if len(x.dirty) == 0 {
		return nil
	}
	b := newBatch()
	for _, r := range x.dirty {
		if r.dirtyState {
			b.addState(r.id, r.state)
		}
		if r.dirtyRemoved {
			b.addRemoveTo(r.id, r.removedTo)
		}
		r.dirtyState, r.dirtyRemoved = false, false
	}
	clear(x.dirty)
	x.dirty = x.dirty[:0]
	b.ops = nil // the index knows
	return b
}

// first is the index of the first entry there is, last+1 when there is none.
func (r *replica) first() uint64 {
	if len(r.runs) == 0 {
		return r.last + 1
	}
	return r.runs[0].first
}
