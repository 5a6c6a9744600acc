package mq

import "time"

// BrokerStats is a snapshot of a broker. Counters run since it was opened.
type BrokerStats struct {
	// Of the cluster, as far as this broker knows.
	Brokers int
	Topics  []TopicStats // by name

	// Of this broker.
	Partitions      []PartitionStats // by topic, then partition
	Leaderless      int              // of Partitions: none is known to lead them
	UnderReplicated int              // of Partitions it leads: fewer replicas that vote can be reached than should

	Groups []GroupStats // that this broker coordinates, by name

	Connections       int   // open gRPC connections
	RequestsInFlight  int   // gRPC requests not answered yet
	InFlightBytes     int64 // on their way to the raft log
	HeldBytes         int64 // record bytes at rest
	RaftLogBytes      int64 // raft log that restarting would read again
	StorageBytes      int64 // disk (or memory) used by the store
	StorageFsyncs     int64 // of the store; the raft log's come on top
	StorageFsyncTime  time.Duration
	StorageL0Files    int64 // of the store, not sorted into levels yet
	DiskFreeBytes     int64 // free on the disk of DataDir, -1 when unknown
	LeaderChanges     int64 // partitions that lost their leader
	ProposalsDropped  int64 // commands that raft gave up
	RaftSnapshots     int64 // times a raft log was cut
	SnapshotsSent     int64 // to brokers that had fallen behind the log
	SnapshotsReceived int64
	DivergedReplicas  int               // that do not hold the records that those led by this broker do; must be 0
	DamagedReplicas   int               // that can't be read; see ClusterHealth
	ReplacedReplicas  int64             // that were damaged and given up, for other brokers to replace
	ProduceRefused    int64             // batches refused
	ProduceFailures   []ProduceFailures // by topic, then reason

	// Fenced is why the broker refuses to append (ErrDiskFull, ErrBusy), or nil.
	Fenced error
}

// TopicStats is one topic of the cluster.
type TopicStats struct {
	Name       string
	Partitions int
}

// ProduceFailures counts batches that a broker did not acknowledge, for one
// topic, or, with an empty name, for all that do not exist. Reason is the name
// of the error on the wire, such as NOT_LEADER_OR_FOLLOWER, which is routine: the
// producer goes to the leader.
type ProduceFailures struct {
	Topic, Reason string
	Batches       int64
}

// GroupStats is a consumer group that a broker coordinates.
type GroupStats struct {
	Group      string
	Members    int
	Rebalances int64 // since there is the group: how often it was decided anew who reads what
	Partitions []GroupPartitionStats
}

// GroupPartitionStats is what a group has committed for a partition. Lag is how
// many records it has not, -1 when the broker has no copy of the partition.
type GroupPartitionStats struct {
	Topic     string
	Partition int32
	Committed int64
	Lag       int64
}

// PartitionStats is one partition on a broker.
type PartitionStats struct {
	Topic         string
	Partition     int32
	EndOffset     int64 // next offset as far as this broker has followed the leader
	Leader        bool  // this broker leads it; otherwise the fields below are zero, except RecordsOut and BytesOut
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
		Brokers: n.Brokers, Leaderless: n.Leaderless, UnderReplicated: n.UnderReplicated,
		LeaderChanges: n.LeaderChanges, ProposalsDropped: n.ProposalsDropped,
		RaftSnapshots: n.RaftSnapshots, SnapshotsSent: n.SnapshotsSent, SnapshotsReceived: n.SnapshotsReceived,
		DivergedReplicas: n.Diverged, DamagedReplicas: n.Damaged, ReplacedReplicas: n.Replaced,
		ProduceRefused: n.ProduceRefused, Fenced: n.Fenced,
	}
	if n.DiskFreeKnown {
		s.DiskFreeBytes = int64(n.DiskFreeBytes)
	}
	for _, t := range n.Topics {
		s.Topics = append(s.Topics, TopicStats(t))
	}
	for _, g := range n.Groups {
		group := GroupStats{Group: g.Group, Members: g.Members, Rebalances: g.Rebalances}
		for _, p := range g.Partitions {
			group.Partitions = append(group.Partitions, GroupPartitionStats(p))
		}
		s.Groups = append(s.Groups, group)
	}
	for _, f := range n.ProduceFailures {
		s.ProduceFailures = append(s.ProduceFailures, ProduceFailures(f))
	}
	for _, p := range n.Partitions {
		s.Partitions = append(s.Partitions, PartitionStats(p))
	}
	if b.server != nil {
		s.Connections = b.server.Stats().Connections
	}
	for _, open := range b.requestsInFlight() {
		s.RequestsInFlight += open
	}
	return s
}

// requestsInFlight is by gRPC method; empty without a server.
func (b *Broker) requestsInFlight() map[string]int {
	if b.server == nil {
		return nil
	}
	return b.server.Stats().InFlight
}
