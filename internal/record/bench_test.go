package record_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/record"
)

// benchRecords are JSON lines of about size bytes, 64 KiB in all, which
// compress about as application logs do.
func benchRecords(size int) []record.Record {
	rs := make([]record.Record, 64<<10/size)
	for i := range rs {
		h := uint64(i+1) * 0x9e3779b97f4a7c15
		line := fmt.Sprintf(`{"id":%d,"user":"%08x","path":"/api/v1/items/%d","status":200,"text":"`, i, h>>32, h%1000)
		for j := 0; len(line) < size-2; j++ {
			h = h*6364136223846793005 + 1
			line += [...]string{"alpha ", "beta ", "gamma ", "delta ", "epsilon ", "zeta ", "eta ", "theta "}[h>>61]
		}
		rs[i] = record.Record{
			Key: fmt.Appendf(nil, "%08x", h>>32), Value: []byte(line[:size-2] + `"}`),
			Timestamp: 1_700_000_000_000 + int64(i),
		}
	}
	return rs
}

func forShapes(b *testing.B, f func(b *testing.B, codec record.Codec, rs []record.Record)) {
	for _, codec := range codecs {
		for _, size := range []int{100, 1024} {
			rs := benchRecords(size)
			b.Run(fmt.Sprintf("codec=%v/size=%s", codec, strings.Replace(fmt.Sprintf("%dB", size), "1024B", "1KiB", 1)), func(b *testing.B) {
				bytes := 0
				for _, r := range rs {
					bytes += len(r.Key) + len(r.Value)
				}
				b.SetBytes(int64(bytes))
				b.ReportAllocs()
				f(b, codec, rs)
				b.ReportMetric(float64(b.N)*float64(len(rs))/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	forShapes(b, func(b *testing.B, codec record.Codec, rs []record.Record) {
		var builder record.Builder
		var batch []byte
		for b.Loop() {
			builder.Reset()
			for i := range rs {
				builder.Append(rs[i].Key, rs[i].Value, rs[i].Headers, rs[i].Timestamp)
			}
			var err error
			if batch, err = builder.Build(batch[:0], plain(codec)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(builder.Size())/float64(len(batch)), "ratio")
	})
}

func BenchmarkDecode(b *testing.B) {
	forShapes(b, func(b *testing.B, codec record.Codec, rs []record.Record) {
		batch := build(b, plain(codec), rs...)
		for b.Loop() {
			n := 0
			for _, err := range record.Records(batch, record.ReadOptions{}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != len(rs) {
				b.Fatalf("%d records, want %d", n, len(rs))
			}
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	batch := build(b, plain(record.None), benchRecords(1024)...)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if _, err := record.Validate(batch, 0); err != nil {
			b.Fatal(err)
		}
	}
}
