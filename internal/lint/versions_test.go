package lint_test

import (
	"strings"
	"testing"
)

// dragonboat compiles with these two as they were in 2022 and with no later
// version. Minimal version selection lifts them when any module of the build
// asks for more, so a careless `go get -u` breaks every user of this module.
func TestVersionsThatDragonboatNeedsDoNotMove(t *testing.T) {
	t.Parallel()
	for mod, want := range map[string]string{
		"github.com/cockroachdb/pebble": "v0.0.0-20221207173255-0f086d933dac",
		"github.com/lni/vfs":            "v0.2.1-0.20220616104132-8852fd867376",
	} {
		got := strings.TrimSpace(string(goList(t, "-m", "-f", "{{.Version}}", mod)))
		if got != want {
			t.Errorf("%s is at %s; dragonboat needs %s", mod, got, want)
		}
	}
}
