package transport_test

import (
	"context"
	"sync"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/transporttest"
)

var batchSizes = []struct {
	name  string
	bytes int
}{{"1KiB", 1 << 10}, {"16KiB", 16 << 10}, {"1MiB", 1 << 20}}

// The broker answers at once, so this is the price of the door: a pipelined
// stream of requests with one batch each.
func BenchmarkProduce(b *testing.B) {
	for _, size := range batchSizes {
		b.Run("grpc/batch="+size.name, func(b *testing.B) {
			c := dial(b, serve(b, answering(), transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
			q := transporttest.Numbered(1, make([]byte, size.bytes))
			var answered sync.WaitGroup
			done := func(_ *api.ProduceResponse, err error) {
				if err != nil {
					b.Error(err)
				}
				answered.Done()
			}
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				answered.Add(1)
				c.Produce(b.Context(), q, done)
			}
			answered.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

// One request after the other: latency.
func BenchmarkProduceOneByOne(b *testing.B) {
	for _, size := range batchSizes {
		b.Run("grpc/batch="+size.name, func(b *testing.B) {
			c := dial(b, serve(b, answering(), transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
			q := transporttest.Numbered(1, make([]byte, size.bytes))
			done := make(chan error, 1)
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				c.Produce(b.Context(), q, func(_ *api.ProduceResponse, err error) { done <- err })
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	for _, size := range batchSizes {
		b.Run("grpc/answer="+size.name, func(b *testing.B) {
			batches := make([]byte, size.bytes)
			c := dial(b, serve(b, &transporttest.Backend{
				FetchFunc: func(context.Context, *api.FetchRequest) (*api.FetchResponse, error) {
					return &api.FetchResponse{Partitions: []api.FetchResult{{Batches: batches}}}, nil
				},
			}, transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
			q := &api.FetchRequest{Partitions: []api.FetchPartition{{TopicPartition: api.TopicPartition{Topic: "t"}}}}
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Fetch(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}
