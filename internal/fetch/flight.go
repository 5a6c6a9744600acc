package fetch

import (
	"cmp"
	"errors"
	"slices"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// Flight is a fetch request on its way.
type Flight struct {
	Request *api.FetchRequest

	broker int32
	number uint64
	parts  map[Key]*Partition
}

// StartFetch makes the next request for a broker, or returns nil when there is
// nothing to ask; then Wake tells when to call again. cancel must end the
// request early; the Set calls it when a better one can be made. The caller
// must call EndFetch.
func (s *Set) StartFetch(broker int32, cancel func()) *Flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.hungryLocked(broker)
	if len(parts) == 0 {
		return nil
	}
	src := s.sourceLocked(broker)
	if !s.roomLocked() {
		src.starving = true
		return nil
	}
	s.mu.reserved += s.cfg.MaxBytes
	src.cancel = cancel

	s.mu.flights++
	f := &Flight{broker: broker, number: s.mu.flights, parts: make(map[Key]*Partition, len(parts)), Request: &api.FetchRequest{
		MaxWait: s.cfg.MaxWait, MinBytes: s.cfg.MinBytes, MaxBytes: s.cfg.MaxBytes, Isolation: s.cfg.Isolation,
		Partitions: make([]api.FetchPartition, 0, len(parts)),
	}}
	for _, p := range parts {
		p.flight = f.number
		f.parts[p.key] = p
		f.Request.Follower = f.Request.Follower || p.near != 0
		f.Request.Partitions = append(f.Request.Partitions, api.FetchPartition{
			TopicPartition: p.tp(), Offset: p.fetchAt, LeaderEpoch: p.leaderEpoch, MaxBytes: s.cfg.MaxBytes,
		})
	}
	return f
}

// hungryLocked lists the partitions that may be fetched from a broker. The first ones
// fill the answer, so those with the least queued come first, and among equals
// it is another one's turn each time.
func (s *Set) hungryLocked(broker int32) []*Partition {
	var parts []*Partition
	for i := range s.mu.order {
		p := s.mu.order[(s.mu.turn+i)%len(s.mu.order)]
		if p.source() == broker && p.wantsFetch(s.cfg.MaxBytes) {
			parts = append(parts, p)
		}
	}
	s.mu.turn++
	slices.SortStableFunc(parts, func(a, b *Partition) int { return cmp.Compare(a.queued, b.queued) })
	return parts
}

// EndFetch takes the answer to a request: nil and no error when it was
// cancelled, an error when it failed as a whole. What was sought, paused or
// removed meanwhile is ignored. Returned are the partitions that now wait for
// fresh metadata, or left a follower, and why.
func (s *Set) EndFetch(f *Flight, resp *api.FetchResponse, err error) (troubles []Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.reserved -= s.cfg.MaxBytes
	s.sourceLocked(f.broker).cancel = nil
	if err != nil {
		resp = failAll(f.Request, err)
	}
	for key, p := range f.parts {
		if p.flight == f.number {
			p.flight = 0
		} else {
			delete(f.parts, key)
		}
	}
	if resp != nil {
		for i := range resp.Partitions {
			r := &resp.Partitions[i]
			if p := f.parts[Key{r.Topic, r.Partition}]; p != nil {
				troubles = append(troubles, s.takeLocked(p, r)...)
			}
		}
	}
	s.feedLocked()
	return troubles
}

// failAll makes the failure of a request that of each partition.
func failAll(req *api.FetchRequest, err error) *api.FetchResponse {
	resp := &api.FetchResponse{}
	for _, p := range req.Partitions {
		resp.Partitions = append(resp.Partitions, api.FetchResult{TopicPartition: p.TopicPartition, Err: err})
	}
	return resp
}

func (s *Set) takeLocked(p *Partition, r *api.FetchResult) []Trouble {
	if r.Err != nil && p.near != 0 {
		return s.leaveFollowerLocked(p, r.Err)
	}
	if errors.Is(r.Err, mqerr.ErrOffsetOutOfRange) {
		s.resetLocked(p, r.Err)
		s.kickLocked(p)
		return nil
	}
	if r.Err != nil {
		return s.failedLocked(p, r.Err)
	}
	p.leaderEpoch = max(p.leaderEpoch, r.LeaderEpoch)
	before := p.fetchAt
	err := s.splitLocked(p, r)
	if p.fetchAt > before {
		p.corrupt = 0
	}
	if err == nil {
		return nil
	}
	if p.near != 0 {
		return s.leaveFollowerLocked(p, err)
	}
	if p.corrupt++; p.corrupt < maxCorrupt {
		return s.orphanLocked(p, err)
	}
	p.fail(p.fetchAt, unknown, err)
	s.readyLocked(p)
	return nil
}

// leaveFollowerLocked goes on at the leader. Whatever the follower says: it may
// only be behind, and what is wrong for good the leader says as well.
func (s *Set) leaveFollowerLocked(p *Partition, err error) []Trouble {
	p.near = 0
	s.kickLocked(p)
	return []Trouble{{Key: p.key, LeaderEpoch: p.leaderEpoch, Follower: true, Err: err}}
}

// maxCorrupt is how many answers in a row may hold the same broken batch: one
// may have been broken on its way, three were stored like that.
const maxCorrupt = 3
