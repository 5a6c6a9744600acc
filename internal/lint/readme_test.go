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

// A Go snippet of the README follows a line <!-- ExampleName --> and is the
// body of that function in example_test.go, which go test runs.
var snippet = regexp.MustCompile("(?m)^<!-- (Example\\w*) -->\\n```go\\n((?s:.*?))^```$")

func TestReadmeSnippetsAreTheExamples(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := snippet.FindAllStringSubmatch(string(readme), -1)
	if fences := strings.Count(string(readme), "```go\n"); fences == 0 || fences != len(found) {
		t.Errorf("%d Go snippets in the README, but %d name their example", fences, len(found))
	}
	bodies := exampleBodies(t)
	for _, m := range found {
		name, text := m[1], m[2]
		if body, ok := bodies[name]; !ok {
			t.Errorf("there is no %s in example_test.go", name)
		} else if strings.TrimSpace(text) != strings.TrimSpace(body) {
			t.Errorf("the README's %s is not the example's body:\n%s", name, body)
		}
	}
}

// exampleBodies returns the functions of example_test.go, one tab less deep:
// from a line "// README", if there is one, to the Output that go test checks.
func exampleBodies(t *testing.T) map[string]string {
	t.Helper()
	path := filepath.Join(root, "example_test.go")
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			body := string(src[fset.Position(fn.Body.Lbrace).Offset+1 : fset.Position(fn.Body.Rbrace).Offset])
			body, _, _ = strings.Cut(body, "\t// Output:")
			if _, rest, ok := strings.Cut(body, "\t// README\n"); ok {
				body = "\n" + rest
			}
			bodies[fn.Name.Name] = strings.ReplaceAll(body, "\n\t", "\n")
		}
	}
	return bodies
}
