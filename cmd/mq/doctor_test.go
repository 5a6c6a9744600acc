package main

import (
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestDoctorChangesNoDataDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	broker := startBroker(t, dir, "127.0.0.1:0")
	if err := broker.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := broker.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	if out, err := exec.CommandContext(t.Context(), "mq", "doctor", "--offline", "--data-dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Errorf("there was %q, now %q", before, after)
	}
}

// files describes every file of a directory, and the directory.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, fmt.Sprintf("%s %d %v", path, info.Size(), info.ModTime().Format(time.StampNano)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
