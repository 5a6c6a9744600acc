package record_test

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// Where the tests change headers; the layout is in the package comment.
const (
	atLength, atMagic, atCRC, atAttributes, atLastOffsetDelta, atCount = 8, 16, 17, 21, 23, 57
)

func sample(t testing.TB) []byte {
	return build(t, record.BuildOptions{ProducerID: 7, ProducerEpoch: 2, BaseSequence: 40},
		record.Record{Key: []byte("a"), Value: []byte("1"), Timestamp: 1000},
		record.Record{Key: []byte("b"), Value: []byte("2"), Timestamp: 3000},
		record.Record{Key: []byte("c"), Value: []byte("3"), Timestamp: 2000},
	)
}

// seal makes the CRC right again after a test changed the batch.
func seal(b []byte, info record.Info) {
	record.SetProducer(b, info.ProducerID, info.ProducerEpoch, info.BaseSequence)
}

func TestParseReadsTheHeader(t *testing.T) {
	b := sample(t)
	record.Patch(b, 100, 9)
	got, err := record.Parse(append(b, "more"...))
	if err != nil {
		t.Fatal(err)
	}
	want := record.Info{
		BaseOffset: 100, LeaderEpoch: 9, Codec: record.None, LastOffsetDelta: 2,
		BaseTimestamp: 1000, MaxTimestamp: 3000, ProducerID: 7, ProducerEpoch: 2, BaseSequence: 40,
		Count: 3, Size: len(b),
	}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.LastOffset() != 102 || got.LastSequence() != 42 {
		t.Errorf("last offset %d and sequence %d, want 102 and 42", got.LastOffset(), got.LastSequence())
	}
}

func TestSequencesWrapToZero(t *testing.T) {
	for _, c := range []struct{ seq, n, want int32 }{
		{0, 0, 0},
		{5, 3, 8},
		{math.MaxInt32 - 1, 1, math.MaxInt32},
		{math.MaxInt32, 1, 0},
		{math.MaxInt32 - 2, 5, 2},
		{math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := record.AddSequence(c.seq, c.n); got != c.want {
			t.Errorf("AddSequence(%d, %d) = %d, want %d", c.seq, c.n, got, c.want)
		}
		if got := (record.Info{BaseSequence: c.seq, LastOffsetDelta: c.n}).LastSequence(); got != c.want {
			t.Errorf("LastSequence of %d and %d more = %d, want %d", c.seq, c.n, got, c.want)
		}
	}
	if got := (record.Info{BaseSequence: record.NoSequence, LastOffsetDelta: 4}).LastSequence(); got != record.NoSequence {
		t.Errorf("a batch without sequence ends with %d", got)
	}
}

func TestNextSplitsBatchesBackToBack(t *testing.T) {
	a, b := sample(t), build(t, plain(record.Zstd), samples()...)
	rest := append(append([]byte{}, a...), b...)
	for i, want := range [][]byte{a, b} {
		got, after, err := record.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("batch %d is not the one that was put there", i)
		}
		if cap(got) != len(got) {
			t.Errorf("batch %d can be appended to, over its successor", i)
		}
		rest = after
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
	if _, _, err := record.Next(a[:len(a)-1]); !errors.Is(err, mqerr.ErrCorruptBatch) {
		t.Errorf("a batch cut off gives %v", err)
	}
}

func TestPatchLeavesTheCRCValid(t *testing.T) {
	b := sample(t)
	record.Patch(b, 1<<40, 12)
	info, err := record.Validate(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	if info.BaseOffset != 1<<40 || info.LeaderEpoch != 12 {
		t.Errorf("base offset %d, leader epoch %d", info.BaseOffset, info.LeaderEpoch)
	}
}

func TestSetProducerRenumbersABatch(t *testing.T) {
	b := sample(t)
	before, _ := record.Parse(b)
	record.SetProducer(b, 8, 3, 0)
	after, err := record.Validate(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	before.ProducerID, before.ProducerEpoch, before.BaseSequence = 8, 3, 0
	if after != before {
		t.Errorf("got %+v\nwant %+v", after, before)
	}
}

func TestStampAppendTimeGivesAllRecordsOneTime(t *testing.T) {
	for _, codec := range codecs {
		b := build(t, plain(codec), samples()...)
		// What follows the batch must not enter its CRC.
		record.StampAppendTime(append(b, "next"...), 12345)
		if err := record.CheckCRC(b); err != nil {
			t.Fatal(err)
		}
		info, err := record.Parse(b)
		if err != nil || !info.LogAppendTime || info.MaxTimestamp != 12345 || info.Codec != codec {
			t.Errorf("%v: got %+v, %v", codec, info, err)
		}
		rs, err := readAll(b, record.ReadOptions{})
		if err != nil || len(rs) != len(samples()) {
			t.Fatalf("%v: %d records, %v", codec, len(rs), err)
		}
		for _, r := range rs {
			if r.Timestamp != 12345 {
				t.Errorf("%v: offset %d has time %d", codec, r.Offset, r.Timestamp)
			}
		}
	}
}

func TestCheckCRCFindsEveryFlippedBit(t *testing.T) {
	b := sample(t)
	for at := atCRC; at < len(b); at++ {
		for bit := range 8 {
			b[at] ^= 1 << bit
			if err := record.CheckCRC(b); !errors.Is(err, mqerr.ErrCorruptBatch) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, at, err)
			}
			b[at] ^= 1 << bit
		}
	}
	if err := record.CheckCRC(b); err != nil {
		t.Fatalf("after flipping back: %v", err)
	}
}

func TestValidateRefuses(t *testing.T) {
	be := binary.BigEndian
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		sealed bool // the CRC is made right after the change
		want   error
	}{
		{"nothing at all", func([]byte) []byte { return nil }, false, mqerr.ErrInvalidRecord},
		{"part of a header", func(b []byte) []byte { return b[:60] }, false, mqerr.ErrCorruptBatch},
		{"a batch cut off", func(b []byte) []byte { return b[:len(b)-1] }, false, mqerr.ErrCorruptBatch},
		{"two batches", func(b []byte) []byte { return append(b, b...) }, false, mqerr.ErrInvalidRecord},
		{"a byte too many", func(b []byte) []byte { return append(b, 0) }, false, mqerr.ErrInvalidRecord},
		{"a batch above the limit", func(b []byte) []byte { return append(b, make([]byte, 1000)...) }, false, mqerr.ErrRecordTooLarge},
		{"a length below the header", func(b []byte) []byte { be.PutUint32(b[atLength:], 48); return b }, false, mqerr.ErrCorruptBatch},
		{"a negative length", func(b []byte) []byte { be.PutUint32(b[atLength:], 1<<31); return b }, false, mqerr.ErrCorruptBatch},
		{"the largest length", func(b []byte) []byte { be.PutUint32(b[atLength:], math.MaxInt32); return b }, false, mqerr.ErrCorruptBatch},
		{"the format before 0.11", func(b []byte) []byte { b[atMagic] = 1; return b }, false, mqerr.ErrInvalidRecord},
		{"a newer magic", func(b []byte) []byte { b[atMagic] = 3; return b }, false, mqerr.ErrUnsupportedVersion},
		{"a wrong CRC", func(b []byte) []byte { b[atCRC]++; return b }, false, mqerr.ErrCorruptBatch},
		{"a flipped byte in a record", func(b []byte) []byte { b[len(b)-3] ^= 4; return b }, false, mqerr.ErrCorruptBatch},
		{"an unknown codec", func(b []byte) []byte { b[atAttributes+1] |= 5; return b }, true, mqerr.ErrUnsupportedCompression},
		{"a control batch", func(b []byte) []byte { b[atAttributes+1] |= 0x20; return b }, true, mqerr.ErrInvalidRecord},
		{"LogAppendTime", func(b []byte) []byte { b[atAttributes+1] |= 0x08; return b }, true, mqerr.ErrInvalidRecord},
		{"no records", func(b []byte) []byte { be.PutUint32(b[atCount:], 0); return b }, true, mqerr.ErrInvalidRecord},
		{"a negative count", func(b []byte) []byte { be.PutUint32(b[atCount:], 1<<31); return b }, true, mqerr.ErrInvalidRecord},
		{"a count of none with offsets of none", func(b []byte) []byte {
			be.PutUint32(b[atCount:], 0)
			be.PutUint32(b[atLastOffsetDelta:], math.MaxUint32)
			return b
		}, true, mqerr.ErrInvalidRecord},
		{"more offsets than records", func(b []byte) []byte { be.PutUint32(b[atLastOffsetDelta:], 3); return b }, true, mqerr.ErrInvalidRecord},
		{"fewer offsets than records", func(b []byte) []byte { be.PutUint32(b[atLastOffsetDelta:], 1); return b }, true, mqerr.ErrInvalidRecord},
		{"a producer without epoch", func(b []byte) []byte { record.SetProducer(b, 1, -1, 0); return b }, false, mqerr.ErrInvalidRecord},
		{"a producer without sequence", func(b []byte) []byte { record.SetProducer(b, 1, 0, -1); return b }, false, mqerr.ErrInvalidRecord},
		{"an impossible producer id", func(b []byte) []byte { record.SetProducer(b, -2, 0, 0); return b }, false, mqerr.ErrInvalidRecord},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := sample(t)
			info, _ := record.Parse(b)
			b = c.change(b)
			if c.sealed {
				seal(b, info)
			}
			if _, err := record.Validate(b, 1000); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestValidateTakesABatchAtTheLimit(t *testing.T) {
	b := sample(t)
	for _, limit := range []int{len(b), 0, -1} {
		if _, err := record.Validate(b, limit); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, err := record.Validate(b, len(b)-1); !errors.Is(err, mqerr.ErrRecordTooLarge) {
		t.Errorf("one byte above the limit: %v", err)
	}
}

func TestBuildRefuses(t *testing.T) {
	var empty, one record.Builder
	one.Append(nil, nil, nil, 0)
	for _, c := range []struct {
		name string
		b    *record.Builder
		opts record.BuildOptions
		want error
	}{
		{"no records", &empty, plain(record.None), mqerr.ErrInvalidRecord},
		{"an unknown codec", &one, plain(5), mqerr.ErrUnsupportedCompression},
		{"a producer without epoch", &one, record.BuildOptions{ProducerEpoch: -1}, mqerr.ErrInvalidRecord},
		{"a producer without sequence", &one, record.BuildOptions{BaseSequence: -1}, mqerr.ErrInvalidRecord},
	} {
		dst, err := c.b.Build([]byte("kept"), c.opts)
		if !errors.Is(err, c.want) || string(dst) != "kept" {
			t.Errorf("%s: got %q and %v, want %v", c.name, dst, err, c.want)
		}
	}
}
