package mq_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/transport"
)

// What is wrong with a program's input, or comes from the wire. Records above
// the limit, topic names that are not allowed, offsets out of range, handlers
// that panic, ended contexts and what was closed are in the conformance suite;
// messages of another protocol version in package transport.

func TestUnknownTopicFailsWithoutAutoCreate(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{DisableAutoCreate: true})
		p := s.producer(t, mq.ProducerConfig{Topic: "t"})
		err := p.Send(soon(t), &mq.Record{})
		wantError(t, err, mq.ErrUnknownTopicOrPartition)
		if topics, err := s.admin().ListTopics(soon(t)); err != nil || len(topics) != 0 {
			t.Errorf("topics are %v, %v", topics, err)
		}
		// A consumer waits, and both work as soon as there is one.
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		if _, err := s.admin().CreateTopic(soon(t), mq.TopicSpec{Name: "t"}); err != nil {
			t.Fatal(err)
		}
		send(t, p, "v")
		if got := takeOne(t, c); got != "v" {
			t.Errorf("got %q", got)
		}
	})
}

type beyond struct{}

func (beyond) Partition(_ *mq.Record, n int) int { return n }

func TestPartitionThatIsNotThereFails(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 2)
		send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "v") // the topic is known
		for what, p := range map[string]mq.Partitioner{"too large": mq.FixedPartition(2), "of a partitioner": beyond{}} {
			err := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: p}).Send(soon(t), &mq.Record{})
			if !errors.Is(err, mq.ErrUnknownTopicOrPartition) {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err := mq.NewProducer(s.endpoint(), mq.ProducerConfig{Partitioner: mq.FixedPartition(-1)})
		wantError(t, err, mq.ErrInvalidConfig)
		_, err = mq.NewConsumer(s.endpoint(), mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{-1}})
		wantError(t, err, mq.ErrInvalidConfig)

		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{2}})
		_, err = c.Poll(soon(t), 1)
		wantError(t, err, mq.ErrUnknownTopicOrPartition)
		var at *mq.PartitionError
		if !errors.As(err, &at) || at.TopicPartition != (mq.TopicPartition{Topic: name, Partition: 2}) {
			t.Errorf("error is %v, want one that names the partition", err)
		}
	})
}

func TestAllFaultsOfClientConfigsAreTold(t *testing.T) {
	t.Parallel()
	b := door{}.open(t, mq.BrokerConfig{}).broker
	_, err := mq.NewProducer(b, mq.ProducerConfig{
		Topic: "no/topic", Acks: 9, Compression: 9, BatchSize: -1, BatchBytes: 1 << 30, MaxRecordBytes: 1 << 30, MaxInFlight: 33,
		MaxBufferedRecords: -1, MaxBufferedBytes: -1, Timeout: -1, Linger: time.Hour, DeliveryTimeout: time.Minute,
	})
	wantFaults(t, err, "topic:", "required_acks:", "compression:", "batch_size:", "batch_bytes:", "max_record_bytes:", "max_in_flight:",
		"max_buffered_records:", "max_buffered_bytes:", "timeout:", "linger:")
	_, err = mq.NewConsumer(b, mq.ConsumerConfig{
		Topics: []string{"t", "t", "no/topic"}, Partitions: []int32{1, 1, -1}, Start: mq.StartAt(-1), Reset: -9, Isolation: 9, MaxBytes: -1,
		MinBytes: -1, MaxWait: -1, PollInterval: -1, MaxBufferedBytes: -1, Timeout: -1, CloseTimeout: -1,
	})
	wantFaults(t, err, "topics:", "partitions:", "start:", "reset:", "isolation:", "max_bytes:", "min_bytes:", "max_wait:", "poll_interval:",
		"max_buffered_bytes:", "timeout:", "close_timeout:")
}

// wantFaults fails unless err is an ErrInvalidConfig that names every key.
func wantFaults(t *testing.T, err error, keys ...string) {
	t.Helper()
	wantError(t, err, mq.ErrInvalidConfig)
	for _, key := range keys {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(key)) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

// wire connects to a broker as somebody does who speaks the protocol but keeps
// no other rule.
func wire(t *testing.T, s *site) api.Broker {
	t.Helper()
	c, err := transport.Dial(soon(t), s.broker.Addr(), transport.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// produceRaw sends bytes as a batch and returns what became of them.
func produceRaw(t *testing.T, b api.Broker, topic string, batch []byte) error {
	t.Helper()
	done := make(chan error, 1)
	b.Produce(soon(t), &api.ProduceRequest{
		Acks: api.AcksAll, Partitions: []api.ProducePartition{{TopicPartition: api.TopicPartition{Topic: topic}, Batch: batch}},
	}, func(resp *api.ProduceResponse, err error) {
		if err == nil {
			err = resp.Partitions[0].Err
		}
		done <- err
	})
	return <-done
}

// plainBatch is a sound batch of one record.
func plainBatch(t *testing.T, value []byte, codec record.Codec) []byte {
	t.Helper()
	var b record.Builder
	b.Append([]byte("key"), value, nil, time.Now().UnixMilli())
	batch, err := b.Build(nil, record.BuildOptions{ProducerID: record.NoProducerID, Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// resum renews the CRC of a batch, so that it is not what is found wrong.
func resum(batch []byte) []byte {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	return batch
}

func TestBadBatchIsRefusedAndTheBrokerLives(t *testing.T) {
	t.Parallel()
	s := door{remote: true}.open(t, mq.BrokerConfig{})
	name := s.topic(t, 1)
	b := wire(t, s)
	change := func(at int, with ...byte) []byte {
		batch := plainBatch(t, []byte("value"), record.None)
		copy(batch[at:], with)
		return resum(batch)
	}
	good := plainBatch(t, []byte("value"), record.None)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		what  string
		batch []byte
		want  error
	}{
		{"nothing", nil, mq.ErrInvalidRecord},
		{"garbage", bytes.Repeat([]byte("garbage "), 20), mq.ErrUnsupportedVersion}, // by the byte where the version is
		{"less than a header", good[:60], mq.ErrCorruptBatch},
		{"cut off", good[:len(good)-1], mq.ErrCorruptBatch},
		{"a flipped bit", flipped, mq.ErrCorruptBatch},
		{"two batches", append(bytes.Clone(good), good...), mq.ErrInvalidRecord},
		{"a length that is negative", change(8, 0xff, 0xff, 0xff, 0xff), mq.ErrCorruptBatch},
		{"a length beyond the end", change(8, 0x7f, 0xff, 0xff, 0xff), mq.ErrCorruptBatch},
		{"a newer format", change(16, 3), mq.ErrUnsupportedVersion},
		{"an older format", change(16, 1), mq.ErrInvalidRecord},
		{"an unknown codec", change(22, 5), mq.ErrUnsupportedCompression},
		{"a broker's timestamps", change(22, 1<<3), mq.ErrInvalidRecord},
		{"a transaction", change(22, 1<<4), mq.ErrInvalidRecord},
		{"a control record", change(22, 1<<5), mq.ErrInvalidRecord},
		{"no record", change(57, 0, 0, 0, 0), mq.ErrInvalidRecord},
		{"records that are negative", change(57, 0xff, 0xff, 0xff, 0xff), mq.ErrInvalidRecord},
		{"more records than offsets", change(57, 0, 0, 0, 9), mq.ErrInvalidRecord},
		{"more offsets than records", change(23, 0, 0, 0, 9), mq.ErrInvalidRecord},
		{"a producer without epoch", change(43, 0, 0, 0, 0, 0, 0, 0, 1), mq.ErrInvalidRecord},
		{"above the limit", plainBatch(t, make([]byte, 2<<20), record.None), mq.ErrRecordTooLarge},
		{"above any limit", plainBatch(t, make([]byte, 40<<20), record.None), mq.ErrRecordTooLarge},
	} {
		if err := produceRaw(t, b, name, c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	for what, topic := range map[string]string{"no such topic": "none", "no topic": "", "a name that is not allowed": "a/b"} {
		if err := produceRaw(t, b, topic, good); !errors.Is(err, mq.ErrUnknownTopicOrPartition) && !errors.Is(err, mq.ErrInvalidTopic) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := produceRaw(t, b, name, good); err != nil {
		t.Errorf("a good batch after all that: %v", err)
	}
	if got := takeOne(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}})); got != "value" {
		t.Errorf("the topic holds %q", got)
	}
}

func TestBadRequestIsRefusedAndTheBrokerLives(t *testing.T) {
	t.Parallel()
	s := door{remote: true}.open(t, mq.BrokerConfig{})
	name := s.topic(t, 1)
	b := wire(t, s)
	for _, partition := range []int32{-1, 1, 1 << 30} {
		tp := api.TopicPartition{Topic: name, Partition: partition}
		produced := make(chan error, 1)
		b.Produce(soon(t), &api.ProduceRequest{
			Acks: api.AcksAll, Partitions: []api.ProducePartition{{TopicPartition: tp, Batch: plainBatch(t, nil, record.None)}},
		}, func(resp *api.ProduceResponse, err error) { produced <- errors.Join(err, resp.Partitions[0].Err) })
		fetched, err := b.Fetch(soon(t), &api.FetchRequest{Partitions: []api.FetchPartition{{TopicPartition: tp, LeaderEpoch: api.NoEpoch}}})
		if err == nil {
			err = fetched.Partitions[0].Err
		}
		listed, err2 := b.ListOffsets(soon(t), &api.ListOffsetsRequest{Partitions: []api.ListOffsetsPartition{{TopicPartition: tp}}})
		if err2 == nil {
			err2 = listed.Partitions[0].Err
		}
		trimmed, err3 := b.TrimTopic(soon(t), &api.TrimTopicRequest{Partitions: []api.TrimPartition{{TopicPartition: tp}}})
		if err3 == nil {
			err3 = trimmed.Partitions[0].Err
		}
		committed, err4 := b.CommitOffsets(soon(t), &api.CommitOffsetsRequest{Group: "g", MemberEpoch: -1, Offsets: []api.OffsetCommit{{TopicPartition: tp}}})
		if err4 == nil {
			err4 = committed.Results[0].Err
		}
		for i, err := range []error{<-produced, err, err2, err3, err4} {
			if !errors.Is(err, mq.ErrUnknownTopicOrPartition) {
				t.Errorf("partition %d, request %d: %v", partition, i, err)
			}
		}
	}
	zero := api.TopicPartition{Topic: name}
	for what, offset := range map[string]int64{"negative": -5, "beyond the end": 1} {
		resp, err := b.Fetch(soon(t), &api.FetchRequest{Partitions: []api.FetchPartition{{TopicPartition: zero, Offset: offset, LeaderEpoch: api.NoEpoch}}})
		if err != nil || !errors.Is(resp.Partitions[0].Err, mq.ErrOffsetOutOfRange) {
			t.Errorf("an offset %s: %+v, %v", what, resp, err)
		}
	}
	for what, call := range map[string]func() error{
		"acks 7": func() error {
			done := make(chan error, 1)
			b.Produce(soon(t), &api.ProduceRequest{Acks: 7, Partitions: []api.ProducePartition{{TopicPartition: zero}}},
				func(_ *api.ProduceResponse, err error) { done <- err })
			return <-done
		},
		"a timestamp below all": func() error {
			resp, err := b.ListOffsets(soon(t), &api.ListOffsetsRequest{Partitions: []api.ListOffsetsPartition{{TopicPartition: zero, Timestamp: -99}}})
			return errors.Join(err, resp.Partitions[0].Err)
		},
	} {
		if err := call(); !errors.Is(err, mq.ErrInvalidRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := b.CommitOffsets(soon(t), &api.CommitOffsetsRequest{Group: "", MemberEpoch: -1})
	wantError(t, err, mq.ErrInvalidGroupID)
	resp, err := b.CommitOffsets(soon(t), &api.CommitOffsetsRequest{Group: "g", MemberEpoch: -1, Offsets: []api.OffsetCommit{
		{TopicPartition: zero, Metadata: string(bytes.Repeat([]byte("m"), 1<<20))},
	}})
	if err == nil {
		err = resp.Results[0].Err
	}
	wantError(t, err, mq.ErrOffsetMetadataTooLarge)
	send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "v")
}

// Bytes that are no gRPC at all.
func TestNoiseOnThePortIsEndured(t *testing.T) {
	t.Parallel()
	s := door{remote: true}.open(t, mq.BrokerConfig{})
	for _, noise := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff", "\x16\x03\x01\x00\xa5"} {
		c, err := net.Dial("tcp", s.broker.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(noise)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	send(t, s.producer(t, mq.ProducerConfig{Topic: "t"}), "v")
}

// The broker does not look into compressed records, so it stores what does not
// decode; who reads it is told, and can go on behind it.
func TestBatchThatDoesNotDecodeIsAnErrorOfItsReader(t *testing.T) {
	t.Parallel()
	s := door{remote: true}.open(t, mq.BrokerConfig{})
	bomb := plainBatch(t, make([]byte, 65<<20), record.Zstd) // the limit is 64 MiB
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	unpacked := plainBatch(t, []byte("value"), record.None)
	unpacked[22] = byte(record.Gzip)
	lying := plainBatch(t, []byte("value"), record.None)
	lying[len(lying)-7] = 0x70 // the length of the value
	for what, c := range map[string]struct {
		batch []byte
		want  error
	}{
		"a decompression bomb":    {bomb, mq.ErrRecordTooLarge},
		"not what the codec says": {resum(unpacked), mq.ErrCorruptBatch},
		"a length that lies":      {resum(lying), mq.ErrCorruptBatch},
	} {
		t.Run(what, func(t *testing.T) {
			name := s.topic(t, 1)
			b := wire(t, s)
			for _, batch := range [][]byte{plainBatch(t, []byte("before"), record.None), c.batch, plainBatch(t, []byte("behind"), record.None)} {
				if err := produceRaw(t, b, name, batch); err != nil {
					t.Fatal(err)
				}
			}
			consumer := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
			if got := takeOne(t, consumer); got != "before" {
				t.Fatalf("got %q", got)
			}
			_, err := consumer.Poll(soon(t), 1)
			wantError(t, err, c.want)
			var at *mq.PartitionError
			if !errors.As(err, &at) || at.Offset != 1 || at.Next != 2 {
				t.Fatalf("error is %+v, want a *PartitionError at 1 that says to go on at 2", at)
			}
			if err := consumer.Seek(soon(t), mq.StartAt(at.Next), at.TopicPartition); err != nil {
				t.Fatal(err)
			}
			if got := takeOne(t, consumer); got != "behind" {
				t.Errorf("behind it there is %q", got)
			}
		})
	}
}

func TestTakenPortIsRefused(t *testing.T) {
	t.Parallel()
	taken := door{remote: true}.open(t, mq.BrokerConfig{}).broker.Addr()
	dir := t.TempDir()
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{Listen: taken, DataDir: dir})
	if b != nil {
		t.Error("there is a broker nevertheless")
	}
	wantError(t, err, mq.ErrAddrInUse)
	if !bytes.Contains([]byte(err.Error()), []byte(taken)) {
		t.Errorf("%v does not name the address", err)
	}
	door{disk: true}.open(t, mq.BrokerConfig{DataDir: dir}) // nothing is left in the way
}

func TestErrorsSayWhatTheyAreAbout(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 1)
		p := s.producer(t, mq.ProducerConfig{Topic: name, MaxRecordBytes: 16 << 20})
		err := p.Send(soon(t), &mq.Record{Value: make([]byte, 2<<20)})
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(name+"/0")) {
			t.Errorf("%v does not name the partition", err)
		}
		send(t, p, "0", "1", "2")
		_, err = s.admin().TrimTopic(soon(t), name, mq.StartAt(99))
		if start, end, ok := mq.OffsetRange(err); !ok || start != 0 || end != 3 {
			t.Errorf("%v does not tell the range: %d, %d, %v", err, start, end, ok)
		}
	})
}
