package mq_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
)

// endlessBroker has as many records as anybody asks for: the same batch again
// and again. What a benchmark measures is the consumer and the copy of the
// bytes that every door makes.
type endlessBroker struct {
	fakeBroker
	batch []byte
	count int64
}

func (b endlessBroker) Fetch(_ context.Context, req *api.FetchRequest) (*api.FetchResponse, error) {
	resp := &api.FetchResponse{}
	for _, q := range req.Partitions {
		r := api.FetchResult{TopicPartition: q.TopicPartition}
		r.Batches = bytes.Repeat(b.batch, max(1, q.MaxBytes/len(b.batch)))
		for at, base := 0, q.Offset; at < len(r.Batches); at, base = at+len(b.batch), base+b.count {
			record.Patch(r.Batches[at:], base, 0)
		}
		resp.Partitions = append(resp.Partitions, r)
	}
	return resp, nil
}

func benchConsumer(b *testing.B, size int, codec record.Codec, cfg mq.ConsumerConfig) *mq.Consumer {
	c := newFakeCluster()
	c.create("t", 1)
	var builder record.Builder
	for i := range 100 {
		builder.Append(fmt.Append(nil, "key", i), bytes.Repeat([]byte("value "), size/6+1)[:size], nil, 1000)
	}
	batch, err := builder.Build(nil, record.BuildOptions{ProducerID: record.NoProducerID, Codec: codec})
	if err != nil {
		b.Fatal(err)
	}
	r := route.New(route.Config{Local: endlessBroker{fakeBroker{c: c, id: 1}, batch, 100}, LocalID: 1})
	cfg.Topics = []string{"t"}
	consumer, err := mq.NewConsumer(mq.RouterEndpoint(r), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		consumer.Close()
		r.Close()
	})
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	return consumer
}

func BenchmarkConsume(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			name := fmt.Sprintf("size=%d/codec=%v", size, codec)
			for _, n := range []int{1, 16} {
				way := map[int]string{1: "run/", 16: "work/"}[n]
				b.Run(way+name, func(b *testing.B) {
					consumer := benchConsumer(b, size, codec, mq.ConsumerConfig{Concurrency: n})
					ctx, stop := context.WithCancel(b.Context())
					var n atomic.Int64
					err := consumer.Run(ctx, mq.HandlerFunc(func(context.Context, *mq.Record) error {
						if n.Add(1) >= int64(b.N) {
							stop()
						}
						return nil
					}))
					if err != nil {
						b.Fatal(err)
					}
					perSecond(b)
				})
			}
			b.Run("messages/"+name, func(b *testing.B) {
				n := 0
				for range benchConsumer(b, size, codec, mq.ConsumerConfig{}).Messages(b.Context()) {
					if n++; n >= b.N {
						break
					}
				}
				perSecond(b)
			})
			b.Run("poll/"+name, func(b *testing.B) {
				consumer := benchConsumer(b, size, codec, mq.ConsumerConfig{})
				for n := 0; n < b.N; {
					rs, err := consumer.Poll(b.Context(), 500)
					if err != nil {
						b.Fatal(err)
					}
					n += len(rs)
				}
				perSecond(b)
			})
		}
	}
}

func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s") }
