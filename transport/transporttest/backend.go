// Package transporttest checks doors of an api.Broker: what is said through
// the door must arrive, and so must the answer. Run is the suite; Backend is
// the broker behind the door.
package transporttest

import (
	"context"
	"fmt"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// Backend is an api.Broker made of functions, one for each method. A method
// without one fails with ErrUnsupportedVersion. The functions must be set
// before the first call.
type Backend struct {
	MetadataFunc        func(context.Context, *api.MetadataRequest) (*api.MetadataResponse, error)
	ProduceFunc         func(context.Context, *api.ProduceRequest, func(*api.ProduceResponse, error))
	FetchFunc           func(context.Context, *api.FetchRequest) (*api.FetchResponse, error)
	ListOffsetsFunc     func(context.Context, *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error)
	EpochEndsFunc       func(context.Context, *api.EpochEndsRequest) (*api.EpochEndsResponse, error)
	TransferLeaderFunc  func(context.Context, *api.TransferLeaderRequest) (*api.TransferLeaderResponse, error)
	MoveReplicaFunc     func(context.Context, *api.MoveReplicaRequest) (*api.MoveReplicaResponse, error)
	RemoveBrokerFunc    func(context.Context, *api.RemoveBrokerRequest) (*api.RemoveBrokerResponse, error)
	DescribeClusterFunc func(context.Context, *api.DescribeClusterRequest) (*api.DescribeClusterResponse, error)
	DescribeLogsFunc    func(context.Context, *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error)
	InitProducerFunc    func(context.Context, *api.InitProducerRequest) (*api.InitProducerResponse, error)
	GroupHeartbeatFunc  func(context.Context, *api.GroupHeartbeatRequest) (*api.GroupHeartbeatResponse, error)
	DeleteOffsetsFunc   func(context.Context, *api.DeleteOffsetsRequest) (*api.DeleteOffsetsResponse, error)
	DescribeGroupFunc   func(context.Context, *api.DescribeGroupRequest) (*api.DescribeGroupResponse, error)
	DeleteGroupFunc     func(context.Context, *api.DeleteGroupRequest) (*api.DeleteGroupResponse, error)
	CommitOffsetsFunc   func(context.Context, *api.CommitOffsetsRequest) (*api.CommitOffsetsResponse, error)
	FetchOffsetsFunc    func(context.Context, *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error)
	ListGroupsFunc      func(context.Context, *api.ListGroupsRequest) (*api.ListGroupsResponse, error)
	CreateTopicFunc     func(context.Context, *api.CreateTopicRequest) (*api.CreateTopicResponse, error)
	DeleteTopicFunc     func(context.Context, *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error)
	AlterTopicFunc      func(context.Context, *api.AlterTopicRequest) (*api.AlterTopicResponse, error)
	AddPartitionsFunc   func(context.Context, *api.AddPartitionsRequest) (*api.AddPartitionsResponse, error)
	TrimTopicFunc       func(context.Context, *api.TrimTopicRequest) (*api.TrimTopicResponse, error)
}

var _ api.Broker = (*Backend)(nil)

func run[Q, A any](ctx context.Context, f func(context.Context, *Q) (*A, error), q *Q) (*A, error) {
	if f == nil {
		return nil, fmt.Errorf("%w: no function for %T", mqerr.ErrUnsupportedVersion, q)
	}
	return f(ctx, q)
}

// Produce implements api.Broker.
func (b *Backend) Produce(ctx context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
	if b.ProduceFunc == nil {
		done(nil, fmt.Errorf("%w: no function for %T", mqerr.ErrUnsupportedVersion, q))
		return
	}
	b.ProduceFunc(ctx, q, done)
}

// Metadata implements api.Broker.
func (b *Backend) Metadata(ctx context.Context, q *api.MetadataRequest) (*api.MetadataResponse, error) {
	return run(ctx, b.MetadataFunc, q)
}

// Fetch implements api.Broker.
func (b *Backend) Fetch(ctx context.Context, q *api.FetchRequest) (*api.FetchResponse, error) {
	return run(ctx, b.FetchFunc, q)
}

// ListOffsets implements api.Broker.
func (b *Backend) ListOffsets(ctx context.Context, q *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error) {
	return run(ctx, b.ListOffsetsFunc, q)
}

// EpochEnds implements api.Broker.
func (b *Backend) EpochEnds(ctx context.Context, q *api.EpochEndsRequest) (*api.EpochEndsResponse, error) {
	return run(ctx, b.EpochEndsFunc, q)
}

// TransferLeader implements api.Broker.
func (b *Backend) TransferLeader(ctx context.Context, q *api.TransferLeaderRequest) (*api.TransferLeaderResponse, error) {
	return run(ctx, b.TransferLeaderFunc, q)
}

// MoveReplica implements api.Broker.
func (b *Backend) MoveReplica(ctx context.Context, q *api.MoveReplicaRequest) (*api.MoveReplicaResponse, error) {
	return run(ctx, b.MoveReplicaFunc, q)
}

// RemoveBroker implements api.Broker.
func (b *Backend) RemoveBroker(ctx context.Context, q *api.RemoveBrokerRequest) (*api.RemoveBrokerResponse, error) {
	return run(ctx, b.RemoveBrokerFunc, q)
}

// DescribeCluster implements api.Broker.
func (b *Backend) DescribeCluster(ctx context.Context, q *api.DescribeClusterRequest) (*api.DescribeClusterResponse, error) {
	return run(ctx, b.DescribeClusterFunc, q)
}

// DescribeLogs implements api.Broker.
func (b *Backend) DescribeLogs(ctx context.Context, q *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error) {
	return run(ctx, b.DescribeLogsFunc, q)
}

// InitProducer implements api.Broker.
func (b *Backend) InitProducer(ctx context.Context, q *api.InitProducerRequest) (*api.InitProducerResponse, error) {
	return run(ctx, b.InitProducerFunc, q)
}

// GroupHeartbeat implements api.Broker.
func (b *Backend) GroupHeartbeat(ctx context.Context, q *api.GroupHeartbeatRequest) (*api.GroupHeartbeatResponse, error) {
	return run(ctx, b.GroupHeartbeatFunc, q)
}

// DeleteOffsets implements api.Broker.
func (b *Backend) DeleteOffsets(ctx context.Context, q *api.DeleteOffsetsRequest) (*api.DeleteOffsetsResponse, error) {
	return run(ctx, b.DeleteOffsetsFunc, q)
}

// DescribeGroup implements api.Broker.
func (b *Backend) DescribeGroup(ctx context.Context, q *api.DescribeGroupRequest) (*api.DescribeGroupResponse, error) {
	return run(ctx, b.DescribeGroupFunc, q)
}

// DeleteGroup implements api.Broker.
func (b *Backend) DeleteGroup(ctx context.Context, q *api.DeleteGroupRequest) (*api.DeleteGroupResponse, error) {
	return run(ctx, b.DeleteGroupFunc, q)
}

// CommitOffsets implements api.Broker.
func (b *Backend) CommitOffsets(ctx context.Context, q *api.CommitOffsetsRequest) (*api.CommitOffsetsResponse, error) {
	return run(ctx, b.CommitOffsetsFunc, q)
}

// FetchOffsets implements api.Broker.
func (b *Backend) FetchOffsets(ctx context.Context, q *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error) {
	return run(ctx, b.FetchOffsetsFunc, q)
}

// ListGroups implements api.Broker.
func (b *Backend) ListGroups(ctx context.Context, q *api.ListGroupsRequest) (*api.ListGroupsResponse, error) {
	return run(ctx, b.ListGroupsFunc, q)
}

// CreateTopic implements api.Broker.
func (b *Backend) CreateTopic(ctx context.Context, q *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
	return run(ctx, b.CreateTopicFunc, q)
}

// DeleteTopic implements api.Broker.
func (b *Backend) DeleteTopic(ctx context.Context, q *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error) {
	return run(ctx, b.DeleteTopicFunc, q)
}

// AlterTopic implements api.Broker.
func (b *Backend) AlterTopic(ctx context.Context, q *api.AlterTopicRequest) (*api.AlterTopicResponse, error) {
	return run(ctx, b.AlterTopicFunc, q)
}

// AddPartitions implements api.Broker.
func (b *Backend) AddPartitions(ctx context.Context, q *api.AddPartitionsRequest) (*api.AddPartitionsResponse, error) {
	return run(ctx, b.AddPartitionsFunc, q)
}

// TrimTopic implements api.Broker.
func (b *Backend) TrimTopic(ctx context.Context, q *api.TrimTopicRequest) (*api.TrimTopicResponse, error) {
	return run(ctx, b.TrimTopicFunc, q)
}
