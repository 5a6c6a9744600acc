package network_test

import (
	"fmt"
	"testing"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftpb"
)

// onEach runs a benchmark on every carrier.
func onEach(b *testing.B, bench func(b *testing.B, w *world)) {
	for _, c := range carriers {
		b.Run("on="+c.name, func(b *testing.B) {
			w := newWorld(b, c.make(b), c.listen)
			w.faults = nil
			bench(b, w)
		})
	}
}

// BenchmarkRaftMessages is the way from one NodeHost into the other, messages
// in batches of ten.
func BenchmarkRaftMessages(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			onEach(b, func(b *testing.B, w *world) {
				const window, perBatch = 64, 10
				from := raftOn(b, w.attach("a"))
				to := w.attach("b")
				tokens := make(chan struct{}, window)
				r := to.Raft().Create(config.NodeHostConfig{}, func(raftpb.MessageBatch) { <-tokens }, nil)
				if err := r.Start(); err != nil {
					b.Fatal(err)
				}
				lane := from.lane("b")
				m := batch("a", 1, size)
				for range perBatch - 1 {
					m.Requests = append(m.Requests, m.Requests[0])
				}
				b.SetBytes(int64(perBatch * size))
				for b.Loop() {
					tokens <- struct{}{}
					if err := lane.SendMessageBatch(m); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*perBatch)/b.Elapsed().Seconds(), "messages/s")
				eventually(b, "all arrive", func() bool { return to.Stats().BatchesReceived == uint64(b.N) })
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkCall is one call after the other, and many at once.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			onEach(b, func(b *testing.B, w *world) {
				a := w.attach("a")
				w.attach("b", answering(echo))
				payload := make([]byte, size)
				call := func() {
					if _, err := a.Call(b.Context(), "b", "m", payload); err != nil {
						b.Error(err)
					}
				}
				b.Run("parallel=1", func(b *testing.B) {
					b.SetBytes(int64(size))
					for b.Loop() {
						call()
					}
				})
				b.Run("parallel=64", func(b *testing.B) {
					b.SetBytes(int64(size))
					b.SetParallelism(32)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							call()
						}
					})
				})
			})
		})
	}
}
