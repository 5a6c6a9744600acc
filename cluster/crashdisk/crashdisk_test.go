package crashdisk_test

import (
	"io"
	"testing"

	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/crashdisk"
	"github.com/raftmq/mq/internal/testhook"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// written is a disk with a file a, of which "synced" was synced and more written,
// b, whose name was not synced, and c, removed, which was not synced either. The
// handle is that of a.
func written(t *testing.T) (*crashdisk.Disk, lvfs.File) {
	t.Helper()
	d := crashdisk.New()
	fs := d.Raft()
	create := func(name, content string) lvfs.File {
		f := must(fs.Create(name))(t)
		must(f.Write([]byte(content)))(t)
		return f
	}
	syncDir := func() {
		if err := must(fs.OpenDir("/"))(t).Sync(); err != nil {
			t.Fatal(err)
		}
	}
	a := create("/a", "synced")
	c := create("/c", "removed")
	if a.Sync() != nil || c.Sync() != nil {
		t.Fatal("no sync")
	}
	syncDir()
	must(a.Write([]byte(" and not")))(t)
	create("/b", "new")
	if err := fs.Remove("/c"); err != nil {
		t.Fatal(err)
	}
	return d, a
}

// content reads files, "-" for one that is not there.
func content(t *testing.T, d testhook.Disk, names ...string) (out []string) {
	t.Helper()
	for _, name := range names {
		f, err := d.(*crashdisk.Disk).Raft().Open(name)
		if err != nil {
			out = append(out, "-")
			continue
		}
		out = append(out, string(must(io.ReadAll(f))(t)))
	}
	return out
}

func wantContent(t *testing.T, d testhook.Disk, a, b, c string) {
	t.Helper()
	got := content(t, d, "/a", "/b", "/c")
	if got[0] != a || got[1] != b || got[2] != c {
		t.Errorf("there is %q, want %q", got, []string{a, b, c})
	}
}

func TestAKillKeepsWhatWasWritten(t *testing.T) {
	t.Parallel()
	d, a := written(t)
	after := must(d.Kill())(t)
	if a.Sync() == nil {
		t.Error("the dead process syncs")
	}
	must(a.WriteAt([]byte("late"), 0))(t)
	wantContent(t, after, "synced and not", "new", "-")
}

func TestAPowerCutKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	d, a := written(t)
	wantContent(t, d.PowerCut(0, 1), "synced", "-", "removed")
	if a.Sync() == nil {
		t.Error("the machine without power syncs")
	}
}

func TestAPausedDiskSyncsWhenItGoesOn(t *testing.T) {
	t.Parallel()
	d, a := written(t)
	resume := d.Pause()
	synced := make(chan error)
	go func() { synced <- a.Sync() }()
	select {
	case <-synced:
		t.Error("it syncs while it is paused")
	default:
	}
	resume()
	if err := <-synced; err != nil {
		t.Error(err)
	}
	wantContent(t, d.PowerCut(0, 1), "synced and not", "-", "removed")
}

func TestFilesOfTheRaftLogAreWrittenInPlace(t *testing.T) {
	t.Parallel()
	d, _ := written(t)
	fs := d.Raft()
	f := must(fs.ReuseForWrite("/a", "/a"))(t)
	must(f.Seek(-3, io.SeekEnd))(t)
	must(f.Write([]byte("yes!")))(t)
	f = must(fs.OpenForAppend("/b"))(t)
	must(f.Write([]byte("er")))(t)
	wantContent(t, d, "synced and yes!", "newer", "-")
	if _, err := fs.ReuseForWrite("/x", "/x"); err == nil {
		t.Error("a file that is not there was opened")
	}
}
