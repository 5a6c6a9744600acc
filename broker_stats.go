package mq

import "time"

// BrokerStats is a snapshot of a broker. Counters run since it was opened.
type BrokerStats struct {
	Partitions []PartitionStats // by topic, then partition

	Connections      int   // open gRPC connections
	RequestsInFlight int   // gRPC requests not answered yet
	InFlightBytes    int64 // on their way to the raft log
	HeldBytes        int64 // record bytes at rest
	RaftLogBytes     int64 // raft log that restarting would read again
	StorageBytes     int64 // disk (or memory) used by the store
	StorageFsyncs    int64 // of the store; the raft log's come on top
	StorageFsyncTime time.Duration
	StorageL0Files   int64 // of the store, not sorted into levels yet
	DiskFreeBytes    int64 // free on the disk of DataDir, -1 when unknown
	LeaderChanges    int64 // partitions that lost their leader
	RaftSnapshots    int64 // times a raft log was cut
	ProduceRefused   int64 // batches refused

	// Fenced is why the broker refuses to append (ErrDiskFull, ErrBusy), or nil.
	Fenced error
}

// PartitionStats is one partition on a broker.
type PartitionStats struct {
	Topic         string
	Partition     int32
	Leader        bool // this broker leads it; the fields below are zero otherwise
	LeaderEpoch   int32
	LogStart      int64 // oldest readable offset
	HighWatermark int64 // next offset
	SizeBytes     int64

	RecordsIn, BytesIn   int64 // appended
	RecordsOut, BytesOut int64 // fetched
	Duplicates           int64 // batches sent again and answered with their first offset
}

// Stats takes a snapshot. After Close it is empty.
func (b *Broker) Stats() BrokerStats {
	if b.isClosed() {
		return BrokerStats{DiskFreeBytes: -1}
	}
	n := b.node.Stats()
	s := BrokerStats{
		InFlightBytes: n.InFlightBytes, HeldBytes: n.HeldBytes, RaftLogBytes: n.UnsavedLogBytes,
		StorageBytes: int64(n.Storage.DiskBytes), DiskFreeBytes: -1,
		StorageFsyncs: n.Storage.Fsyncs, StorageFsyncTime: n.Storage.FsyncTime, StorageL0Files: n.Storage.L0Files,
		LeaderChanges: n.LeaderChanges, RaftSnapshots: n.RaftSnapshots,
		ProduceRefused: n.ProduceRefused, Fenced: n.Fenced,
	}
	if n.DiskFreeKnown {
		s.DiskFreeBytes = int64(n.DiskFreeBytes)
	}
	for _, p := range n.Partitions {
		s.Partitions = append(s.Partitions, PartitionStats(p))
	}
	if b.server != nil {
		t := b.server.Stats()
		s.Connections = t.Connections
		for _, open := range t.InFlight {
			s.RequestsInFlight += open
		}
	}
	return s
}
