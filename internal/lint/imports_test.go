package lint_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/raftmq/mq"

// owners says which rooms may import a module: dir "" is the root package
// alone, any other covers what is below it. The tests of testsIn may also.
var owners = []struct {
	pkg     string
	in      []string
	testsIn []string
}{
	{pkg: "github.com/lni/dragonboat", in: []string{"cluster"}},
	{pkg: "github.com/lni/vfs", in: []string{"cluster"}},
	{pkg: "github.com/VictoriaMetrics", in: []string{"cluster"}}, // dragonboat registers there
	{pkg: "github.com/cockroachdb/pebble/v2/vfs", in: []string{"storage"}, testsIn: []string{"cluster"}},
	{pkg: "github.com/cockroachdb/pebble/v2", in: []string{"storage"}},
	{pkg: "github.com/cockroachdb/pebble"}, // dragonboat's own, nobody else's
	{pkg: "google.golang.org/grpc", in: []string{"transport"}},
	{pkg: "google.golang.org/protobuf", in: []string{"transport"}},
	{pkg: "google.golang.org/genproto", in: []string{"transport"}},
	{pkg: "github.com/prometheus", in: []string{""}},
	{pkg: "github.com/klauspost/compress", in: []string{"internal/record"}},
	{pkg: "github.com/pierrec/lz4", in: []string{"internal/record"}},
	{pkg: "github.com/spf13", in: []string{"cmd/mq"}},
	{pkg: "gopkg.in/yaml.v3", in: []string{"cmd/mq"}},
}

// below lists what each room may import of this module. A room not named here
// (a leaf of internal) may import only leaves.
var below = map[string][]string{
	"":          {"cluster", "storage", "transport", "internal"},
	"cluster":   {"storage", "internal"},
	"storage":   {"internal"},
	"transport": {"internal"},
	"cmd":       {"", "cmd", "internal"},
	"docs":      {""}, // examples: what any program can do
	"mqtest":    {"", "cluster/network", "internal"},
}

// goPackage is the part of `go list -json` that matters here.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestEachEngineHasOneImporter(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		dir := relative(p.ImportPath)
		for _, imp := range p.Imports {
			if !mayImport(dir, imp, false) {
				t.Errorf("%s imports %s, which belongs to another room", p.ImportPath, imp)
			}
		}
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			if !mayImport(dir, imp, true) {
				t.Errorf("a test of %s imports %s, which belongs to another room", p.ImportPath, imp)
			}
		}
	}
}

func TestArrowsBetweenRoomsGoDown(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		from := relative(p.ImportPath)
		for _, imp := range p.Imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			if to := relative(imp); !mayReach(from, to) {
				t.Errorf("%s imports %s: arrows go down only", p.ImportPath, imp)
			}
		}
	}
}

// The rules must be able to say no.
func TestRulesRefuseWhatTheyShould(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dir, imp string
		test     bool
	}{
		{"", "github.com/lni/dragonboat/v4", false},
		{"transport", "github.com/lni/dragonboat/v4/config", false},
		{"cluster", "github.com/cockroachdb/pebble/v2", true},
		{"cluster", "github.com/cockroachdb/pebble/v2/vfs", false},
		{"storage", "github.com/cockroachdb/pebble", false},
		{"cluster", "google.golang.org/grpc", false},
		{"internal/api", "google.golang.org/protobuf/proto", false},
		{"transport", "github.com/prometheus/client_golang/prometheus", false},
		{"", "gopkg.in/yaml.v3", false},
	} {
		if mayImport(c.dir, c.imp, c.test) {
			t.Errorf("%q may import %s (test: %v), but must not", c.dir, c.imp, c.test)
		}
	}
	for _, c := range [][2]string{
		{"cluster", "transport"},
		{"transport", "cluster"},
		{"storage", "cluster"},
		{"transport/mqpb", "storage"},
		{"internal/api", ""},
		{"internal/record", "storage"},
		{"cluster", ""},
		{"cmd/mq", "cluster"},
		{"docs/examples/logs", "internal/api"},
	} {
		if mayReach(c[0], c[1]) {
			t.Errorf("%q may import %q, but must not", c[0], c[1])
		}
	}
}

func mayImport(dir, imp string, test bool) bool {
	for _, o := range owners {
		if imp != o.pkg && !strings.HasPrefix(imp, o.pkg+"/") {
			continue
		}
		return inOneOf(dir, o.in) || test && inOneOf(dir, o.testsIn)
	}
	return true
}

func mayReach(from, to string) bool {
	room, _, _ := strings.Cut(from, "/")
	if toRoom, _, _ := strings.Cut(to, "/"); room == toRoom {
		return true
	}
	return inOneOf(to, below[room])
}

// inOneOf reports whether dir is one of rooms or below it; the root package,
// "", has nothing below it.
func inOneOf(dir string, rooms []string) bool {
	for _, r := range rooms {
		if dir == r || r != "" && strings.HasPrefix(dir, r+"/") {
			return true
		}
	}
	return false
}

func relative(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out := goList(t, "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	var ps []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if len(ps) < 3 {
		t.Fatalf("go list found only %d packages", len(ps))
	}
	return ps
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	return out
}
