package mq_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/raftmq/mq"
)

// names lists what is in a directory and below.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDataDirIsInspectedWhileABrokerHasIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := startChild(t, dir, "127.0.0.1:0")
	first, err := mq.InspectDataDir(dir)
	if err != nil || first.Format != 1 || len(first.DirectoryID) != 36 || len(first.ClusterID) != 36 || first.BrokerID != 1 {
		t.Errorf("%+v, %v", first, err)
	}
	refuseDir(t, dir, mq.ErrDirInUse) // and the broker still has it
	child.kill(t)
	before := names(t, dir)
	second, err := mq.InspectDataDir(dir)
	if err != nil || second != first {
		t.Errorf("%+v, %v; want %+v", second, err, first)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("there was %q, now %q", before, after)
	}
}

func TestInspectingMakesNoDataDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "absent")} {
		if _, err := mq.InspectDataDir(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("it made %q", got[1:])
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("letter", "to somebody")
	_, err := mq.InspectDataDir(dir)
	wantError(t, err, mq.ErrForeignDir)
	write("FORMAT", "mq data directory, format 1, crc32c 00000000\n{}")
	_, err = mq.InspectDataDir(dir)
	wantError(t, err, mq.ErrCorruptLog)
}
