package storage_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// files are the files of a store by name.
type files map[string][]byte

func readFiles(t *testing.T, fs vfs.FS, dir string) files {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	all := files{}
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin(dir, name))
		must(t, err)
		all[name], err = io.ReadAll(f)
		must(t, errors.Join(err, f.Close()))
	}
	return all
}

// on writes the files to a new file system, but for one that is replaced; nil
// leaves it out.
func (all files) on(t *testing.T, dir, name string, content []byte) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	must(t, fs.MkdirAll(dir, 0o755))
	for n, b := range all {
		if n == name {
			if content == nil {
				continue
			}
			b = content
		}
		writeTo(t, fs, fs.PathJoin(dir, n), b)
	}
	return fs
}

// damaged makes a store with tables, blob files and a manifest of some records.
func damageSubject(t *testing.T) (all files, want string) {
	t.Helper()
	fs := vfs.NewMem()
	s := mustOpen(t, fs, storage.Options{})
	for round := range 2 {
		for i, id := range crashLogs {
			l := mustOpenLog(t, s, id)
			lb := l.NewBatch()
			lb.BeginEpoch(int32(round))
			lb.SetProducer(storage.ProducerEntry{ID: 1, Slot: uint8(round)})
			must(t, lb.Commit(l.Applied()+1))
			for range 3 {
				appendTo(t, l, 10, 100+i*1000)
			}
			must(t, l.Sync())
		}
		kv, err := s.OpenKV(crashKV)
		must(t, err)
		kb := kv.NewBatch()
		kb.Set(fmt.Append(nil, round), []byte("value"))
		must(t, kb.Commit(uint64(round+1)))
	}
	want, err := readStore(s)
	must(t, err)
	must(t, s.Close())
	return readFiles(t, fs, "store"), want
}

// readStore reads all there is. It returns the first error.
func readStore(s *storage.Store) (string, error) {
	var out strings.Builder
	ids, err := s.Replicas()
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		if id == crashKV {
			kv, err := s.OpenKV(id)
			if err != nil {
				return "", err
			}
			err = kv.Scan(nil, func(k, v []byte) error {
				fmt.Fprintf(&out, "%q=%q ", k, v)
				return nil
			})
			if err != nil {
				return "", err
			}
			continue
		}
		l, err := s.OpenLog(id)
		if err != nil {
			return "", err
		}
		st := l.State()
		fmt.Fprintf(&out, "applied %d start %d end %d epoch %d bytes %d append time %d max timestamp %d digest %x feature %d data ",
			st.Applied, st.Start, st.End, st.Epoch, st.Bytes, st.AppendTime, st.MaxTimestamp, st.Digest, st.Feature)
		var data []byte
		for offset := st.Start; offset < st.End; {
			if data, offset, err = l.Read(data, offset, 1<<20); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&out, "%x ", sha256.Sum256(data))
		err = l.Producers(func(p storage.ProducerEntry) error {
			fmt.Fprintf(&out, "producer %d/%d epoch %d sequences %d to %d base %d time %d ", p.ID, p.Slot, p.Epoch, p.FirstSeq, p.LastSeq, p.BaseOffset, p.Time)
			return nil
		})
		if err != nil {
			return "", err
		}
		for epoch := range st.Epoch + 1 {
			found, end, err := l.EpochEnd(epoch)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "epoch %d ends %d ", found, end)
		}
	}
	return out.String(), nil
}

// outcome opens a damaged store: harmless damage gives no error.
func outcome(t *testing.T, fs vfs.FS, want string) error {
	t.Helper()
	o := storage.Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20}
	s, err := storage.Open("store", o)
	if err != nil {
		return err
	}
	got, err := readStore(s)
	// Close may find the damage too; it must not panic.
	_ = s.Close()
	if err == nil && got != want {
		t.Fatalf("a damaged store gave other data\n got %.500s\nwant %.500s", got, want)
	}
	return err
}

func TestFlippedByteIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	all, want := damageSubject(t)
	must(t, outcome(t, all.on(t, "store", "", nil), want))
	kinds := map[string]int{}
	for name, content := range all {
		found := 0
		step := max(1, len(content)/25)
		for i := 0; i < len(content); i += step {
			bad := slices.Clone(content)
			bad[i] ^= 1 << (i % 8)
			err := outcome(t, all.on(t, "store", name, bad), want)
			if err == nil {
				continue
			}
			found++
			if !errors.Is(err, mqerr.ErrCorruptLog) {
				t.Errorf("%s, byte %d of %d: %v is not ErrCorruptLog", name, i, len(content), err)
			}
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s, byte %d of %d: the error does not name the file: %v", name, i, len(content), err)
			}
		}
		kind := strings.Trim(name, "0123456789-.")
		kinds[kind]++
		// The engine makes a journal, but nothing is written to it.
		if len(content) > 0 && found == 0 && kind != "log" {
			t.Errorf("%s: no damage was found", name)
		}
	}
	for _, kind := range []string{"sst", "blob", "MANIFEST", "CLEAN"} {
		if kinds[kind] == 0 {
			t.Errorf("the store has no %s file: %v", kind, kinds)
		}
	}
}

func TestShortOrMissingFileIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	all, want := damageSubject(t)
	for name, content := range all {
		if len(content) == 0 || strings.HasSuffix(name, ".log") {
			continue
		}
		for _, n := range []int{-1, 0, 1, len(content) / 2, len(content) - 1} {
			var short []byte
			if n >= 0 {
				short = append(make([]byte, 0, 1), content[:n]...)
			}
			err := outcome(t, all.on(t, "store", name, short), want)
			if err == nil && name == "CLEAN" && n == -1 {
				continue // as after a crash
			}
			if !errors.Is(err, mqerr.ErrCorruptLog) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s cut to %d of %d bytes: %v", name, n, len(content), err)
			}
		}
	}
}

func TestDamagedBatchLeavesOthersReadable(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, fs, storage.Options{})
	l := mustOpenLog(t, s, crashLogs[0])
	for range 3 {
		appendTo(t, l, 1, 40<<10) // more than a block
	}
	must(t, s.Close())
	all := readFiles(t, fs, "store")
	for name, content := range all {
		if strings.HasSuffix(name, ".blob") {
			content[100] ^= 1 // in the first batch
			fs = all.on(t, "store", name, content)
		}
	}
	s = mustOpen(t, fs, storage.Options{})
	l = mustOpenLog(t, s, crashLogs[0])
	for range 2 {
		if _, next, err := l.Read(nil, 0, 1<<20); !errors.Is(err, mqerr.ErrCorruptLog) || next != 0 {
			t.Errorf("read of the damaged batch: next %d, %v", next, err)
		} else if pebble.IsCorruptionError(err) {
			t.Errorf("the engine found it, and would panic where it rewrites blob files: %v", err)
		}
		if got, next, err := l.Read(nil, 1, 1<<20); err != nil || next != 3 || len(got) != 80<<10 {
			t.Errorf("read behind it: %d bytes up to %d, %v", len(got), next, err)
		}
	}
	// What does not need it goes on: here, to get rid of it.
	lb := l.NewBatch()
	lb.Trim(1)
	must(t, lb.Commit(l.Applied()+1))
	must(t, l.Sync())
	must(t, s.Close())
}

func TestBlobsCanBeTurnedOffAndOn(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	for i := range 6 {
		s := mustOpen(t, fs, storage.Options{DisableBlobs: i%2 == 1})
		l := mustOpenLog(t, s, crashLogs[0])
		for range 20 {
			appendTo(t, l, 1, 5000)
		}
		for offset := range l.State().End {
			if got, _, err := l.Read(nil, offset, 1); err != nil || len(got) != 5000 || got[0] != byte(offset) {
				t.Fatalf("opening %d: read at %d: %d bytes, %v", i, offset, len(got), err)
			}
		}
		must(t, s.Close())
	}
}
