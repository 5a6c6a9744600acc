package whole_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/raftmq/mq/cmd/mq/internal/whole"
)

func TestAFileIsReplacedWithItsPermissions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"first", "2"} {
		if err := whole.Write(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	onlyHas(t, filepath.Dir(path), "f")
}

func TestWhatFailsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "d", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := whole.Write(filepath.Join(dir, "d"), nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if err := whole.Write(filepath.Join(dir, "absent", "f"), nil, 0o600); err == nil {
		t.Error("a file was written into a directory that is not there")
	}
	onlyHas(t, dir, "d")
}

func onlyHas(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("%v, %v", entries, err)
	}
}
