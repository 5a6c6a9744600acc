package transport

import (
	"context"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/wire"
)

// effect is what a call may do at the broker.
type effect uint8

const (
	reads  effect = iota // nothing, or nothing that repeating it would change
	writes               // its outcome matters
	admin                // writes, and gets a default deadline
)

// Metadata implements api.Broker.
func (c *Client) Metadata(ctx context.Context, q *api.MetadataRequest) (*api.MetadataResponse, error) {
	return call(ctx, c, reads, wire.Metadata, c.rpc.Metadata, q)
}

// Fetch implements api.Broker.
func (c *Client) Fetch(ctx context.Context, q *api.FetchRequest) (*api.FetchResponse, error) {
	return call(ctx, c, reads, wire.Fetch, c.rpc.Fetch, q)
}

// ListOffsets implements api.Broker.
func (c *Client) ListOffsets(ctx context.Context, q *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error) {
	return call(ctx, c, reads, wire.ListOffsets, c.rpc.ListOffsets, q)
}

// EpochEnds implements api.Broker.
func (c *Client) EpochEnds(ctx context.Context, q *api.EpochEndsRequest) (*api.EpochEndsResponse, error) {
	return call(ctx, c, reads, wire.EpochEnds, c.rpc.EpochEnds, q)
}

// TransferLeader implements api.Broker.
func (c *Client) TransferLeader(ctx context.Context, q *api.TransferLeaderRequest) (*api.TransferLeaderResponse, error) {
	return call(ctx, c, writes, wire.TransferLeader, c.rpc.TransferLeader, q)
}

// MoveReplica implements api.Broker.
func (c *Client) MoveReplica(ctx context.Context, q *api.MoveReplicaRequest) (*api.MoveReplicaResponse, error) {
	return call(ctx, c, writes, wire.MoveReplica, c.rpc.MoveReplica, q)
}

// RemoveBroker implements api.Broker.
func (c *Client) RemoveBroker(ctx context.Context, q *api.RemoveBrokerRequest) (*api.RemoveBrokerResponse, error) {
	return call(ctx, c, writes, wire.RemoveBroker, c.rpc.RemoveBroker, q)
}

// DescribeCluster implements api.Broker.
func (c *Client) DescribeCluster(ctx context.Context, q *api.DescribeClusterRequest) (*api.DescribeClusterResponse, error) {
	return call(ctx, c, reads, wire.DescribeCluster, c.rpc.DescribeCluster, q)
}

// DescribeLogs implements api.Broker.
func (c *Client) DescribeLogs(ctx context.Context, q *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error) {
	return call(ctx, c, reads, wire.DescribeLogs, c.rpc.DescribeLogs, q)
}

// InitProducer counts as a read: an id that gets lost harms nobody.
func (c *Client) InitProducer(ctx context.Context, q *api.InitProducerRequest) (*api.InitProducerResponse, error) {
	return call(ctx, c, reads, wire.InitProducer, c.rpc.InitProducer, q)
}

// GroupHeartbeat counts as a read: it says everything about the member each time.
func (c *Client) GroupHeartbeat(ctx context.Context, q *api.GroupHeartbeatRequest) (*api.GroupHeartbeatResponse, error) {
	return call(ctx, c, reads, wire.GroupHeartbeat, c.rpc.GroupHeartbeat, q)
}

// CommitOffsets implements api.Broker.
func (c *Client) CommitOffsets(ctx context.Context, q *api.CommitOffsetsRequest) (*api.CommitOffsetsResponse, error) {
	return call(ctx, c, writes, wire.CommitOffsets, c.rpc.CommitOffsets, q)
}

// FetchOffsets implements api.Broker.
func (c *Client) FetchOffsets(ctx context.Context, q *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error) {
	return call(ctx, c, reads, wire.FetchOffsets, c.rpc.FetchOffsets, q)
}

// DeleteOffsets implements api.Broker.
func (c *Client) DeleteOffsets(ctx context.Context, q *api.DeleteOffsetsRequest) (*api.DeleteOffsetsResponse, error) {
	return call(ctx, c, admin, wire.DeleteOffsets, c.rpc.DeleteOffsets, q)
}

// ListGroups implements api.Broker.
func (c *Client) ListGroups(ctx context.Context, q *api.ListGroupsRequest) (*api.ListGroupsResponse, error) {
	return call(ctx, c, reads, wire.ListGroups, c.rpc.ListGroups, q)
}

// DescribeGroup implements api.Broker.
func (c *Client) DescribeGroup(ctx context.Context, q *api.DescribeGroupRequest) (*api.DescribeGroupResponse, error) {
	return call(ctx, c, reads, wire.DescribeGroup, c.rpc.DescribeGroup, q)
}

// DeleteGroup implements api.Broker.
func (c *Client) DeleteGroup(ctx context.Context, q *api.DeleteGroupRequest) (*api.DeleteGroupResponse, error) {
	return call(ctx, c, admin, wire.DeleteGroup, c.rpc.DeleteGroup, q)
}

// CreateTopic implements api.Broker.
func (c *Client) CreateTopic(ctx context.Context, q *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
	return call(ctx, c, admin, wire.CreateTopic, c.rpc.CreateTopic, q)
}

// DeleteTopic implements api.Broker.
func (c *Client) DeleteTopic(ctx context.Context, q *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error) {
	return call(ctx, c, admin, wire.DeleteTopic, c.rpc.DeleteTopic, q)
}

// AlterTopic implements api.Broker.
func (c *Client) AlterTopic(ctx context.Context, q *api.AlterTopicRequest) (*api.AlterTopicResponse, error) {
	return call(ctx, c, admin, wire.AlterTopic, c.rpc.AlterTopic, q)
}

// AddPartitions implements api.Broker.
func (c *Client) AddPartitions(ctx context.Context, q *api.AddPartitionsRequest) (*api.AddPartitionsResponse, error) {
	return call(ctx, c, admin, wire.AddPartitions, c.rpc.AddPartitions, q)
}

// TrimTopic implements api.Broker.
func (c *Client) TrimTopic(ctx context.Context, q *api.TrimTopicRequest) (*api.TrimTopicResponse, error) {
	return call(ctx, c, admin, wire.TrimTopic, c.rpc.TrimTopic, q)
}

// call makes one unary call.
func call[Q, A, MQ, MA any](
	ctx context.Context, c *Client, does effect, codec wire.Codec[Q, A, MQ, MA],
	method func(context.Context, *MQ, ...grpc.CallOption) (*MA, error), q *Q,
) (*A, error) {
	if _, ok := ctx.Deadline(); !ok && does == admin && c.cfg.AdminTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.AdminTimeout)
		defer cancel()
	}
	rpcCtx, left := ctx, new(atomic.Bool)
	if does != reads {
		rpcCtx = context.WithValue(ctx, leftKey{}, left)
	}
	m := codec.EncodeRequest(q)
	answer, err := method(withVersion(rpcCtx), m)
	if err == nil {
		return codec.DecodeAnswer(answer)
	}
	if status.Code(err) == codes.Internal {
		if fault := unencodable(m); fault != nil {
			return nil, fmt.Errorf("%w: %w", mqerr.ErrInvalidRequest, fault)
		}
	}
	return nil, c.callError(ctx, err, left.Load())
}

// unencodable says why a request could not be sent, which is text that is not
// UTF-8. grpc tells that by words only, so this looks again.
func unencodable(m any) error {
	pm, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	_, err := proto.Marshal(pm)
	return err
}

// callError makes sense of the error of a call. unknown says that the request
// left and may have had an effect.
func (c *Client) callError(ctx context.Context, err error, unknown bool) error {
	if answered := wire.DecodeStatus(err); answered != nil {
		return answered
	}
	st := status.Convert(err)
	var cause error
	switch {
	case ctx.Err() != nil:
		cause = ctx.Err()
	case c.isClosed():
		cause = mqerr.ErrClosed
	case st.Code() == codes.DeadlineExceeded: // the broker's clock was faster
		cause = context.DeadlineExceeded
	case st.Code() == codes.Unavailable && !unknown:
		return fmt.Errorf("%w: %w", mqerr.ErrLeaderNotAvailable, c.fault(st))
	case st.Code() == codes.Unavailable, st.Code() == codes.Canceled:
		cause = mqerr.ErrLeaderNotAvailable
	case st.Code() == codes.Unimplemented:
		cause, unknown = mqerr.ErrUnsupportedVersion, false
	case st.Code() == codes.ResourceExhausted: // above the broker's limit of messages
		cause, unknown = mqerr.ErrInvalidRequest, false
	default:
		cause, unknown = mqerr.ErrInternal, false
	}
	switch {
	case unknown && mqerr.Of(cause) == nil: // the caller's context is part of the story
		return fmt.Errorf("%w: broker %s: %w", mqerr.ErrTimeout, c.addr, cause)
	case unknown:
		return fmt.Errorf("%w: broker %s: %s", mqerr.ErrTimeout, c.addr, st.Message())
	}
	return fmt.Errorf("%w: broker %s: %s", cause, c.addr, st.Message())
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// leftKey is the context key of the flag that a call's request left.
type leftKey struct{}

// departures is a stats.Handler that sets those flags.
type departures struct{}

// HandleRPC implements stats.Handler.
func (departures) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutPayload); !ok {
		return
	}
	if left, ok := ctx.Value(leftKey{}).(*atomic.Bool); ok {
		left.Store(true)
	}
}

// TagRPC implements stats.Handler.
func (departures) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (departures) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (departures) HandleConn(context.Context, stats.ConnStats) {}
