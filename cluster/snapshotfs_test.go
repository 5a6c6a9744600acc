package cluster

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	lvfs "github.com/lni/vfs"
)

// shortFS is a file system on which operations on snapshots fail on demand, as
// they do in a process that is short of file descriptors, and others as well.
type shortFS struct {
	lvfs.FS

	mu          sync.Mutex
	seen        int    // operations on snapshots since fail
	from, until int    // those that fail
	failed      string // the first of them
}

// fail makes operations number from up to before until fail, from now on.
func (s *shortFS) fail(from, until int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.from, s.until, s.failed = 0, from, until, ""
}

// hit tells the first operation that failed.
func (s *shortFS) hit() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *shortFS) ask(op, name string) error {
	if !strings.Contains(name, "snapshot-") {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	if s.seen <= s.from || s.seen > s.until {
		return nil
	}
	if s.failed == "" {
		s.failed = op + " " + s.PathBase(name)
	}
	return &os.PathError{Op: op, Path: name, Err: syscall.EMFILE}
}

func (s *shortFS) open(op, name string, open func(string) (lvfs.File, error)) (lvfs.File, error) {
	if err := s.ask(op, name); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &shortFile{f, s, name}, nil
}

func (s *shortFS) Create(name string) (lvfs.File, error) {
	return s.open("create", name, s.FS.Create)
}

func (s *shortFS) OpenDir(name string) (lvfs.File, error) {
	return s.open("opendir", name, s.FS.OpenDir)
}

func (s *shortFS) Rename(from, to string) error {
	if err := s.ask("rename", to); err != nil {
		return err
	}
	return s.FS.Rename(from, to)
}

func (s *shortFS) MkdirAll(name string, perm os.FileMode) error {
	if err := s.ask("mkdir", name); err != nil {
		return err
	}
	return s.FS.MkdirAll(name, perm)
}

func (s *shortFS) Remove(name string) error {
	if err := s.ask("remove", name); err != nil {
		return err
	}
	return s.FS.Remove(name)
}

func (s *shortFS) RemoveAll(name string) error {
	if err := s.ask("removeall", name); err != nil {
		return err
	}
	return s.FS.RemoveAll(name)
}

type shortFile struct {
	lvfs.File
	fs   *shortFS
	name string
}

func (f *shortFile) Write(b []byte) (int, error) {
	if err := f.fs.ask("write", f.name); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *shortFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.ask("writeat", f.name); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *shortFile) Stat() (os.FileInfo, error) {
	if err := f.fs.ask("fstat", f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *shortFile) Sync() error {
	if err := f.fs.ask("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *shortFile) Close() error {
	err := f.File.Close()
	if short := f.fs.ask("close", f.name); short != nil {
		return short
	}
	return err
}

// Each operation of a cut fails, alone or with all that follow it. The process
// lives, the log is cut when the fault is gone, and nothing is lost.
func TestAFailedSnapshotIsNoHarm(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{"once": 1, "on": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := newBadDisk()
			short := &shortFS{FS: disk.raft}
			cfg := disk.config()
			cfg.Test.RaftFS, cfg.Test.SnapshotTimeout = short, time.Second
			n := openNode(t, cfg)
			newTopic(t, n, "t", 1, nil)
			r := n.replica(n.shardOf(t, "t", 0).Shard)
			produced, ops := 0, map[string]bool{}
			put := func() {
				mustProduce(t, n, "t", 0, fmt.Sprint(produced))
				produced++
			}
			for at := 0; ; at++ {
				put()
				// Raft rejects a cut while it is not done with the last one, and
				// does not tell of all that fail.
				short.fail(at, at+length)
				waitFor(t, "the log to be cut, or not", func() bool {
					_ = n.saveSnapshot(r)
					return short.hit() != "" || n.snapshotCovers(r, r.index.Load())
				})
				hit := short.hit()
				short.fail(0, 0)
				waitFor(t, fmt.Sprintf("the log to be cut after operation %d, %q, failed", at, hit), func() bool {
					return n.saveSnapshot(r) == nil && n.snapshotCovers(r, r.index.Load())
				})
				if hit == "" {
					break
				}
				op, _, _ := strings.Cut(hit, " ")
				ops[op] = true
			}
			for _, op := range []string{"mkdir", "opendir", "fstat", "create", "write", "writeat", "sync", "close", "rename", "remove", "removeall"} {
				if !ops[op] {
					t.Errorf("no %s failed", op)
				}
			}
			for range 2 {
				if err := n.Failure(); err != nil {
					t.Fatalf("the broker failed: %v", err)
				}
				if got := readAll(t, n, "t", 0, 0); len(got) != produced || got[produced-1] != fmt.Sprint(produced-1) {
					t.Errorf("%d records of %d are there", len(got), produced)
				}
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
				n = openNode(t, cfg)
			}
		})
	}
}
