package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// inherited is a decoded kindReplica frame: what a new segment inherits about
// one replica from the segments before it.
//
//	flags      uvarint  hasState, hasBoot, hasSnap
//	state      uvarints term, vote, commit   if hasState
//	bootstrap  bytes                         if hasBoot
//	snapshot   uvarint index, bytes          if hasSnap
//	removedTo  uvarint
//	last       uvarint
//	runs       uvarint count, then each as uvarints
//	           segment number, first index, count, bytes
type inherited struct {
	hasState  bool
	state     pb.State
	boot      []byte
	snap      []byte
	snapIndex uint64
	removedTo uint64
	last      uint64
	runs      []inheritedRun
}

type inheritedRun struct {
	segment, first, count, bytes uint64
}

// Flags of a kindReplica frame. The numbers are part of the format.
const (
	hasState = 1 << iota
	hasBoot
	hasSnap
)

// segmentSize is one of the segments that a kindSegments frame lists: count,
// then number and size of each, as uvarints.
type segmentSize struct{ number, size uint64 }

// checkpoint is what the index says about all replicas, whose entries are in
// these segments, as the frames of a group.
func (x *index) checkpoint(segments []*segment) *batch {
	b := newBatch()
	if len(segments) > 0 {
		start := b.begin(kindSegments, nodeID{})
		b.buf = binary.AppendUvarint(b.buf, uint64(len(segments)))
		for _, s := range segments {
			b.buf = binary.AppendUvarint(b.buf, s.number)
			b.buf = binary.AppendUvarint(b.buf, uint64(s.size))
		}
		b.end(start, nil)
	}
	for id, r := range x.replicas {
		start := b.begin(kindReplica, id)
		b.buf = r.appendInherited(b.buf)
		b.end(start, nil)
	}
	return b
}

func (r *replica) appendInherited(b []byte) []byte {
	flags := uint64(0)
	if r.hasState {
		flags |= hasState
	}
	if r.boot != nil {
		flags |= hasBoot
	}
	if r.snap != nil {
		flags |= hasSnap
	}
	b = binary.AppendUvarint(b, flags)
	if r.hasState {
		b = appendState(b, r.state)
	}
	if r.boot != nil {
		b = appendBytes(b, r.boot)
	}
	if r.snap != nil {
		b = appendBytes(binary.AppendUvarint(b, r.snapIndex), r.snap)
	}
	b = binary.AppendUvarint(b, r.removedTo)
	b = binary.AppendUvarint(b, r.last)
	b = binary.AppendUvarint(b, uint64(len(r.runs)))
	for _, t := range r.runs {
		b = binary.AppendUvarint(b, t.seg.number)
		b = binary.AppendUvarint(b, t.first)
		b = binary.AppendUvarint(b, t.last-t.first+1)
		b = binary.AppendUvarint(b, uint64(t.bytes))
	}
	return b
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func (r *reader) inherited() *inherited {
	in := &inherited{}
	flags := r.Uvarint()
	if flags&hasState != 0 {
		in.hasState, in.state = true, r.state()
	}
	if flags&hasBoot != 0 {
		in.boot = bytes.Clone(r.Prefixed())
	}
	if flags&hasSnap != 0 {
		in.snapIndex, in.snap = r.Uvarint(), bytes.Clone(r.Prefixed())
	}
	in.removedTo, in.last = r.Uvarint(), r.Uvarint()
	in.runs = make([]inheritedRun, r.Count(4))
	for i := range in.runs {
		in.runs[i] = inheritedRun{r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()}
	}
	return in
}

func (r *reader) segments() []segmentSize {
	out := make([]segmentSize, r.Count(2))
	for i := range out {
		out[i] = segmentSize{r.Uvarint(), r.Uvarint()}
	}
	return out
}

// inherit puts a replica of a checkpoint into the index. segments are those
// that the checkpoint lists.
func (x *index) inherit(id nodeID, in *inherited, segments map[uint64]*segment) error {
	if x.replicas[id] != nil {
		return fmt.Errorf("checkpoint has shard %d replica %d twice", id.shard, id.replica)
	}
	r := x.at(id)
	r.hasState, r.state = in.hasState, in.state
	r.boot, r.snap, r.snapIndex = in.boot, in.snap, in.snapIndex
	r.removedTo, r.last = in.removedTo, in.last
	r.runs = make([]run, 0, len(in.runs))
	next := uint64(0)
	for _, t := range in.runs {
		if t.count == 0 || next > 0 && t.first != next || t.first+t.count-1 > in.last || t.first+t.count < t.first {
			return fmt.Errorf("checkpoint has a gap in the entries of shard %d replica %d", id.shard, id.replica)
		}
		next = t.first + t.count
		seg := segments[t.segment]
		if seg == nil {
			return fmt.Errorf("checkpoint does not list segment %d", t.segment)
		}
		r.runs = append(r.runs, run{seg: seg, first: t.first, last: next - 1})
		seg.runs++
		x.account(&r.runs[len(r.runs)-1], int64(t.bytes), int64(t.count))
	}
	if next > 0 && next != in.last+1 {
		return fmt.Errorf("checkpoint has a gap in the entries of shard %d replica %d", id.shard, id.replica)
	}
	return nil
}
