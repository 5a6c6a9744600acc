package profile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/raftmq/mq/cmd/mq/internal/profile"
)

// open returns a store in a directory that is not there yet.
func open(t *testing.T) (s profile.Store, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "home")
	t.Setenv("MQ_CONFIG_HOME", dir)
	s, err := profile.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestProfilesAreKeptForTheirOwner(t *testing.T) {
	s, dir := open(t)
	for _, name := range []string{"prod", "dev.1"} {
		if err := s.Add(name, []byte("broker: {}\n"), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add("prod", nil, false); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := s.Add("prod", []byte("new"), true); err != nil {
		t.Error(err)
	}
	if names, err := s.List(); err != nil || !slices.Equal(names, []string{"dev.1", "prod"}) {
		t.Errorf("%q, %v", names, err)
	}
	if err := s.Use("prod"); err != nil {
		t.Error(err)
	}
	path, err := s.Path("prod")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "new" {
		t.Errorf("%q, %v", text, err)
	}
	for file, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Join(dir, "current"): 0o600} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

func TestTheProfileInUseIsNoneWhenItIsRemoved(t *testing.T) {
	s, _ := open(t)
	inUse := func(want string) {
		t.Helper()
		if got, err := s.Current(); err != nil || got != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	inUse("")
	if err := errors.Join(s.Add("a", nil, false), s.Add("b", nil, false), s.Use("a"), s.Remove("b")); err != nil {
		t.Fatal(err)
	}
	inUse("a")
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
	inUse("")
	if err := s.Use(""); err != nil {
		t.Error(err)
	}
}

func TestNamesCannotLeaveTheDirectory(t *testing.T) {
	s, _ := open(t)
	if err := s.Add("prod", nil, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../current", "a/b", `a\b`, "a b", ".hidden", "-x", "a\n", strings.Repeat("x", 300)} {
		if err := s.Add(name, nil, true); err == nil {
			t.Errorf("%q was added", name)
		}
		if _, err := s.Path(name); !errors.As(err, new(*profile.NotFoundError)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.Use("prd"); err == nil || !strings.Contains(err.Error(), "did you mean prod?") {
		t.Error(err)
	}
	if err := s.Remove("prd"); !errors.As(err, new(*profile.NotFoundError)) {
		t.Error(err)
	}
}

func TestProfilesAreWhereTheSystemSays(t *testing.T) {
	dir := t.TempDir()
	for _, variable := range []string{"XDG_CONFIG_HOME", "HOME", "AppData"} {
		t.Setenv(variable, dir)
	}
	t.Setenv("MQ_CONFIG_HOME", "")
	s, err := profile.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("p", nil, false); err != nil {
		t.Fatal(err)
	}
	if path, err := s.Path("p"); err != nil || !strings.HasPrefix(path, dir) || filepath.Base(filepath.Dir(filepath.Dir(path))) != "mq" {
		t.Errorf("%s, %v", path, err)
	}
}
