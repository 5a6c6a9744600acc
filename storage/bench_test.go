package storage_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/raftmq/mq/storage"
)

// Batches of 16 and 64 KiB with records of 100 B and 1 KiB, on the disk of the
// test's temporary directory. An append is not durable by itself: the store
// has no write-ahead log.

type benchShape struct{ record, batch int }

var benchShapes = []benchShape{{100, 16 << 10}, {1 << 10, 16 << 10}, {1 << 10, 64 << 10}}

func (s benchShape) String() string {
	return fmt.Sprintf("size=%dB/batch=%dKiB", s.record, s.batch>>10)
}

func (s benchShape) payload() []byte {
	b := make([]byte, s.batch)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// report adds records per second to the bytes per second.
func (s benchShape) report(b *testing.B, batches int) {
	b.SetBytes(int64(s.batch))
	b.ReportMetric(float64(batches*(s.batch/s.record))/b.Elapsed().Seconds(), "records/s")
}

func benchStore(b *testing.B) *storage.Store {
	b.Helper()
	s, err := storage.Open(b.TempDir(), storage.Options{})
	must(b, err)
	b.Cleanup(func() { must(b, s.Close()) })
	return s
}

func BenchmarkAppend(b *testing.B) {
	for _, shape := range benchShapes {
		for _, logs := range []int{1, 100} {
			b.Run(fmt.Sprintf("%v/logs=%d", shape, logs), func(b *testing.B) {
				s := benchStore(b)
				var open []*storage.Log
				for i := range logs {
					open = append(open, mustOpenLog(b, s, storage.ReplicaID{Shard: 1024 + uint64(i), Replica: 1}))
				}
				payload := shape.payload()
				i := 0
				for b.Loop() {
					l := open[i%logs]
					lb := l.NewBatch()
					e := lb.State().End
					must(b, lb.Append(payload, e, e+int64(shape.batch/shape.record)-1, 1, 1))
					must(b, lb.Commit(l.Applied()+1))
					i++
				}
				shape.report(b, i)
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, shape := range benchShapes {
		b.Run(shape.String()+"/fetch=1MiB", func(b *testing.B) {
			s := benchStore(b)
			l := mustOpenLog(b, s, crashLogs[0])
			payload, n := shape.payload(), int64(shape.batch/shape.record)
			for l.State().Bytes < 256<<20 {
				lb := l.NewBatch()
				e := lb.State().End
				must(b, lb.Append(payload, e, e+n-1, 1, 1))
				must(b, lb.Commit(l.Applied()+1))
			}
			must(b, l.Sync())
			var buf []byte
			var offset int64
			batches := 0
			for b.Loop() {
				var err error
				buf, offset, err = l.Read(buf[:0], offset, 1<<20)
				must(b, err)
				batches += len(buf) / shape.batch
				if offset == l.State().End {
					offset = 0
				}
			}
			b.SetBytes(1 << 20)
			b.ReportMetric(float64(int64(batches)*n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// One batch of 16 KiB, then made durable.
func BenchmarkAppendSync(b *testing.B) {
	s := benchStore(b)
	l := mustOpenLog(b, s, crashLogs[0])
	payload := benchShapes[0].payload()
	before := s.Metrics().Fsyncs
	n := 0
	for b.Loop() {
		lb := l.NewBatch()
		e := lb.State().End
		must(b, lb.Append(payload, e, e, 1, 1))
		must(b, lb.Commit(l.Applied()+1))
		must(b, l.Sync())
		n++
	}
	b.ReportMetric(float64(s.Metrics().Fsyncs-before)/float64(n), "fsyncs/op")
}

// A broker that starts: the store and a thousand logs of 1 MB.
func BenchmarkOpenThousandLogs(b *testing.B) {
	dir := b.TempDir()
	s, err := storage.Open(dir, storage.Options{})
	must(b, err)
	payload := benchShapes[2].payload()
	id := func(i int) storage.ReplicaID { return storage.ReplicaID{Shard: 1024 + uint64(i), Replica: 1} }
	for range 16 {
		for i := range 1000 {
			l := mustOpenLog(b, s, id(i))
			lb := l.NewBatch()
			e := lb.State().End
			must(b, lb.Append(payload, e, e, 1, 1))
			must(b, lb.Commit(l.Applied()+1))
		}
	}
	must(b, s.Close())
	for b.Loop() {
		s, err := storage.Open(dir, storage.Options{})
		must(b, err)
		for i := range 1000 {
			mustOpenLog(b, s, id(i))
		}
		b.StopTimer()
		must(b, s.Close())
		b.StartTimer()
	}
}
