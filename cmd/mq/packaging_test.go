package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq/cmd/mq/internal/config"
)

// What is shipped beside the program, from here.
const (
	repository = "../.."
	deploy     = repository + "/docs/deploy"
)

func TestUnitIsOneThatSystemdTakes(t *testing.T) {
	t.Parallel()
	unit := read(t, deploy+"/mq.service")
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/mq (.*)$`).FindStringSubmatch(unit)
	if start == nil {
		t.Fatal("it does not start /usr/bin/mq")
	}
	understood(t, strings.Fields(start[1]))
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze to verify it with")
	}
	self, err := os.Executable() // it wants a program that is there
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "mq.service")
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(unit, "/usr/bin/mq", self)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

func TestServiceKeepsItsDataWhereTheUnitLetsIt(t *testing.T) {
	t.Parallel()
	f, err := config.Load(deploy + "/broker.yaml")
	if err != nil {
		t.Fatal(err)
	}
	directory := "StateDirectory=" + strings.TrimPrefix(f.Broker.DataDir, "/var/lib/")
	if unit := read(t, deploy+"/mq.service"); !strings.Contains(unit, "\n"+directory+"\n") {
		t.Errorf("data is in %s, but the unit does not say %s", f.Broker.DataDir, directory)
	}
}

func TestContainerRunsWhatThereIs(t *testing.T) {
	t.Parallel()
	file := read(t, deploy+"/Containerfile")
	for _, copied := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(file, -1) {
		exist(t, strings.Fields(copied[1])...)
	}
	commands := regexp.MustCompile(`(?m)^(?:ENTRYPOINT|HEALTHCHECK .*CMD) (\[.*\])$`).FindAllStringSubmatch(file, -1)
	if len(commands) != 2 {
		t.Errorf("%d commands, want ENTRYPOINT and HEALTHCHECK", len(commands))
	}
	for _, c := range commands {
		var args []string
		if err := json.Unmarshal([]byte(c[1]), &args); err != nil || len(args) == 0 || args[0] != "/usr/bin/mq" {
			t.Fatalf("%s: %v", c[1], err)
		}
		understood(t, args[1:])
	}
	built := regexp.MustCompile(`(?m)^FROM \S+/golang:(\S+) AS`).FindStringSubmatch(file)
	if built == nil || !strings.Contains(read(t, repository+"/go.mod"), "\ngo "+built[1]+".") {
		t.Errorf("it is built by Go %v, and go.mod has another", built)
	}
}

func TestReleasePacksWhatThereIs(t *testing.T) {
	t.Parallel()
	var release struct {
		Builds   []struct{ Main string }
		Archives []struct{ Files []string }
		Nfpms    []struct {
			Contents []struct{ Src, Dst string }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, repository+"/.goreleaser.yaml")), &release); err != nil {
		t.Fatal(err)
	}
	if len(release.Builds) != 1 || len(release.Archives) != 1 || len(release.Nfpms) != 1 {
		t.Fatalf("read %+v", release)
	}
	exist(t, release.Builds[0].Main)
	exist(t, release.Archives[0].Files...)
	for _, c := range release.Nfpms[0].Contents {
		exist(t, c.Src)
	}
}

func TestYAMLOfDocumentsIsAConfiguration(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob(repository + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, document := range append(documents, repository+"/README.md") {
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, document), -1) {
			found++
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(block[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(path); err != nil {
				t.Errorf("%s: %v in\n%s", document, err, block[1])
			}
		}
	}
	if found == 0 {
		t.Error("no YAML at all")
	}
}

// understood checks that the program knows a command and its flags.
func understood(t *testing.T, args []string) {
	t.Helper()
	cmd, rest, err := newRoot(nil, io.Discard, io.Discard).Find(args)
	if err == nil && cmd.Runnable() {
		err = cmd.ParseFlags(rest)
	}
	if err != nil || !cmd.HasParent() {
		t.Errorf("mq %s: %v", strings.Join(args, " "), err)
	}
}

// exist checks that patterns match files of the repository. What is in bin the
// release makes.
func exist(t *testing.T, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if made := strings.HasPrefix(pattern, "bin/"); !made && (err != nil || len(found) == 0) {
			t.Errorf("nothing is called %s (%v)", pattern, err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
