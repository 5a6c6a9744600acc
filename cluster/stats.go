package cluster

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// counters are the node's own.
type counters struct {
	leaderChanges     atomic.Int64
	snapshots         atomic.Int64
	snapshotsSent     atomic.Int64
	snapshotsReceived atomic.Int64
	refused           atomic.Int64
	dropped           atomic.Int64
	failed            failures
}

// failures counts batches that were not acknowledged. Only topics that exist
// have a count of their own, so that what clients ask for bounds nothing here.
type failures struct {
	mu sync.Mutex
	n  map[failure]int64
}

type failure struct{ topic, reason string }

func (f *failures) count(s *metaState, topic string, err error) {
	if s.topics[topic] == nil {
		topic = ""
	}
	key := failure{topic: topic, reason: mqerr.ErrInternal.Reason()}
	if e := mqerr.Of(err); e != nil && e.Reason() != "" {
		key.reason = e.Reason()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = make(map[failure]int64)
	}
	f.n[key]++
}

// list forgets topics that are gone.
func (f *failures) list(s *metaState) (out []ProduceFailures) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, n := range f.n {
		if key.topic != "" && s.topics[key.topic] == nil {
			delete(f.n, key)
			continue
		}
		out = append(out, ProduceFailures{key.topic, key.reason, n})
	}
	slices.SortFunc(out, func(a, b ProduceFailures) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// traffic counts one partition's records since the node started.
type traffic struct {
	recordsIn, bytesIn   atomic.Int64
	recordsOut, bytesOut atomic.Int64
	duplicates           atomic.Int64
}

func (t *traffic) produced(records, bytes int) {
	t.recordsIn.Add(int64(records))
	t.bytesIn.Add(int64(bytes))
}

func (t *traffic) fetched(records int64, bytes int) {
	t.recordsOut.Add(records)
	t.bytesOut.Add(int64(bytes))
}

// Stats is a snapshot of what a node does. Counters run since it was opened.
type Stats struct {
	// Of the cluster, as far as this broker knows.
	Brokers int
	Topics  []TopicStats // by name

	Partitions        []PartitionStats // on this broker, by topic, then partition
	Leaderless        int              // of them: no leader is known
	UnderReplicated   int              // of those led here: fewer replicas that vote can be reached than should
	Groups            []GroupStats     // that this broker coordinates, by name
	LeaderChanges     int64
	ProposalsDropped  int64 // that raft gave up
	RaftSnapshots     int64 // times a raft log was cut
	SnapshotsSent     int64 // to other brokers
	SnapshotsReceived int64
	Diverged          int               // replicas that do not hold what those led here do
	Damaged           int               // replicas that can't be read
	Replaced          int64             // and those that were given up, for the others to replace
	ProduceRefused    int64             // batches refused before they were proposed
	ProduceFailures   []ProduceFailures // by topic, then reason
	InFlightBytes     int64             // proposals on their way
	UnsavedLogBytes   int64             // raft log not yet covered by a snapshot
	HeldBytes         int64             // record bytes at rest on this broker
	Fenced            error             // why the broker refuses to append, or nil
	DiskFreeBytes     uint64
	DiskFreeKnown     bool
	Storage           storage.Metrics
}

// TopicStats is one topic of the cluster.
type TopicStats struct {
	Name       string
	Partitions int
}

// ProduceFailures counts batches that this broker did not acknowledge. Topic is
// empty for all that do not exist.
type ProduceFailures struct {
	Topic, Reason string
	Batches       int64
}

// PartitionStats is one partition on this broker.
type PartitionStats struct {
	Topic                string
	Partition            int32
	EndOffset            int64 // of what this replica has; of a follower, all else is zero
	Leader               bool
	LeaderEpoch          int32
	LogStart             int64
	HighWatermark        int64
	SizeBytes            int64
	RecordsIn, BytesIn   int64
	RecordsOut, BytesOut int64
	Duplicates           int64
}

// Stats takes a snapshot.
func (n *Node) Stats() Stats {
	meta := n.meta.state.Load()
	s := Stats{
		Brokers:       len(meta.brokers),
		LeaderChanges: n.stats.leaderChanges.Load(), ProposalsDropped: n.stats.dropped.Load(),
		RaftSnapshots: n.stats.snapshots.Load(),
		SnapshotsSent: n.stats.snapshotsSent.Load(), SnapshotsReceived: n.stats.snapshotsReceived.Load(),
		ProduceRefused: n.stats.refused.Load(), ProduceFailures: n.stats.failed.list(meta),
		Diverged: len(n.diverged()), Damaged: len(n.damages.list()), Replaced: n.damages.replaced.Load(),
		InFlightBytes: n.inflight.used.Load(),
		HeldBytes:     n.held.Load(), Fenced: n.fenced(),
		Storage: n.store.Metrics(),
	}
	for _, name := range slices.Sorted(maps.Keys(meta.topics)) {
		s.Topics = append(s.Topics, TopicStats{name, len(meta.topics[name].Partitions)})
	}
	s.Groups = n.groupStats(meta)
	staying := len(meta.staying())
	if !n.inMemory() {
		s.DiskFreeBytes, s.DiskFreeKnown = n.diskFree()
	}
	n.eachReplica(func(r *replica) {
		s.UnsavedLogBytes += r.unsaved.Load()
		p, ok := r.machine.app.(*partition)
		if !ok {
			return
		}
		epoch, err := r.epochServed()
		if err != nil {
			if n.leaderOf(r) < 0 {
				s.Leaderless++
			}
			s.Partitions = append(s.Partitions, PartitionStats{
				Topic: p.tp.Topic, Partition: p.tp.Partition, EndOffset: p.log.State().End,
				RecordsOut: p.traffic.recordsOut.Load(), BytesOut: p.traffic.bytesOut.Load(),
			})
			return
		}
		shard := *r.shard.Load()
		alive := 0
		for _, rep := range shard.Replicas {
			if rep.settled() && !n.lost.has(meta.brokers[rep.Broker].DirID) {
				alive++
			}
		}
		if alive < votersWanted(shard, meta.byID[p.tp.TopicID], staying) {
			s.UnderReplicated++
		}
		st := p.log.State()
		s.Partitions = append(s.Partitions, PartitionStats{
			Topic: p.tp.Topic, Partition: p.tp.Partition, EndOffset: st.End, Leader: true, LeaderEpoch: epoch,
			LogStart: st.Start, HighWatermark: st.End, SizeBytes: st.Bytes,
			RecordsIn: p.traffic.recordsIn.Load(), BytesIn: p.traffic.bytesIn.Load(),
			RecordsOut: p.traffic.recordsOut.Load(), BytesOut: p.traffic.bytesOut.Load(),
			Duplicates: p.traffic.duplicates.Load(),
		})
	})
	sort.Slice(s.Partitions, func(i, j int) bool {
		a, b := s.Partitions[i], s.Partitions[j]
		return a.Topic < b.Topic || a.Topic == b.Topic && a.Partition < b.Partition
	})
	return s
}
