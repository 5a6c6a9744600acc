package raftlog

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// spliceBytes is the payload size from which an entry's payload is not copied
// into the batch but written from where it is. An extra write call costs about
// as much as copying this many bytes.
const spliceBytes = 16 << 10

// maxBatchBytes bounds what one call writes, and maxGroupBytes when a group
// takes no further batch. The library bounds a message at 64 MiB.
const (
	maxBatchBytes = 1 << 30
	maxGroupBytes = 64 << 20
)

// batch is what one caller hands to the writer: encoded frames, and the same as
// operations on the index, to be applied once the frames are on stable storage.
type batch struct {
	buf  []byte // frames, without the payloads of splices
	cuts []splice
	size int    // bytes of frames, with the payloads of splices
	crcs []byte // checksums of the frames, in order
	locs []loc  // of the frames of all entries
	ops  []op

	caller uint64        // a bit for the worker that waits, 0 for others
	done   chan struct{} // gets a token when the writer has brought it to stable storage and applied it
}

// splice is a payload that belongs behind buf[:pos].
type splice struct {
	pos     int
	payload []byte
}

// op is one change of the index. The locs of entries count from the start of
// the batch until the writer has placed it.
type op struct {
	kind      kind
	id        nodeID
	state     pb.State
	index     uint64 // of the first entry, of a snapshot, of kindRemoveTo
	record    []byte // marshalled bootstrap or snapshot
	entries   []pb.Entry
	locs      []loc
	from      uint64 // kindCarried: number of the segment the entries come from
	inherited *inherited
	segments  []segmentSize
}

func newBatch() *batch { return &batch{done: make(chan struct{}, 1)} }

// keptBytes is how large the buffer of a batch may be that is kept for another.
const keptBytes = 1 << 20

// reset empties a batch that the writer is done with, for another use.
func (b *batch) reset() {
	clear(b.cuts)
	clear(b.ops)
	*b = batch{buf: b.buf[:0], cuts: b.cuts[:0], crcs: b.crcs[:0], locs: b.locs[:0], ops: b.ops[:0], done: b.done}
}

// begin starts a frame and returns where it starts in buf.
func (b *batch) begin(k kind, id nodeID) int {
	start := len(b.buf)
	b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0, byte(k))
	b.buf = binary.AppendUvarint(b.buf, id.shard)
	b.buf = binary.AppendUvarint(b.buf, id.replica)
	return start
}

// end finishes the frame that starts at start and whose last bytes are payload.
func (b *batch) end(start int, payload []byte) loc {
	spliced := len(payload) >= spliceBytes
	if !spliced {
		b.buf = append(b.buf, payload...)
	}
	size := len(b.buf) - start
	if spliced {
		size += len(payload)
	}
	binary.LittleEndian.PutUint32(b.buf[start+4:], uint32(size-frameHeaderSize))
	sum := crc32.Checksum(b.buf[start+4:], castagnoli)
	if spliced {
		sum = crc32.Update(sum, castagnoli, payload)
		b.cuts = append(b.cuts, splice{len(b.buf), payload})
	}
	binary.LittleEndian.PutUint32(b.buf[start:], sum)
	b.crcs = binary.LittleEndian.AppendUint32(b.crcs, sum)
	at := loc{uint32(b.size), uint32(size)}
	b.size += size
	return at
}

func (b *batch) addState(id nodeID, st pb.State) {
	start := b.begin(kindState, id)
	b.buf = appendState(b.buf, st)
	b.end(start, nil)
	b.ops = append(b.ops, op{kind: kindState, id: id, state: st})
}

// addSnapshot adds a record of kind kindSnapshot or kindInstall.
func (b *batch) addSnapshot(k kind, id nodeID, ss *pb.Snapshot) {
	record := pb.MustMarshal(ss)
	start := b.begin(k, id)
	b.buf = binary.AppendUvarint(b.buf, ss.Index)
	b.end(start, record)
	b.ops = append(b.ops, op{kind: k, id: id, index: ss.Index, record: record})
}

func (b *batch) addBootstrap(id nodeID, bs *pb.Bootstrap) {
	record := pb.MustMarshal(bs)
	b.end(b.begin(kindBootstrap, id), record)
	b.ops = append(b.ops, op{kind: kindBootstrap, id: id, record: record})
}

func (b *batch) addRemoveTo(id nodeID, index uint64) {
	start := b.begin(kindRemoveTo, id)
	b.buf = binary.AppendUvarint(b.buf, index)
	b.end(start, nil)
	b.ops = append(b.ops, op{kind: kindRemoveTo, id: id, index: index})
}

func (b *batch) addRemoveReplica(id nodeID) {
	b.end(b.begin(kindRemoveReplica, id), nil)
	b.ops = append(b.ops, op{kind: kindRemoveReplica, id: id})
}

// addEntries adds entries, which must follow each other without a gap. The
// batch keeps their payloads until it is done.
func (b *batch) addEntries(id nodeID, entries []pb.Entry) {
	from := len(b.locs)
	for i := range entries {
		start := b.begin(kindEntry, id)
		b.buf = appendEntryMeta(b.buf, &entries[i])
		b.locs = append(b.locs, b.end(start, entries[i].Cmd))
	}
	b.ops = append(b.ops, op{kind: kindEntry, id: id, index: entries[0].Index, entries: entries, locs: b.locs[from:]})
}

// addCarried adds a copy of entry e, which is in segment from.
func (b *batch) addCarried(id nodeID, from uint64, e *pb.Entry) {
	start := b.begin(kindCarried, id)
	b.buf = binary.AppendUvarint(b.buf, from)
	b.buf = appendEntryMeta(b.buf, e)
	at := b.end(start, e.Cmd)
	b.ops = append(b.ops, op{kind: kindCarried, id: id, index: e.Index, from: from, locs: []loc{at}})
}

// opOf turns a frame found on disk into the operation that was applied when it
// was written.
func opOf(p placed) (op, error) {
	o := op{kind: p.kind, id: p.id}
	r := readerOf(p.body)
	switch p.kind {
	case kindEntry, kindCarried:
		if p.kind == kindCarried {
			o.from = r.Uvarint()
		}
		e, err := decodeEntry(r.Rest)
		if err != nil || r.Bad {
			return op{}, errFrameBody
		}
		o.index, o.locs = e.Index, []loc{p.at}
		return o, nil
	case kindState:
		o.state = r.state()
	case kindSnapshot, kindInstall:
		o.index = r.Uvarint()
		o.record, r.Rest = bytes.Clone(r.Rest), nil
	case kindBootstrap:
		o.record, r.Rest = bytes.Clone(r.Rest), nil
	case kindRemoveTo:
		o.index = r.Uvarint()
	case kindRemoveReplica:
	case kindReplica:
		o.inherited = r.inherited()
	case kindSegments:
		o.segments = r.segments()
	default:
		return op{}, errFrameBody
	}
	if !r.Done() {
		return op{}, errFrameBody
	}
	return o, nil
}
