package fetch

import (
	"cmp"
	"slices"
)

// Lease is a run of records that were handed out and not finished yet. It stops
// to count when it is finished or given back, when one before it is given back,
// and when the partition is sought or removed.
type Lease struct {
	P           *Partition
	First, Next int64 // offset of the first one, and behind the last one

	id uint64
}

// lent is what a partition keeps of a lease.
type lent struct {
	id          uint64 // grows with the offset
	first, next int64
	epoch       int32
	apart       bool // FinishAt of later ones does not finish it
	begun, done bool
}

// Deliver says that the reader is about to hand out records of a chunk, from
// first to before next. It returns false when it must not, for the partition
// was sought, paused or removed, or the Set is mute.
//
// With ahead 0 the records are taken up in order. Otherwise each lease is one
// record, which is finished on its own and must not be taken up without Begin;
// there may be that many of a partition. Then Deliver returns false as well: the
// chunk comes again when half of them are left.
func (s *Set) Deliver(c *Chunk, first, next int64, ahead int) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := c.P
	if p.buffers != c.buffers {
		return Lease{}, false
	}
	switch {
	case s.mu.mute:
		s.putBackLocked(c)
		s.readyLocked(p)
		return Lease{}, false
	case ahead > 0 && len(p.out) >= ahead:
		p.full, p.ahead = true, ahead
		s.putBackLocked(c)
		return Lease{}, false
	}
	if first > p.position {
		s.passLocked(p, first)
	}
	p.position = next
	p.leases++
	apart := ahead > 0
	p.out = append(p.out, lent{id: p.leases, first: first, next: next, epoch: c.Epoch, apart: apart, begun: !apart})
	return Lease{P: p, First: first, Next: next, id: p.leases}, true
}

// putBackLocked makes a chunk in the reader's hands the first of its queue.
func (s *Set) putBackLocked(c *Chunk) {
	b := batch{data: c.Data, next: c.Next, epoch: c.Epoch}
	c.P.queue = slices.Insert(c.P.queue, 0, b)
	c.P.queued += b.cost()
	s.mu.taken = 0
}

// passLocked moves over a stretch without records, or back to where the log was
// cut off: what was handed out from there on does not count any more.
func (s *Set) passLocked(p *Partition, next int64) {
	n := len(p.out)
	for n > 0 && p.out[n-1].first >= next {
		n--
	}
	p.position = next
	s.takeBackLocked(p, n)
}

// Standing is what may be done about a lease.
type Standing uint8

// The standings.
const (
	Void Standing = iota // nothing: it does not count any more
	Held                 // wait for News: the partition is paused, or the Set mute
	Good                 // the record may be handled
)

// Begin says that a record that was delivered apart is about to be handled.
func (s *Set) Begin(l Lease) Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := l.P.find(l)
	switch {
	case !ok, l.P.ctx.Err() != nil: // or it goes to others although it is not drained
		return Void
	case s.mu.mute, l.P.paused && l.P.drained == nil:
		return Held
	}
	l.P.out[i].begun = true
	return Good
}

// find returns the place of a lease that counts and is not finished.
func (p *Partition) find(l Lease) (int, bool) {
	i, ok := slices.BinarySearchFunc(p.out, l.id, func(e lent, id uint64) int { return cmp.Compare(e.id, id) })
	return i, ok && !p.out[i].done
}

// Finish marks the records of a lease as finished. They are committed when all
// before them are finished, too.
func (s *Set) Finish(l Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := l.P.find(l); ok {
		l.P.out[i].done = true
		s.settleLocked(l.P)
	}
}

// FinishAt marks the records of a partition below next as finished; of those
// that were delivered apart, only the last one. It reports false when they were
// not handed out since the last Seek.
func (s *Set) FinishAt(key Key, next int64, epoch int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.parts[key]
	if p == nil || p.position == unknown || next > p.position {
		return false
	}
	for i := range p.out {
		if e := &p.out[i]; e.first < next && (e.next >= next || !e.apart) {
			e.done = e.apart || e.next <= next
		}
	}
	s.settleLocked(p)
	if next > p.finished && !p.out[0].apart { // a part of a lease
		p.out[0].first, p.finished, p.finishedEpoch = next, next, epoch
	}
	return true
}

// Return takes the records of a lease back, and with them all behind it, to be
// handed out again, unless the lease does not count any more.
func (s *Set) Return(l Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := l.P
	i, ok := p.find(l)
	if !ok {
		return
	}
	p.position = p.out[i].first
	s.takeBackLocked(p, i)
	s.dropLocked(p)
	if p.state == failed { // what failed comes behind
		p.state, p.failure = reading, nil
	}
	s.kickLocked(p)
}

// takeBackLocked forgets the leases from the nth on.
func (s *Set) takeBackLocked(p *Partition, n int) {
	p.out = p.out[:n]
	s.settleLocked(p)
}

// settleLocked moves finished over what is done, and does what that allows.
func (s *Set) settleLocked(p *Partition) {
	n := 0
	for n < len(p.out) && p.out[n].done {
		p.finishedEpoch = p.out[n].epoch
		n++
	}
	if p.out = p.out[n:]; len(p.out) > 0 {
		p.finished = p.out[0].first // between two leases there is no record
	} else {
		p.finished, p.out = p.position, p.few[:0]
		p.settled()
	}
	if p.full && len(p.out) <= p.ahead/2 {
		p.full = false
		s.readyLocked(p)
	}
}

// settled tells who waits for a drained partition.
func (p *Partition) settled() {
	if p.drained == nil {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// Drain hands out no more records of a partition, and takes back those that
// nobody has begun with, except where somebody has with a later one: so what is
// handled can be committed. The channel is closed when everything that was
// handed out is finished or given back. Drained is for good: what can follow is
// the removal of the partition.
func (s *Set) Drain(key Key) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.parts[key]
	if p == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	if p.drained == nil {
		p.drained = make(chan struct{})
		n := len(p.out)
		for n > 0 && !p.out[n-1].begun {
			n--
			p.position = p.out[n].first
		}
		s.dropLocked(p)
		s.takeBackLocked(p, n)
		notify(s.news) // what Begin held may go on
	}
	return p.drained
}
