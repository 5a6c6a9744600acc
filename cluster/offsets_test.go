package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/topic"
)

// timedBatch builds a batch whose records have these times.
func timedBatch(tb testing.TB, times ...int64) []byte {
	tb.Helper()
	var b record.Builder
	for _, at := range times {
		b.Append(nil, []byte(fmt.Sprint(at)), nil, at)
	}
	out, err := b.Build(nil, record.BuildOptions{ProducerID: record.NoProducerID})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func trim(tb testing.TB, n api.Broker, topic string, partition int32, offset int64) {
	tb.Helper()
	resp, err := n.TrimTopic(timeout(tb), &api.TrimTopicRequest{Partitions: []api.TrimPartition{{
		TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Offset: offset,
	}}})
	if err == nil {
		err = resp.Partitions[0].Err
	}
	if err != nil {
		tb.Fatalf("trim %s/%d to %d: %v", topic, partition, offset, err)
	}
}

func offsetAt(tb testing.TB, n api.Broker, topic string, timestamp int64) (offset, at int64) {
	tb.Helper()
	resp, err := n.ListOffsets(tb.Context(), &api.ListOffsetsRequest{Partitions: []api.ListOffsetsPartition{{
		TopicPartition: api.TopicPartition{Topic: topic}, Timestamp: timestamp,
	}}})
	if err == nil {
		err = resp.Partitions[0].Err
	}
	if err != nil {
		tb.Fatalf("offset of %s at %d: %v", topic, timestamp, err)
	}
	return resp.Partitions[0].Offset, resp.Partitions[0].Timestamp
}

func TestOffsetsAreFoundByTime(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	if off, at := offsetAt(t, n, "t", api.MaxTimestamp); off != -1 || at != -1 {
		t.Errorf("the youngest of no records: %d at %d", off, at)
	}
	for _, b := range [][]byte{
		timedBatch(t, 1000, 1010, 1005), // 0-2
		timedBatch(t, 900),              // 3: an older record behind younger ones
		timedBatch(t, 2000, 1500, 3000), // 4-6
		timedBatch(t, 2500, 3000),       // 7-8
	} {
		if _, err := produce(timeout(t), n, "t", 0, b); err != nil {
			t.Fatal(err)
		}
	}
	check := func(timestamp, offset, at int64) {
		t.Helper()
		if o, a := offsetAt(t, n, "t", timestamp); o != offset || a != at {
			t.Errorf("time %d: offset %d at %d, want %d at %d", timestamp, o, a, offset, at)
		}
	}
	check(api.EarliestTimestamp, 0, -1)
	check(api.LatestTimestamp, 9, -1)
	check(api.MaxTimestamp, 6, 3000)
	check(0, 0, 1000)
	check(1000, 0, 1000)
	check(1001, 1, 1010)
	check(1011, 4, 2000)
	check(2001, 6, 3000)
	check(3000, 6, 3000)
	check(3001, -1, -1)

	trim(t, n, "t", 0, 2) // in the midst of the first batch
	check(api.EarliestTimestamp, 2, -1)
	check(0, 2, 1005)
	check(1006, 4, 2000)
	trim(t, n, "t", 0, 5)
	check(0, 5, 1500)
	check(1501, 6, 3000)
	trim(t, n, "t", 0, 7)
	check(0, 7, 2500)
	check(api.MaxTimestamp, 8, 3000)
	trim(t, n, "t", 0, 9)
	check(api.EarliestTimestamp, 9, -1)
	check(api.LatestTimestamp, 9, -1)
	check(api.MaxTimestamp, -1, -1)
	check(0, -1, -1)
}

func TestTheYoungestRecordIsThatOfTheReadableOnes(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	for _, b := range [][]byte{timedBatch(t, 5000), timedBatch(t, 1000, 3000, 2000), timedBatch(t, 2500)} {
		if _, err := produce(timeout(t), n, "t", 0, b); err != nil {
			t.Fatal(err)
		}
	}
	trim(t, n, "t", 0, 1)
	if off, at := offsetAt(t, n, "t", api.MaxTimestamp); off != 2 || at != 3000 {
		t.Errorf("the youngest is offset %d at %d, want 2 at 3000", off, at)
	}
	trim(t, n, "t", 0, 3)
	if off, at := offsetAt(t, n, "t", api.MaxTimestamp); off != 4 || at != 2500 {
		t.Errorf("the youngest is offset %d at %d, want 4 at 2500", off, at)
	}
}

func TestOffsetsOfWhatIsNotThereAreRefused(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	there := api.TopicPartition{Topic: "t"}
	for name, c := range map[string]struct {
		tp   api.TopicPartition
		time int64
		want error
	}{
		"unknown topic":     {api.TopicPartition{Topic: "x"}, 0, mqerr.ErrUnknownTopicOrPartition},
		"another id":        {api.TopicPartition{Topic: "t", TopicID: uuid.New()}, 0, mqerr.ErrUnknownTopicID},
		"unknown partition": {api.TopicPartition{Topic: "t", Partition: 1}, 0, mqerr.ErrUnknownTopicOrPartition},
		"unknown time":      {there, -4, mqerr.ErrInvalidRequest},
	} {
		lists, err := n.ListOffsets(t.Context(), &api.ListOffsetsRequest{Partitions: []api.ListOffsetsPartition{{TopicPartition: c.tp, Timestamp: c.time}}})
		if err != nil {
			t.Fatal(err)
		}
		if p := lists.Partitions[0]; !errors.Is(p.Err, c.want) || p.Offset != -1 {
			t.Errorf("%s: %+v, want %v", name, p, c.want)
		}
		ends, err := n.EpochEnds(t.Context(), &api.EpochEndsRequest{Partitions: []api.EpochEndsPartition{{TopicPartition: c.tp}}})
		if err != nil {
			t.Fatal(err)
		}
		if p := ends.Partitions[0]; c.tp != there && (!errors.Is(p.Err, c.want) || p.EndOffset != -1) {
			t.Errorf("%s: epoch end %+v, want %v", name, p, c.want)
		}
	}
}

func TestEachStartOfTheBrokerIsALeaderEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var epochs []int32 // of each round
	for round := range int64(4) {
		n := openNode(t, Config{Dir: dir})
		if round == 0 {
			newTopic(t, n, "t", 1, nil)
		}
		f, err := n.find(api.TopicPartition{Topic: "t"})
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 && f.epoch <= epochs[round-1] {
			t.Fatalf("epoch %d follows %v", f.epoch, epochs)
		}
		epochs = append(epochs, f.epoch)
		mustProduce(t, n, "t", 0, "a", "b")
		for i, e := range epochs {
			resp, err := n.EpochEnds(t.Context(), &api.EpochEndsRequest{Partitions: []api.EpochEndsPartition{
				{TopicPartition: api.TopicPartition{Topic: "t"}, LeaderEpoch: e}, {TopicPartition: api.TopicPartition{Topic: "t"}, LeaderEpoch: f.epoch + 1},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if p := resp.Partitions[0]; p.Err != nil || p.LeaderEpoch != e || p.EndOffset != int64(2*i+2) {
				t.Errorf("round %d: epoch %d ends %+v, want %d", round, e, p, 2*i+2)
			}
			if p := resp.Partitions[1]; p.Err != nil || p.LeaderEpoch != api.NoEpoch || p.EndOffset != -1 {
				t.Errorf("round %d: an epoch to come ends %+v", round, p)
			}
		}
		// Batches carry the epoch in which they were appended.
		p := fetch(t, n, &api.FetchRequest{Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}}).Partitions[0]
		for i, b := 0, p.Batches; len(b) > 0; i++ {
			info, err := record.Parse(b)
			if err != nil || info.LeaderEpoch != epochs[i] {
				t.Fatalf("round %d: batch %d is of epoch %d, want %d, %v", round, i, info.LeaderEpoch, epochs[i], err)
			}
			b = b[info.Size:]
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheBrokerStampsRecordsIfTheTopicSaysSo(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 1, map[string]string{topic.TimestampType: topic.LogAppendTime})
	var stamps []int64
	for _, codec := range []record.Codec{record.None, record.Zstd} {
		clock.advance(5_000_000_000)
		stamps = append(stamps, clock.now().UnixMilli())
		var b record.Builder
		for i := range 20 {
			b.Append(nil, []byte("the same value"), nil, int64(i))
		}
		batch, err := b.Build(nil, record.BuildOptions{Codec: codec, ProducerID: record.NoProducerID})
		if err != nil {
			t.Fatal(err)
		}
		sent := string(batch)
		res, err := produce(timeout(t), n, "t", 0, batch)
		if err != nil || res.AppendTime != clock.now().UnixMilli() {
			t.Fatalf("%+v, %v", res, err)
		}
		if string(batch) != sent {
			t.Error("the caller's batch was changed")
		}
	}
	p := fetch(t, n, &api.FetchRequest{Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}}).Partitions[0]
	for i, b := 0, p.Batches; len(b) > 0; i++ {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range record.Records(batch, record.ReadOptions{}) { // checks the CRC
			if err != nil || r.Timestamp != stamps[i] {
				t.Fatalf("batch %d: record of %d, want %d, %v", i, r.Timestamp, stamps[i], err)
			}
		}
		b = rest
	}
	if off, at := offsetAt(t, n, "t", stamps[0]+1); off != 20 || at != stamps[1] {
		t.Errorf("by time: offset %d at %d", off, at)
	}
	newTopic(t, n, "kept", 1, nil)
	if res, err := produce(timeout(t), n, "kept", 0, timedBatch(t, 7)); err != nil || res.AppendTime != -1 {
		t.Errorf("a topic that keeps times: %+v, %v", res, err)
	}
}
