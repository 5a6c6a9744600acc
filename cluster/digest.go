package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/storage"
)

// Replicas of a partition apply the same commands and so must hold the same records.
// Whether they do shows the digest of all that was ever appended, which the store
// keeps: not whether they can be read, which other checksums tell. Two replicas are
// seldom equally far, so each remembers the digests at some offsets that are the same
// on all, and the leader compares those now and then: a question to each broker, and
// no reading of records.

// compareEvery is how often the leader of a partition compares its replicas.
const compareEvery = time.Minute

// mark is the digest of a log up to an offset.
type mark struct {
	End    int64  `json:"end"`
	Digest uint64 `json:"digest"`
}

// marks are, for each of markSteps, the mark where the log's end last passed a
// multiple of that power of two. However fast a log grows, one of them changes
// slowly enough that replicas have it in common.
type marks [len(markSteps)]mark

var markSteps = [...]uint{0, 10, 14, 18, 22}

// grow takes note of an append to a log that ended at from.
func (m *marks) grow(from int64, st storage.State) {
	for i, step := range markSteps {
		if from>>step != st.End>>step {
			m[i] = mark{st.End, st.Digest}
		}
	}
}

// differ gives an offset up to which both know the digest and it is not the same.
func (m *marks) differ(o *marks) (end int64, yes bool) {
	for _, a := range m {
		for _, b := range o {
			if a.End == b.End && a.Digest != b.Digest {
				return a.End, true
			}
		}
	}
	return 0, false
}

// startMarks is all that a log tells of itself when it is opened.
func startMarks(st storage.State) *marks { return &marks{{st.End, st.Digest}} }

// marksRequest asks for the marks of partitions.
type marksRequest struct {
	Shards []uint64 `json:"shards"`
}

type marksAnswer struct {
	Marks map[uint64]replicaMarks `json:"marks"`
}

// replicaMarks are those of one replica of a shard, and what it is after its newest
// command.
type replicaMarks struct {
	Replica uint64 `json:"replica"`
	Marks   marks  `json:"marks"`
	Applied uint64 `json:"applied"`
	Now     mark   `json:"now"`
}

func (r *replica) marks() replicaMarks {
	p := r.machine.app.(*partition)
	st := p.log.State()
	return replicaMarks{r.id.Replica, *p.marks.Load(), st.Applied, mark{st.End, st.Digest}}
}

// differ gives an offset below which they do not hold the same.
func (m *replicaMarks) differ(o *replicaMarks) (end int64, yes bool) {
	if m.Applied == o.Applied && m.Now != o.Now {
		return max(m.Now.End, o.Now.End), true
	}
	return m.Marks.differ(&o.Marks)
}

func (n *Node) serveMarks(_ context.Context, q *marksRequest) (*marksAnswer, error) {
	a := &marksAnswer{Marks: make(map[uint64]replicaMarks)}
	for _, shard := range q.Shards {
		if r := n.replica(shard); r != nil && !r.machine.parked.Load() {
			if _, ok := r.machine.app.(*partition); ok {
				a.Marks[shard] = r.marks()
			}
		}
	}
	return a, nil
}

// comparisons is what came of comparing replicas.
type comparisons struct {
	last   time.Time // of the membership loop, by a clock that can't be set
	differ atomic.Pointer[map[storage.ReplicaID]string]
	mu     sync.Mutex // held over a comparison
}

// compareNowAndThen compares the replicas of the partitions that are led here.
func (n *Node) compareNowAndThen() {
	if now := (clock.System{}).Now(); now.Sub(n.comparisons.last) >= compareEvery {
		n.comparisons.last = now
		n.compareReplicas(n.closing)
	}
}

// compareReplicas looks for replicas that do not hold what the leader of their
// partition does, where that is this broker. Those of brokers that do not answer
// stay as they were found before.
func (n *Node) compareReplicas(ctx context.Context) {
	n.comparisons.mu.Lock()
	defer n.comparisons.mu.Unlock()
	led := make(map[uint64]*replica)
	n.eachReplica(func(r *replica) {
		if _, err := r.epochServed(); err == nil && r.id.Shard >= firstPartition {
			led[r.id.Shard] = r
		}
	})
	others := n.others()
	var heard map[int32]answered[marksAnswer]
	if len(led) > 0 && len(others) > 0 {
		heard = callAll[marksAnswer](ctx, n.link, others, statePatience, callMarks, &marksRequest{slices.Sorted(maps.Keys(led))})
	}
	before, differ := n.diverged(), make(map[storage.ReplicaID]string)
	for shard, r := range led {
		mine := r.marks()
		for _, rec := range r.shard.Load().Replicas {
			id := storage.ReplicaID{Shard: shard, Replica: rec.Replica}
			said, known := before[id]
			if a := heard[rec.Broker].answer; a != nil && a.Marks[shard].Replica == rec.Replica {
				theirs := a.Marks[shard]
				end, yes := mine.differ(&theirs)
				if yes && !known {
					said = fmt.Sprintf("%s on broker %d below offset %d", r.name, rec.Broker, end)
					n.log.Error("a replica does not hold the same records as the leader's", "replica", r.name, "number", rec.Replica, "broker", rec.Broker, "below", end)
				}
				known = yes
			}
			if known {
				differ[id] = said
			}
		}
	}
	n.comparisons.differ.Store(&differ)
}

// diverged are the replicas that were found to differ from their leader's, which is
// this broker's.
func (n *Node) diverged() map[storage.ReplicaID]string {
	if d := n.comparisons.differ.Load(); d != nil {
		return *d
	}
	return nil
}
