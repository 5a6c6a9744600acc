package lint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A Go snippet of a document follows a line <!-- ExampleName --> and is the body
// of that function in one of the root's example files, which go test runs.
var snippet = regexp.MustCompile("(?m)^<!-- (Example\\w*) -->\\n```go\\n((?s:.*?))^```$")

// checked is where an example's body ends.
var checked = regexp.MustCompile(`(?m)^\t// (Output|Unordered output):`)

func TestSnippetsOfDocumentsAreTheExamples(t *testing.T) {
	t.Parallel()
	bodies := exampleBodies(t)
	total := 0
	eachFile(t, ".md", func(path string, text []byte) {
		found := snippet.FindAllStringSubmatch(string(text), -1)
		total += len(found)
		if fences := strings.Count(string(text), "```go\n"); fences != len(found) {
			t.Errorf("%d Go snippets in %s, but %d name their example", fences, path, len(found))
		}
		for _, m := range found {
			name, text := m[1], m[2]
			if body, ok := bodies[name]; !ok {
				t.Errorf("%s: there is no %s", path, name)
			} else if strings.TrimSpace(text) != strings.TrimSpace(body) {
				t.Errorf("%s: %s is not the example's body:\n%s", path, name, body)
			}
		}
	})
	if total == 0 {
		t.Error("no snippet at all")
	}
}

// exampleBodies returns the functions of the example files, one tab less deep:
// from a line "// README", if there is one, to the Output that go test checks.
func exampleBodies(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "example*_test.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no example files (%v)", err)
	}
	bodies := map[string]string{}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			body := string(src[fset.Position(fn.Body.Lbrace).Offset+1 : fset.Position(fn.Body.Rbrace).Offset])
			body = checked.Split(body, 2)[0]
			if _, rest, ok := strings.Cut(body, "\t// README\n"); ok {
				body = "\n" + rest
			}
			bodies[fn.Name.Name] = strings.ReplaceAll(body, "\n\t", "\n")
		}
	}
	return bodies
}
