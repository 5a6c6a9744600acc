package record_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/record"
)

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

// plain is a batch without a producer id.
func plain(codec record.Codec) record.BuildOptions {
	return record.BuildOptions{Codec: codec, ProducerID: record.NoProducerID}
}

func build(t testing.TB, opts record.BuildOptions, rs ...record.Record) []byte {
	t.Helper()
	var b record.Builder
	for _, r := range rs {
		b.Append(r.Key, r.Value, r.Headers, r.Timestamp)
	}
	batch, err := b.Build(nil, opts)
	if err != nil {
		t.Fatalf("Build: %v", err)
	}
	return batch
}

func readAll(b []byte, opts record.ReadOptions) ([]record.Record, error) {
	var rs []record.Record
	for r, err := range record.Records(b, opts) {
		if err != nil {
			return rs, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// mustEqual compares records and, unlike bytes.Equal, tells nil from empty.
func mustEqual(t testing.TB, got, want []record.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range want {
		if g, w := describe(got[i]), describe(want[i]); g != w {
			t.Fatalf("record %d:\n got %.300s\nwant %.300s", i, g, w)
		}
	}
}

func describe(r record.Record) string {
	s := fmt.Sprintf("offset %d, time %d, key %s, value %s", r.Offset, r.Timestamp, text(r.Key), text(r.Value))
	for _, h := range r.Headers {
		s += fmt.Sprintf(", header %q=%s", h.Key, text(h.Value))
	}
	return s
}

func text(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

// samples holds what is easy to get wrong: null against empty, lengths at the
// borders of varints, time that runs backwards.
func samples() []record.Record {
	rs := []record.Record{
		{Key: []byte("k"), Value: []byte("v"), Timestamp: 1_700_000_000_000},
		{Key: nil, Value: nil, Timestamp: 1_700_000_000_001},
		{Key: []byte{}, Value: []byte{}, Timestamp: 1_699_999_999_000},
		{Headers: []record.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}}}},
		{Headers: []record.Header{{Key: "a", Value: []byte("2")}, {Key: "b", Value: []byte("3")}}, Timestamp: -1},
		{Timestamp: math.MaxInt64},
		{Timestamp: math.MinInt64},
	}
	for _, n := range []int{63, 64, 8191, 8192, 70_000, 1 << 20} {
		rs = append(rs, record.Record{Key: make([]byte, n/2), Value: []byte(strings.Repeat("x", n))})
	}
	for i := range rs {
		rs[i].Offset = int64(i)
	}
	return rs
}

func TestRecordsReadBackAsAppended(t *testing.T) {
	want := samples()
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			batch := build(t, plain(codec), want...)
			info, err := record.Validate(batch, 0)
			if err != nil {
				t.Fatal(err)
			}
			if info.Codec != codec {
				t.Errorf("codec is %v, want %v", info.Codec, codec)
			}
			got, err := readAll(batch, record.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, got, want)
		})
	}
}

func TestRandomBatchesRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		want := randomRecords(rng)
		opts := record.BuildOptions{
			Codec: codecs[rng.IntN(len(codecs))], ProducerID: rng.Int64N(10) - 1,
			ProducerEpoch: int16(rng.IntN(100)), BaseSequence: rng.Int32(),
		}
		batch := build(t, opts, want...)
		base := rng.Int64N(1 << 40)
		for i := range want {
			want[i].Offset = base + int64(i)
		}
		record.Patch(batch, base, 3)
		info, err := record.Validate(batch, len(batch))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if info.LastOffset() != want[len(want)-1].Offset {
			t.Fatalf("seed %d: last offset %d, want %d", seed, info.LastOffset(), want[len(want)-1].Offset)
		}
		got, err := readAll(batch, record.ReadOptions{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		mustEqual(t, got, want)
	}
}

func randomRecords(rng *rand.Rand) []record.Record {
	rs := make([]record.Record, 1+rng.IntN(50))
	for i := range rs {
		rs[i] = record.Record{Key: randomBytes(rng, 20), Value: randomBytes(rng, 500), Timestamp: rng.Int64N(1 << 41)}
		for range rng.IntN(4) {
			rs[i].Headers = append(rs[i].Headers, record.Header{Key: string(randomBytes(rng, 5)), Value: randomBytes(rng, 40)})
		}
	}
	return rs
}

// randomBytes gives nil, empty, noise or something that compresses.
func randomBytes(rng *rand.Rand, most int) []byte {
	switch rng.IntN(4) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{'a'}, rng.IntN(most))
	}
	b := make([]byte, rng.IntN(most))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestBuilderTellsSizesInAdvance(t *testing.T) {
	var b record.Builder
	if b.Size() != record.HeaderSize {
		t.Errorf("empty builder has size %d", b.Size())
	}
	for i, r := range samples() {
		before, told := b.Size(), b.SizeOf(r.Key, r.Value, r.Headers, r.Timestamp)
		b.Append(r.Key, r.Value, r.Headers, r.Timestamp)
		if b.Size() != before+told {
			t.Errorf("record %d: told %d, took %d", i, told, b.Size()-before)
		}
		if b.Len() != i+1 {
			t.Errorf("Len is %d after %d records", b.Len(), i+1)
		}
	}
	batch, err := b.Build(nil, plain(record.None))
	if err != nil || len(batch) != b.Size() {
		t.Errorf("batch of %d bytes (%v), Size said %d", len(batch), err, b.Size())
	}
}

func TestBuilderAppendsAndCanBeUsedAgain(t *testing.T) {
	var b record.Builder
	for _, codec := range codecs {
		b.Reset()
		b.Append(nil, bytes.Repeat([]byte("again"), 100), nil, 9)
		first, err := b.Build([]byte("before"), plain(codec))
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.Build(nil, plain(codec))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, slices.Concat([]byte("before"), second)) {
			t.Errorf("%v: Build did not append the same batch", codec)
		}
	}
}

func TestIncompressibleRecordsStayPlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, codec := range codecs {
		batch := build(t, plain(codec), record.Record{Value: noise})
		if info, err := record.Validate(batch, 0); err != nil || info.Codec != record.None {
			t.Errorf("%v: batch has codec %v, %v", codec, info.Codec, err)
		}
	}
}
