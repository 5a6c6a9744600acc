package transporttest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// patience bounds every wait of a test; reaching it is a failure.
const patience = 2 * time.Minute

// Run checks a door: newBroker makes the api.Broker in front of backend, and
// cleans up with t.Cleanup.
func Run(t *testing.T, newBroker func(t *testing.T, backend api.Broker) api.Broker) {
	for _, m := range unaryMethods {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.run(t, newBroker)
		})
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T, newDoor)
	}{
		{"NilMeansAllAndEmptyMeansNone", testNilAndEmpty},
		{"ProduceMovesEveryField", testProduceMovesEveryField},
		{"ProduceMovesErrorOfWholeRequest", testProduceMovesErrors},
		{"ProduceKeepsTheOrderOfCalls", testProduceKeepsOrder},
		{"ProduceAnswersAsAppendsComplete", testProduceAnswersOutOfOrder},
		{"ProduceWaitsForBusyBrokerUntilContextEnds", testProduceWaits},
		{"ProduceAnswersWhenContextEndsAfterHandOver", testProduceOutlivesContext},
		{"BatchesTravelUnchanged", testBytesUnchanged},
		{"ManyCallersAtOnce", testManyCallers},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, newBroker)
		})
	}
}

type newDoor = func(t *testing.T, backend api.Broker) api.Broker

// unaryMethod is a method of api.Broker that takes a request and returns an
// answer, with its types erased.
type unaryMethod struct {
	name string
	run  func(*testing.T, newDoor)
}

var unaryMethods = []unaryMethod{
	unary("Metadata", api.Broker.Metadata, func(b *Backend) *func(context.Context, *api.MetadataRequest) (*api.MetadataResponse, error) {
		return &b.MetadataFunc
	}),
	unary("Fetch", api.Broker.Fetch, func(b *Backend) *func(context.Context, *api.FetchRequest) (*api.FetchResponse, error) {
		return &b.FetchFunc
	}),
	unary("ListOffsets", api.Broker.ListOffsets, func(b *Backend) *func(context.Context, *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error) {
		return &b.ListOffsetsFunc
	}),
	unary("EpochEnds", api.Broker.EpochEnds, func(b *Backend) *func(context.Context, *api.EpochEndsRequest) (*api.EpochEndsResponse, error) {
		return &b.EpochEndsFunc
	}),
	unary("TransferLeader", api.Broker.TransferLeader, func(b *Backend) *func(context.Context, *api.TransferLeaderRequest) (*api.TransferLeaderResponse, error) {
		return &b.TransferLeaderFunc
	}),
	unary("MoveReplica", api.Broker.MoveReplica, func(b *Backend) *func(context.Context, *api.MoveReplicaRequest) (*api.MoveReplicaResponse, error) {
		return &b.MoveReplicaFunc
	}),
	unary("RemoveBroker", api.Broker.RemoveBroker, func(b *Backend) *func(context.Context, *api.RemoveBrokerRequest) (*api.RemoveBrokerResponse, error) {
		return &b.RemoveBrokerFunc
	}),
	unary("DescribeCluster", api.Broker.DescribeCluster, func(b *Backend) *func(context.Context, *api.DescribeClusterRequest) (*api.DescribeClusterResponse, error) {
		return &b.DescribeClusterFunc
	}),
	unary("DescribeLogs", api.Broker.DescribeLogs, func(b *Backend) *func(context.Context, *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error) {
		return &b.DescribeLogsFunc
	}),
	unary("InitProducer", api.Broker.InitProducer, func(b *Backend) *func(context.Context, *api.InitProducerRequest) (*api.InitProducerResponse, error) {
		return &b.InitProducerFunc
	}),
	unary("GroupHeartbeat", api.Broker.GroupHeartbeat, func(b *Backend) *func(context.Context, *api.GroupHeartbeatRequest) (*api.GroupHeartbeatResponse, error) {
		return &b.GroupHeartbeatFunc
	}),
	unary("CommitOffsets", api.Broker.CommitOffsets, func(b *Backend) *func(context.Context, *api.CommitOffsetsRequest) (*api.CommitOffsetsResponse, error) {
		return &b.CommitOffsetsFunc
	}),
	unary("FetchOffsets", api.Broker.FetchOffsets, func(b *Backend) *func(context.Context, *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error) {
		return &b.FetchOffsetsFunc
	}),
	unary("DeleteOffsets", api.Broker.DeleteOffsets, func(b *Backend) *func(context.Context, *api.DeleteOffsetsRequest) (*api.DeleteOffsetsResponse, error) {
		return &b.DeleteOffsetsFunc
	}),
	unary("ListGroups", api.Broker.ListGroups, func(b *Backend) *func(context.Context, *api.ListGroupsRequest) (*api.ListGroupsResponse, error) {
		return &b.ListGroupsFunc
	}),
	unary("DescribeGroup", api.Broker.DescribeGroup, func(b *Backend) *func(context.Context, *api.DescribeGroupRequest) (*api.DescribeGroupResponse, error) {
		return &b.DescribeGroupFunc
	}),
	unary("DeleteGroup", api.Broker.DeleteGroup, func(b *Backend) *func(context.Context, *api.DeleteGroupRequest) (*api.DeleteGroupResponse, error) {
		return &b.DeleteGroupFunc
	}),
	unary("CreateTopic", api.Broker.CreateTopic, func(b *Backend) *func(context.Context, *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
		return &b.CreateTopicFunc
	}),
	unary("DeleteTopic", api.Broker.DeleteTopic, func(b *Backend) *func(context.Context, *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error) {
		return &b.DeleteTopicFunc
	}),
	unary("AlterTopic", api.Broker.AlterTopic, func(b *Backend) *func(context.Context, *api.AlterTopicRequest) (*api.AlterTopicResponse, error) {
		return &b.AlterTopicFunc
	}),
	unary("AddPartitions", api.Broker.AddPartitions, func(b *Backend) *func(context.Context, *api.AddPartitionsRequest) (*api.AddPartitionsResponse, error) {
		return &b.AddPartitionsFunc
	}),
	unary("TrimTopic", api.Broker.TrimTopic, func(b *Backend) *func(context.Context, *api.TrimTopicRequest) (*api.TrimTopicResponse, error) {
		return &b.TrimTopicFunc
	}),
}

func unary[Q, A any](
	name string,
	call func(api.Broker, context.Context, *Q) (*A, error),
	fn func(*Backend) *func(context.Context, *Q) (*A, error),
) unaryMethod {
	return unaryMethod{name, func(t *testing.T, newBroker newDoor) {
		var serve func(context.Context, *Q) (*A, error) // of the call under way
		backend := &Backend{}
		*fn(backend) = func(ctx context.Context, q *Q) (*A, error) { return serve(ctx, q) }
		door := newBroker(t, backend)

		travels := func(t *testing.T, question *Q, answer *A) {
			var asked *Q
			serve = func(_ context.Context, q *Q) (*A, error) {
				asked = q
				return answer, nil
			}
			got, err := call(door, t.Context(), question)
			if err != nil {
				t.Fatal(err)
			}
			if d := difference(asked, question); d != "" {
				t.Errorf("request%s", d)
			}
			if d := difference(got, answer); d != "" {
				t.Errorf("answer%s", d)
			}
		}
		t.Run("MovesEveryField", func(t *testing.T) {
			for _, resultErr := range append(tableErrors(), nil) {
				travels(t, filled[Q](nil), filled[A](resultErr))
			}
		})
		t.Run("MovesZeroValues", func(t *testing.T) { travels(t, new(Q), new(A)) })
		t.Run("MovesErrorOfWholeRequest", func(t *testing.T) {
			for _, want := range tableErrors() {
				serve = func(context.Context, *Q) (*A, error) { return nil, want }
				_, err := call(door, t.Context(), new(Q))
				if d := differentError(err, want); d != "" {
					t.Error(d)
				}
			}
		})
		t.Run("EndsWithItsContext", func(t *testing.T) {
			entered, left := make(chan struct{}), make(chan struct{})
			serve = func(ctx context.Context, _ *Q) (*A, error) {
				close(entered)
				<-ctx.Done()
				close(left)
				return nil, ctx.Err()
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-entered
				cancel()
			}()
			if _, err := call(door, ctx, new(Q)); !errors.Is(err, context.Canceled) || mqerr.Retriable(err) {
				t.Errorf("got %v", err)
			}
			Await(t, left) // the broker was told
		})
	}}
}

func testNilAndEmpty(t *testing.T, newBroker newDoor) {
	var topics []string
	var partitions []api.TopicPartition
	door := newBroker(t, &Backend{
		MetadataFunc: func(_ context.Context, q *api.MetadataRequest) (*api.MetadataResponse, error) {
			topics = q.Topics
			return &api.MetadataResponse{}, nil
		},
		DescribeLogsFunc: func(_ context.Context, q *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error) {
			topics = q.Topics
			return &api.DescribeLogsResponse{}, nil
		},
		FetchOffsetsFunc: func(_ context.Context, q *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error) {
			partitions = q.Partitions
			return &api.FetchOffsetsResponse{}, nil
		},
	})
	for _, all := range []bool{true, false} {
		askTopics, askPartitions := []string{}, []api.TopicPartition{}
		if all {
			askTopics, askPartitions = nil, nil
		}
		if _, err := door.Metadata(t.Context(), &api.MetadataRequest{Topics: askTopics}); err != nil || len(topics) != 0 || (topics == nil) != all {
			t.Errorf("Metadata of %#v arrived as %#v, %v", askTopics, topics, err)
		}
		if _, err := door.DescribeLogs(t.Context(), &api.DescribeLogsRequest{Topics: askTopics}); err != nil || len(topics) != 0 || (topics == nil) != all {
			t.Errorf("DescribeLogs of %#v arrived as %#v, %v", askTopics, topics, err)
		}
		if _, err := door.FetchOffsets(t.Context(), &api.FetchOffsetsRequest{Partitions: askPartitions}); err != nil || len(partitions) != 0 || (partitions == nil) != all {
			t.Errorf("FetchOffsets of %#v arrived as %#v, %v", askPartitions, partitions, err)
		}
	}
}
