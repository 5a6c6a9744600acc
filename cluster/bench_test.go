package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/raftmq/mq/internal/api"
)

// BenchmarkProduce appends through raft and the store, with many batches in
// flight as a producer has. fsync is on for dir=disk.
func BenchmarkProduce(b *testing.B) {
	for _, dir := range []string{"memory", "disk"} {
		for _, shape := range []struct{ size, batch, inflight int }{
			{100, 1, 1}, {100, 100, 32}, {1024, 1, 1}, {1024, 16, 32}, {1024, 64, 32},
		} {
			b.Run(fmt.Sprintf("dir=%s/size=%d/batch=%d/inflight=%d", dir, shape.size, shape.batch, shape.inflight), func(b *testing.B) {
				cfg := Config{MaxMemory: 8 << 30}
				if dir == "disk" {
					cfg.Dir = b.TempDir()
				}
				n := openNode(b, cfg)
				newTopic(b, n, "t", 1, map[string]string{"retention.bytes": fmt.Sprint(256 << 20)})
				values := make([]string, shape.batch)
				for i := range values {
					values[i] = strings.Repeat("x", shape.size)
				}
				batch := makeBatch(b, values...)
				slots := make(chan struct{}, shape.inflight)
				var all sync.WaitGroup
				var failed atomic.Pointer[error]
				b.SetBytes(int64(shape.batch * shape.size))
				b.ReportAllocs()
				for b.Loop() {
					slots <- struct{}{}
					all.Add(1)
					n.Produce(context.Background(), &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
						TopicPartition: api.TopicPartition{Topic: "t"}, Batch: batch,
					}}}, func(resp *api.ProduceResponse, err error) {
						if err == nil {
							err = resp.Partitions[0].Err
						}
						if err != nil {
							failed.CompareAndSwap(nil, &err)
						}
						<-slots
						all.Done()
					})
				}
				all.Wait()
				if err := failed.Load(); err != nil {
					b.Fatal(*err)
				}
				b.ReportMetric(float64(b.N*shape.batch)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}
