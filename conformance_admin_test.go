package mq_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformAdmin = []behaviour{
	{"topics are created, described, listed and deleted", testTopicLife},
	{"topic configs are altered and reset", testAlterTopic},
	{"partitions are added", testAddPartitions},
	{"offsets are listed by time", testListOffsets},
	{"a trim deletes the records before a place", testTrim},
	{"what topics can't be is refused", testTopicRefusals},
	{"what is not there is unknown", testUnknownTopic},
	{"the cluster is described", testDescribeCluster},
}

func testTopicLife(t *testing.T, s *site) {
	a := s.admin()
	name := topicName(t)
	made, err := a.CreateTopic(soon(t), mq.TopicSpec{
		Name: name, Partitions: 3, ReplicationFactor: 1, Configs: map[string]string{mq.ConfigRetentionBytes: "12345678"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != name || len(made.Partitions) != 3 || len(made.ID) != 36 || made.Configs[mq.ConfigRetentionBytes] != "12345678" {
		t.Errorf("made %+v", made)
	}
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(2)})
	send(t, p, "0", "1", "2")
	info, err := a.DescribeTopic(soon(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != made.ID || len(info.Partitions) != 3 || info.Configs[mq.ConfigRetentionBytes] != "12345678" {
		t.Errorf("described as %+v", info)
	}
	for i, p := range info.Partitions {
		high := int64(0)
		if i == 2 {
			high = 3
		}
		if p.Partition != int32(i) || p.Leader != 1 || p.LeaderEpoch < 0 || !slices.Equal(p.Replicas, []int32{1}) ||
			p.LogStart != 0 || p.HighWatermark != high || (p.SizeBytes > 0) != (high > 0) {
			t.Errorf("partition %d is %+v", i, p)
		}
	}
	listed := func() bool {
		t.Helper()
		topics, err := a.ListTopics(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(topics, func(a, b mq.TopicInfo) int { return strings.Compare(a.Name, b.Name) }) {
			t.Error("topics are not sorted by name")
		}
		return slices.ContainsFunc(topics, func(i mq.TopicInfo) bool { return i.Name == name && i.ID == made.ID })
	}
	if !listed() {
		t.Error("the topic is not listed")
	}
	_, err = a.CreateTopic(soon(t), mq.TopicSpec{Name: name})
	wantError(t, err, mq.ErrTopicExists)
	if err := a.DeleteTopic(soon(t), name); err != nil {
		t.Fatal(err)
	}
	if listed() {
		t.Error("the topic is listed after it was deleted")
	}
	_, err = a.DescribeTopic(soon(t), name)
	wantError(t, err, mq.ErrUnknownTopicOrPartition)

	again, err := a.CreateTopic(soon(t), mq.TopicSpec{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if again.ID == made.ID || len(again.Partitions) != 1 || again.Configs[mq.ConfigRetentionBytes] != "-1" {
		t.Errorf("created anew it is %+v", again)
	}
	info, err = a.DescribeTopic(soon(t), name)
	if err != nil || info.Partitions[0].HighWatermark != 0 {
		t.Errorf("created anew it holds %+v, %v", info.Partitions, err)
	}
	r := &mq.Record{Topic: name, Value: []byte("first")}
	if err := s.producer(t, mq.ProducerConfig{}).Send(soon(t), r); err != nil || r.Offset != 0 {
		t.Errorf("its first record is at %d, %v", r.Offset, err)
	}
}

func testAlterTopic(t *testing.T, s *site) {
	a := s.admin()
	name := s.topic(t, 1, mq.ConfigRetentionMs+"=1000000", mq.ConfigMaxMessageBytes+"=5000")
	info, err := a.AlterTopic(soon(t), name, map[string]string{mq.ConfigRetentionBytes: "99999999"}, mq.ConfigRetentionMs)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		mq.ConfigRetentionBytes: "99999999", mq.ConfigMaxMessageBytes: "5000",
		mq.ConfigRetentionMs: strconv.FormatInt((7 * 24 * time.Hour).Milliseconds(), 10), mq.ConfigTimestampType: "CreateTime",
	}
	described, err := a.DescribeTopic(soon(t), name)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if info.Configs[key] != value || described.Configs[key] != value {
			t.Errorf("%s is %q, described %q, want %q", key, info.Configs[key], described.Configs[key], value)
		}
	}
	// It takes effect at once.
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	wantError(t, p.Send(soon(t), &mq.Record{Value: make([]byte, 6000)}), mq.ErrRecordTooLarge)
	if _, err := a.AlterTopic(soon(t), name, nil, mq.ConfigMaxMessageBytes); err != nil {
		t.Fatal(err)
	}
	if err := p.Send(soon(t), &mq.Record{Value: make([]byte, 6000)}); err != nil {
		t.Errorf("after the limit was lifted: %v", err)
	}

	for _, bad := range []map[string]string{
		{"no.such.config": "1"},
		{mq.ConfigRetentionMs: "soon"},
		{mq.ConfigMaxMessageBytes: "0"},
		{mq.ConfigMaxMessageBytes: "99999999999"},
		{mq.ConfigTimestampType: "Never"},
		{mq.ConfigRetentionBytes: "-2"},
	} {
		_, err := a.AlterTopic(soon(t), name, bad)
		wantError(t, err, mq.ErrInvalidConfig)
		_, err = a.CreateTopic(soon(t), mq.TopicSpec{Name: name + "-bad", Configs: bad})
		wantError(t, err, mq.ErrInvalidConfig)
	}
	_, err = a.AlterTopic(soon(t), name, nil, "no.such.config")
	wantError(t, err, mq.ErrInvalidConfig)
}

func testAddPartitions(t *testing.T, s *site) {
	name := s.topic(t, 2)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.RoundRobin()})
	send(t, p, "a", "b")
	info, err := s.admin().AddPartitions(soon(t), name, 5)
	if err != nil || len(info.Partitions) != 5 {
		t.Fatalf("now there are %d partitions, %v", len(info.Partitions), err)
	}
	for _, total := range []int{5, 4, 0, -1, 10_001} {
		_, err := s.admin().AddPartitions(soon(t), name, total)
		wantError(t, err, mq.ErrInvalidPartitions)
	}
	// The producer that is there uses them, and what was stored stays.
	used := map[int32]bool{}
	eventually(t, "all partitions are used", func() bool {
		r := &mq.Record{Value: []byte("c")}
		if err := p.Send(soon(t), r); err != nil {
			t.Fatal(err)
		}
		used[r.Partition] = true
		return len(used) == 5
	})
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{0}})
	if got := takeOne(t, c); got != "a" {
		t.Errorf("the first record is %q now", got)
	}
}

func testListOffsets(t *testing.T, s *site) {
	a := s.admin()
	base := time.UnixMilli(1_600_000_000_000)
	name := s.topic(t, 3)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(1), Compression: mq.CompressionZstd})
	var batch []*mq.Record
	for i := range 10 {
		batch = append(batch, &mq.Record{Timestamp: base.Add(time.Duration(i) * time.Second)})
	}
	if err := p.SendBatch(soon(t), batch...); err != nil {
		t.Fatal(err)
	}
	if _, err := a.TrimTopic(soon(t), name, mq.StartAt(2), 1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   mq.Start
		want int64
		time time.Time
	}{
		{mq.StartEarliest, 2, time.Time{}},
		{mq.StartLatest, 10, time.Time{}},
		{mq.StartAtTime(base.Add(4 * time.Second)), 4, base.Add(4 * time.Second)},
		{mq.StartAtTime(base.Add(4*time.Second + time.Millisecond)), 5, base.Add(5 * time.Second)},
		{mq.StartAtTime(base.Add(-time.Hour)), 2, base.Add(2 * time.Second)},
		{mq.StartAtTime(base.Add(time.Hour)), -1, time.Time{}},
	} {
		got, err := a.ListOffsets(soon(t), name, c.at, 1)
		if err != nil || len(got) != 1 {
			t.Fatalf("%v: %v, %v", c.at, got, err)
		}
		if got[0].Partition != 1 || got[0].Offset != c.want || !got[0].Timestamp.Equal(c.time) {
			t.Errorf("%v is %+v, want %d of %v", c.at, got[0], c.want, c.time)
		}
	}
	all, err := a.ListOffsets(soon(t), name, mq.StartLatest)
	if err != nil || len(all) != 3 || all[0].Offset != 0 || all[1].Offset != 10 || all[2].Offset != 0 {
		t.Errorf("the ends are %+v, %v", all, err)
	}
	for _, at := range []mq.Start{mq.StartAt(3), mq.StartCommitted} {
		_, err := a.ListOffsets(soon(t), name, at)
		wantError(t, err, mq.ErrInvalidRequest)
	}
	for _, n := range []int32{3, -1} {
		_, err := a.ListOffsets(soon(t), name, mq.StartLatest, n)
		wantError(t, err, mq.ErrUnknownTopicOrPartition)
	}
}

func testTrim(t *testing.T, s *site) {
	a := s.admin()
	name := s.topic(t, 2)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: lastByte{}})
	base := time.UnixMilli(1_600_000_000_000)
	for i := range 10 {
		// Partition 0 has batches of one record, partition 1 one batch of ten.
		if err := p.Send(soon(t), &mq.Record{Key: []byte{0}, Value: []byte(strconv.Itoa(i)), Timestamp: base.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	var batch []*mq.Record
	for i := range 10 {
		batch = append(batch, &mq.Record{Key: []byte{1}, Value: []byte(strconv.Itoa(i))})
	}
	if err := p.SendBatch(soon(t), batch...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to         mq.Start
		partitions []int32
		want       []int64 // log starts of 0 and 1 after it
	}{
		{mq.StartAt(3), []int32{0}, []int64{3, 0}},
		{mq.StartAt(1), []int32{0}, []int64{3, 0}}, // never back
		{mq.StartAt(4), nil, []int64{4, 4}},        // also inside of a batch
		{mq.StartAtTime(base.Add(6 * time.Second)), []int32{0}, []int64{6, 4}},
		{mq.StartLatest, nil, []int64{10, 10}},
	} {
		starts, err := a.TrimTopic(soon(t), name, c.to, c.partitions...)
		if err != nil {
			t.Fatalf("trim to %v: %v", c.to, err)
		}
		for _, p := range starts {
			if p.Offset != c.want[p.Partition] {
				t.Errorf("a trim to %v says that partition %d begins at %d, want %d", c.to, p.Partition, p.Offset, c.want[p.Partition])
			}
		}
		info, err := a.DescribeTopic(soon(t), name)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if got := info.Partitions[i].LogStart; got != want {
				t.Errorf("after a trim to %v partition %d begins at %d, want %d", c.to, i, got, want)
			}
			if want < 10 {
				consumer := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{int32(i)}})
				if got := takeOne(t, consumer); got != strconv.FormatInt(want, 10) {
					t.Errorf("after a trim to %v partition %d is read from %s, want %d", c.to, i, got, want)
				}
			}
		}
	}
	_, err := a.TrimTopic(soon(t), name, mq.StartAt(11), 0)
	wantError(t, err, mq.ErrOffsetOutOfRange)
	_, err = a.TrimTopic(soon(t), name, mq.StartAt(-1), 0)
	wantError(t, err, mq.ErrInvalidRequest)
	_, err = a.TrimTopic(soon(t), name, mq.StartCommitted)
	wantError(t, err, mq.ErrInvalidRequest)
	_, err = a.TrimTopic(soon(t), name, mq.StartAt(0), 7)
	wantError(t, err, mq.ErrUnknownTopicOrPartition)
}

func testTopicRefusals(t *testing.T, s *site) {
	a := s.admin()
	for _, name := range []string{"", ".", "..", "a/b", "a b", "ü", "a\x00b", "a\xff", strings.Repeat("x", 250)} {
		_, err := a.CreateTopic(soon(t), mq.TopicSpec{Name: name})
		wantError(t, err, mq.ErrInvalidTopic)
		err = s.producer(t, mq.ProducerConfig{}).Send(soon(t), &mq.Record{Topic: name})
		wantError(t, err, mq.ErrInvalidTopic)
		if name != "" {
			_, err = mq.NewProducer(s.endpoint(), mq.ProducerConfig{Topic: name})
			wantError(t, err, mq.ErrInvalidConfig, mq.ErrInvalidTopic)
		}
		_, err = mq.NewConsumer(s.endpoint(), mq.ConsumerConfig{Topics: []string{name}})
		wantError(t, err, mq.ErrInvalidConfig, mq.ErrInvalidTopic)
	}
	long := topicName(t) + strings.Repeat("x", 249)
	if _, err := a.CreateTopic(soon(t), mq.TopicSpec{Name: long[:249]}); err != nil {
		t.Errorf("a name of 249 characters: %v", err)
	}
	for _, n := range []int{-1, 10_001, 1 << 31} {
		_, err := a.CreateTopic(soon(t), mq.TopicSpec{Name: topicName(t), Partitions: n})
		wantError(t, err, mq.ErrInvalidPartitions)
	}
	for _, n := range []int{-1, 2, 1 << 20} { // there is one broker
		_, err := a.CreateTopic(soon(t), mq.TopicSpec{Name: topicName(t), ReplicationFactor: n})
		wantError(t, err, mq.ErrInvalidReplicationFactor)
	}
}

func testUnknownTopic(t *testing.T, s *site) {
	a := s.admin()
	name := topicName(t)
	for what, err := range map[string]error{
		"DeleteTopic":   a.DeleteTopic(soon(t), name),
		"DescribeTopic": second(a.DescribeTopic(soon(t), name)),
		"AlterTopic":    second(a.AlterTopic(soon(t), name, map[string]string{mq.ConfigRetentionMs: "1"})),
		"AddPartitions": second(a.AddPartitions(soon(t), name, 3)),
		"TrimTopic":     second(a.TrimTopic(soon(t), name, mq.StartLatest)),
		"ListOffsets":   second(a.ListOffsets(soon(t), name, mq.StartLatest)),
	} {
		t.Run(what, func(t *testing.T) { wantError(t, err, mq.ErrUnknownTopicOrPartition) })
	}
}

// second is the error of a call that has a result, too.
func second[T any](_ T, err error) error { return err }

func testDescribeCluster(t *testing.T, s *site) {
	info, err := s.admin().DescribeCluster(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]mq.BrokerInfo{{ID: 1, Addr: s.broker.Addr()}})
	if len(info.ID) != 36 || info.Controller != 1 || fmt.Sprint(info.Brokers) != want {
		t.Errorf("cluster is %+v, want brokers %s", info, want)
	}
	health, err := s.admin().ClusterHealth(soon(t))
	if err != nil || health.ID != info.ID || health.Controller != 1 || len(health.Brokers) != 1 {
		t.Fatalf("health is %+v, %v", health, err)
	}
	b := health.Brokers[0]
	if b.BrokerInfo != info.Brokers[0] || b.DirectoryID != s.broker.DirectoryID() || !b.Reachable || !b.MetadataVoter ||
		b.Replicas == 0 || b.Leaders == 0 || b.Behind != 0 {
		t.Errorf("broker is %+v", b)
	}
}
