package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/api"
)

// BenchmarkOpenToFirstAck opens an empty broker in memory, makes a topic and
// has a record acknowledged.
func BenchmarkOpenToFirstAck(b *testing.B) {
	batch := makeBatch(b, "x")
	for b.Loop() {
		n, err := Open(b.Context(), Config{})
		if err != nil {
			b.Fatal(err)
		}
		newTopic(b, n, "t", 1, nil)
		if _, err := produce(b.Context(), n, "t", 0, batch); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkReopenAfterKill opens the directory of a broker that was killed while
// it held many partitions, until all of them serve.
func BenchmarkReopenAfterKill(b *testing.B) {
	for _, partitions := range []int{10, 1000} {
		b.Run(fmt.Sprint("partitions=", partitions), func(b *testing.B) {
			killed := b.TempDir()
			inAnotherProcess(b, fmt.Sprint("hold ", partitions), killed)(true)
			for b.Loop() {
				b.StopTimer()
				dir := filepath.Join(b.TempDir(), "copy")
				if err := os.CopyFS(dir, os.DirFS(killed)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				n, err := Open(b.Context(), Config{Dir: dir})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if got := len(readAll(b, n, "t", int32(partitions-1), 0)); got != 10 {
					b.Fatalf("the last partition holds %d records", got)
				}
				if err := errors.Join(n.Close(), os.RemoveAll(dir)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkFetch reads a log from its start, again and again.
func BenchmarkFetch(b *testing.B) {
	for _, dir := range []string{"memory", "disk"} {
		for _, shape := range []struct{ size, batch int }{{100, 100}, {1024, 16}, {1024, 512}} {
			b.Run(fmt.Sprintf("dir=%s/size=%d/batch=%d", dir, shape.size, shape.batch), func(b *testing.B) {
				cfg := Config{MaxMemory: 1 << 30}
				if dir == "disk" {
					cfg.Dir = b.TempDir()
				}
				n := openNode(b, cfg)
				newTopic(b, n, "t", 1, nil)
				values := make([]string, shape.batch)
				for i := range values {
					values[i] = strings.Repeat("x", shape.size)
				}
				batch := makeBatch(b, values...)
				const held = 32 << 20
				records := int64(0)
				for filled := 0; filled < held; filled += len(batch) {
					if _, err := produce(b.Context(), n, "t", 0, batch); err != nil {
						b.Fatal(err)
					}
					records += int64(shape.batch)
				}
				if f, err := n.find(api.TopicPartition{Topic: "t"}); err != nil || f.part.sync() != nil {
					b.Fatal(err)
				}
				var offset, read int64
				b.ReportAllocs()
				for b.Loop() {
					if offset >= records {
						offset = 0
					}
					resp, err := n.Fetch(b.Context(), &api.FetchRequest{MaxBytes: 1 << 20, Partitions: []api.FetchPartition{fetchAt("t", 0, offset)}})
					if err != nil || resp.Partitions[0].Err != nil {
						b.Fatal(err, resp.Partitions[0].Err)
					}
					got := int64(len(resp.Partitions[0].Batches) / len(batch) * shape.batch)
					offset += got
					read += got
				}
				b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(read)*float64(shape.size)/1e6/b.Elapsed().Seconds(), "MB/s")
			})
		}
	}
}
