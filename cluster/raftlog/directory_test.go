package raftlog_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/vfs"
	"go.uber.org/goleak"

	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/mqerr"
)

// holdDirectory makes a process hold the directory it names until its input ends.
const holdDirectory = "RAFTLOG_HOLD_DIRECTORY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdDirectory); dir != "" {
		nh, err := dragonboat.NewNodeHost(directoryConfig(vfs.Default, dir, raftlog.NewFactory(raftlog.Options{})))
		if err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		nh.Close()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m,
		// The library's metrics start a ticker that nobody can stop.
		goleak.IgnoreTopFunction("github.com/VictoriaMetrics/metrics.init.0.func1"),
	)
}

func directoryConfig(fs vfs.FS, dir string, f config.LogDBFactory) config.NodeHostConfig {
	c := config.NodeHostConfig{NodeHostDir: dir, RaftAddress: "a", RTTMillisecond: 2, Expert: config.ExpertConfig{
		TransportFactory: factory{newNetwork()}, FS: fs, LogDBFactory: f, LogDB: config.GetTinyMemLogDBConfig(),
		Engine: config.EngineConfig{ExecShards: 1, CommitShards: 1, ApplyShards: 1, SnapshotShards: 1, CloseShards: 1},
	}}
	c.Expert.LogDB.Shards = 1
	return c
}

func TestDirectoryOfAnotherLogStoreIsRefused(t *testing.T) {
	t.Parallel()
	for _, oursFirst := range []bool{true, false} {
		fs := vfs.NewMem()
		ours, stock := config.LogDBFactory(raftlog.NewFactory(raftlog.Options{})), config.LogDBFactory(nil)
		if !oursFirst {
			ours, stock = stock, ours
		}
		nh, err := dragonboat.NewNodeHost(directoryConfig(fs, "/data", ours))
		if err != nil {
			t.Fatal(err)
		}
		nh.Close()
		if _, err = dragonboat.NewNodeHost(directoryConfig(fs, "/data", stock)); err == nil || !strings.Contains(err.Error(), "type") {
			t.Errorf("a directory changed its kind of log: %v", err)
		}
		if oursFirst {
			continue
		}
		// The owner of a directory that may move takes the library's flag file away.
		host, err := os.Hostname()
		if err == nil {
			err = fs.Remove(fs.PathJoin("/data", "dragonboat.ds"))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = dragonboat.NewNodeHost(directoryConfig(fs, "/data", stock))
		if !errors.Is(err, mqerr.ErrForeignDir) || !strings.Contains(err.Error(), host) {
			t.Errorf("without the flag file: %v", err)
		}
	}
}

// No option has to stay as it was when the directory was made.
func TestOptionsMayChangeFromOneOpeningToTheNext(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	next, kept := uint64(1), uint64(1)
	for i, o := range []raftlog.Options{
		{SegmentBytes: 64 << 10},
		{SegmentBytes: 4 << 10, MemoryBudget: -1},
		{SegmentBytes: 16 << 10, MaxBytes: 64 << 10},
		{SegmentBytes: 1 << 20, FlushInterval: -1},
		{SegmentBytes: 4 << 10, MaxBytes: 1},
		{SegmentBytes: 64 << 10},
	} {
		o.FS = fs
		l := open(t, o)
		if i > 0 {
			has(t, l, 1, kept, next-1, 1000)
			has(t, l, 2, 1, uint64(i), 50)
		}
		save(t, l, update(2, uint64(i)+1, 1, 50))
		for range 150 {
			save(t, l, update(1, next, 1, 1000))
			next++
		}
		kept = next - 20
		if err := l.RemoveEntriesTo(1, 1, kept-1); err != nil {
			t.Fatal(err)
		}
		has(t, l, 1, kept, next-1, 1000)
		l.Close()
	}
}

func TestDirectoryServesOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdDirectory+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process said %q (%v)", line, err)
	}
	f := raftlog.NewFactory(raftlog.Options{})
	if nh, err := dragonboat.NewNodeHost(directoryConfig(vfs.Default, dir, f)); err == nil {
		nh.Close()
		t.Error("two processes have one directory")
	}
	if f.Log() != nil {
		t.Error("the second process opened the log")
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	nh, err := dragonboat.NewNodeHost(directoryConfig(vfs.Default, dir, f))
	if err != nil {
		t.Fatal(err)
	}
	nh.Close()
}
