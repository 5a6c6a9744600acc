package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/raftmq/mq"
)

// Three brokers of an older build are replaced under load, one after the other, by
// newer ones: no Send fails, and only when the last one is new does the cluster
// write what old ones can't read. MQ_TEST_UPGRADE is the revision to come from. That
// takes its sources, so not every run has one: make upgrade.
func TestRollingUpgradeFailsNoSend(t *testing.T) {
	t.Parallel()
	from := os.Getenv("MQ_TEST_UPGRADE")
	if from == "" {
		t.Skip("MQ_TEST_UPGRADE names no revision")
	}
	dir := t.TempDir()
	older := buildRevision(t, from, filepath.Join(dir, "older"))
	newer, newLevel := buildNext(t, dir)

	c := startClusterOf(t, older)
	c.run("topic", "create", "t", "-p", "6", "-r", "3")
	level := func() int {
		var info mq.ClusterHealth
		if err := json.Unmarshal([]byte(c.run("cluster", "info", "-o", "json")), &info); err != nil {
			t.Fatal(err)
		}
		return info.FeatureLevel // 0 from a build that does not tell it
	}
	load := c.load("t")
	c.program = newer
	for i := range c.brokers {
		if got := level(); got >= newLevel {
			t.Fatalf("feature level %d, but %d brokers are old", got, len(c.brokers)-i)
		}
		load.goesOn()
		c.terminate(i)
		load.goesOn()
		c.start(i)
		c.run("cluster", "health", "--watch", "--exit-when-healthy")
	}
	for try := 0; level() != newLevel; try++ {
		if try == 1000 {
			t.Fatalf("all brokers are new, and the feature level is %d, not %d", level(), newLevel)
		}
		load.goesOn()
	}
	load.goesOn()
	load.end()

	out, err := exec.CommandContext(t.Context(), older, "consume", "t", "-o", "start:end", "-c", c.client).Output()
	if got, want := bytes.Count(out, []byte("\n")), int(load.sent.Load()); err != nil || got != want {
		t.Errorf("a client of the older build reads %d records of %d: %v", got, want, err)
	}
	t.Logf("from %s:\n%s", from, c.run("cluster", "info"))
}

// buildRevision builds the program from the sources of a revision.
func buildRevision(t *testing.T, revision, dir string) string {
	t.Helper()
	pack := exec.CommandContext(t.Context(), "git", "archive", "--format=tar", revision)
	pack.Dir = filepath.Join("..", "..")
	sources, err := pack.Output()
	if err != nil {
		t.Fatalf("git archive %s: %v", revision, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(sources)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return goBuild(t, dir, filepath.Join(dir, "mq-older"))
}

var declaresLevel = regexp.MustCompile(`(?m)^(const featureLevel = )(\d+)$`)

// buildNext builds the program from these sources, except that it knows one feature
// level more: not every revision has a new one.
func buildNext(t *testing.T, dir string) (program string, level int) {
	t.Helper()
	file, err := filepath.Abs("../../cluster/command.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := declaresLevel.FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s declares no level", file)
	}
	known, err := strconv.Atoi(string(found[2]))
	if err != nil {
		t.Fatal(err)
	}
	level = known + 1
	changed, overlay := filepath.Join(dir, "command.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		changed: declaresLevel.ReplaceAll(text, strconv.AppendInt([]byte("${1}"), int64(level), 10)),
		overlay: replace,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return goBuild(t, filepath.Join("..", ".."), filepath.Join(dir, "mq-newer"), "-overlay", overlay), level
}

func goBuild(t *testing.T, dir, program string, flags ...string) string {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", program}, flags...), "./cmd/mq")...)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return program
}
