package storage

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
)

// Names inside a data directory. The rest belongs to who opens it.
const (
	formatFile = "FORMAT"
	lockFile   = "LOCK"
	formatSeal = "mq data directory"
)

// Meta is what a data directory says about itself.
type Meta struct {
	// DirectoryID is made at random when the directory is. A broker whose
	// directory was wiped is thereby told from the one before.
	DirectoryID uuid.UUID `json:"directory_id"`
	// ClusterID is the cluster the broker belongs to; empty until it is known.
	ClusterID string `json:"cluster_id"`
	// MetaReplica is the number of the broker's replica of the metadata; 0 in a
	// directory that formed its cluster itself.
	MetaReplica uint64 `json:"meta_replica,omitempty"`
	// BrokerID is the broker's number in its cluster.
	BrokerID int32 `json:"broker_id"`
	// Settings are those that must stay as they were when the directory was
	// made, whatever the configuration says today.
	Settings map[string]string `json:"settings"`
}

// Dir is a broker's data directory, locked for this process until Close. All
// methods are safe for concurrent use.
type Dir struct {
	path string
	fs   FS

	mu struct {
		sync.Mutex
		lock io.Closer // nil once closed
		meta Meta
	}
}

// OpenDir locks a data directory and reads its Meta. An absent or empty
// directory is made one: it gets want, with a new DirectoryID unless want has
// one. For an existing one, a BrokerID or, if both are set, a ClusterID other
// than want's gives mqerr.ErrInvalidConfig; the rest of want is ignored.
//
// Errors: mqerr.ErrDirInUse, mqerr.ErrForeignDir, mqerr.ErrNewerFormat and
// mqerr.ErrCorruptLog for a damaged FORMAT file, all with the path; a
// directory that cannot be written gives the system's error with the path.
func OpenDir(path string, fs FS, want Meta) (*Dir, error) {
	d, err := openDir(path, fs, want)
	if err != nil {
		return nil, fmt.Errorf("storage: data directory %s: %w", path, err)
	}
	return d, nil
}

func openDir(path string, fs FS, want Meta) (_ *Dir, err error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := checkForeign(fs, path); err != nil {
		return nil, err
	}
	if err := makeDir(fs, path); err != nil {
		return nil, err
	}
	lock, err := fs.Lock(fs.PathJoin(path, lockFile))
	if err != nil {
		if isLocked(err) {
			err = fmt.Errorf("%w: %w", mqerr.ErrDirInUse, err)
		}
		return nil, err
	}
	d := &Dir{path: path, fs: fs}
	d.mu.lock = lock
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	// Another process may have made the directory before we got the lock.
	_, err = readSealed(fs, d.Path(formatFile), formatSeal, &d.mu.meta)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if want.DirectoryID == uuid.Nil {
			if want.DirectoryID, err = uuid.NewRandom(); err != nil {
				return nil, err
			}
		}
		d.mu.meta = want
		if err := writeSealed(fs, path, formatFile, formatSeal, d.mu.meta); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	have := d.mu.meta
	if have.BrokerID != want.BrokerID {
		return nil, fmt.Errorf("it belongs to broker %d, not %d: %w", have.BrokerID, want.BrokerID, mqerr.ErrInvalidConfig)
	}
	if have.ClusterID != "" && want.ClusterID != "" && have.ClusterID != want.ClusterID {
		return nil, fmt.Errorf("it belongs to cluster %s, not %s: %w", have.ClusterID, want.ClusterID, mqerr.ErrInvalidConfig)
	}
	return d, nil
}

// ReadMeta reads what a data directory says about itself, and in which format.
// It takes no lock and writes nothing, so a process may have the directory. One
// that is absent or empty gives os.ErrNotExist; the other errors are OpenDir's.
func ReadMeta(path string, fs FS) (m Meta, format int, err error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err = checkForeign(fs, path); err == nil {
		format, err = readSealed(fs, fs.PathJoin(path, formatFile), formatSeal, &m)
	}
	if err != nil {
		return Meta{}, 0, fmt.Errorf("storage: data directory %s: %w", path, err)
	}
	return m, format, nil
}

// checkForeign returns ErrForeignDir when a directory is there, holds something,
// and is not ours.
func checkForeign(fs FS, path string) error {
	names, err := fs.List(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	foreign := slices.DeleteFunc(slices.Clone(names), beforeFormat)
	if slices.Contains(names, formatFile) || len(foreign) == 0 {
		return nil
	}
	slices.Sort(foreign)
	return fmt.Errorf("there is %s and no %s file: %w", foreign[0], formatFile, mqerr.ErrForeignDir)
}

// beforeFormat says whether a directory without a FORMAT file may hold a name.
func beforeFormat(name string) bool {
	return name == lockFile || name == formatFile+tmpSuffix || name == "lost+found"
}

// isLocked tells whether taking a file lock failed because it is held. The
// operating system says EAGAIN or, with no path, EACCES when another process
// has it; the engine's file system has an error of its own for this process.
func isLocked(err error) bool {
	var pathErr *os.PathError
	return errors.Is(err, syscall.EAGAIN) ||
		errors.Is(err, syscall.EACCES) && !errors.As(err, &pathErr) ||
		strings.Contains(err.Error(), "lock held by current process")
}

// makeDir makes path and what is missing above it, durably.
func makeDir(fs FS, path string) error {
	var parents []string // of what is missing, lowest first
	for at := path; ; {
		if _, err := fs.Stat(at); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parent := fs.PathDir(at)
		parents = append(parents, parent)
		if parent == at {
			break
		}
		at = parent
	}
	if len(parents) == 0 {
		return nil
	}
	if err := fs.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDir(fs, parent); err != nil {
			return err
		}
	}
	return nil
}

// Meta returns what the directory says about itself.
func (d *Dir) Meta() Meta {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.mu.meta
	m.Settings = maps.Clone(m.Settings)
	return m
}

// SetCluster records, durably, the cluster that the broker belongs to and which
// replica of its metadata it has. It is set once.
func (d *Dir) SetCluster(id string, metaReplica uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.lock == nil {
		return mqerr.ErrClosed
	}
	meta := d.mu.meta
	switch {
	case meta.ClusterID == id && meta.MetaReplica == metaReplica:
		return nil
	case meta.ClusterID != "":
		return fmt.Errorf("storage: data directory %s: it belongs to cluster %s (replica %d), not %s (replica %d): %w",
			d.path, meta.ClusterID, meta.MetaReplica, id, metaReplica, mqerr.ErrInvalidConfig)
	}
	meta.ClusterID, meta.MetaReplica = id, metaReplica
	if err := writeSealed(d.fs, d.path, formatFile, formatSeal, meta); err != nil {
		return fmt.Errorf("storage: data directory %s: %w", d.path, err)
	}
	d.mu.meta = meta
	return nil
}

// Path joins the names to the path of the directory.
func (d *Dir) Path(names ...string) string {
	return d.fs.PathJoin(append([]string{d.path}, names...)...)
}

// Close unlocks the directory. A second Close does nothing.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.lock == nil {
		return nil
	}
	err := d.mu.lock.Close()
	d.mu.lock = nil
	return err
}
