package machine_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/raftmq/mq/cmd/mq/internal/machine"
)

// known skips a test of what this system does not tell.
func known(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, machine.ErrUnknown) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestProbeLeavesTheDirectoryAsItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	longAgo := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(dir, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	p, err := machine.ProbeFsync(t.Context(), dir)
	known(t, err)
	if p.Count < 1 || p.Median <= 0 || p.Max < p.Median {
		t.Errorf("measured %+v", p)
	}
	info, err := os.Stat(dir)
	if err != nil || !info.ModTime().Equal(longAgo) {
		t.Errorf("the directory was changed at %v, %v", info.ModTime(), err)
	}
	if _, err := machine.ProbeFsync(t.Context(), filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a directory that is not there: %v", err)
	}
}

func TestProbeIsGivenUpWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := machine.ProbeFsync(ctx, t.TempDir()); err != nil && !errors.Is(err, context.Canceled) {
		known(t, err) // it may have been as fast
	}
}

func TestWhatTheSystemTells(t *testing.T) {
	t.Parallel()
	limit, err := machine.FileLimit()
	known(t, err)
	if limit < 10 {
		t.Errorf("at most %d files", limit)
	}
	dir := t.TempDir()
	system, err := machine.FileSystemOf(dir)
	if err != nil || system.Total == 0 || system.Free > system.Total {
		t.Errorf("the file system is %+v, %v", system, err)
	}
	if err := machine.Writable(dir); err != nil {
		t.Error(err)
	}
	for _, path := range []string{filepath.Join(dir, "absent"), "/proc/self/fdinfo/absent"} {
		if err := machine.Writable(path); err == nil {
			t.Errorf("%s is writable", path)
		}
		if _, err := machine.FileSystemOf(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is on a file system: %v", path, err)
		}
	}
	if _, err := machine.ClockSynchronised(); err != nil {
		known(t, err)
	}
}

// holdLock makes a process of this test lock the file it names until its input
// ends.
const holdLock = "MACHINE_HOLD_LOCK"

func TestLockHolderIsTheOtherProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "LOCK")
	_, held, err := machine.LockHolder(path)
	known(t, err)
	if held {
		t.Error("a file that is not there is locked")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, held, err := machine.LockHolder(path); held || err != nil {
		t.Errorf("held: %v, %v, and nobody has it", held, err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holdLock+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil { // it has the lock
		t.Fatal(err)
	}
	for range 2 { // asking does not take it away
		if pid, held, err := machine.LockHolder(path); pid != cmd.Process.Pid || !held || err != nil {
			t.Errorf("process %d, held: %v, %v; want process %d", pid, held, err, cmd.Process.Pid)
		}
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, held, err := machine.LockHolder(path); held || err != nil {
		t.Errorf("held: %v, %v, after its process has ended", held, err)
	}
}
