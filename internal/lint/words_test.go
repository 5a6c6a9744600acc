package lint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// A file is named for a concept. These names say only that it holds Go.
var vagueFiles = []string{"utils", "util", "common", "helpers", "helper", "types", "misc", "base"}

func TestFilesAreNamedForConcepts(t *testing.T) {
	t.Parallel()
	eachFile(t, ".go", func(path string, _ []byte) {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".go"), "_test")
		if slices.Contains(vagueFiles, name) {
			t.Errorf("%s: name the file for what it holds", path)
		}
	})
}

// Words of the public API are Kafka's. The first of each pair belongs to an
// engine or means two things at once. A session timeout is Kafka's own.
var foreignWords = regexp.MustCompile(`Shard|Replica[a-z]*ID|RaftTerm|Term[A-Z]|Queue|ISR|InSync|Generation|Session|Seqno|NodeHost|Pebble|GRPC|Proto[A-Z]`)

func TestPublicNamesUseTheVocabulary(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in the root (%v)", err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, ok := n.(*ast.BlockStmt); ok {
				return false // what happens inside a function is its own business
			}
			if id, ok := n.(*ast.Ident); ok && id.IsExported() && foreignWords.MatchString(strings.ReplaceAll(id.Name, "SessionTimeout", "")) {
				t.Errorf("%s: %s is not in the vocabulary of the public API", path, id.Name)
			}
			return true
		})
	}
}

// homePath is an absolute path that exists on somebody's machine only.
var homePath = regexp.MustCompile(`(^|[\s"'(=])/(home|Users|root|work)/[a-z]`)

func TestNoFileNamesAPathOfSomebodysMachine(t *testing.T) {
	t.Parallel()
	eachFile(t, "", func(path string, data []byte) {
		if m := homePath.Find(data); m != nil {
			t.Errorf("%s holds %q", path, m)
		}
	})
}

// eachFile calls fn for every file of the repository whose name ends in ext.
func eachFile(t *testing.T, ext string, fn func(path string, data []byte)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin"):
			return filepath.SkipDir
		case !d.Type().IsRegular() || d.Name() == ".git" || !strings.HasSuffix(path, ext):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		fn(path, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatalf("no file ends in %q", ext)
	}
}
