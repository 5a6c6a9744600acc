// Package profile keeps named configurations in a directory: a YAML file for
// each, which only its owner may read, and the name of the one in use.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/raftmq/mq/cmd/mq/internal/nearest"
	"github.com/raftmq/mq/cmd/mq/internal/whole"
)

// Store is the directory. What is not there yet is empty.
type Store struct{ dir string }

// Open returns the store in $MQ_CONFIG_HOME, or else in mq in the directory
// where the system keeps its user's configuration ($XDG_CONFIG_HOME).
func Open() (Store, error) {
	if dir := os.Getenv("MQ_CONFIG_HOME"); dir != "" {
		return Store{dir}, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return Store{}, fmt.Errorf("no place for profiles: %w; set MQ_CONFIG_HOME", err)
	}
	return Store{filepath.Join(dir, "mq")}, nil
}

const (
	suffix  = ".yaml"
	maxName = 100
)

var goodName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// ErrName is what a name gets that no profile can have.
var ErrName = errors.New("a profile's name is made of letters, digits, dots, dashes and underscores")

func (s Store) path(name string) string { return filepath.Join(s.dir, "profiles", name+suffix) }
func (s Store) current() string         { return filepath.Join(s.dir, "current") }

// Path returns the file of a profile. Errors: NotFoundError.
func (s Store) Path(name string) (string, error) {
	if goodName.MatchString(name) && len(name) <= maxName {
		if _, err := os.Stat(s.path(name)); !errors.Is(err, fs.ErrNotExist) {
			return s.path(name), err
		}
	}
	names, err := s.List()
	if err != nil {
		return "", err
	}
	return "", &NotFoundError{name, names}
}

// List returns the names, sorted.
func (s Store) List() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path("")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && goodName.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Current returns the name of the profile in use, or "".
func (s Store) Current() (string, error) {
	text, err := os.ReadFile(s.current())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// Use makes a profile the one in use; "" none.
func (s Store) Use(name string) error {
	if name == "" {
		if err := os.Remove(s.current()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if _, err := s.Path(name); err != nil {
		return err
	}
	return whole.Write(s.current(), []byte(name+"\n"), 0o600)
}

// Add writes a profile. One that is there is an error, fs.ErrExist, unless it
// is to be replaced.
func (s Store) Add(name string, text []byte, replace bool) error {
	if !goodName.MatchString(name) || len(name) > maxName {
		return fmt.Errorf("bad name %.40q: %w", name, ErrName)
	}
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("profile %s: %w", name, fs.ErrExist)
	}
	return whole.Write(path, text, 0o600)
}

// Remove deletes a profile. If it was in use none is.
func (s Store) Remove(name string) error {
	path, err := s.Path(name)
	if err != nil {
		return err
	}
	if current, err := s.Current(); err != nil || current == name {
		if err := errors.Join(err, s.Use("")); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

// NotFoundError is what a name gets that no profile has.
type NotFoundError struct {
	Name  string
	names []string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no profile %.40q%s (see mq profile list)", e.Name, nearest.Hint(e.Name, e.names))
}
