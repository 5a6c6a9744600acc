package fetch

import (
	"fmt"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// Start says where reading begins. The zero value is where the group left off.
type Start struct {
	Kind  StartKind
	Value int64 // an offset, or a time in ms, or a special timestamp of package api
}

// StartKind is the kind of a Start.
type StartKind uint8

// The kinds of Start.
const (
	AtCommitted StartKind = iota
	AtOffset
	AtTime
)

// Reset says what happens where there is no valid offset: one of the constants, or,
// positive, the time in ns since which records are wanted. Kafka: auto.offset.reset.
type Reset int64

// The kinds of Reset.
const (
	ResetEarliest Reset = -iota
	ResetLatest
	ResetNone
)

// Timestamp is what to look up, now; ok is false for ResetNone.
func (r Reset) Timestamp() (at int64, ok bool) {
	switch {
	case r > 0:
		return max(time.Now().Add(-time.Duration(r)).UnixMilli(), 0), true
	case r == ResetEarliest:
		return api.EarliestTimestamp, true
	case r == ResetLatest:
		return api.LatestTimestamp, true
	}
	return 0, false
}

// beginLocked sets a new partition to where the configuration says. One that
// came into being while the consumer ran holds only records that are new to
// it, so none may be skipped: it begins at its earliest offset unless the
// group committed one. A topic whose first sight came late is believed to
// mean what it says, except that "latest" would skip its first records.
func (s *Set) beginLocked(p *Partition) {
	p.late = s.mu.synced
	begin := s.cfg.Start
	grown := p.late && s.mu.topics[p.key.Topic]
	if begin.Kind != AtCommitted && (grown || p.late && begin == Start{AtTime, api.LatestTimestamp}) {
		begin = Start{AtTime, api.EarliestTimestamp}
	}
	s.beginAtLocked(p, begin)
}

// beginAgainLocked sets a partition that did not get so far to where it was to
// begin.
func (s *Set) beginAgainLocked(p *Partition) {
	if s.cfg.Assigned {
		s.beginAtLocked(p, p.from)
	} else {
		s.beginLocked(p)
	}
}

func (s *Set) beginAtLocked(p *Partition, from Start) {
	p.from = from
	switch from.Kind {
	case AtOffset:
		p.start(from.Value)
	case AtTime:
		p.lookUp(from.Value)
	case AtCommitted:
		if s.cfg.Group {
			p.state = wantCommitted
			return
		}
		s.resetLocked(p, errNoCommitted)
	}
}

var errNoCommitted = fmt.Errorf("%w: no offset is committed and the reset policy is none", mqerr.ErrOffsetOutOfRange)

// resetLocked applies the reset policy; err says why there is need for it.
func (s *Set) resetLocked(p *Partition, err error) {
	at, ok := s.cfg.Reset.Timestamp()
	switch {
	case p.position == unknown && p.late:
		p.lookUp(api.EarliestTimestamp)
	case ok:
		p.lookUp(at)
	default:
		p.fail(p.fetchAt, unknown, err)
		s.readyLocked(p)
	}
}

// Lookup is a question about where a partition is to be read from.
type Lookup struct {
	api.ListOffsetsPartition
	p     *Partition
	seeks uint64
}

// Lookups lists the timestamps whose offsets the leader is to be asked for.
func (s *Set) Lookups(leader int32) []Lookup {
	return s.lookups(func(p *Partition) bool { return p.leader == leader && p.state == wantOffset })
}

// CommittedLookups lists the partitions whose committed offset is to be asked for.
func (s *Set) CommittedLookups() []Lookup {
	return s.lookups(func(p *Partition) bool { return p.state == wantCommitted })
}

func (s *Set) lookups(want func(*Partition) bool) (ls []Lookup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.mu.order {
		if want(p) {
			ls = append(ls, Lookup{api.ListOffsetsPartition{TopicPartition: p.tp(), Timestamp: p.at}, p, p.seeks})
		}
	}
	return ls
}

// Found takes the answer to a Lookup of a timestamp. Offset -1 means that no
// record is as young, so the next one to come will be. The error, if any, says
// why the partition waits for fresh metadata.
func (s *Set) Found(l Lookup, offset int64, err error) []Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := l.p
	switch {
	case p.state != wantOffset || p.seeks != l.seeks || p.at != l.Timestamp:
		return nil // Seek was faster
	case err != nil:
		return s.failedLocked(p, err)
	case offset < 0:
		p.lookUp(api.LatestTimestamp)
	case p.position == unknown:
		p.start(offset)
	default: // a reset: what is queued comes first
		p.state, p.fetchAt = reading, offset
		s.enqueueLocked(p, batch{next: offset, epoch: p.leaderEpoch})
	}
	s.announceLocked()
	s.kickLocked(p)
	return nil
}

// FoundCommitted takes the answer to a Lookup of a committed offset; -1 means
// none. An error that may pass leaves the question open.
func (s *Set) FoundCommitted(l Lookup, offset int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := l.p
	switch {
	case p.state != wantCommitted || p.seeks != l.seeks || MayPass(err):
		return
	case err != nil:
		p.fail(unknown, unknown, err)
		s.readyLocked(p)
	case offset < 0:
		s.resetLocked(p, errNoCommitted)
	default:
		p.start(offset)
		p.committed = offset
	}
	s.announceLocked()
	s.kickLocked(p)
}

// Trouble is why a partition lost its leader or, of a Follower, is fetched from
// the leader again.
type Trouble struct {
	Key
	LeaderEpoch int32 // newest known
	Follower    bool
	Err         error
}

// failedLocked decides what an error means for a partition: wait for fresh
// metadata, or stop.
func (s *Set) failedLocked(p *Partition, err error) []Trouble {
	if MayPass(err) {
		return s.orphanLocked(p, err)
	}
	p.fail(p.fetchAt, unknown, err)
	s.readyLocked(p)
	return nil
}

func (s *Set) orphanLocked(p *Partition, err error) []Trouble {
	p.leader = NoLeader
	return []Trouble{{Key: p.key, LeaderEpoch: p.leaderEpoch, Err: err}}
}

// MayPass reports whether asking again later may cure err. Reading changes
// nothing, so an unknown outcome is as good as none, and what is not in the
// table of errors came from the network.
func MayPass(err error) bool {
	return err != nil && (mqerr.Of(err) == nil || mqerr.Retriable(err) || mqerr.OutcomeUnknown(err))
}
