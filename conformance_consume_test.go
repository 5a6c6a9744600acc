package mq_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformConsume = []behaviour{
	{"handler, iterator and poll read the same", testThreeWaysToRead},
	{"reading starts where Start says", testStart},
	{"received records belong to the program", testRecordsBelongToReader},
	{"a record wakes a waiting reader", testLongPoll},
	{"an answer waits for MinBytes, but not beyond MaxWait", testMinBytes},
	{"only the assigned partitions are read", testAssignedPartitions},
	{"a topic that is not there is waited for", testTopicComesLater},
	{"added partitions are read from their first record", testPartitionsAdded},
	{"a topic created anew is read from its first record", testTopicCreatedAnew},
	{"Seek goes anywhere", testSeek},
	{"a paused partition is silent until Resume", testPauseResume},
	{"Lag counts what is not finished", testLag},
	{"a partition error names the partition and a Seek passes it", testPartitionError},
}

func testThreeWaysToRead(t *testing.T, s *site) {
	const n = 300
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name, BatchSize: 11, Compression: mq.CompressionGzip})
	var sent []*mq.Record
	for i := range n {
		sent = append(sent, &mq.Record{Key: []byte("k"), Value: []byte(strconv.Itoa(i))})
	}
	if err := p.SendBatch(soon(t), sent...); err != nil {
		t.Fatal(err)
	}
	cfg := mq.ConsumerConfig{Topics: []string{name}}

	t.Run("Poll", func(t *testing.T) { wantRecords(t, take(t, s.consumer(t, cfg), n), sent) })

	t.Run("Messages", func(t *testing.T) {
		var got []*mq.Record
		for r, err := range s.consumer(t, cfg).Messages(soon(t)) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, r); len(got) == n {
				break
			}
		}
		wantRecords(t, got, sent)
	})

	t.Run("Run", func(t *testing.T) {
		ctx, cancel := context.WithCancel(soon(t))
		var got []*mq.Record
		err := s.consumer(t, cfg).Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			if got = append(got, r); len(got) == n {
				cancel()
			}
			return nil
		}))
		if err != nil {
			t.Errorf("Run: %v, want nil when its context ended", err)
		}
		wantRecords(t, got, sent)
	})

	t.Run("in turn", func(t *testing.T) {
		c := s.consumer(t, cfg)
		got := take(t, c, 100)
		for r, err := range c.Messages(soon(t)) {
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 200 {
				break // this one comes again
			}
			got = append(got, r)
		}
		wantRecords(t, append(got, take(t, c, 100)...), sent)
	})
}

func testStart(t *testing.T, s *site) {
	base := time.UnixMilli(1_600_000_000_000)
	// fill makes a topic of ten records, a second apart, with offset 4 committed
	// under the group "done". Each case has one of its own.
	fill := func(t *testing.T) (string, *mq.Producer) {
		name := s.topic(t, 1)
		p := s.producer(t, mq.ProducerConfig{Topic: name})
		for i := range 10 {
			r := &mq.Record{Value: []byte(strconv.Itoa(i)), Timestamp: base.Add(time.Duration(i) * time.Second)}
			if err := p.Send(soon(t), r); err != nil {
				t.Fatal(err)
			}
		}
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
		if err := errors.Join(c.Commit(soon(t), take(t, c, 4)...), c.Close()); err != nil {
			t.Fatal(err)
		}
		return name, p
	}
	for _, c := range []struct {
		name  string
		cfg   mq.ConsumerConfig
		group bool // the one with a committed offset
		want  string
	}{
		{"without a group at the first", mq.ConsumerConfig{}, false, "0"},
		{"without a group at the end if reset is latest", mq.ConsumerConfig{Reset: mq.ResetLatest}, false, "new"},
		{"committed", mq.ConsumerConfig{}, true, "4"},
		{"committed counts more than reset", mq.ConsumerConfig{Reset: mq.ResetLatest}, true, "4"},
		{"earliest", mq.ConsumerConfig{Start: mq.StartEarliest}, true, "0"},
		{"latest", mq.ConsumerConfig{Start: mq.StartLatest}, true, "new"},
		{"offset", mq.ConsumerConfig{Start: mq.StartAt(7)}, true, "7"},
		{"offset at the end", mq.ConsumerConfig{Start: mq.StartAt(10)}, true, "new"},
		{"offset beyond the end", mq.ConsumerConfig{Start: mq.StartAt(11)}, true, "0"},
		{"time of a record", mq.ConsumerConfig{Start: mq.StartAtTime(base.Add(3 * time.Second))}, true, "3"},
		{"time between records", mq.ConsumerConfig{Start: mq.StartAtTime(base.Add(3500 * time.Millisecond))}, true, "4"},
		{"time before all", mq.ConsumerConfig{Start: mq.StartAtTime(base.Add(-time.Hour))}, true, "0"},
		{"time after all", mq.ConsumerConfig{Start: mq.StartAtTime(base.Add(time.Hour))}, true, "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name, p := fill(t)
			c.cfg.Topics = []string{name}
			if c.group {
				c.cfg.GroupID = name
			}
			consumer := s.consumer(t, c.cfg)
			if c.want == "new" {
				if _, err := consumer.Lag(soon(t)); err != nil { // knows where it begins
					t.Fatal(err)
				}
				send(t, p, "new")
			}
			if got := takeOne(t, consumer); got != c.want {
				t.Errorf("reading begins at %s, want %s", got, c.want)
			}
		})
	}
}

func testRecordsBelongToReader(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	sent := &mq.Record{Key: []byte("key"), Value: []byte("value"), Headers: []mq.Header{{Key: "h", Value: []byte("header")}}}
	want := mq.Record{Key: []byte("key"), Value: []byte("value"), Headers: []mq.Header{{Key: "h", Value: []byte("header")}}}
	if err := p.Send(soon(t), sent); err != nil {
		t.Fatal(err)
	}
	want.Topic, want.LeaderEpoch, want.Timestamp = sent.Topic, sent.LeaderEpoch, sent.Timestamp
	// Neither what was sent nor what was received is the broker's any more.
	scribble := func(r *mq.Record) {
		for _, b := range [][]byte{r.Key, r.Value, r.Headers[0].Value} {
			b = b[:cap(b)]
			for i := range b {
				b[i] = 'X'
			}
		}
	}
	scribble(sent)
	for range 3 {
		got := take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 1)
		wantRecords(t, got, []*mq.Record{&want})
		scribble(got[0])
	}
}

func testLongPoll(t *testing.T, s *site) {
	name := s.topic(t, 2)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, MaxWait: time.Hour, Timeout: time.Hour})
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.RoundRobin()})
	for i := range 10 {
		send(t, p, strconv.Itoa(i))
		if got := takeOne(t, c); got != strconv.Itoa(i) {
			t.Fatalf("got %s, want %d", got, i)
		}
	}
}

func testMinBytes(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	send(t, p, "little")
	patient := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, MinBytes: 1000, MaxWait: time.Hour, Timeout: time.Hour})
	soonDone := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, MinBytes: 1000, MaxWait: 10 * time.Millisecond})
	if got := takeOne(t, soonDone); got != "little" {
		t.Errorf("after MaxWait got %q", got)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if rs, err := patient.Poll(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before MinBytes got %d records, %v", len(rs), err)
	}
	send(t, p, strings.Repeat("much ", 200))
	if got := takeOne(t, patient); got != "little" {
		t.Errorf("with MinBytes got %q", got)
	}
}

func testAssignedPartitions(t *testing.T, s *site) {
	name := s.topic(t, 4)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.RoundRobin()})
	for range 12 {
		send(t, p, "v")
	}
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{3, 1}})
	seen := map[int32]int{}
	for _, r := range take(t, c, 6) {
		seen[r.Partition]++
	}
	if !maps.Equal(seen, map[int32]int{1: 3, 3: 3}) {
		t.Errorf("records by partition: %v", seen)
	}
	want := []mq.TopicPartition{{Topic: name, Partition: 1}, {Topic: name, Partition: 3}}
	if got := c.Assignment(); !slices.Equal(got, want) {
		t.Errorf("assignment is %v, want %v", got, want)
	}
}

func testTopicComesLater(t *testing.T, s *site) {
	name := topicName(t)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Start: mq.StartLatest})
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Poll(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("reading a topic that is not there: %v", err)
	}
	if topics, err := s.admin().ListTopics(soon(t)); err != nil || slices.ContainsFunc(topics, func(i mq.TopicInfo) bool { return i.Name == name }) {
		t.Errorf("reading created the topic (%v)", err)
	}
	send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "first")
	if got := takeOne(t, c); got != "first" {
		t.Errorf("got %q", got)
	}
}

func testPartitionsAdded(t *testing.T, s *site) {
	name := s.topic(t, 1)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Start: mq.StartLatest})
	if _, err := c.Lag(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin().AddPartitions(soon(t), name, 3); err != nil {
		t.Fatal(err)
	}
	send(t, s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(2)}), "in the new one")
	if got := takeOne(t, c); got != "in the new one" {
		t.Errorf("got %q", got)
	}
}

func testTopicCreatedAnew(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	send(t, p, "old 0", "old 1", "old 2")
	if err := c.Commit(soon(t), take(t, c, 3)...); err != nil {
		t.Fatal(err)
	}
	if err := s.admin().DeleteTopic(soon(t), name); err != nil {
		t.Fatal(err)
	}
	s.topic(t, 1)
	send(t, p, "new 0", "new 1")
	if got := takeOne(t, c); got != "new 0" {
		t.Errorf("the same consumer got %q", got)
	}
	if got := takeOne(t, s.beside(t, name, name)); got != "new 0" {
		t.Errorf("a later consumer of the group got %q: the offset of the old topic counted", got)
	}
}

func testSeek(t *testing.T, s *site) {
	base := time.UnixMilli(1_600_000_000_000)
	name := s.topic(t, 2)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: lastByte{}})
	for i := range 10 {
		r := &mq.Record{Key: []byte{0}, Value: []byte(strconv.Itoa(i)), Timestamp: base.Add(time.Duration(i) * time.Second)}
		if err := p.Send(soon(t), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Send(soon(t), &mq.Record{Key: []byte{1}, Value: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	zero, one := mq.TopicPartition{Topic: name, Partition: 0}, mq.TopicPartition{Topic: name, Partition: 1}
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, AutoCommitInterval: -1})
	take(t, c, 11)
	for _, step := range []struct {
		to   mq.Start
		want string
	}{
		{mq.StartAt(8), "8"}, {mq.StartEarliest, "0"}, {mq.StartAtTime(base.Add(5 * time.Second)), "5"}, {mq.StartCommitted, "0"}, {mq.StartAt(0), "0"},
	} {
		if err := c.Seek(soon(t), step.to, zero); err != nil {
			t.Fatal(err)
		}
		if got := takeOne(t, c); got != step.want {
			t.Errorf("after a seek to %v got %s, want %s", step.to, got, step.want)
		}
	}
	if err := c.Seek(soon(t), mq.StartLatest, zero); err != nil {
		t.Fatal(err)
	}
	if err := c.Seek(soon(t), mq.StartEarliest, one); err != nil {
		t.Fatal(err)
	}
	if got := takeOne(t, c); got != "other" {
		t.Errorf("after a seek to the end of one partition got %q, want that of the other", got)
	}
	// The new place is the one to commit.
	if err := c.Seek(soon(t), mq.StartAt(6), zero); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := takeOne(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{0}, GroupID: name})); got != "6" {
		t.Errorf("committed after a seek to 6, a later consumer got %s", got)
	}
	// All partitions when none is named.
	if err := c.Seek(soon(t), mq.StartEarliest); err != nil {
		t.Fatal(err)
	}
	take(t, c, 11)

	wantError(t, c.Seek(soon(t), mq.StartAt(0), mq.TopicPartition{Topic: name, Partition: 9}), mq.ErrUnknownTopicOrPartition)
	wantError(t, c.Seek(soon(t), mq.StartAt(0), mq.TopicPartition{Topic: "other"}), mq.ErrUnknownTopicOrPartition)
	wantError(t, c.Seek(soon(t), mq.StartAt(-5)), mq.ErrInvalidRequest)
}

func testPauseResume(t *testing.T, s *site) {
	name := s.topic(t, 2)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: lastByte{}})
	put := func(partition byte, value string) {
		t.Helper()
		if err := p.Send(soon(t), &mq.Record{Key: []byte{partition}, Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	put(0, "0a")
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}})
	if got := takeOne(t, c); got != "0a" {
		t.Fatalf("got %q", got)
	}
	zero := mq.TopicPartition{Topic: name, Partition: 0}
	c.Pause(zero, mq.TopicPartition{Topic: "not assigned"})
	put(0, "0b")
	put(0, "0c")
	for _, v := range []string{"1a", "1b", "1c"} {
		put(1, v)
		if got := takeOne(t, c); got != v {
			t.Fatalf("with partition 0 paused got %q, want %q", got, v)
		}
	}
	c.Resume(zero)
	if a, b := takeOne(t, c), takeOne(t, c); a != "0b" || b != "0c" {
		t.Errorf("after Resume got %q, %q", a, b)
	}
}

func testLag(t *testing.T, s *site) {
	name := s.topic(t, 2)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(1)})
	send(t, p, "0", "1", "2", "3", "4")
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	lag := func(want int64) {
		t.Helper()
		got, err := c.Lag(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, map[mq.TopicPartition]int64{{Topic: name, Partition: 0}: 0, {Topic: name, Partition: 1}: want}) {
			t.Errorf("lag is %v, want %d in partition 1", got, want)
		}
	}
	lag(5)
	got := take(t, c, 2)
	lag(5) // handed out is not finished
	if err := c.Commit(soon(t), got...); err != nil {
		t.Fatal(err)
	}
	lag(3)
	send(t, p, "5")
	lag(4)
	if err := c.Seek(soon(t), mq.StartLatest); err != nil {
		t.Fatal(err)
	}
	lag(0)
}

func testPartitionError(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	send(t, p, "0", "1", "2")
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Start: mq.StartAt(99), Reset: mq.ResetNone})
	for range 2 { // it comes again until something is done about it
		_, err := c.Poll(soon(t), 1)
		wantError(t, err, mq.ErrOffsetOutOfRange)
		var at *mq.PartitionError
		if !errors.As(err, &at) || at.TopicPartition != (mq.TopicPartition{Topic: name}) || at.Offset != 99 {
			t.Fatalf("error is %+v, want a *PartitionError of offset 99", at)
		}
		if start, end, ok := mq.OffsetRange(err); !ok || start != 0 || end != 3 {
			t.Errorf("the error says that %d to %d (%v) can be read, want 0 to 3", start, end, ok)
		}
	}
	wantError(t, c.Run(soon(t), mq.HandlerFunc(nil)), mq.ErrOffsetOutOfRange)
	for _, err := range c.Messages(soon(t)) {
		wantError(t, err, mq.ErrOffsetOutOfRange)
	}
	if err := c.Seek(soon(t), mq.StartAt(1)); err != nil {
		t.Fatal(err)
	}
	if got := takeOne(t, c); got != "1" {
		t.Errorf("after a seek got %q", got)
	}
}
