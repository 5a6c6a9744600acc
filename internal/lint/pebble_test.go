package lint_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program that also requires pebble v1.x cannot be built together with
// dragonboat. Whoever meets the compiler's message should find it in the
// README, so both must stay the same.
func TestPebbleV1InTheSameProgramFailsAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a second copy of pebble")
	}
	const message = "missing method OpenReadWrite"
	repo, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": "package main\n\nimport (\n\t_ \"github.com/cockroachdb/pebble\"\n\t_ \"" + module + "\"\n)\n\nfunc main() {}\n",
		"go.mod": "module example.com/host\n\ngo 1.26.0\n\nrequire (\n\tgithub.com/cockroachdb/pebble v1.1.5\n\t" + module + " v0.0.0\n)\n\n" +
			"replace " + module + " => " + repo + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", ".")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("it builds: take the warning out of the README")
	}
	if !strings.Contains(string(out), message) {
		t.Errorf("it fails for another reason than %q:\n%s", message, out)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, []byte(message)) {
		t.Errorf("the README does not mention %q", message)
	}
}
