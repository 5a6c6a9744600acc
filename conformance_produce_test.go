package mq_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformProduce = []behaviour{
	{"records come back whole with every codec", testRoundTrip},
	{"equal keys stay in order in the partition that Kafka would choose", testKeysStayInOrder},
	{"partitioners place records", testPartitioners},
	{"offsets of a topic are dense from 0", testOffsetsAreDense},
	{"every acks level stores in order", testAcks},
	{"records up to the limit pass and those above are refused", testRecordSizes},
	{"a batch never exceeds the topic's limit", testBatchesKeepToTopicLimit},
	{"SendBatch says which records failed and why", testBatchErrors},
	{"callbacks come in the order of the calls", testCallbacksInOrder},
	{"a full buffer fails TrySend and holds Send back", testBufferFull},
	{"Flush waits for what was sent before", testFlush},
	{"LogAppendTime stamps records with the broker's time", testLogAppendTime},
	{"a topic is created by its first record", testAutoCreate},
	{"many producers of many topics", testManyProducers},
}

func testRoundTrip(t *testing.T, s *site) {
	random := noise(64 << 10)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, codec := range []mq.Compression{
		mq.CompressionNone, mq.CompressionGzip, mq.CompressionSnappy, mq.CompressionLZ4, mq.CompressionZstd,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			name := s.topic(t, 1)
			p := s.producer(t, mq.ProducerConfig{Topic: name, Compression: codec})
			sent := []*mq.Record{
				{},
				{Key: []byte{}, Value: []byte{}},
				{Key: []byte("key"), Value: nil},
				{Key: nil, Value: []byte("value")},
				{Key: all, Value: random},
				{Value: bytes.Repeat([]byte("same "), 20_000)},
				{Value: []byte("no time"), Timestamp: time.UnixMilli(0)},
				{Value: []byte("later"), Timestamp: time.Date(2199, 1, 2, 3, 4, 5, 678_901_234, time.UTC)},
				{Value: []byte("headers"), Headers: []mq.Header{
					{Key: "twice", Value: []byte("1")},
					{Key: "twice", Value: []byte("2")},
					{Key: "nil"},
					{Key: "empty", Value: []byte{}},
					{Key: "", Value: all},
					{Key: "not \xff\xfe text", Value: random[:1000]},
				}},
			}
			if err := p.SendBatch(soon(t), sent...); err != nil {
				t.Fatal(err)
			}
			for i, r := range sent {
				if r.Topic != name || r.Offset != int64(i) || r.LeaderEpoch < 0 {
					t.Errorf("record %d was acknowledged at %s@%d, epoch %d", i, r.Topic, r.Offset, r.LeaderEpoch)
				}
				if ms := time.Duration(r.Timestamp.Nanosecond()); ms%time.Millisecond != 0 {
					t.Errorf("record %d has a finer timestamp than is stored: %v", i, r.Timestamp)
				}
			}
			wantRecords(t, take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), len(sent)), sent)
		})
	}
}

// The hashes are those of Kafka's own tests of murmur2.
func testKeysStayInOrder(t *testing.T, s *site) {
	const partitions = 7
	hashes := map[string]int32{
		"21": -973932308, "foobar": -790332482, "abc": 479470107,
		"a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
	}
	name := s.topic(t, partitions)
	p := s.producer(t, mq.ProducerConfig{Topic: name, MaxInFlight: 32, BatchSize: 10})
	const each = 50
	sent := 0
	for i := range each {
		for key := range hashes {
			p.SendAsync(soon(t), &mq.Record{Key: []byte(key), Value: []byte(strconv.Itoa(i))}, nil)
			sent++
		}
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for _, r := range take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), sent) {
		key := string(r.Key)
		if want := (hashes[key] & 0x7fffffff) % partitions; r.Partition != want {
			t.Fatalf("key %q is in partition %d, Kafka's would be %d", key, r.Partition, want)
		}
		if string(r.Value) != strconv.Itoa(next[key]) {
			t.Fatalf("key %q: got record %s, want %d", key, r.Value, next[key])
		}
		next[key]++
	}
}

type lastByte struct{}

func (lastByte) Partition(r *mq.Record, n int) int { return int(r.Key[len(r.Key)-1]) % n }

func testPartitioners(t *testing.T, s *site) {
	name := s.topic(t, 5)
	placed := func(p mq.Partitioner, keys ...string) (got []int32) {
		producer := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: p})
		for _, k := range keys {
			r := &mq.Record{Key: []byte(k)}
			if err := producer.Send(soon(t), r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Partition)
		}
		return got
	}
	if got := placed(mq.FixedPartition(3), "a", "b", "c"); !slices.Equal(got, []int32{3, 3, 3}) {
		t.Errorf("FixedPartition(3) chose %v", got)
	}
	if got := placed(mq.RoundRobin(), "a", "a", "a", "a", "a", "a"); !slices.Equal(got, []int32{0, 1, 2, 3, 4, 0}) {
		t.Errorf("RoundRobin chose %v", got)
	}
	if got := placed(lastByte{}, "\x01", "\x04", "\x07"); !slices.Equal(got, []int32{1, 4, 2}) {
		t.Errorf("a partitioner of the program's chose 1, 4, 2 and got %v", got)
	}
	if got := placed(nil, "abc", "abc"); got[0] != got[1] || got[0] != 479470107%5 {
		t.Errorf("the default partitioner chose %v", got)
	}
	if got := placed(mq.HashKeys(), "abc"); got[0] != 479470107%5 {
		t.Errorf("HashKeys chose %v", got)
	}

	// Without a key a batch stays together, and in time every partition is used.
	producer := s.producer(t, mq.ProducerConfig{Topic: name})
	used := map[int32]bool{}
	for range 200 {
		batch := []*mq.Record{{Value: []byte("1")}, {Value: []byte("2")}}
		if err := producer.SendBatch(soon(t), batch...); err != nil {
			t.Fatal(err)
		}
		if used[batch[0].Partition] = true; len(used) == 5 {
			return
		}
	}
	t.Errorf("200 batches without keys went to %d of 5 partitions", len(used))
}

func testOffsetsAreDense(t *testing.T, s *site) {
	const producers, each = 4, 200
	name := s.topic(t, 1)
	var mu sync.Mutex
	seen := make([]bool, producers*each)
	var wg sync.WaitGroup
	for range producers {
		p := s.producer(t, mq.ProducerConfig{Topic: name, BatchSize: 7, Compression: mq.CompressionLZ4})
		wg.Go(func() {
			for range each {
				p.SendAsync(soon(t), &mq.Record{Value: []byte("v")}, func(r *mq.Record, err error) {
					mu.Lock()
					defer mu.Unlock()
					if err != nil || r.Offset < 0 || int(r.Offset) >= len(seen) || seen[r.Offset] {
						t.Errorf("acknowledged at offset %d with %v", r.Offset, err)
						return
					}
					seen[r.Offset] = true
				})
			}
			if err := p.Flush(soon(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if slices.Contains(seen, false) {
		t.Error("offsets have gaps")
	}
	for i, r := range take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), producers*each) {
		if r.Offset != int64(i) {
			t.Fatalf("record %d has offset %d", i, r.Offset)
		}
	}
}

func testAcks(t *testing.T, s *site) {
	for _, acks := range []mq.Acks{mq.AcksAll, mq.AcksLeader, mq.AcksNone} {
		t.Run(acks.String(), func(t *testing.T) {
			name := s.topic(t, 1)
			p := s.producer(t, mq.ProducerConfig{Topic: name, Acks: acks, BatchSize: 3})
			const n = 100
			for i := range n {
				p.SendAsync(soon(t), &mq.Record{Value: []byte(strconv.Itoa(i))}, func(r *mq.Record, err error) {
					if err != nil {
						t.Error(err)
					}
					if want := int64(i); acks != mq.AcksNone && r.Offset != want {
						t.Errorf("record %d got offset %d", want, r.Offset)
					} else if acks == mq.AcksNone && r.Offset != -1 {
						t.Errorf("without acks a record got offset %d, want -1", r.Offset)
					}
				})
			}
			if err := p.Flush(soon(t)); err != nil {
				t.Fatal(err)
			}
			for i, r := range take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), n) {
				if string(r.Value) != strconv.Itoa(i) {
					t.Fatalf("record %d is %q", i, r.Value)
				}
			}
		})
	}
}

func testRecordSizes(t *testing.T, s *site) {
	name := s.topic(t, 1)
	// By default 1 MiB is the limit of the producer and of the topic. The record
	// below has 61 bytes of batch header, 10 of its own fields, and the value.
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	fits := &mq.Record{Value: make([]byte, 1<<20-100)}
	if err := p.Send(soon(t), fits); err != nil {
		t.Fatalf("a record below 1 MiB: %v", err)
	}
	wantError(t, p.Send(soon(t), &mq.Record{Value: make([]byte, 1<<20)}), mq.ErrRecordTooLarge)

	// A producer that may send more meets the limit of the topic, with which it
	// does not retry, and goes on behind it.
	p = s.producer(t, mq.ProducerConfig{Topic: name, MaxRecordBytes: 16 << 20})
	err := p.Send(soon(t), &mq.Record{Value: make([]byte, 2<<20)})
	wantError(t, err, mq.ErrRecordTooLarge)
	if mq.Retriable(err) || mq.OutcomeUnknown(err) {
		t.Errorf("%v is of the wrong class", err)
	}
	small := &mq.Record{Value: []byte("small")}
	if err := p.Send(soon(t), small); err != nil {
		t.Fatal(err)
	}

	// The topic's limit is that of the batch as it is stored, that is, compressed.
	squeezed := &mq.Record{Value: bytes.Repeat([]byte("ab"), 1<<20)}
	zstd := s.producer(t, mq.ProducerConfig{Topic: name, MaxRecordBytes: 16 << 20, Compression: mq.CompressionZstd})
	if err := zstd.Send(soon(t), squeezed); err != nil {
		t.Fatalf("2 MiB that compress well: %v", err)
	}

	// A topic may allow up to 16 MiB, and readers of little get it nevertheless.
	if _, err := s.admin().AlterTopic(soon(t), name, map[string]string{mq.ConfigMaxMessageBytes: strconv.Itoa(16 << 20)}); err != nil {
		t.Fatal(err)
	}
	huge := &mq.Record{Value: make([]byte, 15<<20)}
	for i := range huge.Value {
		huge.Value[i] = byte(i * i >> 8)
	}
	if err := p.Send(soon(t), huge); err != nil {
		t.Fatalf("15 MiB where 16 are allowed: %v", err)
	}
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, MaxBytes: 1000, MaxBufferedBytes: 1000})
	wantRecords(t, take(t, c, 4), []*mq.Record{fits, small, squeezed, huge})
}

func testBatchesKeepToTopicLimit(t *testing.T, s *site) {
	name := s.topic(t, 1, mq.ConfigMaxMessageBytes+"=1000")
	p := s.producer(t, mq.ProducerConfig{Topic: name, Linger: time.Minute})
	var sent []*mq.Record
	for i := range 100 {
		sent = append(sent, &mq.Record{Value: bytes.Repeat([]byte{byte(i)}, 300)})
	}
	if err := p.SendBatch(soon(t), sent...); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), len(sent)), sent)
}

func testBatchErrors(t *testing.T, s *site) {
	name := s.topic(t, 2)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: lastByte{}})
	sent := []*mq.Record{
		{Key: []byte{0}, Value: []byte("good")},
		{Key: []byte{0}, Value: make([]byte, 2<<20)},
		{Key: []byte{1}, Value: []byte("good too")},
		{Key: []byte{0}, Topic: "no/topic"},
		nil,
		{Key: []byte{0}, Value: []byte("good as well")},
	}
	err := p.SendBatch(soon(t), sent...)
	var failed *mq.BatchError
	if !errors.As(err, &failed) {
		t.Fatalf("error is %v, want a *BatchError", err)
	}
	wantError(t, err, mq.ErrRecordTooLarge, mq.ErrInvalidTopic, mq.ErrInvalidRecord)
	want := []error{nil, mq.ErrRecordTooLarge, nil, mq.ErrInvalidTopic, mq.ErrInvalidRecord, nil}
	if len(failed.Errs) != len(want) {
		t.Fatalf("%d errors of %d records", len(failed.Errs), len(want))
	}
	for i := range want {
		if !errors.Is(failed.Errs[i], want[i]) {
			t.Errorf("record %d: %v, want %v", i, failed.Errs[i], want[i])
		}
	}
	if sent[0].Offset != 0 || sent[2].Offset != 0 || sent[5].Offset != 1 {
		t.Errorf("good records are at %d, %d, %d", sent[0].Offset, sent[2].Offset, sent[5].Offset)
	}
	if err := p.SendBatch(soon(t)); err != nil {
		t.Errorf("a batch of no records: %v", err)
	}
}

func testCallbacksInOrder(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name, MaxInFlight: 32, BatchSize: 1})
	const n = 500
	var got []string // by the one callback goroutine, read after Flush
	for i := range n {
		p.SendAsync(soon(t), &mq.Record{Value: []byte(strconv.Itoa(i))}, func(r *mq.Record, err error) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, string(r.Value))
		})
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if i >= len(got) || got[i] != strconv.Itoa(i) {
			t.Fatalf("callback %d of %d is out of order", i, len(got))
		}
	}
}

func testBufferFull(t *testing.T, s *site) {
	name := s.topic(t, 1)
	send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "first") // the topic is known everywhere
	p := s.producer(t, mq.ProducerConfig{Topic: name, MaxBufferedRecords: 2, Linger: time.Hour, DeliveryTimeout: -1})
	told := make(chan error, 10)
	done := func(_ *mq.Record, err error) { told <- err }
	for range 2 {
		if err := p.TrySend(&mq.Record{}, done); err != nil {
			t.Fatal(err)
		}
	}
	// The buffer is full, nobody waits, and nothing will move for an hour.
	wantError(t, p.TrySend(&mq.Record{}, done), mq.ErrBufferFull)
	if len(told) != 0 {
		t.Fatal("a callback came for a record that lingers or was refused")
	}
	// Who waits for room ends the lingering.
	if err := p.Send(soon(t), &mq.Record{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
}

func testFlush(t *testing.T, s *site) {
	name := s.topic(t, 3)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Linger: time.Hour, DeliveryTimeout: -1, Partitioner: mq.RoundRobin()})
	settled := 0
	for range 10 {
		p.SendAsync(soon(t), &mq.Record{}, func(_ *mq.Record, err error) { settled++ })
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	if settled != 10 {
		t.Errorf("after Flush %d of 10 records are settled", settled)
	}
	// A failure that nobody looked at is Flush's to tell, once.
	if _, err := s.admin().AlterTopic(soon(t), name, map[string]string{mq.ConfigMaxMessageBytes: "1000"}); err != nil {
		t.Fatal(err)
	}
	p.SendAsync(soon(t), &mq.Record{Value: make([]byte, 2000)}, nil)
	wantError(t, p.Flush(soon(t)), mq.ErrRecordTooLarge)
	if err := p.Flush(soon(t)); err != nil {
		t.Errorf("a second Flush tells it again: %v", err)
	}
}

func testLogAppendTime(t *testing.T, s *site) {
	name := s.topic(t, 1, mq.ConfigTimestampType+"=LogAppendTime")
	p := s.producer(t, mq.ProducerConfig{Topic: name, Compression: mq.CompressionSnappy})
	before := time.Now().Truncate(time.Millisecond)
	sent := []*mq.Record{
		{Value: []byte("a"), Timestamp: time.UnixMilli(1000)},
		{Value: []byte("b"), Timestamp: time.UnixMilli(2000)},
	}
	if err := p.SendBatch(soon(t), sent...); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	for _, r := range sent {
		if r.Timestamp.Before(before) || r.Timestamp.After(after) {
			t.Errorf("sent between %v and %v, stamped %v", before, after, r.Timestamp)
		}
	}
	wantRecords(t, take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 2), sent)
}

func testAutoCreate(t *testing.T, s *site) {
	name := topicName(t)
	p := s.producer(t, mq.ProducerConfig{})
	sent := &mq.Record{Topic: name, Value: []byte("hello")}
	if err := p.Send(soon(t), sent); err != nil {
		t.Fatal(err)
	}
	info, err := s.admin().DescribeTopic(soon(t), name)
	if err != nil || len(info.Partitions) != 1 {
		t.Errorf("the topic is %+v, %v; want one partition", info, err)
	}
	wantRecords(t, take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 1), []*mq.Record{sent})
}

func testManyProducers(t *testing.T, s *site) {
	const topics, records = 10, 10
	var names []string
	var wg sync.WaitGroup
	for i := range topics {
		name := fmt.Sprintf("%s-%d", topicName(t), i)
		names = append(names, name)
		p := s.producer(t, mq.ProducerConfig{Topic: name})
		wg.Go(func() {
			for n := range records {
				if err := p.Send(soon(t), &mq.Record{Value: []byte(strconv.Itoa(n))}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	next := map[string]int{}
	for _, r := range take(t, s.consumer(t, mq.ConsumerConfig{Topics: names}), topics*records) {
		if string(r.Value) != strconv.Itoa(next[r.Topic]) {
			t.Fatalf("%s: got %s, want %d", r.Topic, r.Value, next[r.Topic])
		}
		next[r.Topic]++
	}
	wg.Wait()
}
