package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// frame puts a valid header before whatever stands for records.
func frame(codec record.Codec, count int32, records []byte) []byte {
	b := make([]byte, record.HeaderSize, record.HeaderSize+len(records))
	be := binary.BigEndian
	be.PutUint32(b[atLength:], uint32(record.HeaderSize+len(records)-12))
	b[atMagic] = 2
	b[atAttributes+1] = byte(codec)
	be.PutUint32(b[atLastOffsetDelta:], uint32(count-1))
	be.PutUint32(b[atCount:], uint32(count))
	b = append(b, records...)
	record.SetProducer(b, -1, -1, -1)
	return b
}

func TestMalformedRecordsAreCorrupt(t *testing.T) {
	whole := []byte{16, 0, 0, 0, 2, 'k', 2, 'v', 0} // length 8, attributes, deltas, "k", "v", no headers
	if rs, err := readAll(frame(record.None, 1, whole), record.ReadOptions{}); err != nil || len(rs) != 1 {
		t.Fatalf("the record that the cases spoil: %v, %v", rs, err)
	}
	endless := bytes.Repeat([]byte{0xff}, 20)
	for name, c := range map[string]struct {
		count   int32
		records []byte
	}{
		"nothing":                          {1, nil},
		"length of endless varint":         {1, endless},
		"length beyond the end":            {1, slices.Concat([]byte{18}, whole[1:])},
		"negative length":                  {1, slices.Concat([]byte{1}, whole[1:])},
		"length zero":                      {1, []byte{0}},
		"length too short for its fields":  {1, slices.Concat([]byte{14}, whole[1:])},
		"length longer than its fields":    {1, slices.Concat([]byte{18}, whole[1:], []byte{0})},
		"endless time delta":               {1, slices.Concat([]byte{42, 0}, endless)},
		"offset delta above the last":      {1, []byte{16, 0, 0, 2, 2, 'k', 2, 'v', 0}},
		"negative offset delta":            {1, []byte{16, 0, 0, 1, 2, 'k', 2, 'v', 0}},
		"offset delta twice":               {2, slices.Concat(whole, whole)},
		"key length beyond the record":     {1, []byte{16, 0, 0, 0, 40, 'k', 2, 'v', 0}},
		"key length below null":            {1, []byte{16, 0, 0, 0, 3, 'k', 2, 'v', 0}},
		"value length beyond the record":   {1, []byte{16, 0, 0, 0, 2, 'k', 40, 'v', 0}},
		"more headers than bytes":          {1, []byte{16, 0, 0, 0, 2, 'k', 2, 'v', 2}},
		"negative header count":            {1, []byte{16, 0, 0, 0, 2, 'k', 2, 'v', 1}},
		"null header key":                  {1, []byte{20, 0, 0, 0, 2, 'k', 2, 'v', 2, 1, 1}},
		"header value beyond the record":   {1, []byte{20, 0, 0, 0, 2, 'k', 2, 'v', 2, 0, 8}},
		"fewer records than the count":     {2, whole},
		"more records than the count":      {1, slices.Concat(whole, []byte{16, 0, 0, 2, 2, 'k', 2, 'v', 0})},
		"count beyond any sense":           {math.MaxInt32, whole},
		"negative count":                   {-1, whole},
		"records in a batch that has none": {0, whole},
	} {
		t.Run(name, func(t *testing.T) {
			rs, err := readAll(frame(record.None, c.count, c.records), record.ReadOptions{})
			if !errors.Is(err, mqerr.ErrCorruptBatch) {
				t.Errorf("got %d records and %v", len(rs), err)
			}
		})
	}
}

func TestOffsetsBeyondInt64AreCorrupt(t *testing.T) {
	b := sample(t)
	record.Patch(b, math.MaxInt64-1, 0)
	if _, err := readAll(b, record.ReadOptions{}); !errors.Is(err, mqerr.ErrCorruptBatch) {
		t.Errorf("got %v", err)
	}
	record.Patch(b, math.MaxInt64-2, 0)
	if _, err := readAll(b, record.ReadOptions{}); err != nil {
		t.Errorf("the last batch that fits: %v", err)
	}
}

func TestRecordsKeepOffsetsOfACompactedBatch(t *testing.T) {
	b := frame(record.None, 2, []byte{
		14, 0, 0, 0, 1, 2, 'a', 0, // offset delta 0
		14, 0, 0, 4, 1, 2, 'c', 0, // offset delta 2
	})
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], 2)
	record.SetProducer(b, -1, -1, -1)
	record.Patch(b, 50, 0)
	rs, err := readAll(b, record.ReadOptions{})
	if err != nil || len(rs) != 2 || rs[0].Offset != 50 || rs[1].Offset != 52 {
		t.Errorf("got %v, %v; want offsets 50 and 52", rs, err)
	}
}

func TestABatchThatCompactionEmptiedHasNoRecords(t *testing.T) {
	b := frame(record.None, 0, nil)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], 9)
	record.SetProducer(b, -1, -1, -1)
	if rs, err := readAll(b, record.ReadOptions{}); err != nil || len(rs) != 0 {
		t.Errorf("got %v, %v", rs, err)
	}
}

func TestRecordsRefusesSeveralBatches(t *testing.T) {
	if rs, err := readAll(append(sample(t), sample(t)...), record.ReadOptions{}); !errors.Is(err, mqerr.ErrInvalidRecord) {
		t.Errorf("got %d records and %v", len(rs), err)
	}
}

func TestRecordsChecksTheCRCUnlessToldNotTo(t *testing.T) {
	b := sample(t)
	b[len(b)-2] ^= 1 // the last byte of the last value
	if _, err := readAll(b, record.ReadOptions{}); !errors.Is(err, mqerr.ErrCorruptBatch) {
		t.Errorf("got %v", err)
	}
	if rs, err := readAll(b, record.ReadOptions{SkipCRC: true}); err != nil || len(rs) != 3 {
		t.Errorf("with SkipCRC: %d records, %v", len(rs), err)
	}
}

func TestRecordsCanBeLeftEarly(t *testing.T) {
	for r, err := range record.Records(sample(t), record.ReadOptions{}) {
		if err != nil || r.Offset != 0 {
			t.Fatalf("got %v, %v", r, err)
		}
		break
	}
}

func TestAppendingToAFieldLeavesTheOthersAlone(t *testing.T) {
	want := samples()
	got, err := readAll(build(t, plain(record.None), want...), record.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		_ = append(r.Key, "over"...)
		_ = append(r.Value, "over"...)
		_ = append(r.Headers, record.Header{Key: "over"})
	}
	mustEqual(t, got, want)
}

func TestDamagedCompressedDataIsCorrupt(t *testing.T) {
	for _, codec := range codecs[1:] {
		good := build(t, plain(codec), samples()...)[record.HeaderSize:]
		for name, data := range map[string][]byte{
			"nothing":  nil,
			"one byte": good[:1],
			"half":     good[:len(good)/2],
			"noise":    bytes.Repeat([]byte{0xa5, 0x5a, 0xff}, 100),
		} {
			if _, err := readAll(frame(codec, 1, data), record.ReadOptions{}); !errors.Is(err, mqerr.ErrCorruptBatch) {
				t.Errorf("%v, %s: got %v", codec, name, err)
			}
		}
	}
}

func TestRecordsRefusesAnUnknownCodec(t *testing.T) {
	if _, err := readAll(frame(6, 1, []byte("?")), record.ReadOptions{}); !errors.Is(err, mqerr.ErrUnsupportedCompression) {
		t.Errorf("got %v", err)
	}
}

// bombs are small for what they decode to: 32 MiB of zeros, in all the ways
// that formats have to announce that, or not to.
func bombs(t *testing.T) map[string][]byte {
	const size = 32 << 20
	zeros := make([]byte, size)
	bombs := map[string][]byte{}
	for _, codec := range codecs[1:] {
		bombs[codec.String()] = build(t, plain(codec), record.Record{Value: zeros})
	}
	var unannounced bytes.Buffer
	w, err := zstd.NewWriter(&unannounced, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.Write(zeros[:size/2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bombs["zstd of unknown size"] = frame(record.Zstd, 1, unannounced.Bytes())
	bombs["zstd of two frames"] = frame(record.Zstd, 1, bytes.Repeat(bombs["zstd"][record.HeaderSize:], 2))

	xerial := append([]byte("\x82SNAPPY\x00"), 0, 0, 0, 1, 0, 0, 0, 1)
	for range 2 {
		block := bombs["snappy"][record.HeaderSize:]
		xerial = append(binary.BigEndian.AppendUint32(xerial, uint32(len(block))), block...)
	}
	bombs["snappy, framed"] = frame(record.Snappy, 1, xerial)
	return bombs
}

func TestDecompressionBombsAreRefusedWithoutTheMemory(t *testing.T) {
	const limit = 1 << 20
	for name, bomb := range bombs(t) {
		var err error
		took := allocated(func() { _, err = readAll(bomb, record.ReadOptions{MaxDecodedBytes: limit}) })
		if !errors.Is(err, mqerr.ErrRecordTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
		// Buffers double on the way to the limit, and decoders have their own.
		if took > 6*limit {
			t.Errorf("%s: %d bytes allocated, limit %d", name, took, limit)
		}
	}
}

func TestDecodedSizeIsLimitedByDefault(t *testing.T) {
	for _, n := range []int{record.DefaultMaxDecodedBytes - 100, record.DefaultMaxDecodedBytes} {
		b := build(t, plain(record.Zstd), record.Record{Value: make([]byte, n)})
		_, err := readAll(b, record.ReadOptions{})
		if want := n == record.DefaultMaxDecodedBytes; errors.Is(err, mqerr.ErrRecordTooLarge) != want || (err != nil) != want {
			t.Errorf("value of %d bytes: %v", n, err)
		}
	}
}

func TestClaimsOfSizeTakeNoMemory(t *testing.T) {
	var member, lz bytes.Buffer
	z := gzip.NewWriter(&member)
	_, _ = z.Write([]byte("little"))
	_ = z.Close()
	gz := member.Bytes()
	copy(gz[len(gz)-4:], "\xff\xff\xff\xff")
	l := lz4.NewWriter(&lz)
	_ = l.Apply(lz4.SizeOption(6))
	_, _ = l.Write([]byte("little"))
	_ = l.Close()
	l4 := lz.Bytes()
	binary.LittleEndian.PutUint64(l4[6:], 60<<20)

	for name, b := range map[string][]byte{
		"gzip":    frame(record.Gzip, 1, gz),
		"snappy":  frame(record.Snappy, 1, []byte{0x80, 0x80, 0x80, 0x1e, 0, 'x'}), // 60 MiB
		"lz4":     frame(record.LZ4, 1, l4),
		"zstd":    frame(record.Zstd, 1, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0xc0, 3, 9, 0, 0, 'x'}), // 60 MiB
		"count":   frame(record.None, math.MaxInt32, []byte{0}),
		"length":  frame(record.None, 1, []byte{0xfe, 0xff, 0xff, 0x3f}),
		"headers": frame(record.None, 1, []byte{20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f}),
	} {
		var err error
		took := allocated(func() { _, err = readAll(b, record.ReadOptions{}) })
		if !errors.Is(err, mqerr.ErrCorruptBatch) {
			t.Errorf("%s: got %v", name, err)
		}
		if took > 10<<20 { // an lz4 block of the largest size and its input take 8 MiB
			t.Errorf("%s: %d bytes allocated for %d bytes", name, took, len(b))
		}
	}
}

func TestHeadersCountAgainstTheLimit(t *testing.T) {
	// A header of two bytes becomes 40 in memory.
	b := build(t, plain(record.None), record.Record{Headers: make([]record.Header, 1<<20)})
	var err error
	took := allocated(func() { _, err = readAll(b, record.ReadOptions{MaxDecodedBytes: 16 << 20}) })
	if !errors.Is(err, mqerr.ErrRecordTooLarge) || took > 1<<20 {
		t.Errorf("got %v after %d bytes allocated", err, took)
	}
	if _, err = readAll(b, record.ReadOptions{}); err != nil {
		t.Errorf("with the default limit: %v", err)
	}
	long := record.Header{Key: string(make([]byte, 1<<20))}
	b = build(t, plain(record.None), record.Record{Headers: []record.Header{long}})
	if _, err = readAll(b, record.ReadOptions{MaxDecodedBytes: 1 << 19}); !errors.Is(err, mqerr.ErrRecordTooLarge) {
		t.Errorf("a long key gives %v", err)
	}
}

// allocated is how many bytes f allocated.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReadingAndBuildingAllocatePerBatchNotPerRecord(t *testing.T) {
	value, headers := make([]byte, 100), []record.Header{{Key: "trace", Value: []byte("1")}}
	var b record.Builder
	var batch []byte
	fill := func() {
		b.Reset()
		for range 1000 {
			b.Append(value[:8], value, headers, 1)
		}
		var err error
		if batch, err = b.Build(batch[:0], plain(record.None)); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if got := testing.AllocsPerRun(10, fill); got > 1 {
		t.Errorf("building 1000 records allocates %v times", got)
	}
	read := func() {
		for _, err := range record.Records(batch, record.ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := testing.AllocsPerRun(10, read); got > 10 {
		t.Errorf("reading 1000 records allocates %v times", got)
	}
}

func TestFirstAtOrAfter(t *testing.T) {
	b := sample(t) // at 1000, 3000 and 2000 ms
	record.Patch(b, 10, 0)
	stamped := bytes.Clone(b)
	record.StampAppendTime(stamped, 5000)
	for _, c := range []struct {
		name            string
		batch           []byte
		timestamp, from int64
		offset, ts      int64
		ok              bool
	}{
		{"before all", b, 0, 0, 10, 1000, true},
		{"exactly the first", b, 1000, 0, 10, 1000, true},
		{"between", b, 1001, 0, 11, 3000, true},
		{"later in time, earlier by offset", b, 2000, 0, 11, 3000, true},
		{"exactly the youngest", b, 3000, 0, 11, 3000, true},
		{"after all", b, 3001, 0, 0, 0, false},
		{"append time", stamped, 5000, 0, 10, 5000, true},
		{"after append time", stamped, 5001, 0, 0, 0, false},
		{"from an offset on", b, 0, 11, 11, 3000, true},
		{"from an offset on, which is older", b, 2000, 12, 12, 2000, true},
		{"from behind the youngest on", b, 2001, 12, 0, 0, false},
		{"from behind the batch on", b, 0, 13, 0, 0, false},
	} {
		offset, ts, ok, err := record.FirstAtOrAfter(c.batch, c.timestamp, c.from)
		if err != nil || offset != c.offset || ts != c.ts || ok != c.ok {
			t.Errorf("%s: got %d, %d, %v, %v", c.name, offset, ts, ok, err)
		}
	}
	if _, _, _, err := record.FirstAtOrAfter(b[:70], 0, 0); !errors.Is(err, mqerr.ErrCorruptBatch) {
		t.Errorf("a batch cut off: %v", err)
	}
	b[len(b)-1]++
	if _, _, _, err := record.FirstAtOrAfter(b, 0, 0); !errors.Is(err, mqerr.ErrCorruptBatch) {
		t.Errorf("a changed batch: %v", err)
	}
}
