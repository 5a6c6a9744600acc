package fetch

import (
	"context"

	"github.com/raftmq/mq/internal/api"
)

// Assign adds a partition that a group's coordinator gave to the consumer. It is
// to begin at from; late says that it came into being while the consumer ran.
// Nothing of it is handed out before Release. Only for a Set with
// Config.Assigned.
func (s *Set) Assign(tp api.TopicPartition, from Start, late bool) *Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := newPartition(tp)
	p.late, p.held = late, true
	s.mu.parts[p.key] = p
	s.mu.order = append(s.mu.order, p)
	s.beginAtLocked(p, from)
	s.announceLocked()
	return p
}

// Release lets records of an assigned partition be handed out.
func (s *Set) Release(p *Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.held = false
	if s.mu.parts[p.key] == p {
		s.readyLocked(p)
	}
}

// Remove forgets a partition, if it is still there: what is under way for it is
// ignored, what was handed out of it does not count any more, and its context
// ends for this cause.
func (s *Set) Remove(p *Partition, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.end(cause)
	if s.mu.parts[p.key] != p {
		return
	}
	s.removeLocked(p)
	s.announceLocked()
}

// Stir makes those look again who wait for News or Changed.
func (s *Set) Stir() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announceLocked()
	notify(s.news)
}

// Context ends when the partition is taken away from the consumer.
func (p *Partition) Context() context.Context { return p.ctx }

// End ends the context of a partition that stays where it is.
func (p *Partition) End(cause error) { p.end(cause) }
