package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/lni/dragonboat/v4/config"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// opens tells how a directory opens. The node is closed again.
func opens(tb testing.TB, cfg Config) error {
	tb.Helper()
	ctx, cancel := context.WithCancel(timeout(tb))
	defer cancel()
	n, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	return n.Close()
}

// filled is a directory with two topics, closed in order.
func filled(tb testing.TB, cut bool) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	n, err := Open(timeout(tb), Config{Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	newTopic(tb, n, "a", 2, nil)
	newTopic(tb, n, "b", 1, nil)
	for i := range 10 {
		mustProduce(tb, n, "a", int32(i%2), strings.Repeat(fmt.Sprint(i), 3000))
		mustProduce(tb, n, "b", 0, fmt.Sprint(i))
	}
	commitAt(tb, n, "g", "a", 0, 3)
	if cut {
		n.eachReplica(func(r *replica) {
			if err := n.saveSnapshot(r); err != nil {
				tb.Fatalf("raft log of %s was not cut: %v", r.name, err)
			}
		})
	}
	if err := n.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// whole checks that everything of filled is there.
func whole(tb testing.TB, n *Node) {
	tb.Helper()
	if a, b := len(readAll(tb, n, "a", 1, 0)), len(readAll(tb, n, "b", 0, 0)); a != 5 || b != 10 {
		tb.Errorf("%d and %d records are there, want 5 and 10", a, b)
	}
	if got := committed(tb, n, "g"); got != "a/0=3" {
		tb.Errorf("committed is %q", got)
	}
}

func TestADirectoryHasOneBroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := openNode(t, Config{Dir: dir})
	if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrDirInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second broker in this process: %v", err)
	}
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "the first is well")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	stop := inAnotherProcess(t, "hold", dir)
	if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrDirInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second broker in another process: %v", err)
	}
	stop(false)
	stop = inAnotherProcess(t, "hold", dir)
	stop(true)
	n = openNode(t, Config{Dir: dir})
	if got := fmt.Sprint(readAll(t, n, "t", 0, 0)); got != "[the first is well]" {
		t.Errorf("it holds %s", got)
	}
}

// formatted is a FORMAT file of another version.
func formatted(version int, body string) []byte {
	line := func(sum uint32) string {
		return fmt.Sprintf("mq data directory, format %d, crc32c %08x\n%s", version, sum, body)
	}
	return []byte(line(crc32.Checksum([]byte(line(0)), crc32.MakeTable(crc32.Castagnoli))))
}

// foreignRaft makes a directory of raft with the log that is raft's own.
func foreignRaft(tb testing.TB, dir, clusterID string) {
	tb.Helper()
	takeRaftLogger()
	id := uuid.NewString()
	link, err := network.Attach(timeout(tb), &network.Mem{}, network.Config{
		Self:    network.Identity{DirectoryID: id},
		Resolve: func(string) (string, error) { return "", errors.ErrUnsupported },
	})
	if err != nil {
		tb.Fatal(err)
	}
	host, err := newHost(config.NodeHostConfig{
		NodeHostDir: dir, RaftAddress: id, RTTMillisecond: 10, DeploymentID: deploymentID(clusterID),
		Expert: config.ExpertConfig{TransportFactory: link.Raft(), LogDB: config.GetTinyMemLogDBConfig()},
	})
	if err != nil {
		tb.Fatal(err)
	}
	host.Close()
	if err := link.Close(); err != nil {
		tb.Fatal(err)
	}
}

func TestARaftLogOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreignRaft(t, dir, "")
	if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrForeignDir) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory of raft: %v", err)
	}
	dir = filled(t, false)
	d, err := storage.OpenDir(dir, nil, storage.Meta{BrokerID: 1})
	if err == nil {
		err = errors.Join(d.Close(), os.RemoveAll(d.Path(raftDir)))
	}
	if err != nil {
		t.Fatal(err)
	}
	foreignRaft(t, d.Path(raftDir), d.Meta().ClusterID)
	if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrForeignDir) || !strings.Contains(err.Error(), "logdb-0") {
		t.Errorf("in a data directory: %v", err)
	}
}

func TestADirectoryThatIsNoneOfOursIsRefused(t *testing.T) {
	t.Parallel()
	write := func(dir, name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prepare func(dir string)
		cfg     Config
		want    error
		says    string
	}{
		"somebody's files":     {func(dir string) { write(dir, "notes.txt", nil) }, Config{}, mqerr.ErrForeignDir, "notes.txt"},
		"a newer format":       {func(dir string) { write(dir, "FORMAT", formatted(storage.FormatVersion+1, "anything")) }, Config{}, mqerr.ErrNewerFormat, "FORMAT"},
		"a damaged format":     {func(dir string) { write(dir, "FORMAT", formatted(1, "{}")[1:]) }, Config{}, mqerr.ErrCorruptLog, "FORMAT"},
		"an empty format":      {func(dir string) { write(dir, "FORMAT", nil) }, Config{}, mqerr.ErrCorruptLog, "FORMAT"},
		"a file":               {func(dir string) { _ = os.Remove(dir); write(filepath.Dir(dir), filepath.Base(dir), nil) }, Config{}, nil, "directory"},
		"another broker's":     {func(dir string) { _ = opens(t, Config{Dir: dir, BrokerID: 1}) }, Config{BrokerID: 2}, mqerr.ErrInvalidConfig, "broker 1"},
		"lost its format file": {func(dir string) { _ = opens(t, Config{Dir: dir}); _ = os.Remove(filepath.Join(dir, "FORMAT")) }, Config{}, mqerr.ErrForeignDir, "FORMAT"},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c.prepare(dir)
		c.cfg.Dir = dir
		err := opens(t, c.cfg)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A process that died while it made the directory has promised nothing.
func TestAHalfMadeDirectoryIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := filled(t, false)
	format, err := storage.OpenDir(filepath.Join(t.TempDir(), "x"), nil, storage.Meta{BrokerID: 1})
	if err != nil {
		t.Fatal(err)
	}
	unnamed, err := os.ReadFile(format.Path("FORMAT"))
	if err == nil {
		err = errors.Join(format.Close(), os.WriteFile(filepath.Join(dir, "FORMAT"), unnamed, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	n := openNode(t, Config{Dir: dir})
	if got := n.topicNames(t); len(got) != 0 {
		t.Errorf("topics %v are there", got)
	}
	newTopic(t, n, "a", 1, nil)
	mustProduce(t, n, "a", 0, "x")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, Config{Dir: dir})
	if got := readAll(t, n, "a", 0, 0); len(got) != 1 {
		t.Errorf("it holds %q", got)
	}
}

func TestALostRaftLogIsNoticed(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(dir string) error{
		"the directory": func(dir string) error { return os.RemoveAll(filepath.Join(dir, raftDir)) },
		"its content": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, raftDir)), os.Mkdir(filepath.Join(dir, raftDir), 0o700))
		},
	} {
		dir := filled(t, false)
		if err := lose(dir); err != nil {
			t.Fatal(err)
		}
		if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrCorruptLog) || !strings.Contains(err.Error(), filepath.Join(dir, raftDir)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALostStoreIsMadeAgainFromTheRaftLogOrNoticed(t *testing.T) {
	t.Parallel()
	dir := filled(t, false)
	if err := os.RemoveAll(filepath.Join(dir, storeDir)); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, Config{Dir: dir})
	whole(t, n) // the raft log was never cut, and has it all

	dir = filled(t, true)
	if err := os.RemoveAll(filepath.Join(dir, storeDir)); err != nil {
		t.Fatal(err)
	}
	if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrCorruptLog) {
		t.Errorf("the raft log was cut: %v", err)
	}
}

// A store or a raft log put back to an earlier time is told by the other.
func TestAStorePutBackIsNoticed(t *testing.T) {
	t.Parallel()
	dir := filled(t, true)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, Config{Dir: dir})
	mustProduce(t, n, "b", 0, "later")
	if err := n.saveSnapshot(n.replica(n.shardOf(t, "b", 0).Shard)); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{storeDir, raftDir} {
		mixed := filepath.Join(t.TempDir(), "mixed")
		err := errors.Join(os.CopyFS(mixed, os.DirFS(dir)), os.RemoveAll(filepath.Join(mixed, part)),
			os.CopyFS(filepath.Join(mixed, part), os.DirFS(filepath.Join(old, part))))
		if err != nil {
			t.Fatal(err)
		}
		if err := opens(t, Config{Dir: mixed}); !errors.Is(err, mqerr.ErrCorruptLog) {
			t.Errorf("an older %s: %v", part, err)
		}
	}
}

// A damaged replica can't be told from a lost one, so the broker does not go on
// as if nothing were.
func TestAReplicaWhoseRecordsAreLostIsNoticed(t *testing.T) {
	t.Parallel()
	dir := filled(t, true)
	n := openNode(t, Config{Dir: dir})
	lost := n.shardOf(t, "a", 1)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(filepath.Join(dir, storeDir), storage.Options{})
	if err == nil {
		err = errors.Join(s.Drop(lost), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := opens(t, Config{Dir: dir}); !errors.Is(err, mqerr.ErrCorruptLog) || !strings.Contains(err.Error(), "a/1") {
		t.Errorf("the store lost a/1: %v", err)
	}
}

// One flipped bit, anywhere: either it does no harm, or an error names the file.
func TestAFlippedBitIsToldWithItsFile(t *testing.T) {
	t.Parallel()
	dir := filled(t, true)
	files := map[string]string{} // one of each kind, by its name without numbers
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[strings.Trim(d.Name(), "0123456789-")] = strings.TrimPrefix(path, dir+"/")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Of these files nearly every byte matters.
	matter := map[string]int{"FORMAT": 4, ".sst": 5, ".blob": 4, "MANIFEST": 4, ".seg": 2}
	told := map[string]int{}
	for kind, name := range files {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range []int{len(content) / 2, 0, 30, 200, len(content) - 1} {
			if at < 0 || at >= len(content) || i > 0 && matter[kind] == 0 {
				continue
			}
			hurt := filepath.Join(t.TempDir(), "hurt")
			content[at] ^= 0x10
			err := errors.Join(os.CopyFS(hurt, os.DirFS(dir)), os.WriteFile(filepath.Join(hurt, name), content, 0o600))
			content[at] ^= 0x10
			if err != nil {
				t.Fatal(err)
			}
			if err = useDamaged(t, hurt); err == nil {
				continue
			}
			told[kind]++
			if !errors.Is(err, mqerr.ErrCorruptLog) || !strings.Contains(err.Error(), filepath.Base(name)) {
				t.Errorf("bit at %d of %s: %v", at, name, err)
			}
		}
	}
	for kind, want := range matter {
		if told[kind] < want {
			t.Errorf("of 5 flipped bits in %q %d were found: %v", files[kind], told[kind], told)
		}
	}
}

// raft puts the host's name into its paths, but data may move.
func TestADirectoryMovesToAnotherHost(t *testing.T) {
	t.Parallel()
	dir := filled(t, true)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	raft := filepath.Join(dir, raftDir)
	if err := os.Rename(filepath.Join(raft, host), filepath.Join(raft, "where-it-came-from")); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "mounted", "elsewhere")
	if err := errors.Join(os.MkdirAll(filepath.Dir(moved), 0o700), os.Rename(dir, moved)); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, Config{Dir: moved})
	whole(t, n)
	mustProduce(t, n, "b", 0, "here")
}

// useDamaged opens a directory and reads all of it. Without an error everything
// must be there.
func useDamaged(tb testing.TB, dir string) error {
	tb.Helper()
	n, err := Open(timeout(tb), Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() {
		if err := n.Close(); err != nil {
			tb.Logf("close: %v", err)
		}
	}()
	for topic, partitions := range map[string]int32{"a": 2, "b": 1} {
		for p := range partitions {
			resp, err := n.Fetch(timeout(tb), &api.FetchRequest{Partitions: []api.FetchPartition{fetchAt(topic, p, 0)}})
			if err == nil {
				err = resp.Partitions[0].Err
			}
			if err != nil {
				return err
			}
		}
	}
	whole(tb, n)
	return nil
}
