package storage_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/raftmq/mq/storage"
)

var update = flag.Bool("update", false, "write the golden files of the present format version")

// Golden files of a version, in testdata/v<version>: FORMAT, the directory
// store, log.snapshot and kv.snapshot of what is in it, and want.txt, what a
// reader sees. They are made once, with -update, before the version is
// released, and never changed.
var (
	goldenID   = uuid.MustParse("6f1d2a52-93b1-4a1c-9d2e-1c54be3ad9f0")
	goldenMeta = storage.Meta{DirectoryID: goldenID, ClusterID: "golden", BrokerID: 42, Settings: map[string]string{"shards": "4"}}
	goldenLog  = storage.ReplicaID{Shard: 1024, Replica: 7}
)

func TestOldFormatsStillOpen(t *testing.T) {
	t.Parallel()
	if *update {
		makeGolden(t, goldenDir(storage.FormatVersion))
	}
	for version := 1; version <= storage.FormatVersion; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			t.Parallel()
			src := goldenDir(version)
			wantBytes, err := os.ReadFile(filepath.Join(src, "want.txt"))
			must(t, err)
			want := string(wantBytes)

			fs := vfs.NewMem()
			if ok, err := vfs.Clone(vfs.Default, fs, src, "data"); err != nil || !ok {
				t.Fatalf("copy: %v %v", ok, err)
			}
			// Files that are not of a data directory would make it a foreign one
			// only without a FORMAT file.
			d, err := storage.OpenDir("data", fs, storage.Meta{BrokerID: 42})
			must(t, err)
			if m := d.Meta(); m.DirectoryID != goldenID || m.ClusterID != "golden" || m.Settings["shards"] != "4" {
				t.Errorf("meta %+v", m)
			}
			s, err := storage.Open(d.Path("store"), storage.Options{FS: fs})
			must(t, err)
			got, err := readStore(s)
			must(t, err)
			if got != want {
				t.Errorf("store\n got %s\nwant %s", got, want)
			}
			must(t, s.Close())

			// A snapshot of then fills a store of today.
			s = mustOpen(t, vfs.NewMem(), storage.Options{})
			restore := func(name string, fn func(r *bytes.Reader) error) {
				stream, err := os.ReadFile(filepath.Join(src, name))
				must(t, err)
				must(t, fn(bytes.NewReader(stream)))
			}
			restore("log.snapshot", func(r *bytes.Reader) error { return mustOpenLog(t, s, goldenLog).Restore(r, nil) })
			kv, err := s.OpenKV(crashKV)
			must(t, err)
			restore("kv.snapshot", func(r *bytes.Reader) error { return kv.Restore(r, nil) })
			got, err = readStore(s)
			must(t, err)
			if got != want {
				t.Errorf("restored\n got %s\nwant %s", got, want)
			}
			must(t, s.Close())
			must(t, d.Close())
		})
	}
}

func goldenDir(version int) string { return filepath.Join("testdata", fmt.Sprint("v", version)) }

// makeGolden writes the golden files of the present version.
func makeGolden(t *testing.T, dst string) {
	must(t, os.RemoveAll(dst))
	d, err := storage.OpenDir(dst, nil, goldenMeta)
	must(t, err)
	s, err := storage.Open(d.Path("store"), storage.Options{CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	must(t, err)
	l := mustOpenLog(t, s, goldenLog)
	for i := range 12 {
		lb := l.NewBatch()
		lb.BeginEpoch(int32(i / 5))
		lb.SetFeature(1)
		e := lb.State().End
		size := 100 + i
		if i == 8 || i == 10 {
			size = 3000 // into a blob file
		}
		must(t, lb.Append(bytes.Repeat([]byte{'a' + byte(i)}, size), e, e+2, 1000+int64(i), 2000+int64(i)))
		if i == 9 {
			lb.Trim(10)
		}
		lb.SetProducer(storage.ProducerEntry{ID: 5, Epoch: 1, Slot: uint8(i % 4), FirstSeq: int32(i), LastSeq: int32(i), BaseOffset: e, Time: 2000})
		must(t, lb.Commit(uint64(i+1)))
		if i == 6 {
			must(t, l.Sync())
		}
	}
	kv, err := s.OpenKV(crashKV)
	must(t, err)
	kb := kv.NewBatch()
	kb.Set([]byte("topic/a"), []byte("one"))
	kb.Set([]byte{0, 255}, nil)
	must(t, kb.Commit(99))
	for name, take := range map[string]func() (*storage.Snapshot, error){"log.snapshot": l.Snapshot, "kv.snapshot": kv.Snapshot} {
		sn, err := take()
		must(t, err)
		var buf bytes.Buffer
		must(t, sn.WriteTo(&buf, nil))
		must(t, sn.Close())
		must(t, os.WriteFile(filepath.Join(dst, name), buf.Bytes(), 0o644))
	}
	want, err := readStore(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dst, "want.txt"), []byte(want), 0o644))
	must(t, s.Close())
	must(t, d.Close())
}
