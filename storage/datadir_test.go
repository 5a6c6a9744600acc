package storage_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// onBoth runs a test in memory and on disk.
func onBoth(t *testing.T, run func(t *testing.T, fs storage.FS, dir string)) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) { run(t, vfs.NewMem(), "/data/broker") })
	t.Run("disk", func(t *testing.T) { run(t, vfs.Default, filepath.Join(t.TempDir(), "data", "broker")) })
}

func TestDirKeepsWhatItWasMadeWith(t *testing.T) {
	onBoth(t, func(t *testing.T, fs storage.FS, dir string) {
		want := storage.Meta{BrokerID: 7, Settings: map[string]string{"shards": "4"}}
		d, err := storage.OpenDir(dir, fs, want)
		must(t, err)
		made := d.Meta()
		if made.DirectoryID == uuid.Nil || made.BrokerID != 7 || made.ClusterID != "" || made.Settings["shards"] != "4" {
			t.Fatalf("new directory says %+v", made)
		}
		must(t, d.SetCluster("c1", 1))
		must(t, d.SetCluster("c1", 1))
		if err := d.SetCluster("c2", 1); !errors.Is(err, mqerr.ErrInvalidConfig) {
			t.Fatalf("second cluster id: %v", err)
		}
		must(t, d.Close())
		must(t, d.Close())
		if err := d.SetCluster("c1", 1); !errors.Is(err, mqerr.ErrClosed) {
			t.Fatalf("after close: %v", err)
		}

		d, err = storage.OpenDir(dir, fs, storage.Meta{BrokerID: 7, Settings: map[string]string{"shards": "8"}})
		must(t, err)
		made.ClusterID, made.MetaReplica = "c1", 1
		if got := d.Meta(); !reflect.DeepEqual(got, made) {
			t.Fatalf("reopened directory says %+v, want %+v", got, made)
		}
		d.Meta().Settings["shards"] = "changed by the caller"
		if d.Meta().Settings["shards"] != "4" {
			t.Fatal("Meta gives away its own map")
		}
		if got := d.Path("a", "b"); !strings.HasPrefix(got, dir) || !strings.HasSuffix(got, filepath.Join("a", "b")) {
			t.Fatalf("path %q", got)
		}
		must(t, d.Close())

		for _, other := range []storage.Meta{{BrokerID: 8}, {BrokerID: 7, ClusterID: "c9"}} {
			if _, err := storage.OpenDir(dir, fs, other); !errors.Is(err, mqerr.ErrInvalidConfig) {
				t.Fatalf("opened as %+v: %v", other, err)
			}
		}
		d, err = storage.OpenDir(dir, fs, storage.Meta{BrokerID: 7, ClusterID: "c1"})
		must(t, err)
		must(t, d.Close())
	})
}

func TestDirsHaveDifferentIDs(t *testing.T) {
	t.Parallel()
	seen := map[uuid.UUID]bool{}
	for range 10 {
		d, err := storage.OpenDir("data", vfs.NewMem(), storage.Meta{})
		must(t, err)
		seen[d.Meta().DirectoryID] = true
		must(t, d.Close())
	}
	if len(seen) != 10 {
		t.Fatalf("10 directories have %d ids", len(seen))
	}
}

func TestDirInUseIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, fs storage.FS, dir string) {
		d, err := storage.OpenDir(dir, fs, storage.Meta{})
		must(t, err)
		_, err = storage.OpenDir(dir, fs, storage.Meta{})
		if !errors.Is(err, mqerr.ErrDirInUse) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("second opening: %v", err)
		}
		must(t, d.Close())
		d, err = storage.OpenDir(dir, fs, storage.Meta{})
		must(t, err)
		must(t, d.Close())
	})
}

// The test binary runs itself as the other process.
func TestDirInUseByAnotherProcessIsRefused(t *testing.T) {
	if dir := os.Getenv("MQ_STORAGE_TEST_DIR"); dir != "" {
		if _, err := storage.OpenDir(dir, nil, storage.Meta{}); errors.Is(err, mqerr.ErrDirInUse) {
			os.Exit(42)
		}
		os.Exit(1)
	}
	t.Parallel()
	dir := t.TempDir()
	d, err := storage.OpenDir(dir, nil, storage.Meta{})
	must(t, err)
	defer func() { must(t, d.Close()) }()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDirInUseByAnotherProcessIsRefused$")
	cmd.Env = append(os.Environ(), "MQ_STORAGE_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Fatalf("the other process ended with %v: %s", err, out)
	}
}

func TestForeignDirIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, fs storage.FS, dir string) {
		must(t, fs.MkdirAll(dir, 0o755))
		writeTo(t, fs, fs.PathJoin(dir, "holiday.jpg"), []byte("x"))
		_, err := storage.OpenDir(dir, fs, storage.Meta{})
		if !errors.Is(err, mqerr.ErrForeignDir) || !strings.Contains(err.Error(), "holiday.jpg") {
			t.Fatalf("directory with a picture: %v", err)
		}
		names, err := fs.List(dir)
		must(t, err)
		if len(names) != 1 {
			t.Fatalf("the refused directory now has %v", names)
		}
		must(t, fs.Remove(fs.PathJoin(dir, "holiday.jpg")))
		must(t, fs.MkdirAll(fs.PathJoin(dir, "lost+found"), 0o755)) // of a fresh file system
		d, err := storage.OpenDir(dir, fs, storage.Meta{})
		must(t, err)
		must(t, d.Close())
	})
}

func TestFileInPlaceOfDirIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("x"), 0o644))
	if _, err := storage.OpenDir(file, nil, storage.Meta{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatalf("a file opened as directory: %v", err)
	}
}

// Tests may run as root, whom permissions do not stop, so the file system says no.
func TestDirNotWritableNamesThePath(t *testing.T) {
	t.Parallel()
	for _, kind := range []errorfs.OpKind{errorfs.OpMkdirAll, errorfs.OpCreate, errorfs.OpRename, errorfs.OpFileSync, errorfs.OpFileWrite} {
		denied := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == kind {
				return &fs.PathError{Op: "open", Path: op.Path, Err: syscall.EACCES}
			}
			return nil
		}))
		_, err := storage.OpenDir("/data/broker", denied, storage.Meta{})
		if !errors.Is(err, os.ErrPermission) || errors.Is(err, mqerr.ErrDirInUse) || !strings.Contains(err.Error(), "/data/broker") {
			t.Errorf("operation %v denied: %v", kind, err)
		}
	}
}

func TestDamagedOrNewerFormatFileIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, fs storage.FS, dir string) {
		d, err := storage.OpenDir(dir, fs, storage.Meta{BrokerID: 3, ClusterID: "c", Settings: map[string]string{"a": "b"}})
		must(t, err)
		must(t, d.Close())
		name := fs.PathJoin(dir, "FORMAT")
		good := readFiles(t, fs, dir)["FORMAT"]
		refused := func(content []byte, want error) {
			t.Helper()
			writeTo(t, fs, name, content)
			_, err := storage.OpenDir(dir, fs, storage.Meta{BrokerID: 3})
			if !errors.Is(err, want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("FORMAT of %q: %v, want %v", content, err, want)
			}
			if want == mqerr.ErrCorruptLog && !strings.Contains(err.Error(), name) {
				t.Fatalf("the error does not name the file: %v", err)
			}
		}
		for i := range good {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << (i % 7)
			refused(bad, mqerr.ErrCorruptLog)
			refused(good[:i], mqerr.ErrCorruptLog)
		}
		refused(storage.Seal("mq data directory", storage.FormatVersion+1, []byte("whatever comes then")), mqerr.ErrNewerFormat)
		writeTo(t, fs, name, good)
		d, err = storage.OpenDir(dir, fs, storage.Meta{BrokerID: 3})
		must(t, err)
		must(t, d.Close())
	})
}

// A power cut while a directory is made, or its cluster recorded, leaves one
// that opens, with the old or the new content.
func TestDirSurvivesPowerCut(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(1, 1))
	var cuts []*vfs.MemFS
	var made atomic.Pointer[storage.Meta]
	var before []*storage.Meta // of each cut, what had been made by then
	hooked := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			before = append(before, made.Load())
			cuts = append(cuts, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(3) * 50, RNG: rng}))
		}
		return nil
	}))
	d, err := storage.OpenDir("/data/broker", hooked, storage.Meta{BrokerID: 5})
	must(t, err)
	m := d.Meta()
	made.Store(&m)
	must(t, d.SetCluster("c1", 1))
	m2 := d.Meta()
	made.Store(&m2)
	must(t, d.Close())
	before, cuts = append(before, &m2), append(cuts, mem.CrashClone(vfs.CrashCloneCfg{}))
	if len(cuts) < 10 {
		t.Fatalf("only %d power cuts", len(cuts))
	}
	for i, fs := range cuts {
		d, err := storage.OpenDir("/data/broker", fs, storage.Meta{BrokerID: 5})
		if err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
		if want := before[i]; want != nil {
			got := d.Meta()
			if got.DirectoryID != want.DirectoryID || (got.ClusterID != want.ClusterID && got.ClusterID != "c1") {
				t.Fatalf("cut %d left %+v, want %+v", i, got, want)
			}
		}
		must(t, d.Close())
	}
}

func TestDiskFree(t *testing.T) {
	t.Parallel()
	free, total, ok := storage.DiskFree(nil, t.TempDir())
	if !ok || free == 0 || total < free {
		t.Errorf("disk: %d of %d free, %v", free, total, ok)
	}
	if _, _, ok := storage.DiskFree(storage.NewMemFS(), "/"); ok {
		t.Error("memory has disk space")
	}
	if _, _, ok := storage.DiskFree(nil, filepath.Join(t.TempDir(), "absent")); ok {
		t.Error("an absent directory has disk space")
	}
}

func writeTo(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(slices.Clone(content)) // under the race detector the memory file system spoils what it is given
	must(t, errors.Join(err, f.Close()))
}
