package transport_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
	"github.com/raftmq/mq/transport/transporttest"
)

// These speak the protocol by hand, as another client may.

func answering() *transporttest.Backend {
	return &transporttest.Backend{
		MetadataFunc: func(context.Context, *api.MetadataRequest) (*api.MetadataResponse, error) {
			return &api.MetadataResponse{ClusterID: "c"}, nil
		},
		ProduceFunc: func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
			done(transporttest.Answered(q), nil)
		},
	}
}

func TestMessageOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	rpc := mqpb.NewBrokerClient(connect(t, serve(t, answering(), transport.ServerConfig{})))
	for _, version := range []string{strconv.Itoa(transport.ProtocolVersion + 1), "0", "-1", "one", ""} {
		ctx := metadata.AppendToOutgoingContext(within(t), "mq-protocol", version)
		_, err := rpc.Metadata(ctx, &mqpb.MetadataRequest{})
		if err := wire.DecodeStatus(err); !errors.Is(err, mqerr.ErrUnsupportedVersion) || !strings.Contains(err.Error(), strconv.Quote(version)) {
			t.Errorf("version %q of a call: got %v", version, err)
		}
		stream, err := rpc.Produce(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(wire.DecodeStatus(err), mqerr.ErrUnsupportedVersion) {
			t.Errorf("version %q of a stream: got %v", version, err)
		}
	}
}

func TestAnswersTellVersionAndLimit(t *testing.T) {
	t.Parallel()
	rpc := mqpb.NewBrokerClient(connect(t, serve(t, answering(), transport.ServerConfig{MaxBatchBytes: 100 << 20})))
	want := map[string]string{"mq-protocol": strconv.Itoa(transport.ProtocolVersion), "mq-max-message-bytes": strconv.Itoa(101 << 20)}
	var ofCall metadata.MD
	if _, err := rpc.Metadata(within(t), &mqpb.MetadataRequest{}, grpc.Header(&ofCall)); err != nil { // no version: the first
		t.Fatal(err)
	}
	stream, err := rpc.Produce(within(t))
	if err != nil {
		t.Fatal(err)
	}
	ofStream, err := stream.Header() // before the first request
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if got := ofCall.Get(key); len(got) != 1 || got[0] != value {
			t.Errorf("call: %s is %q, want %q", key, got, value)
		}
		if got := ofStream.Get(key); len(got) != 1 || got[0] != value {
			t.Errorf("stream: %s is %q, want %q", key, got, value)
		}
	}
}

func TestFaultyRequestIsAnsweredAlone(t *testing.T) {
	t.Parallel()
	stream, err := mqpb.NewBrokerClient(connect(t, serve(t, answering(), transport.ServerConfig{}))).Produce(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for id, topicID := range [][]byte{nil, []byte("five!"), make([]byte, 16)} {
		if err := stream.Send(&mqpb.ProduceRequest{CorrelationId: uint64(id), Partitions: []*mqpb.ProducePartition{
			{TopicPartition: &mqpb.TopicPartition{Topic: "t", TopicId: topicID}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range []error{nil, mqerr.ErrInvalidRequest, nil} {
		a, err := stream.Recv()
		if err != nil || a.GetCorrelationId() != uint64(id) {
			t.Fatalf("answer %d: %v, %v", id, a, err)
		}
		if got := wire.DecodeError(a.GetError()); !errors.Is(got, want) {
			t.Errorf("answer %d: got %v, want %v", id, got, want)
		}
	}
}

func TestUnreadableMessageEndsTheStreamAndNothingElse(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), transport.ServerConfig{})
	for _, c := range []struct {
		name string
		send any
		want codes.Code
	}{
		{"oversized", &mqpb.ProduceRequest{Partitions: []*mqpb.ProducePartition{{Batch: make([]byte, 33<<20)}}}, codes.ResourceExhausted},
		{"no protobuf", rawBytes("\xff\xff\xff\xff"), codes.Internal},
		{"text that is not UTF-8", rawBytes("\x22\x05\x0a\x03\x0a\x01\xff"), codes.Internal},
	} {
		stream, err := mqpb.NewBrokerClient(connect(t, s)).Produce(within(t), grpc.ForceCodecV2(rawCodec{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(c.send); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != c.want {
			t.Errorf("%s: the stream ended with %v", c.name, err)
		}
	}
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	if o := transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))); o.Err != nil {
		t.Errorf("afterwards: %v", o.Err)
	}
}

func TestUnreadableCallIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, serve(t, answering(), transport.ServerConfig{}))
	err := conn.Invoke(within(t), mqpb.Broker_Metadata_FullMethodName, rawBytes("\xff\xff\xff\xff"), &mqpb.MetadataResponse{}, grpc.ForceCodecV2(rawCodec{}))
	if err == nil {
		t.Error("garbage was served")
	}
	if a, err := mqpb.NewBrokerClient(conn).Metadata(within(t), &mqpb.MetadataRequest{}); err != nil || a.GetClusterId() != "c" {
		t.Errorf("afterwards: %v, %v", a, err)
	}
}
