// Package api is where the rooms meet: plain request and answer structs, and
// the one client-facing interface, Broker. cluster implements it, transport
// moves it, the root package calls it. Every front door (in process, gRPC,
// later the Kafka protocol) is an adapter on this; no rule about groups,
// duplicates or offsets may live in a door.
//
// Shapes follow the Kafka protocol (per-partition results, topic ids, leader
// epochs, {high watermark, last stable offset, aborted} in fetch answers) so
// that its clients can be served later without a second core.
//
// Errors: a method's error means the whole request failed; the Err field of a
// result means that one failed. Both hold an mqerr sentinel.
package api

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Broker is one broker as its clients see it. All methods are safe for
// concurrent use. A request's slices must not change until the answer came;
// an answer belongs to the caller.
type Broker interface {
	// Metadata returns brokers and topics. Answered from local state, it does
	// not wait for other brokers.
	Metadata(ctx context.Context, req *MetadataRequest) (*MetadataResponse, error)

	// Produce appends record batches. It hands the request over in call order
	// and returns without waiting for replication; done is called exactly once
	// with either an answer or an error, on a goroutine of the callee's, which
	// it must not block, maybe before Produce returns. ctx bounds the hand-over
	// only: what was handed over is answered whatever becomes of ctx.
	Produce(ctx context.Context, req *ProduceRequest, done func(*ProduceResponse, error))

	// Fetch reads whole batches. It waits up to MaxWait for MinBytes.
	Fetch(ctx context.Context, req *FetchRequest) (*FetchResponse, error)

	// ListOffsets finds offsets by timestamp or by EarliestTimestamp, LatestTimestamp.
	ListOffsets(ctx context.Context, req *ListOffsetsRequest) (*ListOffsetsResponse, error)

	// EpochEnds tells where leader epochs ended (KIP-101, KIP-320).
	EpochEnds(ctx context.Context, req *EpochEndsRequest) (*EpochEndsResponse, error)

	// DescribeCluster tells how every broker is. The broker asked asks the others.
	DescribeCluster(ctx context.Context, req *DescribeClusterRequest) (*DescribeClusterResponse, error)

	// RemoveBroker makes a broker leave the cluster. It returns when that has begun.
	RemoveBroker(ctx context.Context, req *RemoveBrokerRequest) (*RemoveBrokerResponse, error)

	// TransferLeader makes another broker lead a partition. Asked of the leader.
	TransferLeader(ctx context.Context, req *TransferLeaderRequest) (*TransferLeaderResponse, error)

	// MoveReplica puts a replica on another broker. It returns when that has begun.
	MoveReplica(ctx context.Context, req *MoveReplicaRequest) (*MoveReplicaResponse, error)

	// DescribeLogs tells size and offsets of partitions led or held here.
	DescribeLogs(ctx context.Context, req *DescribeLogsRequest) (*DescribeLogsResponse, error)

	// InitProducer allocates a producer id that nobody had before.
	InitProducer(ctx context.Context, req *InitProducerRequest) (*InitProducerResponse, error)

	// GroupHeartbeat joins a group, keeps a member in it, tells what it owns and
	// may own, and leaves (KIP-848). It waits up to MaxWait for news.
	GroupHeartbeat(ctx context.Context, req *GroupHeartbeatRequest) (*GroupHeartbeatResponse, error)

	CommitOffsets(ctx context.Context, req *CommitOffsetsRequest) (*CommitOffsetsResponse, error)
	FetchOffsets(ctx context.Context, req *FetchOffsetsRequest) (*FetchOffsetsResponse, error)
	// DeleteOffsets forgets offsets of a group. KIP-496.
	DeleteOffsets(ctx context.Context, req *DeleteOffsetsRequest) (*DeleteOffsetsResponse, error)

	ListGroups(ctx context.Context, req *ListGroupsRequest) (*ListGroupsResponse, error)
	DescribeGroup(ctx context.Context, req *DescribeGroupRequest) (*DescribeGroupResponse, error)
	// DeleteGroup forgets a group that has no members, with its offsets.
	DeleteGroup(ctx context.Context, req *DeleteGroupRequest) (*DeleteGroupResponse, error)

	CreateTopic(ctx context.Context, req *CreateTopicRequest) (*CreateTopicResponse, error)
	DeleteTopic(ctx context.Context, req *DeleteTopicRequest) (*DeleteTopicResponse, error)
	AlterTopic(ctx context.Context, req *AlterTopicRequest) (*AlterTopicResponse, error)
	AddPartitions(ctx context.Context, req *AddPartitionsRequest) (*AddPartitionsResponse, error)
	TrimTopic(ctx context.Context, req *TrimTopicRequest) (*TrimTopicResponse, error)
}

// TopicPartition names a partition. TopicID is zero where the caller does not
// know it; where set, it must be the topic's or the answer is ErrUnknownTopicID,
// so that a topic created anew inherits nothing.
type TopicPartition struct {
	Topic     string
	TopicID   uuid.UUID
	Partition int32
}

// Special timestamps of ListOffsets and special offsets. Kafka: ListOffsets -1, -2, -3.
const (
	LatestTimestamp   int64 = -1
	EarliestTimestamp int64 = -2
	MaxTimestamp      int64 = -3
)

// NoEpoch stands for an unknown leader epoch.
const NoEpoch int32 = -1

// MetadataRequest asks for topics. Topics nil means all.
type MetadataRequest struct {
	Topics []string
	// AutoCreate asks for unknown topics to be created if the broker allows.
	AutoCreate bool
}

// MetadataResponse is the cluster as the answering broker knows it.
type MetadataResponse struct {
	ClusterID  string
	Controller int32 // broker id; -1 when unknown
	Version    int64 // grows with every change of the metadata
	Brokers    []BrokerInfo
	Topics     []TopicInfo
}

// BrokerInfo is a broker and the address it advertises on the listener asked.
// Addr is empty for a broker without a listener.
type BrokerInfo struct {
	ID   int32
	Addr string
	Rack string
}

// TopicInfo is a topic or, with Err set, why the one asked for is not there.
type TopicInfo struct {
	Name       string
	ID         uuid.UUID
	Partitions []PartitionInfo // by index
	Configs    map[string]string
	Err        error
}

// PartitionInfo is where a partition lives. Leader is -1 when there is none.
type PartitionInfo struct {
	Index       int32
	Leader      int32
	LeaderEpoch int32
	Replicas    []int32
	Learners    []int32 // those of Replicas that do not vote: they are still catching up
	Err         error
}

// DescribeClusterRequest asks how the cluster is.
type DescribeClusterRequest struct{}

// DescribeClusterResponse is how the cluster is, by what every broker that could
// be reached told the one asked. A shard is a partition, a part of what groups
// stored, or the metadata.
type DescribeClusterResponse struct {
	ClusterID  string
	Controller int32 // broker id; -1 when unknown
	Brokers    []BrokerState
	// Names of shards, some of them when there are many.
	Leaderless      []string // nobody leads them
	UnderReplicated []string // fewer replicas vote than there should be
	// Replicas that were found not to hold the records that their leader does, as in
	// "t/0 on broker 2 below offset 7".
	Diverged     []string
	FeatureLevel int32 // of the commands that brokers write; 0 when unknown
}

// BrokerState is how a broker is. With Err set it could not be asked, and what
// only it knows is zero.
type BrokerState struct {
	BrokerInfo
	PeerAddr      string // for brokers
	DirectoryID   string
	MetadataVoter bool
	Replicas      int32    // that it should have
	Leaders       int32    // of them
	Behind        int32    // of them: did not follow what their leaders had applied
	Waiting       string   // what it waits for, empty when it is ready
	Fenced        string   // why it refuses to append, empty when it does not
	Damaged       []string // replicas that it can't read, and why, some of them when there are many
	Leaving       bool
	FeatureLevel  int32 // the newest that it knows; 0 when unknown
	Err           error
}

// RemoveBrokerRequest makes a broker leave the cluster, dead or alive: what it has
// goes to others as far as there are any that lack it, and then it is forgotten.
type RemoveBrokerRequest struct{ ID int32 }

// RemoveBrokerResponse says that the broker is leaving. It has left when
// DescribeCluster does not list it any more.
type RemoveBrokerResponse struct{}

// TransferLeaderRequest makes the broker To the leader of a partition, of which it
// has a replica that votes, and the one that should lead it from now on.
type TransferLeaderRequest struct {
	TopicPartition
	To int32
}

// TransferLeaderResponse says that it leads.
type TransferLeaderResponse struct{}

// MoveReplicaRequest puts the replica that the broker From has on the broker To: that
// one gets a replica, and when it has caught up and votes, the other goes. To move one
// back that is on its way gives that up.
type MoveReplicaRequest struct {
	TopicPartition
	From, To int32
}

// MoveReplicaResponse says that the replica is moving. It has moved when Metadata
// names To without calling it a learner, and does not name From.
type MoveReplicaResponse struct{}

// Acks of a produce request. 1 and all give the same guarantee here: committed
// on a majority. Kafka: acks.
const (
	AcksNone   int16 = 0
	AcksLeader int16 = 1
	AcksAll    int16 = -1
)

// ProduceRequest appends one batch to each of several partitions.
type ProduceRequest struct {
	Acks int16
	// Timeout bounds the wait for replication; after it the result is
	// ErrTimeout, outcome unknown. Zero means the broker's default.
	Timeout    time.Duration
	Partitions []ProducePartition
}

// ProducePartition is one RecordBatch v2 for one partition.
type ProducePartition struct {
	TopicPartition
	Batch []byte
}

// ProduceResponse has a result for each partition of the request, in its order.
type ProduceResponse struct {
	Partitions []ProduceResult
}

// ProduceResult is the outcome of one batch. BaseOffset is -1 for a duplicate
// older than the broker remembers and with AcksNone.
type ProduceResult struct {
	TopicPartition
	BaseOffset  int64
	LogStart    int64
	AppendTime  int64 // ms since 1970, -1 unless the topic stamps LogAppendTime
	LeaderEpoch int32
	Err         error
}

// Isolation levels of a fetch. Kafka: isolation.level.
const (
	ReadUncommitted int8 = 0
	ReadCommitted   int8 = 1
)

// FetchRequest reads from several partitions.
type FetchRequest struct {
	MaxWait    time.Duration // 0 answers at once
	MinBytes   int           // answer as soon as this much is there
	MaxBytes   int           // soft bound of the whole answer; the first batch always fits
	Isolation  int8
	Follower   bool // answer also where the broker only follows, with what it has applied. KIP-392
	Partitions []FetchPartition
}

// FetchPartition is where to read in one partition.
type FetchPartition struct {
	TopicPartition
	Offset      int64
	LeaderEpoch int32 // newest the client knows, or NoEpoch. KIP-320
	MaxBytes    int   // soft bound for this partition
}

// FetchResponse has a result for each partition that has data or an error; a
// partition without news is left out unless the request asked for it alone.
type FetchResponse struct {
	Partitions []FetchResult
}

// FetchResult is what one partition gave. Batches are whole RecordBatch v2,
// back to back; the first may begin below the offset asked for.
type FetchResult struct {
	TopicPartition
	HighWatermark    int64
	LastStableOffset int64
	LogStart         int64
	LeaderEpoch      int32
	Aborted          []AbortedTxn
	Batches          []byte
	Err              error
}

// AbortedTxn is a transaction that a ReadCommitted consumer must skip.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64
}

// ListOffsetsRequest looks for offsets by time.
type ListOffsetsRequest struct {
	Isolation  int8
	Partitions []ListOffsetsPartition
}

// ListOffsetsPartition asks for the first offset at or after Timestamp (ms).
type ListOffsetsPartition struct {
	TopicPartition
	Timestamp int64
}

// ListOffsetsResponse has a result for each partition, in order.
type ListOffsetsResponse struct {
	Partitions []ListOffsetsResult
}

// ListOffsetsResult is the offset found, -1 when no record is as young.
type ListOffsetsResult struct {
	TopicPartition
	Offset      int64
	Timestamp   int64
	LeaderEpoch int32
	Err         error
}

// EpochEndsRequest asks where leader epochs ended.
type EpochEndsRequest struct {
	Partitions []EpochEndsPartition
}

// EpochEndsPartition is one such question.
type EpochEndsPartition struct {
	TopicPartition
	LeaderEpoch int32
}

// EpochEndsResponse has a result for each partition, in order.
type EpochEndsResponse struct {
	Partitions []EpochEndsResult
}

// EpochEndsResult is the largest epoch not above the one asked for, and the
// offset behind its last record.
type EpochEndsResult struct {
	TopicPartition
	LeaderEpoch int32
	EndOffset   int64
	Err         error
}

// DescribeLogsRequest asks for logs of topics; nil means all.
type DescribeLogsRequest struct {
	Topics []string
}

// DescribeLogsResponse lists logs by topic, then partition.
type DescribeLogsResponse struct {
	Logs []LogInfo
}

// LogInfo is the state of one partition's log on the answering broker. On one
// that does not lead it, that is as far as it has followed.
type LogInfo struct {
	TopicPartition
	LogStart      int64
	HighWatermark int64
	SizeBytes     int64
	LeaderEpoch   int32
	Leader        bool
	Err           error
}

// InitProducerRequest asks for a producer id.
type InitProducerRequest struct{}

// InitProducerResponse is a fresh producer id at epoch 0.
type InitProducerResponse struct {
	ProducerID int64
	Epoch      int16
}

// CreateTopicRequest creates a topic. Partitions and ReplicationFactor zero
// mean the broker's default. Configs are the topic configs of package topic.
type CreateTopicRequest struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Configs           map[string]string
	ValidateOnly      bool
}

// CreateTopicResponse is the topic that was made.
type CreateTopicResponse struct {
	Topic TopicInfo
}

// DeleteTopicRequest deletes a topic and frees its disk.
type DeleteTopicRequest struct {
	Name string
	ID   uuid.UUID // zero: whichever has the name now
}

// DeleteTopicResponse is empty.
type DeleteTopicResponse struct{}

// AlterTopicRequest changes configs. KIP-339: what is not named stays.
type AlterTopicRequest struct {
	Name         string
	Set          map[string]string
	Reset        []string // back to the default
	ValidateOnly bool
}

// AlterTopicResponse is the topic after the change.
type AlterTopicResponse struct {
	Topic TopicInfo
}

// AddPartitionsRequest raises the number of partitions to Total.
type AddPartitionsRequest struct {
	Name         string
	Total        int32
	ValidateOnly bool
}

// AddPartitionsResponse is the topic after the change.
type AddPartitionsResponse struct {
	Topic TopicInfo
}

// TrimTopicRequest deletes records below an offset. Kafka: DeleteRecords.
type TrimTopicRequest struct {
	Partitions []TrimPartition
}

// TrimPartition is the new log start of a partition; -1 means the high watermark.
type TrimPartition struct {
	TopicPartition
	Offset int64
}

// TrimTopicResponse has a result for each partition, in order.
type TrimTopicResponse struct {
	Partitions []TrimResult
}

// TrimResult is the log start after the trim.
type TrimResult struct {
	TopicPartition
	LogStart int64
	Err      error
}
