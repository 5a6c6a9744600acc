package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// A copy has everything that the records had, where they had it.
func TestTopicCopyLosesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	admin := mq.NewAdmin(broker)
	if _, err := admin.CreateTopic(ctx, mq.TopicSpec{Name: "from", Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	sent := []mq.Record{
		{Partition: 2, Key: []byte("k"), Value: []byte("v"), Timestamp: time.UnixMilli(1777863721006)},
		{Partition: 0, Timestamp: time.UnixMilli(1)}, // all null
		{Partition: 2, Key: []byte{}, Value: []byte{}, Timestamp: time.UnixMilli(2)},
		{Partition: 1, Key: []byte("\xff\x00"), Value: []byte("\n\x80"), Timestamp: time.UnixMilli(3), Headers: []mq.Header{
			{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte{}}, {Key: "\xfe", Value: []byte{0x80}}, {},
		}},
		{Partition: 2, Key: []byte("k"), Timestamp: time.UnixMilli(4)},
	}
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "from", Partitioner: ownPartition{}})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, r := range sent {
		if err := producer.Send(ctx, &r); err != nil {
			t.Fatal(err)
		}
	}
	if _, stderr, code := runMQ(t, "", "topic", "copy", "from", "to", "--broker", broker.Addr()); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}

	got := make(map[int32][]mq.Record)
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"to"}})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	for n := 0; n < len(sent); {
		records, err := consumer.Poll(ctx, len(sent))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			got[r.Partition] = append(got[r.Partition], *r)
		}
		n += len(records)
	}
	want := make(map[int32][]mq.Record)
	for _, r := range sent {
		r.Topic, r.Offset = "to", int64(len(want[r.Partition]))
		want[r.Partition] = append(want[r.Partition], r)
	}
	for partition, records := range got {
		for i := range records {
			records[i].LeaderEpoch = 0
		}
		if !reflect.DeepEqual(records, want[partition]) {
			t.Errorf("partition %d has\n%+v, want\n%+v", partition, records, want[partition])
		}
	}
}
