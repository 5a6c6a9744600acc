package raftlog

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/lni/vfs"

	"github.com/raftmq/mq/internal/mqerr"
)

// Open opens the log in dir, or makes a new one there. Damage is a *DamageError,
// which is mqerr.ErrCorruptLog; a log that a newer version wrote is
// mqerr.ErrNewerFormat. The caller holds the directory's lock.
func Open(dir string, o Options) (*Log, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	l := &Log{
		opts: o, fs: o.FS, dir: dir, index: newIndex(o.MemoryBudget),
		wake: make(chan struct{}, 1), closing: make(chan struct{}), dirtied: make(chan struct{}, 1), crowded: make(chan struct{}, 1),
		failed: make(chan struct{}), released: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.prep = &preparer{
		fs: o.FS, dir: dir, limit: o.SegmentBytes, clock: o.Clock, logger: o.Logger, fail: l.fail,
		want: make(chan int64), give: make(chan *segment), retired: make(chan struct{}, 1),
	}
	files, err := l.list()
	if err == nil {
		err = l.recover(files)
	}
	if err != nil {
		l.cancel()
		for _, s := range files {
			s.closeFiles()
		}
		if l.tail.seg != nil {
			l.tail.seg.closeFiles()
		}
		return nil, err
	}
	l.start()
	return l, nil
}

// start starts the goroutines. Close waits for them.
func (l *Log) start() {
	next, size := l.tail.seg.number+1, min(max(2*l.tail.seg.size, firstSegmentBytes), l.opts.SegmentBytes)
	l.wg.Go(func() { l.prep.run(l.ctx, next, size) }) // ends with ctx
	l.wg.Go(l.write)                                  // ends with closing or failed
	l.wg.Go(l.keep)                                   // ends with ctx
}

// list makes the directory, removes what was not finished, and checks the
// headers of the segments there are.
func (l *Log) list() (map[uint64]*segment, error) {
	if err := l.fs.MkdirAll(l.dir, 0o755); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	if err := syncDir(l.fs, l.fs.PathDir(l.dir)); err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	names, err := l.fs.List(l.dir)
	if err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	files := make(map[uint64]*segment)
	slices.Sort(names)
	for _, name := range names {
		path := l.fs.PathJoin(l.dir, name)
		if strings.HasSuffix(name, ".tmp") {
			l.prep.discard(path)
			continue
		}
		number, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		s, id, err := openSegment(l.fs, path, number)
		if err != nil {
			return files, err
		}
		if len(files) == 0 {
			l.id = id
		}
		files[number] = s
		if id != l.id {
			return files, damaged(path, 0, "segment of another log")
		}
	}
	l.prep.log = l.id
	for _, s := range files {
		l.prep.bytes.Add(s.size)
		l.prep.files.Add(1)
	}
	return files, nil
}

// recover finds the newest segment with a checkpoint, replays it, and makes its
// end the tail.
func (l *Log) recover(files map[uint64]*segment) error {
	numbers := make([]uint64, 0, len(files))
	for n := range files {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var unused []*segment // prepared, or begun and not finished
	for _, n := range slices.Backward(numbers) {
		s := files[n]
		w, frames, err := l.checkpointOf(s)
		if err != nil {
			return err
		}
		if w == nil {
			unused = append(unused, s)
			continue
		}
		if err := l.replay(s, w, frames, files); err != nil {
			return err
		}
		if w.sealed { // the last of the unused ones may not be that
			if err := l.checkUnused(unused); err != nil {
				return err
			}
		}
		for i, u := range slices.Backward(unused) {
			if want := n + uint64(len(unused)-i); u.number != want {
				return l.missing(want)
			}
		}
		return l.resume(s, w, files)
	}
	if err := l.checkUnused(unused); err != nil {
		return err
	}
	return l.create(files)
}

// checkpointOf returns the frames of the checkpoint that segment s begins with,
// and a walker behind it; nil if there is none.
func (l *Log) checkpointOf(s *segment) (*walker, []placed, error) {
	// Most often it is the prepared segment, of which this is enough to see.
	start := make([]byte, segmentHeaderSize+groupHeaderSize)
	if err := s.readAt(start, 0); err != nil {
		return nil, nil, err
	}
	if _, ok, err := groupAt(start, segmentHeaderSize, s.number, l.id); err != nil || !ok {
		return nil, nil, err
	}
	content, err := s.content()
	if err != nil {
		return nil, nil, err
	}
	w := s.walk(content, l.id)
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
func (l *Log) checkUnused(unused []*segment) error {
	for _, s := range unused {
		content, err := s.content()
		if err != nil {
			return err
		}
		w := s.walk(content, l.id)
		if _, _, _, err := w.next(); err != nil {
			return err
		}
		if _, found, err := w.vouched(); err != nil || found {
			return firstOf(err, damaged(s.path, int64(w.off), "%s", w.bad))
		}
	}
	return nil
}

// replay reads segment s into the index. frames are those of its checkpoint.
func (l *Log) replay(s *segment, w *walker, frames []placed, files map[uint64]*segment) error {
	for _, p := range frames {
		o, err := opOf(p)
		if err == nil && o.inherited == nil {
			err = errFrameBody
		}
		if err == nil {
			err = l.index.inherit(o.id, o.inherited, s.number, files)
		}
		if missing, ok := err.(*missingSegment); ok { //nolint:errorlint // made right there, never wrapped
			return l.missing(missing.number)
		}
		if err != nil {
			return damaged(s.path, int64(p.at.off), "%v", err)
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
				return damaged(s.path, int64(p.at.off), "%v", err)
			}
		}
	}
	if w.sealed {
		return nil
	}
	if at, found, err := w.vouched(); err != nil || found {
		return firstOf(err, damaged(s.path, int64(w.off), "%s, but the group at offset %d says that this was synced", w.bad, at))
	}
	return nil
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

// create makes a new log. files are what an earlier try may have left.
func (l *Log) create(files map[uint64]*segment) error {
	if l.opts.MustExist {
		return damaged(l.dir, 0, "there is no log")
	}
	var left []*segment
	for n, s := range files {
		if n > 2 { // nothing gets that far without a checkpoint
			return damaged(s.path, 0, "no segment begins with a checkpoint")
		}
		if err := s.park(); err != nil {
			return err
		}
		left = append(left, s)
	}
	if _, err := rand.Read(l.id[:]); err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	l.prep.log = l.id
	l.prep.retire(left)
	s, err := l.prep.prepare(l.ctx, 1, min(firstSegmentBytes, l.opts.SegmentBytes))
	if err != nil {
		return fmt.Errorf("raftlog: prepare segment 1: %w", diskFull(err))
	}
	l.tail.epoch = 1
	return l.begin(s, newBatch())
}

// diskFull makes a full disk an mqerr.ErrDiskFull.
func diskFull(err error) error {
	if isDiskFull(err) {
		return fmt.Errorf("%w: %w", mqerr.ErrDiskFull, err)
	}
	return err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
