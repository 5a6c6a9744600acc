package fetch

import (
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// Config says how a Set reads. Every field must be set.
type Config struct {
	MaxBytes    int // bound of one answer and, twice, of one partition's queue
	MinBytes    int
	MaxWait     time.Duration
	MaxBuffered int // bound of all queues and answers under way, at least MaxBytes
	Isolation   int8
	Group       bool // offsets are stored under a group
	Assigned    bool // partitions come by Assign, not by Sync
	Start       Start
	Reset       Reset
}

// Set is the partitions that one consumer reads. Safe for concurrent use,
// except that one goroutine at a time may be the reader.
type Set struct {
	cfg  Config
	news chan struct{} // capacity 1: there is something for the reader

	mu struct {
		sync.Mutex
		parts   map[Key]*Partition
		order   []*Partition // as they came
		turn    int          // where in order the next request begins
		synced  bool
		topics  map[string]bool // seen so far
		sources map[int32]*source

		mute     bool         // nothing is handed out
		ready    []*Partition // have something for the reader, next first
		used     int          // bytes in queues and in the reader's hands
		taken    int          // of these in the reader's hands
		reserved int          // bytes that answers under way may bring
		flights  uint64       // requests made

		changed chan struct{} // closed at the next change of who is there and located; nil: nobody waits
	}
}

// source is what the Set keeps of one broker.
type source struct {
	wake     chan struct{} // capacity 1: look again
	cancel   func()        // ends the request under way; nil without one
	starving bool          // would fetch, but the budget is used up
}

// Located is a partition and who leads it.
type Located struct {
	api.TopicPartition
	Leader      int32 // NoLeader when there is none
	Near        int32 // a follower to fetch from instead; 0 for none
	LeaderEpoch int32
	Err         error // why the partition can't be read at all
}

// NewSet returns a Set without partitions.
func NewSet(cfg Config) *Set {
	s := &Set{cfg: cfg, news: make(chan struct{}, 1)}
	s.mu.parts = make(map[Key]*Partition)
	s.mu.topics = make(map[string]bool)
	s.mu.sources = make(map[int32]*source)
	return s
}

// Sync takes the newest metadata. Partitions that it does not name lose their
// leader but stay: a broker that lags behind must not make anybody forget
// positions. A topic with another id than before is another topic, and its
// partitions begin anew; those of Assign stay as they are. Returns
// the brokers that are to be asked for partitions, sorted.
func (s *Set) Sync(located []Located) []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	named := make(map[Key]bool, len(located))
	for _, l := range located {
		key := Key{l.Topic, l.Partition}
		named[key] = true
		p := s.mu.parts[key]
		if s.cfg.Assigned && (p == nil || p.id != l.TopicID) {
			delete(named, key)
			continue
		}
		if p != nil && p.id != l.TopicID {
			s.removeLocked(p)
			p.end(mqerr.ErrUnknownTopicID)
			p = nil
		}
		if p == nil {
			p = newPartition(l.TopicPartition)
			s.mu.parts[key] = p
			s.mu.order = append(s.mu.order, p)
			s.beginLocked(p)
		}
		s.locateLocked(p, l)
	}
	var brokers []int32
	for _, p := range s.mu.order {
		if !named[p.key] {
			p.leader, p.near = NoLeader, 0
		}
		s.mu.topics[p.key.Topic] = true
		for _, b := range []int32{p.leader, p.source()} {
			if b != NoLeader && !slices.Contains(brokers, b) {
				brokers = append(brokers, b)
			}
		}
	}
	for broker, src := range s.mu.sources {
		if src.cancel != nil && !slices.Contains(brokers, broker) {
			src.cancel() // it may never answer
		}
	}
	s.mu.synced = true
	s.announceLocked()
	slices.Sort(brokers)
	return brokers
}

func (s *Set) locateLocked(p *Partition, l Located) {
	before := p.source()
	p.leader, p.near, p.leaderEpoch = l.Leader, l.Near, max(p.leaderEpoch, l.LeaderEpoch)
	if p.source() != before {
		p.flight = 0 // somebody else is to be asked now
	}
	switch {
	case l.Err != nil && p.state != failed:
		p.fail(p.position, unknown, l.Err)
		s.readyLocked(p)
	case l.Err == nil && p.state == failed && p.position == unknown:
		s.beginAgainLocked(p) // it did not exist, now it does
	}
	s.kickLocked(p)
}

// removeLocked forgets a partition.
func (s *Set) removeLocked(p *Partition) {
	s.dropLocked(p)
	s.takeBackLocked(p, 0)
	p.leader, p.near, p.seeks = NoLeader, 0, p.seeks+1
	delete(s.mu.parts, p.key)
	s.mu.order = slices.DeleteFunc(s.mu.order, func(q *Partition) bool { return q == p })
	s.mu.ready = slices.DeleteFunc(s.mu.ready, func(q *Partition) bool { return q == p })
}

// Changed returns a channel that is closed at the next Sync, and when a
// partition's offset is found.
func (s *Set) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.changed == nil {
		s.mu.changed = make(chan struct{})
	}
	return s.mu.changed
}

func (s *Set) announceLocked() {
	if s.mu.changed != nil {
		close(s.mu.changed)
		s.mu.changed = nil
	}
}

// Seek makes offset the next one that is handed out and committed, and drops
// what was fetched. Finished marks of records handed out before are ignored.
// It reports whether the partition is there, of the same topic id.
func (s *Set) Seek(tp api.TopicPartition, offset int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.parts[Key{tp.Topic, tp.Partition}]
	if p == nil || p.id != tp.TopicID {
		return false
	}
	s.dropLocked(p)
	s.takeBackLocked(p, 0)
	p.seeks++
	p.start(offset)
	s.announceLocked()
	s.kickLocked(p)
	return true
}

// Pause stops fetching and handing out records of partitions and drops what
// was fetched of them. Unknown ones are ignored.
func (s *Set) Pause(keys []Key) { s.setPaused(keys, true) }

// Resume undoes Pause.
func (s *Set) Resume(keys []Key) { s.setPaused(keys, false) }

func (s *Set) setPaused(keys []Key, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		p := s.mu.parts[key]
		if p == nil || p.paused == paused {
			continue
		}
		p.paused = paused
		if paused {
			s.dropLocked(p)
		} else {
			notify(s.news) // what Begin held may go on
		}
		s.readyLocked(p)
		s.kickLocked(p)
	}
}

// Mute stops handing out records, of all partitions, and Mute(false) goes on.
// What is under way is not affected, and nothing that was fetched is dropped.
func (s *Set) Mute(mute bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.mute = mute
	notify(s.news)
}

// dropLocked throws away what was fetched and not handed out, in the queue,
// in flight and in the reader's hands; fetching goes on at position.
func (s *Set) dropLocked(p *Partition) {
	s.mu.used -= p.queued
	p.queue, p.queued = nil, 0
	p.buffers++
	p.flight = 0
	p.fetchAt = p.position
	s.feedLocked()
}

// kickLocked makes the broker that knows be asked again, now, when the partition
// has something to ask and no request of its own is under way.
func (s *Set) kickLocked(p *Partition) {
	broker := p.source()
	if p.state == wantOffset {
		broker = p.leader
	}
	if broker == NoLeader || p.state != wantOffset && !p.wantsFetch(s.cfg.MaxBytes) {
		return
	}
	src := s.sourceLocked(broker)
	if src.cancel != nil {
		src.cancel()
	}
	notify(src.wake)
}

// roomLocked reports whether the budget allows another request.
func (s *Set) roomLocked() bool {
	return s.mu.used+s.mu.reserved+s.cfg.MaxBytes <= s.cfg.MaxBuffered
}

// feedLocked wakes the sources that wait for room in the budget.
func (s *Set) feedLocked() {
	if !s.roomLocked() {
		return
	}
	for _, src := range s.mu.sources {
		if src.starving {
			src.starving = false
			notify(src.wake)
		}
	}
}

func (s *Set) sourceLocked(leader int32) *source {
	src := s.mu.sources[leader]
	if src == nil {
		src = &source{wake: make(chan struct{}, 1)}
		s.mu.sources[leader] = src
	}
	return src
}

// Wake returns the channel that has a value when the leader's loop should look
// again for lookups and fetches.
func (s *Set) Wake(leader int32) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sourceLocked(leader).wake
}

// notify puts a value into a channel of capacity 1 unless there is one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
