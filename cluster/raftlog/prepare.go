package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lni/vfs"

	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/clock"
)

// diskFullRetry is the wait between two tries to prepare a segment on a full
// disk.
const diskFullRetry = 500 * time.Millisecond

// prepareTries is how often in a row preparing a segment may fail for other
// reasons, which with the waits of prepareRetry takes about a minute.
const prepareTries = 20

var prepareRetry = backoff.Policy{Base: 10 * time.Millisecond, Max: 5 * time.Second}

// firstSegmentBytes is the size of the first segment. Each further one is twice
// as large, up to Options.SegmentBytes, so that a broker with little to do
// does not take much of the disk.
const firstSegmentBytes = 1 << 20

// zeroChunk is how much of a new file is written at a time.
const zeroChunk = 1 << 20

// preparer has the next segment ready before the writer needs it, made of a
// segment that was retired or of new blocks, and removes retired segments. One
// goroutine runs it.
type preparer struct {
	fs     vfs.FS
	dir    string
	log    logID
	limit  int64 // Options.SegmentBytes
	room   int64 // up to so many bytes of files retired segments stay to be used again
	clock  clock.Clock
	logger *slog.Logger
	fail   func(error) // the log is broken

	want    chan int64    // the writer asks for a segment of at least so many bytes
	give    chan *segment // and gets it
	retired chan struct{} // holds one token when the writer went on to another segment

	spare *segment // the prepared segment, nil while there is none

	mu struct {
		sync.Mutex
		dead []*segment // nothing in them counts any more
	}

	bytes atomic.Int64 // size of all files of the log
	files atomic.Int64 // number of files of the log
	full  atomic.Bool  // the disk is too full for the next segment
}

// run prepares segment number next and those after it until ctx ends.
func (p *preparer) run(ctx context.Context, next uint64, size int64) {
	for {
		if !p.insist(ctx, next, size) {
			return
		}
		p.sweep(size)
		select {
		case <-ctx.Done():
			return
		case <-p.retired:
		case n := <-p.want:
			if !p.insist(ctx, next, n) {
				return
			}
			select {
			case p.give <- p.spare:
			case <-ctx.Done():
				return
			}
			size = min(max(size, 2*p.spare.size), p.limit)
			p.spare, next = nil, next+1
			select {
			case <-p.retired: // what the writer went on from may be used again
			case <-ctx.Done():
				return
			}
		}
	}
}

// next takes the prepared segment, which holds at least n bytes. It returns nil
// when ctx ends or closing is closed first.
func (p *preparer) next(ctx context.Context, closing <-chan struct{}, n int64) *segment {
	select {
	case p.want <- n:
	case <-ctx.Done():
		return nil
	case <-closing:
		return nil
	}
	select {
	case s := <-p.give:
		return s
	case <-ctx.Done():
		return nil
	case <-closing:
		return nil
	}
}

// retire hands over segments in which nothing counts any more, perhaps none.
func (p *preparer) retire(segments []*segment) {
	p.mu.Lock()
	p.mu.dead = append(p.mu.dead, segments...)
	p.mu.Unlock()
	select {
	case p.retired <- struct{}{}:
	default: // the token is there
	}
}

// insist makes spare a segment of at least size bytes, however long the disk
// stays full. Other failures it bears for a while: nothing was promised for a
// segment that is not in use, and what the process is short of, such as file
// descriptors, may come back. It returns false when ctx ends or the log is
// broken.
func (p *preparer) insist(ctx context.Context, number uint64, size int64) bool {
	for failures := 0; ; {
		s, err := p.enough(ctx, p.spare, number, size)
		p.spare = s
		if err == nil {
			p.full.Store(false)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		wait := diskFullRetry
		if isDiskFull(err) {
			failures = 0
			if !p.full.Swap(true) {
				p.logger.Warn("raft log: disk full, no room for the next segment", "segment", number, "bytes", size, "err", err)
			}
			p.sweep(0) // better than to keep it for later
		} else {
			p.full.Store(false)
			if failures++; failures == prepareTries {
				p.fail(fmt.Errorf("raftlog: prepare segment %d: %w", number, err))
				return false
			}
			p.logger.Warn("raft log: the next segment can't be prepared yet", "segment", number, "bytes", size, "err", err)
			wait = prepareRetry.Delay(failures)
		}
		if p.clock.Sleep(ctx, wait) != nil {
			return false
		}
	}
}

// enough returns s, open for writing, or if that is nil or too small a segment
// in its place. When that fails, s is gone.
func (p *preparer) enough(ctx context.Context, s *segment, number uint64, size int64) (*segment, error) {
	if s != nil && s.size < size {
		s.closeFiles()
		p.forget(s)
		s = nil
	}
	if s == nil {
		return p.prepare(ctx, number, size)
	}
	if s.w == nil {
		if err := s.writable(); err != nil {
			s.closeFiles()
			p.forget(s)
			return nil, err
		}
	}
	s.located = true
	return s, nil
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// prepare makes a segment: first under a name that recovery throws away, with
// size and header on stable storage before it gets its own.
func (p *preparer) prepare(ctx context.Context, number uint64, size int64) (*segment, error) {
	size = max(size, minSegmentBytes)
	if size > maxSegmentBytes {
		return nil, fmt.Errorf("raftlog: a segment of %d bytes is too large", size)
	}
	s := &segment{fs: p.fs, number: number, log: p.log, size: size, located: true}
	s.path = p.fs.PathJoin(p.dir, segmentName(number))
	tmp := p.fs.PathJoin(p.dir, fmt.Sprintf("%010d.tmp", number))
	f, err := p.blank(ctx, tmp, size)
	if err != nil {
		return nil, err
	}
	header, chain := putSegmentHeader(p.log, number, size)
	s.chain = chain
	_, err = f.WriteAt(header, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		s.w, err = p.fs.ReuseForWrite(tmp, s.path)
	}
	if err == nil {
		err = syncDir(p.fs, p.dir)
	}
	if err != nil {
		s.closeFiles()
		p.discard(tmp)
		p.forget(s)
		return nil, err
	}
	return s, nil
}

// blank gives a file of size bytes under the name tmp, open for writing: a
// retired one or a new one full of zeros.
func (p *preparer) blank(ctx context.Context, tmp string, size int64) (vfs.File, error) {
	if old := p.recycle(size); old != nil {
		f, err := p.fs.ReuseForWrite(old.path, tmp)
		if err != nil {
			p.forget(old)
			return nil, err
		}
		// Under its old name the file must not be seen with what comes now.
		if err := syncDir(p.fs, p.dir); err != nil {
			_ = f.Close()
			p.discard(tmp)
			p.forget(old)
			return nil, err
		}
		return f, nil
	}
	f, err := p.fs.Create(tmp)
	if err != nil {
		return nil, err
	}
	p.bytes.Add(size)
	p.files.Add(1)
	if err = reserve(f, size); err == nil {
		err = zero(ctx, f, size)
	}
	if err != nil {
		_ = f.Close()
		p.discard(tmp)
		p.forget(&segment{size: size})
		return nil, err
	}
	return f, nil
}

// zero writes size zeros. It syncs as it goes, because one sync of everything
// at the end would hold up those of the writer.
func zero(ctx context.Context, f vfs.File, size int64) error {
	b := make([]byte, min(zeroChunk, size))
	for off := int64(0); off < size; off += int64(len(b)) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b = b[:min(int64(len(b)), size-off)]
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		if err := datasync(f); err != nil {
			return err
		}
	}
	return nil
}

// recycle takes a retired segment of just this size away from its readers.
func (p *preparer) recycle(size int64) *segment {
	p.mu.Lock()
	i := slices.IndexFunc(p.mu.dead, func(s *segment) bool { return s.size == size })
	if i < 0 {
		p.mu.Unlock()
		return nil
	}
	s := p.mu.dead[i]
	p.mu.dead = slices.Delete(p.mu.dead, i, i+1)
	p.mu.Unlock()
	s.evict()
	return s
}

// sweep removes retired segments that won't be used again: those of another size
// than keep, and all but one while the files take more than there is room for.
// Several retire at once where replicas with as much to do are cut together.
func (p *preparer) sweep(keep int64) {
	p.mu.Lock()
	var gone []*segment
	bytes := p.bytes.Load()
	kept := p.mu.dead[:0]
	for _, s := range p.mu.dead {
		if s.size != keep || len(kept) > 0 && bytes > p.room {
			gone = append(gone, s)
			bytes -= s.size
		} else {
			kept = append(kept, s)
		}
	}
	clear(p.mu.dead[len(kept):])
	p.mu.dead = kept
	p.mu.Unlock()
	for _, s := range gone {
		s.evict()
		p.discard(s.path)
		p.forget(s)
	}
}

// discard removes a file. What can't be removed is tried again when the log is
// opened.
func (p *preparer) discard(path string) {
	if err := p.fs.Remove(path); err != nil {
		p.logger.Debug("raft log: file not removed", "file", path, "err", err)
	}
}

// count takes a file into the books.
func (p *preparer) count(s *segment) {
	p.bytes.Add(s.size)
	p.files.Add(1)
}

// forget takes a file out of the books.
func (p *preparer) forget(s *segment) {
	p.bytes.Add(-s.size)
	p.files.Add(-1)
}

// evict waits until nobody reads the segment and closes its files.
func (s *segment) evict() {
	s.use.Lock()
	defer s.use.Unlock()
	s.closeFiles()
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
