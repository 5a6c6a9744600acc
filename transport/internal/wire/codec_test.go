package wire_test

import (
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

// That every field travels is shown by package transporttest, through a door.

func TestMessagesThatAreNoRequestsAreRefused(t *testing.T) {
	t.Parallel()
	big := int32(1 << 20)
	badID := &mqpb.TopicPartition{Topic: "t", TopicId: []byte("short")}
	for name, err := range map[string]error{
		"topic id":           second(wire.Produce.DecodeRequest(&mqpb.ProduceRequest{Partitions: []*mqpb.ProducePartition{{TopicPartition: badID}}})),
		"topic id in a list": second(wire.FetchOffsets.DecodeRequest(&mqpb.FetchOffsetsRequest{Partitions: &mqpb.TopicPartitions{List: []*mqpb.TopicPartition{badID}}})),
		"acks":               second(wire.Produce.DecodeRequest(&mqpb.ProduceRequest{Acks: &big})),
		"isolation":          second(wire.Fetch.DecodeRequest(&mqpb.FetchRequest{Isolation: -1000})),
		"replication factor": second(wire.CreateTopic.DecodeRequest(&mqpb.CreateTopicRequest{ReplicationFactor: big})),
	} {
		if !errors.Is(err, mqerr.ErrInvalidRequest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := wire.InitProducer.DecodeAnswer(&mqpb.InitProducerResponse{Epoch: big}); !errors.Is(err, mqerr.ErrInternal) {
		t.Errorf("an answer out of range: got %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestWhatIsAbsentMeansTheSafeValue(t *testing.T) {
	t.Parallel()
	if q, err := wire.Produce.DecodeRequest(&mqpb.ProduceRequest{}); err != nil || q.Acks != api.AcksAll {
		t.Errorf("acks: %+v, %v", q, err)
	}
	if q, err := wire.Fetch.DecodeRequest(&mqpb.FetchRequest{Partitions: []*mqpb.FetchPartition{{}}}); err != nil || q.Partitions[0].LeaderEpoch != api.NoEpoch {
		t.Errorf("leader epoch of a fetch: %+v, %v", q, err)
	}
	q, err := wire.CommitOffsets.DecodeRequest(&mqpb.CommitOffsetsRequest{Offsets: []*mqpb.OffsetCommit{{}}})
	if err != nil || q.MemberEpoch != -1 || q.Offsets[0].LeaderEpoch != api.NoEpoch {
		t.Errorf("epochs of a commit: %+v, %v", q, err)
	}
	// The values that stand for "absent" travel as well.
	same, err := wire.CommitOffsets.DecodeRequest(wire.CommitOffsets.EncodeRequest(q))
	if err != nil || same.MemberEpoch != -1 || same.Offsets[0].LeaderEpoch != api.NoEpoch {
		t.Errorf("epochs of a commit, there and back: %+v, %v", same, err)
	}
}

func TestBatchesAreNotCopied(t *testing.T) {
	t.Parallel()
	batch := []byte("batch")
	m := wire.Produce.EncodeRequest(&api.ProduceRequest{Partitions: []api.ProducePartition{{Batch: batch}}})
	q, err := wire.Produce.DecodeRequest(m)
	if err != nil {
		t.Fatal(err)
	}
	if &q.Partitions[0].Batch[0] != &batch[0] {
		t.Error("the produce request copied its batch")
	}
	a, err := wire.Fetch.DecodeAnswer(wire.Fetch.EncodeAnswer(&api.FetchResponse{Partitions: []api.FetchResult{{Batches: batch}}}))
	if err != nil {
		t.Fatal(err)
	}
	if &a.Partitions[0].Batches[0] != &batch[0] {
		t.Error("the fetch answer copied its batches")
	}
}

// Whatever protobuf lets through, a conversion takes or refuses; what it takes
// it can say again.
func FuzzRequests(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x10\x01\x22\x0f\x0a\x08\x0a\x01t\x12\x03abc\x12\x03xyz"))
	f.Fuzz(func(t *testing.T, data []byte) {
		again(t, data, wire.Produce, &mqpb.ProduceRequest{})
		again(t, data, wire.Fetch, &mqpb.FetchRequest{})
		again(t, data, wire.CommitOffsets, &mqpb.CommitOffsetsRequest{})
		again(t, data, wire.FetchOffsets, &mqpb.FetchOffsetsRequest{})
		again(t, data, wire.CreateTopic, &mqpb.CreateTopicRequest{})
	})
}

func again[Q, A, MQ, MA any](t *testing.T, data []byte, codec wire.Codec[Q, A, MQ, MA], m *MQ) {
	if proto.Unmarshal(data, any(m).(proto.Message)) != nil {
		return
	}
	q, err := codec.DecodeRequest(m)
	if err != nil {
		return
	}
	same, err := codec.DecodeRequest(codec.EncodeRequest(q))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(same, q) {
		t.Errorf("got %+v, want %+v", same, q)
	}
}
