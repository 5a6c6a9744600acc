package raftlog

import (
	"fmt"
	"slices"
	"sort"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// readBytes is about how much is read from a segment at a time.
const readBytes = 1 << 20

// IterateEntries implements raftio.ILogDB: it appends the entries low..high-1 to
// ents, as far as the log has them without a gap, and their sizes to size, and
// stops behind the one with which size exceeds maxSize. The payloads must not be
// changed.
func (l *Log) IterateEntries(ents []pb.Entry, size, shardID, replicaID,
	low, high, maxSize uint64,
) ([]pb.Entry, uint64, error) {
	id := nodeID{shardID, replicaID}
	for low < high {
		got, err := l.some(id, low, high)
		if err != nil {
			l.fail(err)
			return nil, 0, l.hold(err)
		}
		if len(got) == 0 {
			break
		}
		for i := range got {
			size += uint64(got[i].SizeUpperLimit())
			ents = append(ents, got[i])
			if size > maxSize {
				return ents, size, nil
			}
		}
		low += uint64(len(got))
	}
	return ents, size, nil
}

// some returns the first entries of low..high-1, none if there is no entry low.
func (l *Log) some(id nodeID, low, high uint64) ([]pb.Entry, error) {
	for {
		p := l.index.locate(id, low, high)
		switch {
		case p.seg == nil:
			return p.entries, nil
		case p.locs == nil:
			err := l.locateAll(p.seg)
			p.seg.use.RUnlock()
			if err != nil {
				return nil, err
			}
		default:
			ents, err := p.read(id, low)
			p.seg.use.RUnlock()
			l.counters.readBack.Add(int64(len(ents)))
			return ents, err
		}
	}
}

// place says where entries are: in memory (entries), or in a segment, whose use
// is then held for reading: at locs, or not known where.
type place struct {
	entries []pb.Entry
	seg     *segment
	locs    []loc
}

// locate finds the first entries of low..high-1 that can be had at once.
func (x *index) locate(id nodeID, low, high uint64) place {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.replicas[id]
	if r == nil || low < r.first() || low > r.last {
		return place{}
	}
	high = min(high, r.last+1)
	if q := r.recent.entries; len(q) > 0 && q[0].Index <= low {
		q = q[low-q[0].Index:]
		n, bytes := 0, 0
		for n < len(q) && q[n].Index < high && bytes < readBytes {
			bytes += len(q[n].Cmd)
			n++
		}
		return place{entries: slices.Clone(q[:n])}
	}
	k := sort.Search(len(r.runs), func(k int) bool { return r.runs[k].last >= low })
	t := &r.runs[k]
	t.seg.use.RLock() // a segment with runs is not taken away, so this does not wait
	if t.locs == nil {
		return place{seg: t.seg}
	}
	locs := t.locs[low-t.first : min(high, t.last+1)-t.first]
	n, bytes := 1, int(locs[0].size)
	for n < len(locs) && locs[n].off == locs[n-1].off+locs[n-1].size && bytes < readBytes {
		bytes += int(locs[n].size)
		n++
	}
	return place{seg: t.seg, locs: slices.Clone(locs[:n])}
}

// read reads entries whose frames follow each other; the first has index low.
func (p *place) read(id nodeID, low uint64) ([]pb.Entry, error) {
	start, end := p.locs[0], p.locs[len(p.locs)-1]
	b := make([]byte, end.off+end.size-start.off)
	if err := p.seg.readAt(b, int64(start.off)); err != nil {
		return nil, err
	}
	ents := make([]pb.Entry, 0, len(p.locs))
	for i, at := range p.locs {
		e, err := entryAt(b[at.off-start.off:][:at.size], id, low+uint64(i))
		if err != nil {
			return nil, damaged(p.seg.path, int64(at.off), "%v", err)
		}
		ents = append(ents, e)
	}
	return ents, nil
}

// entryAt decodes the frame b, which must be the one of entry i of the replica.
func entryAt(b []byte, id nodeID, i uint64) (pb.Entry, error) {
	f, size, err := decodeFrame(b)
	if err != nil {
		return pb.Entry{}, err
	}
	body := f.body
	if f.kind == kindCarried {
		r := readerOf(body)
		r.Uvarint()
		body = r.Rest
	}
	e, err := decodeEntry(body)
	if err != nil {
		return pb.Entry{}, err
	}
	if size != len(b) || f.kind != kindEntry && f.kind != kindCarried || f.id != id || e.Index != i {
		return pb.Entry{}, fmt.Errorf("frame is not entry %d of shard %d replica %d", i, id.shard, id.replica)
	}
	return e, nil
}

// locateAll reads a segment of an earlier opening once, checks all of it, and
// notes where its entries are.
func (l *Log) locateAll(s *segment) error {
	s.locating.Lock()
	defer s.locating.Unlock()
	if l.index.isLocated(s) {
		return nil
	}
	content, err := s.content()
	if err != nil {
		return err
	}
	found := l.index.spans(s)
	w := s.walk(content)
	for {
		_, frames, ok, err := w.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		for _, p := range frames {
			o, err := opOf(p)
			if err != nil {
				return damaged(s.path, int64(p.at.off), "%v", err)
			}
			found[o.id].note(&o)
		}
	}
	if !w.sealed {
		return damaged(s.path, int64(w.off), "%s", w.bad)
	}
	return l.index.located(s, found)
}

// span is where the entries of a replica from index first on are in a segment.
// A loc without a size is not known.
type span struct {
	first uint64
	locs  []loc
}

// spans returns, for each replica with runs in s, a span that covers them.
func (x *index) spans(s *segment) map[nodeID]*span {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make(map[nodeID]*span)
	for id, r := range x.replicas {
		for _, t := range r.runs {
			if t.seg != s {
				continue
			}
			if out[id] == nil {
				out[id] = &span{first: t.first}
			}
			p := out[id]
			p.locs = append(p.locs, make([]loc, t.last+1-p.first-uint64(len(p.locs)))...)
		}
	}
	return out
}

// note remembers where an entry is. Of several frames for one index the last
// counts, but a copy never counts before an entry that is here itself: if that
// was written first, the copy was void when it came.
func (p *span) note(o *op) {
	if p == nil || o.kind != kindEntry && o.kind != kindCarried || o.index < p.first {
		return
	}
	i := o.index - p.first
	if i < uint64(len(p.locs)) && (o.kind == kindEntry || p.locs[i].size == 0) {
		p.locs[i] = o.locs[0]
	}
}

func (x *index) isLocated(s *segment) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return s.located
}

// located gives the runs in s their locs. Since found was made for them, they
// may have become shorter.
func (x *index) located(s *segment, found map[nodeID]*span) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, r := range x.replicas {
		for k := range r.runs {
			t := &r.runs[k]
			if t.seg != s || t.locs != nil {
				continue
			}
			locs := found[id].locs[t.first-found[id].first:][:t.last-t.first+1]
			bytes := int64(0)
			for i, at := range locs {
				if at.size == 0 {
					return damaged(s.path, 0, "entry %d of shard %d replica %d is not there", t.first+uint64(i), id.shard, id.replica)
				}
				bytes += int64(at.size)
			}
			x.account(t, bytes-t.bytes, 0)
			t.locs = slices.Clone(locs)
		}
	}
	s.located = true
	return nil
}
