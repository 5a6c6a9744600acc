package cluster

import (
	"sort"
	"sync/atomic"

	"github.com/raftmq/mq/storage"
)

// counters are the node's own.
type counters struct {
	leaderChanges atomic.Int64
	snapshots     atomic.Int64
	refused       atomic.Int64
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
	Partitions      []PartitionStats // by topic, then partition
	LeaderChanges   int64
	RaftSnapshots   int64
	ProduceRefused  int64 // batches refused before they were proposed
	InFlightBytes   int64 // proposals on their way
	UnsavedLogBytes int64 // raft log not yet covered by a snapshot
	HeldBytes       int64 // record bytes at rest on this broker
	Fenced          error // why the broker refuses to append, or nil
	DiskFreeBytes   uint64
	DiskFreeKnown   bool
	Storage         storage.Metrics
}

// PartitionStats is one partition on this broker.
type PartitionStats struct {
	Topic                string
	Partition            int32
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
	s := Stats{
		LeaderChanges: n.stats.leaderChanges.Load(), RaftSnapshots: n.stats.snapshots.Load(),
		ProduceRefused: n.stats.refused.Load(), InFlightBytes: n.inflight.used.Load(),
		HeldBytes: n.held.Load(), Fenced: n.fenced(),
		Storage: n.store.Metrics(),
	}
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
			s.Partitions = append(s.Partitions, PartitionStats{Topic: p.tp.Topic, Partition: p.tp.Partition})
			return
		}
		st := p.log.State()
		s.Partitions = append(s.Partitions, PartitionStats{
			Topic: p.tp.Topic, Partition: p.tp.Partition, Leader: true, LeaderEpoch: epoch,
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
