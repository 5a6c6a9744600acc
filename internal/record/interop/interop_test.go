// Package interop proves package record against franz-go, which nobody here
// wrote: batches that its producer makes decode here, batches made here decode
// in its consumer. Between them is its in-process stand-in for Kafka, which
// checks produced batches as a broker does. It is a module of its own so that
// franz-go stays out of the library's dependencies.
package interop

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftmq/mq/internal/record"
)

const topic = "interop"

// codecs pairs our codecs with franz-go's.
var codecs = []struct {
	ours   record.Codec
	theirs kgo.CompressionCodec
}{
	{record.None, kgo.NoCompression()},
	{record.Gzip, kgo.GzipCompression()},
	{record.Snappy, kgo.SnappyCompression()},
	{record.LZ4, kgo.Lz4Compression()},
	{record.Zstd, kgo.ZstdCompression()},
}

// samples are records with nulls, empties, headers and uneven times, and enough
// text for several compression blocks.
func samples() []record.Record {
	const t0 = 1_700_000_000_000
	rs := []record.Record{
		{Key: []byte("key"), Value: []byte("value"), Timestamp: t0},
		{Key: nil, Value: nil, Timestamp: t0 + 1},
		{Key: []byte{}, Value: []byte{}, Timestamp: t0 - 1000},
		{Key: []byte("headers"), Timestamp: t0 + 50_000_000, Headers: []record.Header{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "", Value: []byte{}}, {Key: "null", Value: nil},
		}},
		{Value: []byte(strings.Repeat("the quick brown fox jumps over the lazy dog\n", 5000)), Timestamp: t0},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		noise := make([]byte, rng.IntN(300))
		for j := range noise {
			noise[j] = byte(rng.Uint32())
		}
		rs = append(rs, record.Record{
			Key: fmt.Appendf(nil, "key %d", i), Value: append([]byte("a value that repeats itself, then noise: "), noise...),
			Timestamp: t0 + rng.Int64N(1000), Headers: []record.Header{{Key: "n", Value: fmt.Append(nil, i)}},
		})
	}
	for i := range rs {
		rs[i].Offset = int64(i)
	}
	return rs
}

func newCluster(t *testing.T) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func newClient(t *testing.T, cluster *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(cluster.ListenAddrs()...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestTheirBatchesDecodeHere(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.ours.String(), func(t *testing.T) {
			ctx, cluster, want := testContext(t), newCluster(t), samples()
			produced := make(chan []byte, 100)
			cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				for _, topic := range req.(*kmsg.ProduceRequest).Topics {
					for _, p := range topic.Partitions {
						produced <- append([]byte(nil), p.Records...)
					}
				}
				return nil, nil, false // the stand-in goes on and checks it too
			})
			client := newClient(t, cluster, kgo.ProducerBatchCompression(codec.theirs),
				kgo.ProducerLinger(20*time.Millisecond), kgo.ProducerBatchMaxBytes(1_000_000))
			rs := make([]*kgo.Record, len(want))
			for i, r := range want {
				rs[i] = theirs(r)
			}
			if err := client.ProduceSync(ctx, rs...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			client.Close()
			cluster.Close()
			close(produced)

			var got []record.Record
			compressed := false
			for batch := range produced {
				info, err := record.Validate(batch, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				if info.ProducerID < 0 || info.BaseSequence != int32(len(got)) {
					t.Errorf("producer %d, sequence %d after %d records", info.ProducerID, info.BaseSequence, len(got))
				}
				compressed = compressed || info.Codec == codec.ours
				record.Patch(batch, int64(len(got)), 0)
				for r, err := range record.Records(batch, record.ReadOptions{}) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, r)
				}
			}
			if !compressed {
				t.Errorf("no batch has codec %v", codec.ours)
			}
			mustEqual(t, got, want)
		})
	}
}

func TestOurBatchesDecodeThere(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.ours.String(), func(t *testing.T) {
			ctx, cluster, want := testContext(t), newCluster(t), samples()
			client := newClient(t, cluster, kgo.ConsumeTopics(topic),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			var b record.Builder
			for _, r := range want {
				b.Append(r.Key, r.Value, r.Headers, r.Timestamp)
			}
			batch, err := b.Build(nil, record.BuildOptions{Codec: codec.ours, ProducerID: record.NoProducerID})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := record.Parse(batch); err != nil || info.Codec != codec.ours {
				t.Fatalf("codec is %v, %v", info.Codec, err)
			}
			produce(ctx, t, cluster, client, batch)

			var got []record.Record
			for len(got) < len(want) {
				fetches := client.PollFetches(ctx)
				if err := fetches.Err0(); err != nil {
					t.Fatalf("after %d records: %v", len(got), err)
				}
				for _, e := range fetches.Errors() {
					t.Fatalf("after %d records: %v", len(got), e.Err)
				}
				fetches.EachRecord(func(r *kgo.Record) { got = append(got, ours(r)) })
			}
			mustEqual(t, got, want)
		})
	}
}

// franz-go uses the compression libraries that package record uses. Two formats
// have Go implementations that share no code with those.
func TestOurDataIsReadByOtherLibraries(t *testing.T) {
	records := func(codec record.Codec) []byte {
		var b record.Builder
		for _, r := range samples() {
			b.Append(r.Key, r.Value, r.Headers, r.Timestamp)
		}
		batch, err := b.Build(nil, record.BuildOptions{Codec: codec, ProducerID: record.NoProducerID})
		if err != nil {
			t.Fatal(err)
		}
		return batch[record.HeaderSize:]
	}
	want := records(record.None)
	z, err := gzip.NewReader(bytes.NewReader(records(record.Gzip)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) {
		t.Errorf("compress/gzip reads %d bytes of %d, %v", len(got), len(want), err)
	}
	if got, err := snappy.Decode(nil, records(record.Snappy)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("golang/snappy reads %d bytes of %d, %v", len(got), len(want), err)
	}
}

// The idempotent triple and a later change of it pass the stand-in's checks.
func TestTheirBrokerDeduplicatesOurBatches(t *testing.T) {
	ctx, cluster := testContext(t), newCluster(t)
	client := newClient(t, cluster)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.ProducerID, init.ProducerEpoch = -1, -1
	id, err := init.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	var b record.Builder
	b.Append(nil, []byte("once"), nil, 1)
	b.Append(nil, []byte("again"), nil, 2)
	batch, err := b.Build(nil, record.BuildOptions{ProducerID: id.ProducerID, ProducerEpoch: id.ProducerEpoch})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if offset := produce(ctx, t, cluster, client, batch); offset != 0 {
			t.Errorf("first batch is at offset %d, want 0", offset)
		}
	}
	record.SetProducer(batch, id.ProducerID, id.ProducerEpoch, record.AddSequence(0, 2))
	if offset := produce(ctx, t, cluster, client, batch); offset != 2 {
		t.Errorf("second batch is at offset %d, want 2", offset)
	}
}

// produce sends a batch as it is and returns its base offset.
func produce(ctx context.Context, t *testing.T, cluster *kfake.Cluster, client *kgo.Client, batch []byte) int64 {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	req.TimeoutMillis = 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, cluster.TopicInfo(topic).TopicID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := client.Broker(0).Request(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		t.Fatalf("the batch is refused: %v", err)
	}
	return p.BaseOffset
}

func theirs(r record.Record) *kgo.Record {
	out := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader(h))
	}
	return out
}

func ours(r *kgo.Record) record.Record {
	out := record.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, record.Header(h))
	}
	return out
}

func mustEqual(t *testing.T, got, want []record.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range want {
		// %#v tells nil from empty.
		if g, w := fmt.Sprintf("%#v", got[i]), fmt.Sprintf("%#v", want[i]); g != w {
			t.Fatalf("record %d:\n got %.300s\nwant %.300s", i, g, w)
		}
	}
}
