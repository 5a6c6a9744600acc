package transport_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
	"github.com/raftmq/mq/transport/transporttest"
)

func TestMillionEmptyPartitionsAreRefusedAndTheStreamGoesOn(t *testing.T) {
	t.Parallel()
	stream, err := mqpb.NewBrokerClient(connect(t, serve(t, answering(), transport.ServerConfig{}))).
		Produce(within(t), grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	const empty, id = "\x22\x00", "\x08" // a partition, the tag of the correlation id
	for _, m := range []string{
		id + "\x01" + empty,
		id + "\x02" + strings.Repeat(empty, 1_000_000),
		strings.Repeat(empty, 1_000_000) + id + "\x03", // fields may come in any order
		id + "\x04" + empty,
	} {
		if err := stream.SendMsg(rawBytes(m)); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range []error{nil, mqerr.ErrInvalidRequest, mqerr.ErrInvalidRequest, nil} {
		a, err := stream.Recv()
		if err != nil || a.GetCorrelationId() != uint64(n+1) {
			t.Fatalf("answer %d: id %d, %v", n+1, a.GetCorrelationId(), err)
		}
		if got := wire.DecodeError(a.GetError()); !errors.Is(got, want) {
			t.Errorf("answer %d: got %v, want %v", n+1, got, want)
		}
	}
}

func TestEveryListOfARequestIsLimited(t *testing.T) {
	t.Parallel()
	conn := connect(t, serve(t, &transporttest.Backend{}, transport.ServerConfig{}))
	service := mqpb.File_mq_v1_broker_proto.Services().ByName("Broker")
	lists := 0
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		if method.IsStreamingClient() {
			continue
		}
		for path, m := range withLongLists(method.Input()) {
			lists++
			var answer mqpb.DeleteTopicResponse // none is expected
			err := conn.Invoke(within(t), fmt.Sprintf("/%s/%s", service.FullName(), method.Name()), m, &answer, grpc.ForceCodecV2(rawCodec{}))
			if err := wire.DecodeStatus(err); !errors.Is(err, mqerr.ErrInvalidRequest) || !strings.Contains(err.Error(), "entries") {
				t.Errorf("%s: got %v", path, err)
			}
		}
	}
	if lists < 10 {
		t.Errorf("only %d lists were found", lists)
	}
}

// withLongLists makes, for each list and map of a request, a message in which
// it is too long.
func withLongLists(of protoreflect.MessageDescriptor) map[protoreflect.FullName]rawBytes {
	found := map[protoreflect.FullName]rawBytes{}
	for i := range of.Fields().Len() {
		field := of.Fields().Get(i)
		tag := protowire.AppendTag(nil, field.Number(), protowire.BytesType)
		switch {
		case field.Cardinality() == protoreflect.Repeated:
			found[field.FullName()] = rawBytes(bytes.Repeat(append(tag, 0), wire.MaxEntries+1))
		case field.Message() != nil:
			for _, inner := range withLongLists(field.Message()) {
				found[field.FullName()] = rawBytes(protowire.AppendString(tag, string(inner)))
			}
		}
	}
	return found
}
