package transport

import (
	"context"
	"errors"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

// service is the mq.v1.Broker of a Server. Its unary methods return the
// errors of the broker; the Server's interceptor makes statuses of them.
type service struct {
	mqpb.UnimplementedBrokerServer
	server *Server
	broker api.Broker
}

// answer runs one unary call: decode, ask the broker, encode.
func answer[Q, A, MQ, MA any](
	ctx context.Context, codec wire.Codec[Q, A, MQ, MA], ask func(context.Context, *Q) (*A, error), m *MQ,
) (*MA, error) {
	q, err := codec.DecodeRequest(m)
	if err != nil {
		return nil, err
	}
	a, err := ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return codec.EncodeAnswer(a), nil
}

// waiting is answer for calls that wait for something to happen: the wait ends
// when the Server begins to shut down.
func waiting[Q, A, MQ, MA any](
	ctx context.Context, server *Server, codec wire.Codec[Q, A, MQ, MA], ask func(context.Context, *Q) (*A, error), m *MQ,
) (*MA, error) {
	ctx, cancel := server.untilDraining(ctx)
	defer cancel()
	a, err := answer(ctx, codec, ask, m)
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = errStopping
	}
	return a, err
}

// Metadata implements mqpb.BrokerServer.
func (s *service) Metadata(ctx context.Context, m *mqpb.MetadataRequest) (*mqpb.MetadataResponse, error) {
	return answer(ctx, wire.Metadata, s.broker.Metadata, m)
}

// Fetch also ends its wait when the Server begins to shut down.
func (s *service) Fetch(ctx context.Context, m *mqpb.FetchRequest) (*mqpb.FetchResponse, error) {
	m.MaxBytes = min(m.MaxBytes, int64(s.server.cfg.MaxFetchBytes))
	return waiting(ctx, s.server, wire.Fetch, s.broker.Fetch, m)
}

// ListOffsets implements mqpb.BrokerServer.
func (s *service) ListOffsets(ctx context.Context, m *mqpb.ListOffsetsRequest) (*mqpb.ListOffsetsResponse, error) {
	return answer(ctx, wire.ListOffsets, s.broker.ListOffsets, m)
}

// EpochEnds implements mqpb.BrokerServer.
func (s *service) EpochEnds(ctx context.Context, m *mqpb.EpochEndsRequest) (*mqpb.EpochEndsResponse, error) {
	return answer(ctx, wire.EpochEnds, s.broker.EpochEnds, m)
}

// RemoveBroker implements mqpb.BrokerServer.
func (s *service) RemoveBroker(ctx context.Context, m *mqpb.RemoveBrokerRequest) (*mqpb.RemoveBrokerResponse, error) {
	return answer(ctx, wire.RemoveBroker, s.broker.RemoveBroker, m)
}

// TransferLeader implements mqpb.BrokerServer.
func (s *service) TransferLeader(ctx context.Context, m *mqpb.TransferLeaderRequest) (*mqpb.TransferLeaderResponse, error) {
	return answer(ctx, wire.TransferLeader, s.broker.TransferLeader, m)
}

// MoveReplica implements mqpb.BrokerServer.
func (s *service) MoveReplica(ctx context.Context, m *mqpb.MoveReplicaRequest) (*mqpb.MoveReplicaResponse, error) {
	return answer(ctx, wire.MoveReplica, s.broker.MoveReplica, m)
}

// DescribeCluster implements mqpb.BrokerServer.
func (s *service) DescribeCluster(ctx context.Context, m *mqpb.DescribeClusterRequest) (*mqpb.DescribeClusterResponse, error) {
	return answer(ctx, wire.DescribeCluster, s.broker.DescribeCluster, m)
}

// DescribeLogs implements mqpb.BrokerServer.
func (s *service) DescribeLogs(ctx context.Context, m *mqpb.DescribeLogsRequest) (*mqpb.DescribeLogsResponse, error) {
	return answer(ctx, wire.DescribeLogs, s.broker.DescribeLogs, m)
}

// InitProducer implements mqpb.BrokerServer.
func (s *service) InitProducer(ctx context.Context, m *mqpb.InitProducerRequest) (*mqpb.InitProducerResponse, error) {
	return answer(ctx, wire.InitProducer, s.broker.InitProducer, m)
}

// GroupHeartbeat also ends its wait when the Server begins to shut down.
func (s *service) GroupHeartbeat(ctx context.Context, m *mqpb.GroupHeartbeatRequest) (*mqpb.GroupHeartbeatResponse, error) {
	return waiting(ctx, s.server, wire.GroupHeartbeat, s.broker.GroupHeartbeat, m)
}

// CommitOffsets implements mqpb.BrokerServer.
func (s *service) CommitOffsets(ctx context.Context, m *mqpb.CommitOffsetsRequest) (*mqpb.CommitOffsetsResponse, error) {
	return answer(ctx, wire.CommitOffsets, s.broker.CommitOffsets, m)
}

// FetchOffsets implements mqpb.BrokerServer.
func (s *service) FetchOffsets(ctx context.Context, m *mqpb.FetchOffsetsRequest) (*mqpb.FetchOffsetsResponse, error) {
	return answer(ctx, wire.FetchOffsets, s.broker.FetchOffsets, m)
}

// DeleteOffsets implements mqpb.BrokerServer.
func (s *service) DeleteOffsets(ctx context.Context, m *mqpb.DeleteOffsetsRequest) (*mqpb.DeleteOffsetsResponse, error) {
	return answer(ctx, wire.DeleteOffsets, s.broker.DeleteOffsets, m)
}

// ListGroups implements mqpb.BrokerServer.
func (s *service) ListGroups(ctx context.Context, m *mqpb.ListGroupsRequest) (*mqpb.ListGroupsResponse, error) {
	return answer(ctx, wire.ListGroups, s.broker.ListGroups, m)
}

// DescribeGroup implements mqpb.BrokerServer.
func (s *service) DescribeGroup(ctx context.Context, m *mqpb.DescribeGroupRequest) (*mqpb.DescribeGroupResponse, error) {
	return answer(ctx, wire.DescribeGroup, s.broker.DescribeGroup, m)
}

// DeleteGroup implements mqpb.BrokerServer.
func (s *service) DeleteGroup(ctx context.Context, m *mqpb.DeleteGroupRequest) (*mqpb.DeleteGroupResponse, error) {
	return answer(ctx, wire.DeleteGroup, s.broker.DeleteGroup, m)
}

// CreateTopic implements mqpb.BrokerServer.
func (s *service) CreateTopic(ctx context.Context, m *mqpb.CreateTopicRequest) (*mqpb.CreateTopicResponse, error) {
	return answer(ctx, wire.CreateTopic, s.broker.CreateTopic, m)
}

// DeleteTopic implements mqpb.BrokerServer.
func (s *service) DeleteTopic(ctx context.Context, m *mqpb.DeleteTopicRequest) (*mqpb.DeleteTopicResponse, error) {
	return answer(ctx, wire.DeleteTopic, s.broker.DeleteTopic, m)
}

// AlterTopic implements mqpb.BrokerServer.
func (s *service) AlterTopic(ctx context.Context, m *mqpb.AlterTopicRequest) (*mqpb.AlterTopicResponse, error) {
	return answer(ctx, wire.AlterTopic, s.broker.AlterTopic, m)
}

// AddPartitions implements mqpb.BrokerServer.
func (s *service) AddPartitions(ctx context.Context, m *mqpb.AddPartitionsRequest) (*mqpb.AddPartitionsResponse, error) {
	return answer(ctx, wire.AddPartitions, s.broker.AddPartitions, m)
}

// TrimTopic implements mqpb.BrokerServer.
func (s *service) TrimTopic(ctx context.Context, m *mqpb.TrimTopicRequest) (*mqpb.TrimTopicResponse, error) {
	return answer(ctx, wire.TrimTopic, s.broker.TrimTopic, m)
}
