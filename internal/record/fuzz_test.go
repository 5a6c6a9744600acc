package record_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/raftmq/mq/internal/record"
)

// fuzzLimit keeps a fuzzed batch from using the memory it is allowed.
const fuzzLimit = 1 << 20

func addGolden(f *testing.F, add func(batch []byte)) {
	files, err := filepath.Glob("testdata/golden/*.bin")
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		batch, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		add(batch)
	}
}

// FuzzBatch reads anything as batches; with a right CRC, so that the fuzzer
// gets past it.
func FuzzBatch(f *testing.F) {
	addGolden(f, func(batch []byte) { f.Add(batch) })
	f.Add(append(sample(f), sample(f)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = record.Validate(data, 0)
		for len(data) > 0 {
			batch, rest, err := record.Next(data)
			if err != nil {
				return
			}
			if len(batch) < record.HeaderSize || len(batch)+len(rest) != len(data) {
				t.Fatalf("%d bytes split into %d and %d", len(data), len(batch), len(rest))
			}
			info, err := record.Parse(batch)
			if err != nil || info.Size != len(batch) {
				t.Fatalf("Next took a batch of %d bytes, Parse says %d, %v", len(batch), info.Size, err)
			}
			seal(batch, info)
			if err := record.CheckCRC(batch); err != nil {
				t.Fatal(err)
			}
			checkRecords(t, batch)
			data = rest
		}
	})
}

// FuzzRecords reads anything as the records of a batch.
func FuzzRecords(f *testing.F) {
	addGolden(f, func(batch []byte) {
		if info, err := record.Parse(batch); err == nil && info.Codec == record.None {
			f.Add(info.Count, batch[record.HeaderSize:])
		}
	})
	f.Fuzz(func(t *testing.T, count int32, records []byte) {
		checkRecords(t, frame(record.None, count, records))
	})
}

// checkRecords builds again what decodes, and wants the same records.
func checkRecords(t *testing.T, batch []byte) {
	got, err := readAll(batch, record.ReadOptions{MaxDecodedBytes: fuzzLimit})
	if err != nil || len(got) == 0 {
		return
	}
	info, err := record.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	last := info.BaseOffset - 1
	for i := range got {
		if got[i].Offset <= last || got[i].Offset > info.LastOffset() {
			t.Fatalf("offset %d after %d in a batch up to %d", got[i].Offset, last, info.LastOffset())
		}
		last = got[i].Offset
		got[i].Offset = int64(i)
	}
	again, err := readAll(build(t, plain(record.None), got...), record.ReadOptions{MaxDecodedBytes: 2 * fuzzLimit})
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, again, got)
}
