package fetch

import (
	"cmp"
	"slices"
	"strings"

	"github.com/raftmq/mq/internal/api"
)

// Compare orders keys by topic, then partition.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Topic, o.Topic), cmp.Compare(k.Partition, o.Partition))
}

// Failure is why a partition stopped. It goes on after a Seek.
type Failure struct {
	Key
	Offset int64 // that can't be read; -1 when none is known
	Next   int64 // offset behind what can't be read; -1 when not known
	Err    error
}

// Chunk is a batch in the reader's hands.
type Chunk struct {
	P     *Partition
	Data  []byte // one RecordBatch, CRC checked
	From  int64  // records below are not wanted
	Next  int64  // offset behind the batch
	Epoch int32

	buffers uint64
}

// News returns the channel that has a value when Take may have something.
func (s *Set) News() <-chan struct{} { return s.news }

// Take gives the reader the next batch, partition after partition, and takes
// the one before as used up. ok is false when there is nothing. A failure
// comes again and again, between what other partitions have, until a Seek or a
// Pause.
func (s *Set) Take() (c Chunk, failure *Failure, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.taken > 0 {
		s.mu.used -= s.mu.taken
		s.mu.taken = 0
		s.feedLocked()
	}
	for len(s.mu.ready) > 0 && !s.mu.mute {
		p := s.mu.ready[0]
		s.mu.ready = s.mu.ready[1:]
		p.ready = false
		if p.paused || p.held || p.full || p.drained != nil {
			continue
		}
		if len(p.queue) == 0 {
			if p.state != failed {
				continue
			}
			s.readyLocked(p)
			return Chunk{}, p.failure, false
		}
		b := p.queue[0]
		p.queue[0] = batch{} // the reader has it now
		p.queue = p.queue[1:]
		p.queued -= b.cost()
		s.readyLocked(p)
		s.kickLocked(p)
		if b.data == nil {
			s.mu.used -= b.cost()
			s.passLocked(p, b.next)
			continue
		}
		s.mu.taken = b.cost()
		return Chunk{P: p, Data: b.data, From: p.position, Next: b.next, Epoch: b.epoch, buffers: p.buffers}, nil, true
	}
	return Chunk{}, nil, false
}

// readyLocked puts a partition at the end of the reader's line if it has
// something for the reader.
func (s *Set) readyLocked(p *Partition) {
	if p.ready || len(p.queue) == 0 && p.state != failed {
		return
	}
	p.ready = true
	s.mu.ready = append(s.mu.ready, p)
	notify(s.news)
}

func (s *Set) enqueueLocked(p *Partition, b batch) {
	p.queue = append(p.queue, b)
	p.queued += b.cost()
	s.mu.used += b.cost()
	s.readyLocked(p)
}

// Pass says that the rest of a chunk holds nothing for the reader.
func (s *Set) Pass(c *Chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.P.buffers == c.buffers && c.P.position < c.Next {
		s.passLocked(c.P, c.Next)
	}
}

// Fail says that a chunk can't be read from offset on.
func (s *Set) Fail(c *Chunk, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := c.P
	if p.buffers != c.buffers {
		return
	}
	s.dropLocked(p)
	p.fail(p.position, c.Next, err)
	s.readyLocked(p)
}

// Commit is an offset to be stored for the group.
type Commit struct {
	api.OffsetCommit
	p     *Partition
	seeks uint64
}

// Of is the partition of the offset.
func (c Commit) Of() *Partition { return c.p }

// Commits lists what is finished and not stored yet.
func (s *Set) Commits() (cs []Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.mu.order {
		if p.finished != unknown && p.finished != p.committed {
			cs = append(cs, Commit{api.OffsetCommit{
				TopicPartition: p.tp(), Offset: p.finished, LeaderEpoch: p.finishedEpoch,
			}, p, p.seeks})
		}
	}
	return cs
}

// Committed says that a commit is stored.
func (s *Set) Committed(c Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.p.committed = c.Offset
}

// Progress is how far a partition is.
type Progress struct {
	api.TopicPartition
	Finished int64 // next offset to commit, -1 when not known yet
}

// Progress lists the partitions, by topic and number, and how far each is.
func (s *Set) Progress() (ps []Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.mu.order {
		ps = append(ps, Progress{p.tp(), p.finished})
	}
	slices.SortFunc(ps, func(a, b Progress) int {
		return Key{a.Topic, a.Partition}.Compare(Key{b.Topic, b.Partition})
	})
	return ps
}
