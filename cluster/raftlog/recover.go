package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/raftmq/mq/internal/mqerr"
)

// recover finds the newest segment with a checkpoint, replays it, and makes its
// end the tail. Of the segments that the checkpoint lists nothing is read, save
// for one: that it is of this log shows that the checkpoint is.
func (l *Log) recover(files map[uint64]*segment) error {
	numbers := slices.Sorted(maps.Keys(files))
	var unused []*segment // prepared, or begun and not finished
	for i, n := range slices.Backward(numbers) {
		s := files[n]
		if err := s.readHeader(); err != nil {
			return err
		}
		l.prep.count(s)
		w, frames, err := s.checkpoint()
		if err != nil {
			return err
		}
		if w == nil {
			unused = append(unused, s)
			continue
		}
		l.id, l.prep.log = s.log, s.log
		if err := l.replay(s, w, frames, files); err != nil {
			return err
		}
		if w.sealed { // the last of the unused ones may not be that
			if err := checkUnused(unused); err != nil {
				return err
			}
		}
		for k, u := range slices.Backward(unused) {
			if want := n + uint64(len(unused)-k); u.number != want {
				return l.missing(want)
			}
			if err := l.checkLog(u); err != nil {
				return err
			}
		}
		for _, n := range numbers[:i] {
			if f := files[n]; !f.inherited {
				if err := cmp.Or(f.readHeader(), l.checkLog(f)); err != nil {
					return err
				}
			}
			l.prep.count(files[n])
		}
		return l.resume(s, w, files)
	}
	if err := checkUnused(unused); err != nil {
		return err
	}
	return l.create(files)
}

// checkpoint returns the frames of the checkpoint that the segment begins with,
// and a walker behind it; nil if there is none.
func (s *segment) checkpoint() (*walker, []placed, error) {
	// Most often it is the prepared segment, of which this is enough to see.
	start := make([]byte, segmentHeaderSize+groupHeaderSize)
	if err := s.readAt(start, 0); err != nil {
		return nil, nil, err
	}
	if _, ok, err := groupAt(start, segmentHeaderSize, s.number, s.log); err != nil || !ok {
		return nil, nil, err
	}
	content, err := s.content()
	if err != nil {
		return nil, nil, err
	}
	w := s.walk(content)
	h, frames, ok, err := w.next()
	if err != nil || !ok {
		return nil, nil, err
	}
	if h.flags&flagCheckpoint == 0 {
		return nil, nil, damaged(s.path, int64(h.offset), "segment does not begin with a checkpoint")
	}
	return w, frames, nil
}

// checkUnused looks for groups in segments without a readable checkpoint. What
// counts in a segment stands behind its checkpoint, so there is none.
func checkUnused(unused []*segment) error {
	for _, s := range unused {
		content, err := s.content()
		if err != nil {
			return err
		}
		w := s.walk(content)
		if _, _, _, err := w.next(); err != nil {
			return err
		}
		if _, found, err := w.vouched(); err != nil || found {
			return cmp.Or(err, damaged(s.path, int64(w.off), "%s", w.bad))
		}
	}
	return nil
}

// checkLog checks that a segment belongs to the log that was found.
func (l *Log) checkLog(s *segment) error {
	if s.log != l.id {
		return damaged(s.path, 0, "segment of another log")
	}
	return nil
}

// replay reads segment s into the index. frames are those of its checkpoint.
func (l *Log) replay(s *segment, w *walker, frames []placed, files map[uint64]*segment) error {
	listed := map[uint64]*segment{}
	for _, p := range frames {
		o, err := opOf(p)
		switch {
		case err != nil:
		case o.kind == kindSegments:
			listed, err = l.listed(o.segments, s.number, files)
		case o.kind == kindReplica:
			err = l.index.inherit(o.id, o.inherited, listed)
		default:
			err = errFrameBody
		}
		if err != nil {
			return s.damage(p, err)
		}
	}
	s.located = true
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
			if err == nil {
				err = l.index.apply(&o, s, 0)
			}
			if err != nil {
				return s.damage(p, err)
			}
		}
	}
	if w.sealed {
		return nil
	}
	if at, found, err := w.vouched(); err != nil || found {
		return cmp.Or(err, damaged(s.path, int64(w.off), "%s, but the group at offset %d says that this was synced", w.bad, at))
	}
	return nil
}

// damage is that a frame of the segment makes no sense, unless err knows better.
func (s *segment) damage(p placed, err error) error {
	if errors.Is(err, mqerr.ErrCorruptLog) || errors.Is(err, mqerr.ErrNewerFormat) {
		return err
	}
	return damaged(s.path, int64(p.at.off), "%v", err)
}

// listed finds the segments that the checkpoint of segment number lists. They are
// not read, but must be there in full length.
func (l *Log) listed(segments []segmentSize, number uint64, files map[uint64]*segment) (map[uint64]*segment, error) {
	out := make(map[uint64]*segment, len(segments))
	for i, t := range segments {
		if t.number >= number || t.size < segmentHeaderSize || t.size > maxSegmentBytes {
			return nil, fmt.Errorf("checkpoint lists segment %d of %d bytes", t.number, t.size)
		}
		f := files[t.number]
		if f == nil {
			return nil, l.missing(t.number)
		}
		err := f.inherit(l.id, int64(t.size))
		if err == nil && i == len(segments)-1 {
			_, err = f.reader()
		}
		if err != nil {
			return nil, err
		}
		out[t.number] = f
	}
	return out, nil
}

// resume makes the end of what was replayed the tail, and sorts the other files.
func (l *Log) resume(s *segment, w *walker, files map[uint64]*segment) error {
	t := &l.tail
	*t = tail{seg: s, off: int64(w.off), synced: int64(max(w.synced, segmentHeaderSize)), chain: w.chain, epoch: w.epoch + 1}
	var spare *segment
	var dead []*segment
	for _, f := range files {
		switch {
		case f == s:
		case f.number == s.number+1:
			spare = f
		case f.inherited:
			l.index.sealed = append(l.index.sealed, f)
		default:
			dead = append(dead, f)
		}
	}
	slices.SortFunc(l.index.sealed, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	if w.sealed && spare == nil { // it was there before the seal was
		return l.missing(s.number + 1)
	}
	for _, f := range dead {
		if f.number > s.number { // its number will be given to another
			if err := f.park(); err != nil {
				return err
			}
		}
	}
	// What a process that was killed named or wrote, but had not synced yet, is
	// seen here and may still be lost.
	if err := syncDir(l.fs, l.dir); err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	if err := l.rewrite(w); err != nil {
		return err
	}
	l.prep.retire(dead)
	if !w.sealed && t.fits(0) {
		l.prep.spare = spare
		if _, err := l.put(flagOpen, nil); err != nil {
			return err
		}
		return l.sync()
	}
	cp, idle, live := l.inventory()
	next, err := l.prep.enough(l.ctx, spare, s.number+1, max(min(2*s.size, l.opts.SegmentBytes), roomFor(cp, 0)))
	if err != nil {
		return fmt.Errorf("raftlog: prepare segment %d: %w", s.number+1, diskFull(err))
	}
	if !w.sealed {
		if err := l.sealTail(); err != nil {
			next.closeFiles()
			return err
		}
	}
	return l.moveTo(next, cp, idle, live)
}

// rewrite writes again what no group vouches for before anything is built on it.
// The process that wrote it saw its sync fail, perhaps; then it can be read, and
// counts as clean, without being on the disk.
func (l *Log) rewrite(w *walker) error {
	t := &l.tail
	if err := t.seg.writable(); err != nil {
		return err
	}
	if again := w.content[t.synced:t.off]; len(again) > 0 {
		if _, err := t.seg.w.WriteAt(again, t.synced); err != nil {
			return fmt.Errorf("raftlog: write %s: %w", t.seg.path, err)
		}
	}
	return l.sync()
}

// missing is the damage of a segment that is not there.
func (l *Log) missing(number uint64) error {
	return damaged(l.fs.PathJoin(l.dir, segmentName(number)), 0, "segment is missing")
}

// park renames a segment that holds nothing out of the way of the next one that
// gets its number. Until it is used or removed, opening the log removes it.
func (s *segment) park() error {
	s.closeFiles()
	path := s.fs.PathJoin(s.fs.PathDir(s.path), fmt.Sprintf("%010d.unused.tmp", s.number))
	if err := s.fs.Rename(s.path, path); err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	s.path = path
	return nil
}
