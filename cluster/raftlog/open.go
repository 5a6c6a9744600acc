package raftlog

import (
	"context"
	"crypto/rand"
	"fmt"
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
	l.spare.New = func() any { return newBatch() }
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.prep = &preparer{
		fs: o.FS, dir: dir, limit: o.SegmentBytes, room: o.MaxBytes / 2, clock: o.Clock, logger: o.Logger, fail: l.fail,
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
	l.wg.Go(l.flush)                                  // ends with ctx
	l.wg.Go(l.keep)                                   // ends with ctx
}

// list makes the directory, removes what was not finished, and names the
// segments there are.
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
	for _, name := range names {
		path := l.fs.PathJoin(l.dir, name)
		if strings.HasSuffix(name, ".tmp") {
			l.prep.discard(path)
		} else if number, ok := parseSegmentName(name); ok {
			files[number] = &segment{fs: l.fs, path: path, number: number}
		}
	}
	return files, nil
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
