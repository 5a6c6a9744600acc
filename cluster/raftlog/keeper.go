package raftlog

// touch tells the flusher that the index has facts to write.
func (l *Log) touch() {
	select {
	case l.dirtied <- struct{}{}:
	default: // the token is there
	}
}

// flush is the flusher. It has facts written that no commit took along.
func (l *Log) flush() {
	for {
		select {
		case <-l.dirtied:
			if l.opts.FlushInterval < 0 {
				continue
			}
			if l.opts.Clock.Sleep(l.ctx, l.opts.FlushInterval) != nil {
				return
			}
			l.poke()
		case <-l.ctx.Done():
			return
		}
	}
}

// excess is how many bytes too many the log takes. It counts from well below
// MaxBytes, because copying has an effect only with the next checkpoint, or the
// one after that if it takes long: until then there are up to three more segments.
func (l *Log) excess() int64 {
	return l.prep.bytes.Load() - min(l.opts.MaxBytes/4*3, l.opts.MaxBytes-3*l.opts.SegmentBytes)
}

// tidy has the keeper copy when the log takes too much. The writer calls it
// with each new segment. When the keeper is still at it since the one before,
// callers of the log wait for it.
func (l *Log) tidy() {
	if l.excess() <= 0 {
		return
	}
	done := make(chan struct{})
	if l.copying.CompareAndSwap(nil, &done) {
		l.crowded <- struct{}{} // it has room: the last one was taken before copying was nil
	} else {
		l.overdue.Store(l.copying.Load())
	}
}

// pace waits while the keeper is overdue.
func (l *Log) pace() {
	if done := l.overdue.Load(); done != nil {
		select {
		case <-*done:
		case <-l.ctx.Done():
		}
	}
}

// keep is the keeper. It makes segments dead in which few entries are still
// wanted.
func (l *Log) keep() {
	for {
		select {
		case <-l.crowded:
			if err := l.compact(); err != nil {
				l.fail(err)
				return
			}
			close(*l.copying.Swap(nil))
		case <-l.ctx.Done():
			return
		}
	}
}

// compact copies the entries of mostly dead segments to the end of the log, until
// it has no excess without the files that then can go. They go with the next
// checkpoint. It does not touch what it makes itself: where the checkpoints take
// half of each segment, that would never end.
func (l *Log) compact() error {
	newest := l.index.newest()
	for {
		s := l.index.victim(l.excess(), newest)
		if s == nil {
			return nil
		}
		for {
			b, err := l.copyOf(s)
			if err != nil {
				return err
			}
			if b == nil {
				break
			}
			if b.size == 0 {
				continue // now it is known where the entries are
			}
			l.counters.carried.Add(int64(len(b.ops)))
			if err := l.submit(b); err != nil {
				return nil //nolint:nilerr // the log has failed already
			}
		}
	}
}

// newest is the number of the segment that was sealed last, 0 for none.
func (x *index) newest() (number uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.sealed {
		number = max(number, s.number)
	}
	return number
}

// victim is the segment up to number newest with the least live bytes, if these
// are at most half of it and the dead segments do not yet have excess bytes.
func (x *index) victim(excess int64, newest uint64) *segment {
	x.mu.Lock()
	defer x.mu.Unlock()
	var best *segment
	for _, s := range x.sealed {
		switch {
		case s.runs == 0:
			excess -= s.size
		case s.number <= newest && s.live <= s.size/2 && (best == nil || s.live < best.live):
			best = s
		}
	}
	if excess <= 0 {
		return nil
	}
	return best
}

// copyOf copies some of the entries of s that are still wanted, nil if there are
// none.
func (l *Log) copyOf(s *segment) (*batch, error) {
	wanted := l.index.wanted(s, min(readBytes, l.opts.SegmentBytes/8))
	if wanted == nil {
		return nil, nil
	}
	defer s.use.RUnlock()
	if wanted[0].at.size == 0 {
		if err := l.locateAll(s); err != nil {
			return nil, err
		}
		return newBatch(), nil
	}
	b := newBatch()
	for _, w := range wanted {
		frame := make([]byte, w.at.size)
		if err := s.readAt(frame, int64(w.at.off)); err != nil {
			return nil, err
		}
		e, err := entryAt(frame, w.id, w.index)
		if err != nil {
			return nil, damaged(s.path, int64(w.at.off), "%v", err)
		}
		b.addCarried(w.id, s.number, &e)
	}
	return b, nil
}

// wanted is an entry that is still wanted, and where its frame is.
type wanted struct {
	id    nodeID
	index uint64
	at    loc
}

// wanted returns some of the entries in s, about limit bytes, in the order of each
// replica's log, and holds the use of s for reading if there are any. A single one without a
// size says that it is not known where they are.
func (x *index) wanted(s *segment, limit int64) []wanted {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []wanted
	bytes := int64(0)
	for id, r := range x.replicas {
		for _, t := range r.runs {
			if t.seg != s {
				continue
			}
			if out == nil {
				s.use.RLock() // a segment with runs is not taken away, so this does not wait
			}
			if t.locs == nil {
				return []wanted{{id: id, index: t.first}}
			}
			for i, at := range t.locs {
				out = append(out, wanted{id, t.first + uint64(i), at})
				if bytes += int64(at.size); bytes >= limit {
					return out
				}
			}
		}
	}
	return out
}
