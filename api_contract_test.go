package mq_test

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cluster/network"
)

// The functions and methods that programs are written against. What is here
// changes only with a major version.
var (
	_ func(context.Context, mq.BrokerConfig) (*mq.Broker, error)              = mq.OpenBroker
	_ func(*mq.Broker, context.Context) error                                 = (*mq.Broker).WaitReady
	_ func(*mq.Broker) string                                                 = (*mq.Broker).Addr
	_ func(*mq.Broker) string                                                 = (*mq.Broker).PeerAddr
	_ func(*mq.Broker) string                                                 = (*mq.Broker).DirectoryID
	_ func() mq.Network                                                       = mq.NewNetwork
	_ func(*mq.Broker) bool                                                   = (*mq.Broker).Durable
	_ func(*mq.Broker) mq.BrokerStats                                         = (*mq.Broker).Stats
	_ func(*mq.Broker) http.Handler                                           = (*mq.Broker).MetricsHandler
	_ func(*mq.Broker) prometheus.Gatherer                                    = (*mq.Broker).MetricsGatherer
	_ func(*mq.Broker, context.Context) error                                 = (*mq.Broker).Shutdown
	_ func(*mq.Broker) error                                                  = (*mq.Broker).Close
	_ func(*mq.Broker) <-chan struct{}                                        = (*mq.Broker).Done
	_ func(*mq.Broker) error                                                  = (*mq.Broker).Err
	_ func(context.Context, mq.ClientConfig) (*mq.Client, error)              = mq.Dial
	_ func(mq.BrokerConfig) (mq.BrokerConfig, error)                          = mq.BrokerConfig.Complete
	_ func(mq.ClientConfig) (mq.ClientConfig, error)                          = mq.ClientConfig.Complete
	_ func(mq.ProducerConfig) (mq.ProducerConfig, error)                      = mq.ProducerConfig.Complete
	_ func(mq.ConsumerConfig) (mq.ConsumerConfig, error)                      = mq.ConsumerConfig.Complete
	_ func(*mq.Client) error                                                  = (*mq.Client).Close
	_ func() string                                                           = mq.Version
	_ func(mq.Endpoint, mq.ProducerConfig) (*mq.Producer, error)              = mq.NewProducer
	_ func(*mq.Producer, context.Context, *mq.Record) error                   = (*mq.Producer).Send
	_ func(*mq.Producer, context.Context, ...*mq.Record) error                = (*mq.Producer).SendBatch
	_ func(*mq.Producer, *mq.Record, func(*mq.Record, error)) error           = (*mq.Producer).TrySend
	_ func(*mq.Producer, context.Context) error                               = (*mq.Producer).Flush
	_ func(*mq.Producer, context.Context) error                               = (*mq.Producer).Shutdown
	_ func(*mq.Producer) error                                                = (*mq.Producer).Close
	_ func() mq.Partitioner                                                   = mq.HashKeys
	_ func() mq.Partitioner                                                   = mq.RoundRobin
	_ func(int32) mq.Partitioner                                              = mq.FixedPartition
	_ func(mq.Endpoint, mq.ConsumerConfig) (*mq.Consumer, error)              = mq.NewConsumer
	_ func(*mq.Consumer, context.Context, mq.Handler) error                   = (*mq.Consumer).Run
	_ func(*mq.Consumer, context.Context) iter.Seq2[*mq.Record, error]        = (*mq.Consumer).Messages
	_ func(*mq.Consumer, context.Context, int) ([]*mq.Record, error)          = (*mq.Consumer).Poll
	_ func(*mq.Consumer, context.Context, ...*mq.Record) error                = (*mq.Consumer).Commit
	_ func(*mq.Consumer, ...mq.TopicPartition)                                = (*mq.Consumer).Pause
	_ func(*mq.Consumer, ...mq.TopicPartition)                                = (*mq.Consumer).Resume
	_ func(*mq.Consumer) []mq.TopicPartition                                  = (*mq.Consumer).Assignment
	_ func(*mq.Consumer) error                                                = (*mq.Consumer).Close
	_ func(int64) mq.Start                                                    = mq.StartAt
	_ func(time.Time) mq.Start                                                = mq.StartAtTime
	_ func(mq.Endpoint) *mq.Admin                                             = mq.NewAdmin
	_ func(*mq.Admin, context.Context, mq.TopicSpec) (mq.TopicInfo, error)    = (*mq.Admin).CreateTopic
	_ func(*mq.Admin, context.Context, string) error                          = (*mq.Admin).DeleteTopic
	_ func(*mq.Admin, context.Context) ([]mq.TopicInfo, error)                = (*mq.Admin).ListTopics
	_ func(*mq.Admin, context.Context, string) (mq.TopicInfo, error)          = (*mq.Admin).DescribeTopic
	_ func(*mq.Admin, context.Context, string, int) (mq.TopicInfo, error)     = (*mq.Admin).AddPartitions
	_ func(*mq.Admin, context.Context) ([]mq.GroupInfo, error)                = (*mq.Admin).ListGroups
	_ func(*mq.Admin, context.Context, string) ([]mq.CommittedOffset, error)  = (*mq.Admin).CommittedOffsets
	_ func(*mq.Admin, context.Context, string) ([]mq.PartitionLag, error)     = (*mq.Admin).GroupLag
	_ func(*mq.Admin, context.Context) (mq.ClusterInfo, error)                = (*mq.Admin).DescribeCluster
	_ func(*mq.Admin, context.Context, int32) error                           = (*mq.Admin).RemoveBroker
	_ func(*mq.Admin, context.Context, mq.TopicPartition, int32) error        = (*mq.Admin).TransferLeader
	_ func(*mq.Admin, context.Context, mq.TopicPartition, int32, int32) error = (*mq.Admin).MoveReplica
	_ func(*mq.Admin, context.Context) (mq.ClusterHealth, error)              = (*mq.Admin).ClusterHealth
	_ func(mq.ClusterHealth) []string                                         = mq.ClusterHealth.Problems
	_ func(string) (mq.DataDirInfo, error)                                    = mq.InspectDataDir
	_ func(error) bool                                                        = mq.Retriable
	_ func(error) bool                                                        = mq.OutcomeUnknown
	_ func(error) error                                                       = mq.Permanent
	_ func(error) (int32, string, bool)                                       = mq.LeaderHint
	_ func(error) (int64, int64, bool)                                        = mq.OffsetRange

	_ func(*mq.Producer, context.Context, *mq.Record, func(*mq.Record, error))                     = (*mq.Producer).SendAsync
	_ func(*mq.Consumer, context.Context, mq.Start, ...mq.TopicPartition) error                    = (*mq.Consumer).Seek
	_ func(*mq.Consumer, context.Context) (map[mq.TopicPartition]int64, error)                     = (*mq.Consumer).Lag
	_ func(*mq.Admin, context.Context, string, map[string]string, ...string) (mq.TopicInfo, error) = (*mq.Admin).AlterTopic
	_ func(*mq.Admin, context.Context, string, mq.Start, ...int32) ([]mq.PartitionOffset, error)   = (*mq.Admin).TrimTopic
	_ func(*mq.Admin, context.Context, string, mq.Start, ...int32) ([]mq.PartitionOffset, error)   = (*mq.Admin).ListOffsets

	_ mq.Endpoint    = (*mq.Broker)(nil)
	_ mq.Endpoint    = (*mq.Client)(nil)
	_ mq.Handler     = mq.HandlerFunc(nil)
	_ mq.Partitioner = mq.HashKeys()
	_ error          = (*mq.BatchError)(nil)
	_ error          = (*mq.PartitionError)(nil)
	_ error          = (*mq.PanicError)(nil)

	_                                                                                                  = []mq.Acks{mq.AcksAll, mq.AcksLeader, mq.AcksNone}
	_                                                                                                  = []mq.Compression{mq.CompressionNone, mq.CompressionGzip, mq.CompressionSnappy, mq.CompressionLZ4, mq.CompressionZstd}
	_                                                                                                  = []mq.Start{mq.StartCommitted, mq.StartEarliest, mq.StartLatest}
	_ func(*mq.Admin, context.Context, string) (mq.GroupDescription, error)                            = (*mq.Admin).DescribeGroup
	_ func(*mq.Admin, context.Context, string) error                                                   = (*mq.Admin).DeleteGroup
	_ func(*mq.Admin, context.Context, string, ...mq.TopicPartition) error                             = (*mq.Admin).DeleteOffsets
	_ func(*mq.Admin, context.Context, string, mq.Start, ...mq.TopicPartition) ([]mq.GroupSeek, error) = (*mq.Admin).PlanGroupSeek
	_ func(*mq.Admin, context.Context, string, []mq.GroupSeek, bool) error                             = (*mq.Admin).SeekGroup
	_ mq.RebalanceHook                                                                                 = aHook
	_                                                                                                  = []mq.GroupState{mq.GroupEmpty, mq.GroupReconciling, mq.GroupStable}
	_                                                                                                  = []mq.ResetPolicy{mq.ResetEarliest, mq.ResetLatest, mq.ResetNone, mq.ResetAgo(0)}
	_                                                                                                  = []mq.Isolation{mq.ReadUncommitted, mq.ReadCommitted}
	_                                                                                                  = []mq.ReadFrom{mq.ReadLeader, mq.ReadNearest}
	_                                                                                                  = []string{
		mq.HeaderDeadLetterError, mq.HeaderDeadLetterTopic, mq.HeaderDeadLetterPartition, mq.HeaderDeadLetterOffset,
		mq.HeaderDeadLetterTimestamp, mq.HeaderDeadLetterGroup, mq.HeaderDeadLetterAttempts,
	}
	_ = []string{mq.ConfigRetentionMs, mq.ConfigRetentionBytes, mq.ConfigMaxMessageBytes, mq.ConfigTimestampType}
)

func aHook(context.Context, []mq.TopicPartition) {}

// Every field of every struct that programs fill in or read. A zero value here
// is a field that is missing in the contract.
var contract = []any{
	mq.BrokerConfig{
		ID: 1, DataDir: "d", Listen: "l:1", Advertise: "a:1", Rack: "r", TLS: &tls.Config{}, DisableAutoCreate: true, DefaultPartitions: 1,
		MaxMemory: 1, MaxInFlightBytes: 1, MinFreeBytes: 1, RetentionInterval: 1, MaxGroupMembers: 1, OffsetsRetention: 1, CloseTimeout: 1, Logger: slog.Default(),
		Cluster: mq.ClusterConfig{Listen: "l:1"},
	},
	mq.ClusterConfig{
		Listen: "l:1", Advertise: "a:1", Seeds: []string{"s:1"}, Bootstrap: true, CatchUpBytesPerSecond: 1, TLS: &tls.Config{}, Network: mq.NewNetwork(), Faults: network.NewFaults(1),
	},
	mq.ClientConfig{Brokers: []string{"a:1"}, Timeout: 1, MaxRetries: 1, TLS: &tls.Config{}, Logger: slog.Default()},
	mq.ProducerConfig{
		Topic: "t", Partitioner: mq.HashKeys(), Acks: mq.AcksNone, Compression: mq.CompressionZstd, Linger: 1, BatchSize: 1, BatchBytes: 1,
		MaxRecordBytes: 1, MaxInFlight: 1, MaxBufferedRecords: 1, MaxBufferedBytes: 1, Timeout: 1, DeliveryTimeout: 1, CloseTimeout: 1,
		Logger: slog.Default(),
	},
	mq.ConsumerConfig{
		Topics: []string{"t"}, Partitions: []int32{1}, GroupID: "g", Start: mq.StartLatest, Reset: mq.ResetNone, Isolation: mq.ReadCommitted, ReadFrom: mq.ReadNearest, Rack: "r",
		TopicPattern: "p", InstanceID: "i", ClientID: "c", SessionTimeout: 1, RebalanceTimeout: 1, Assignor: mq.AssignRange,
		OnAssigned: aHook, OnRevoked: aHook, OnLost: aHook,
		MaxBytes: 1, MinBytes: 1, MaxWait: 1, PollInterval: 1, MaxBufferedBytes: 1, AutoCommitInterval: 1, Timeout: 1, CloseTimeout: 1,
		Concurrency: 1, Retry: mq.RetryPolicy{MaxAttempts: 1}, DeadLetterTopic: "d", Logger: slog.Default(),
	},
	mq.RetryPolicy{MaxAttempts: 1, Backoff: 1, MaxBackoff: 1},
	mq.Record{
		Topic: "t", Partition: 1, Offset: 1, LeaderEpoch: 1, Key: []byte{1}, Value: []byte{1},
		Headers: []mq.Header{{Key: "k", Value: []byte{1}}}, Timestamp: time.Now(),
	},
	mq.Header{Key: "k", Value: []byte{1}},
	mq.TopicPartition{Topic: "t", Partition: 1},
	mq.TopicSpec{Name: "t", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"k": "v"}},
	mq.TopicInfo{Name: "t", ID: "i", Partitions: []mq.PartitionInfo{{}}, Configs: map[string]string{"k": "v"}},
	mq.PartitionInfo{Partition: 1, Leader: 1, LeaderEpoch: 1, Replicas: []int32{1}, LogStart: 1, HighWatermark: 1, SizeBytes: 1, ReplicaLogs: []mq.ReplicaLog{{}}},
	mq.ReplicaLog{Broker: 1, Learner: true, HighWatermark: 1, Lag: 1},
	mq.PartitionOffset{Partition: 1, Offset: 1, Timestamp: time.Now(), LeaderEpoch: 1},
	mq.ClusterInfo{ID: "i", Controller: 1, Brokers: []mq.BrokerInfo{{}}},
	mq.BrokerInfo{ID: 1, Addr: "a", Rack: "r"},
	mq.ClusterHealth{ID: "i", Controller: 1, Brokers: []mq.BrokerHealth{{}}, Leaderless: []string{"t/0"}, UnderReplicated: []string{"t/0"}, Diverged: []string{"t/0 on broker 2"}, FeatureLevel: 1},
	mq.BrokerHealth{
		BrokerInfo: mq.BrokerInfo{ID: 1}, PeerAddr: "p", DirectoryID: "d", Reachable: true, MetadataVoter: true, Replicas: 1, Leaders: 1,
		Behind: 1, Waiting: "w", Fenced: "f", Damaged: []string{"t/0: why"}, Leaving: true, FeatureLevel: 1,
	},
	mq.GroupInfo{GroupID: "g", State: mq.GroupStable, Members: 1},
	mq.GroupDescription{
		GroupID: "g", State: mq.GroupReconciling, Coordinator: 1, Epoch: 1, AssignmentEpoch: 1, Assignor: mq.AssignUniform,
		Members: []mq.GroupMember{{}},
	},
	mq.GroupMember{
		MemberID: "m", InstanceID: "i", ClientID: "c", Epoch: 1, Topics: []string{"t"}, TopicPattern: "p", Assignor: mq.AssignRange,
		SessionTimeout: 1, RebalanceTimeout: 1, Assigned: []mq.TopicPartition{{}}, Target: []mq.TopicPartition{{}}, Revoking: []mq.TopicPartition{{}},
	},
	mq.GroupSeek{Topic: "t", Partition: 1, From: 1, To: 1},
	mq.CommittedOffset{
		Topic: "t", TopicID: "i", Partition: 1, Offset: 1, LeaderEpoch: 1, Metadata: "m", CommitTime: time.Now(),
	},
	mq.DataDirInfo{Format: 1, DirectoryID: "i", ClusterID: "i", BrokerID: 1},
	mq.PartitionLag{
		Topic: "t", Partition: 1, CommittedOffset: 1, CommitTime: time.Now(), LogStart: 1, HighWatermark: 1, Lag: 1,
	},
	mq.BatchError{Errs: []error{nil}},
	mq.PartitionError{TopicPartition: mq.TopicPartition{Topic: "t"}, Offset: 1, Next: 1, Err: mq.ErrClosed},
	mq.PanicError{Value: 1, Stack: []byte{1}},
	mq.BrokerStats{
		Brokers: 1, Topics: []mq.TopicStats{{Name: "t", Partitions: 1}}, Leaderless: 1, UnderReplicated: 1, ProposalsDropped: 1,
		SnapshotsSent: 1, SnapshotsReceived: 1, ProduceFailures: []mq.ProduceFailures{{Topic: "t", Reason: "r", Batches: 1}},
		Groups:     []mq.GroupStats{{Group: "g", Members: 1, Rebalances: 1, Partitions: []mq.GroupPartitionStats{{}}}},
		Partitions: []mq.PartitionStats{{}}, Connections: 1, RequestsInFlight: 1, InFlightBytes: 1, HeldBytes: 1, RaftLogBytes: 1,
		StorageBytes: 1, StorageFsyncs: 1, StorageFsyncTime: 1, StorageL0Files: 1, DiskFreeBytes: 1, LeaderChanges: 1, RaftSnapshots: 1,
		DamagedReplicas: 1, ReplacedReplicas: 1, DivergedReplicas: 1, ProduceRefused: 1, Fenced: mq.ErrBusy,
	},
	mq.GroupPartitionStats{Topic: "t", Partition: 1, Committed: 1, Lag: 1},
	mq.PartitionStats{
		Topic: "t", Partition: 1, EndOffset: 1, Leader: true, LeaderEpoch: 1, LogStart: 1, HighWatermark: 1, SizeBytes: 1,
		RecordsIn: 1, BytesIn: 1, RecordsOut: 1, BytesOut: 1, Duplicates: 1,
	},
}

func TestContractNamesEveryField(t *testing.T) {
	t.Parallel()
	for _, c := range contract {
		v := reflect.ValueOf(c)
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && v.Field(i).IsZero() {
				t.Errorf("%v.%s is not in the contract", v.Type(), f.Name)
			}
		}
	}
}

var yamlKey = regexp.MustCompile(`^(-|[a-z]+(_[a-z]+)*)$`)

func TestEveryConfigFieldHasAYAMLKey(t *testing.T) {
	t.Parallel()
	for _, c := range []any{mq.BrokerConfig{}, mq.ClientConfig{}, mq.ProducerConfig{}, mq.ConsumerConfig{}, mq.RetryPolicy{}, mq.TopicSpec{}} {
		keys := map[string]bool{}
		for _, f := range reflect.VisibleFields(reflect.TypeOf(c)) {
			key := f.Tag.Get("yaml")
			if !yamlKey.MatchString(key) {
				t.Errorf("%T.%s has YAML key %q", c, f.Name, key)
			}
			if key != "-" && keys[key] {
				t.Errorf("%T has %q twice", c, key)
			}
			keys[key] = true
		}
	}
}

// What works with its zero value, or needs only what its comment says.
func TestZeroConfigsAreValid(t *testing.T) {
	t.Parallel()
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := mq.NewProducer(b, mq.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := mq.NewConsumer(b, mq.ConsumerConfig{Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), p.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = mq.NewConsumer(b, mq.ConsumerConfig{})
	wantError(t, err, mq.ErrInvalidConfig)
	_, err = mq.Dial(soon(t), mq.ClientConfig{})
	wantError(t, err, mq.ErrInvalidConfig)
}

// Every sentinel is of the class that its comment names.
func TestClassesOfErrors(t *testing.T) {
	t.Parallel()
	const retriable, unknown, neither = "retriable", "unknown", "neither"
	for err, want := range map[error]string{
		mq.ErrUnknownTopicOrPartition: retriable, mq.ErrUnknownTopicID: retriable, mq.ErrLeaderNotAvailable: retriable,
		mq.ErrNotLeader: retriable, mq.ErrNotCoordinator: retriable, mq.ErrFencedLeaderEpoch: retriable, mq.ErrNoQuorum: retriable,
		mq.ErrCoordinatorLoading: retriable, mq.ErrBusy: retriable, mq.ErrDiskFull: retriable, mq.ErrCorruptBatch: retriable,
		mq.ErrTimeout: unknown, mq.ErrRebalanceInProgress: neither, mq.ErrStaleMemberEpoch: neither, mq.ErrUnknownMember: neither,
		mq.ErrFencedMemberEpoch: neither, mq.ErrNonEmptyGroup: neither, mq.ErrGroupSubscribed: neither, mq.ErrGroupMaxSize: neither,
		mq.ErrInstanceInUse: neither, mq.ErrInstanceFenced: neither, mq.ErrUnsupportedAssignor: neither, mq.ErrInvalidPattern: neither,
		mq.ErrOffsetOutOfRange: neither, mq.ErrRecordTooLarge: neither, mq.ErrInvalidTopic: neither, mq.ErrInvalidConfig: neither,
		mq.ErrInvalidPartitions: neither, mq.ErrInvalidReplicationFactor: neither, mq.ErrInvalidRecord: neither,
		mq.ErrInvalidGroupID: neither, mq.ErrOffsetMetadataTooLarge: neither, mq.ErrUnknownGroup: neither, mq.ErrInvalidRequest: neither,
		mq.ErrUnsupportedVersion: neither, mq.ErrUnsupportedCompression: neither, mq.ErrTopicExists: neither,
		mq.ErrOutOfOrderSequence: neither, mq.ErrProducerFenced: neither, mq.ErrCorruptLog: neither, mq.ErrInternal: neither,
		mq.ErrClosed: neither, mq.ErrBufferFull: neither, mq.ErrDirInUse: neither, mq.ErrNewerFormat: neither,
		mq.ErrForeignDir: neither, mq.ErrAddrInUse: neither, mq.ErrHandlerPanicked: neither,
	} {
		got := neither
		switch {
		case mq.Retriable(err) && mq.OutcomeUnknown(err):
			got = "both"
		case mq.Retriable(err):
			got = retriable
		case mq.OutcomeUnknown(err):
			got = unknown
		}
		if got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
	if mq.Retriable(nil) || mq.OutcomeUnknown(nil) {
		t.Error("nil has a class")
	}
}
