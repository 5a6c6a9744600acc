package raftlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"time"
)

// tail is where the log goes on. It belongs to the writer.
type tail struct {
	seg    *segment
	off    int64  // where the next group goes
	synced int64  // the segment is on stable storage up to here
	chain  uint32 // running checksum at off
	epoch  uint32 // of this opening

	facts []*batch // taken from the index, to be written with the next group
	buf   []byte

	callers [2]uint64     // who was served by the last two groups, a bit for each
	took    time.Duration // the last sync
}

// errGaveUp says that the log ended while the writer waited for a segment.
var errGaveUp = errors.New("raftlog: gave up waiting for a segment")

// write is the writer: it puts everything that waits into one group, syncs it
// once, and wakes those who waited.
func (l *Log) write() {
	defer l.cancel()
	for l.Err() == nil {
		select {
		case <-l.wake:
			if err := l.commit(l.gather()); err != nil {
				if !errors.Is(err, errGaveUp) {
					l.fail(err)
				}
				return
			}
		case <-l.closing:
			err := l.commit(nil)
			if err == nil {
				err = l.finish()
			}
			if err != nil {
				l.fail(err)
			}
			return
		case <-l.failed:
			return
		}
	}
}

// gather takes what waits. The callers of the last groups are likely to come
// back at once, and those that come during a sync would go on taking turns with
// those it serves, half of them in each. So it lets them run for a moment
// before it takes what there is; a caller that is alone does not wait.
func (l *Log) gather() []*batch {
	t := &l.tail
	want := t.callers[0] | t.callers[1]
	have := l.waiting()
	if have != 0 && have&want != want {
		start := l.opts.Clock.Now()
		for range 64 {
			runtime.Gosched()
			if have = l.waiting(); have&want == want || l.opts.Clock.Now().Sub(start) > t.took {
				break
			}
		}
	}
	b := l.take()
	t.callers[0], t.callers[1] = t.callers[1], have
	return b
}

// waiting are the callers whose batches wait, a bit for each.
func (l *Log) waiting() (callers uint64) {
	l.queue.Lock()
	defer l.queue.Unlock()
	for _, b := range l.queue.batches {
		callers |= b.caller
	}
	return callers
}

// take takes what waits, or as much of it as one group should hold.
func (l *Log) take() []*batch {
	l.queue.Lock()
	defer l.queue.Unlock()
	b := l.queue.batches
	for i, size := 0, 0; i < len(b); i++ {
		if size += b[i].size; size > maxGroupBytes && i > 0 {
			l.queue.batches = b[i:]
			l.poke()
			return b[:i:i]
		}
	}
	l.queue.batches = nil
	return b
}

// commit writes the batches, and the facts that wait for a write, as one group.
// Without batches there is nothing to wait for and so nothing to sync.
func (l *Log) commit(batches []*batch) error {
	l.takeFacts()
	group := append(l.tail.facts, batches...)
	if len(group) == 0 {
		return nil
	}
	size := int64(0)
	for _, b := range group {
		size += int64(b.size)
	}
	if !l.tail.fits(size) {
		if len(batches) == 0 {
			return nil // not worth a segment
		}
		if err := l.rotate(size); err != nil {
			return err
		}
	}
	l.tail.facts = nil
	places, err := l.put(0, group)
	if err != nil {
		return err
	}
	if len(batches) == 0 {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.index.mu.Lock()
	for i, b := range group {
		for k := range b.ops {
			if err := l.index.apply(&b.ops[k], l.tail.seg, places[i]); err != nil {
				l.index.mu.Unlock()
				return fmt.Errorf("raftlog: %w", err) // SaveRaftState checked
			}
		}
	}
	l.index.mu.Unlock()
	for _, b := range batches {
		b.done <- struct{}{} // it has room, and b is the caller's again
	}
	return nil
}

// takeFacts puts what the index knows and the log doesn't into facts.
func (l *Log) takeFacts() {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	if b := l.index.takeDirty(); b != nil {
		l.tail.facts = append(l.tail.facts, b)
	}
}

// fits says whether a group with so many bytes of frames, and a seal behind it,
// fit into the segment.
func (t *tail) fits(size int64) bool {
	return t.off+groupHeaderSize+size+groupHeaderSize <= t.seg.size
}

// put writes a group at the end of the log and returns where its batches are.
func (l *Log) put(flags uint8, group []*batch) ([]uint32, error) {
	t := &l.tail
	h := groupHeader{
		flags: flags, segment: t.seg.number, offset: uint32(t.off),
		synced: uint32(t.synced), epoch: t.epoch, prev: t.chain,
	}
	places := make([]uint32, len(group))
	for i, b := range group {
		places[i] = uint32(t.off) + groupHeaderSize + h.size
		h.size += uint32(b.size)
		h.body = crc32.Update(h.body, castagnoli, b.crcs)
	}
	t.buf = append(t.buf[:0], make([]byte, groupHeaderSize)...)
	h.put(t.buf, l.id)
	end := t.off + groupHeaderSize + int64(h.size)
	for _, b := range group {
		pos := 0
		for _, c := range b.cuts {
			t.buf = append(t.buf, b.buf[pos:c.pos]...)
			pos = c.pos
			if err := t.flush(); err != nil {
				return nil, err
			}
			if err := t.writeAt(c.payload); err != nil {
				return nil, err
			}
		}
		t.buf = append(t.buf, b.buf[pos:]...)
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	if t.off != end {
		return nil, fmt.Errorf("raftlog: group ends at %d, not at %d", t.off, end)
	}
	t.chain = h.crc
	l.counters.groups.Add(1)
	l.counters.bytes.Add(groupHeaderSize + int64(h.size))
	if cap(t.buf) > zeroChunk {
		t.buf = nil
	}
	return places, nil
}

// flush writes what was gathered in buf.
func (t *tail) flush() error {
	err := t.writeAt(t.buf)
	t.buf = t.buf[:0]
	return err
}

func (t *tail) writeAt(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := t.seg.w.WriteAt(b, t.off); err != nil {
		return fmt.Errorf("raftlog: write %s: %w", t.seg.path, err)
	}
	t.off += int64(len(b))
	return nil
}

// sync brings the log to stable storage. When it fails, nobody knows what is
// there; it is not tried again.
func (l *Log) sync() error {
	t := &l.tail
	l.counters.syncs.Add(1)
	start := l.opts.Clock.Now()
	if err := datasync(t.seg.w); err != nil {
		return fmt.Errorf("raftlog: sync %s: %w", t.seg.path, err)
	}
	t.took = l.opts.Clock.Now().Sub(start)
	if l.opts.OnSync != nil {
		l.opts.OnSync(t.took)
	}
	t.synced = t.off
	return nil
}

// rotate goes on to the next segment, which begins with a checkpoint and has
// room for a group with so many bytes of frames.
func (l *Log) rotate(size int64) error {
	cp, dead, live := l.inventory()
	next := l.prep.next(l.ctx, l.closing, roomFor(cp, size))
	if next == nil {
		return errGaveUp
	}
	if err := l.sealTail(); err != nil {
		return err
	}
	return l.moveTo(next, cp, dead, live)
}

// inventory is what the next segment starts with, and which of the segments so
// far it names and which it doesn't.
func (l *Log) inventory() (cp *batch, dead, live []*segment) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	for _, s := range append(l.index.sealed, l.tail.seg) {
		if s.runs == 0 {
			dead = append(dead, s)
		} else {
			live = append(live, s)
		}
	}
	return l.index.checkpoint(live), dead, live
}

// roomFor is the least size of a segment with a checkpoint and a group with so
// many bytes of frames.
func roomFor(cp *batch, size int64) int64 {
	const groups = 3 // the two and a seal
	return segmentHeaderSize + groups*groupHeaderSize + int64(cp.size) + size
}

// sealTail ends the segment: from here on its end can't be mistaken.
func (l *Log) sealTail() error {
	if _, err := l.put(flagSeal, nil); err != nil {
		return err
	}
	return l.sync()
}

// moveTo goes on in segment next, which the tail has been sealed for. Once its
// checkpoint is there, the segments that it does not name are gone.
func (l *Log) moveTo(next *segment, cp *batch, dead, live []*segment) error {
	old := l.tail.seg
	if err := l.begin(next, cp); err != nil {
		return err
	}
	if err := old.seal(); err != nil {
		return fmt.Errorf("raftlog: close %s: %w", old.path, err)
	}
	l.index.mu.Lock()
	l.index.sealed = live
	l.index.mu.Unlock()
	l.prep.retire(dead)
	l.tidy()
	return nil
}

// begin starts segment s with a checkpoint.
func (l *Log) begin(s *segment, cp *batch) error {
	t := &l.tail
	t.seg, t.off, t.synced, t.chain = s, segmentHeaderSize, segmentHeaderSize, s.chain
	if _, err := l.put(flagCheckpoint, []*batch{cp}); err != nil {
		return err
	}
	return l.sync()
}

// finish writes one more group, which vouches for the last one.
func (l *Log) finish() error {
	if !l.tail.fits(0) {
		return nil
	}
	if _, err := l.put(0, nil); err != nil {
		return err
	}
	return l.sync()
}
