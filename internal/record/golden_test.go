package record_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/record"
)

// goldenRecords are what the clients of testdata/golden were told to send.
func goldenRecords(long bool) []record.Record {
	const t0 = 1_700_000_000_000
	rs := []record.Record{
		{Key: []byte("k0"), Value: []byte("value 0"), Timestamp: t0, Headers: []record.Header{{Key: "a", Value: []byte("1")}}},
		{Key: nil, Value: []byte{}, Timestamp: t0 + 5},
		{Key: []byte{}, Value: nil, Timestamp: t0 - 5},
		{Key: []byte("k3"), Value: []byte("v3"), Timestamp: t0 + 1, Headers: []record.Header{
			{Key: "dup", Value: []byte("x")}, {Key: "dup", Value: nil}, {Key: "", Value: []byte{}},
		}},
		{Key: []byte("k4"), Value: []byte(strings.Repeat("x", 300)), Timestamp: t0 + 2},
	}
	if long {
		var lines strings.Builder
		for i := range 1800 {
			fmt.Fprintf(&lines, "%06d the quick brown fox %d\n", i, i*i*2654435761%(1<<32))
		}
		rs = append(rs, record.Record{
			Key: []byte("text"), Value: []byte(lines.String()), Timestamp: t0 + 100_000,
			Headers: []record.Header{{Key: "a", Value: []byte("2")}},
		})
	}
	for i := range rs {
		rs[i].Offset = int64(i)
	}
	return rs
}

func TestBatchesOfOtherClientsDecode(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.bin")
	if err != nil || len(files) != 18 {
		t.Fatalf("%d golden files (%v), want 18", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		t.Run(name, func(t *testing.T) {
			batch, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			info, err := record.Validate(batch, len(batch))
			if err != nil {
				t.Fatal(err)
			}
			want := goldenRecords(strings.HasSuffix(name, "-long"))
			if !strings.Contains(name, info.Codec.String()) {
				t.Errorf("codec is %v", info.Codec)
			}
			if info.MaxTimestamp != maxTimestamp(want) {
				t.Errorf("max timestamp is %d, want %d", info.MaxTimestamp, maxTimestamp(want))
			}
			got, err := readAll(batch, record.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, got, want)
		})
	}
}

// What a client built from the same records without compression is, byte for
// byte, what this package builds.
func TestBuildGivesTheBytesOfOtherClients(t *testing.T) {
	for _, client := range []string{"java-4.3.1", "librdkafka-2.16.0"} {
		t.Run(client, func(t *testing.T) {
			want, err := os.ReadFile("testdata/golden/" + client + "-none.bin")
			if err != nil {
				t.Fatal(err)
			}
			info, err := record.Parse(want)
			if err != nil {
				t.Fatal(err)
			}
			got := build(t, record.BuildOptions{
				ProducerID: info.ProducerID, ProducerEpoch: info.ProducerEpoch, BaseSequence: info.BaseSequence,
			}, goldenRecords(false)...)
			record.Patch(got, info.BaseOffset, info.LeaderEpoch)
			if string(got) != string(want) {
				t.Errorf("batches differ:\n got %x\nwant %x", got, want)
			}
		})
	}
}

func maxTimestamp(rs []record.Record) int64 {
	most := rs[0].Timestamp
	for _, r := range rs {
		most = max(most, r.Timestamp)
	}
	return most
}
