package produce

import (
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/topic"
)

// topicState is what the engine knows about a topic and its partitions.
type topicState struct {
	name       string
	id         uuid.UUID
	count      int          // of partitions now, 0 while unknown
	limit      int          // of a batch in bytes
	partitions []*partition // by index; never shrinks
	sticky     int32        // where records without preference go

	// parked takes records until count is known. It is a partition that has no
	// leader, so that deadlines and contexts work as everywhere. moving is set
	// while parked records are given their partitions; later ones queue behind.
	parked *partition
	moving bool

	missing time.Time // since when the brokers say that it is not there; zero when it is
	wish    uint64    // ticket of what was asked of the Router then
}

func newTopicState(name string, limit int) *topicState {
	t := &topicState{name: name, limit: limit, sticky: -1}
	t.parked = newPartition(t, -1)
	return t
}

func newPartition(t *topicState, index int32) *partition {
	return &partition{topic: t, index: index, leader: -1, leaderEpoch: api.NoEpoch, id: noIdentity, spent: record.NoProducerID}
}

// ready returns how many partitions records may be sent to, 0 when they have to
// be parked.
func (t *topicState) ready() int {
	if t.moving || len(t.parked.queue) > 0 {
		return 0
	}
	return t.count
}

// learn takes over metadata.
func (t *topicState) learn(r *rules, info api.TopicInfo, batchBytes int, now time.Time) {
	t.id, t.count, t.limit = info.ID, len(info.Partitions), batchBytes
	if v, ok := info.Configs[topic.MaxMessageBytes]; ok {
		if c, err := topic.Parse(map[string]string{topic.MaxMessageBytes: v}); err == nil {
			t.limit = min(t.limit, c.MaxMessageBytes)
		}
	}
	for i, info := range info.Partitions {
		if i == len(t.partitions) {
			t.partitions = append(t.partitions, newPartition(t, int32(i)))
		}
		t.partitions[i].follow(r, info, now)
	}
	for _, p := range t.partitions[t.count:] {
		p.leader = -1
	}
}

// follow takes over where the partition is led. A new leadership deserves a
// try at once.
func (p *partition) follow(r *rules, info api.PartitionInfo, now time.Time) {
	if info.Leader != p.leader || info.LeaderEpoch != p.leaderEpoch {
		if info.Leader >= 0 && info.LeaderEpoch > p.leaderEpoch {
			p.abandon(r, now)
		}
		p.leader, p.leaderEpoch = info.Leader, info.LeaderEpoch
		p.retryAt = time.Time{}
	}
}

// stick returns the partition for a record without preference: the one that got
// the last, as long as its batch takes more, then another one, by chance.
// KIP-480.
func (t *topicState) stick(r *rules, size int, now time.Time) *partition {
	if t.sticky >= 0 && int(t.sticky) < t.count {
		if p := t.partitions[t.sticky]; p.healthy() && p.open(r, size, now) != nil {
			return p
		}
	}
	const probes = 8 // enough to find one that works, if some do
	next := t.sticky
	for range probes {
		next = rand.Int32N(int32(t.count))
		if t.partitions[next].healthy() && (next != t.sticky || t.count == 1) {
			break
		}
	}
	t.sticky = next
	return t.partitions[next]
}

func (p *partition) healthy() bool { return p.leader >= 0 && p.failures == 0 }

// takeParked empties the parking place and returns its batches, which nobody
// else touches from here on.
func (t *topicState) takeParked() []*batch {
	taken := t.parked.queue
	t.parked.queue = nil
	for _, b := range taken {
		b.stopWatching()
		b.done = true // for a ctx that ended just now
	}
	return taken
}
