package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
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
)

// Meta is what a data directory says about itself.
type Meta struct {
	// DirectoryID is made at random when the directory is. A broker whose
	// directory was wiped is thereby told from the one before.
	DirectoryID uuid.UUID `json:"directory_id"`
	// ClusterID is the cluster the broker belongs to; empty until it is known.
	ClusterID string `json:"cluster_id"`
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
	names, err := fs.List(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	exists := slices.Contains(names, formatFile)
	if foreign := slices.DeleteFunc(slices.Clone(names), beforeFormat); !exists && len(foreign) > 0 {
		slices.Sort(foreign)
		return nil, fmt.Errorf("there is %s and no %s file: %w", foreign[0], formatFile, mqerr.ErrForeignDir)
	}
	if err := makeDir(fs, path); err != nil {
		return nil, err
	}
	lock, err := fs.Lock(fs.PathJoin(path, lockFile))
	if err != nil {
		return nil, lockError(err)
	}
	d := &Dir{path: path, fs: fs}
	d.mu.lock = lock
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	// Another process may have made the directory before we got the lock.
	d.mu.meta, err = readFormat(fs, fs.PathJoin(path, formatFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if want.DirectoryID == uuid.Nil {
			if want.DirectoryID, err = uuid.NewRandom(); err != nil {
				return nil, err
			}
		}
		d.mu.meta = want
		if err := d.writeLocked(); err != nil {
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

// beforeFormat says whether a directory without a FORMAT file may hold a name.
func beforeFormat(name string) bool {
	return name == lockFile || name == formatFile+".tmp" || name == "lost+found"
}

// lockError finds out what a failed lock means. The operating system says
// EAGAIN or EACCES when another process holds it; the engine's file system has
// an error of its own for this process.
func lockError(err error) error {
	if errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "held by current process") {
		return fmt.Errorf("%w: %w", mqerr.ErrDirInUse, err)
	}
	var pathErr *os.PathError
	if errors.Is(err, syscall.EACCES) && !errors.As(err, &pathErr) {
		return fmt.Errorf("%w: %w", mqerr.ErrDirInUse, err)
	}
	return err
}

// makeDir creates path and makes its creation durable.
func makeDir(fs FS, path string) error {
	if _, err := fs.Stat(path); err == nil {
		return nil
	}
	if err := fs.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(path))
}

func syncDir(fs FS, path string) error {
	f, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Meta returns what the directory says about itself.
func (d *Dir) Meta() Meta {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.mu.meta
	m.Settings = maps.Clone(m.Settings)
	return m
}

// SetClusterID records, durably, the cluster that the broker has joined. It
// cannot be changed to another.
func (d *Dir) SetClusterID(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.lock == nil {
		return mqerr.ErrClosed
	}
	switch d.mu.meta.ClusterID {
	case id:
		return nil
	case "":
	default:
		return fmt.Errorf("storage: data directory %s: it belongs to cluster %s, not %s: %w", d.path, d.mu.meta.ClusterID, id, mqerr.ErrInvalidConfig)
	}
	d.mu.meta.ClusterID = id
	if err := d.writeLocked(); err != nil {
		d.mu.meta.ClusterID = ""
		return fmt.Errorf("storage: data directory %s: %w", d.path, err)
	}
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

// The FORMAT file is one line that all versions can read, then JSON:
//
//	mq data directory, format 1, crc32c 0123abcd
//
// The checksum is that of the whole file with the digits of the checksum zero.
const (
	formatPrefix = "mq data directory, format "
	formatLine   = formatPrefix + "%d, crc32c %08x\n"
)

// writeLocked replaces the FORMAT file: after a crash there is the old or the
// new one.
func (d *Dir) writeLocked() error {
	body, err := json.MarshalIndent(d.mu.meta, "", "  ")
	if err != nil {
		return err
	}
	name := d.Path(formatFile)
	f, err := d.fs.Create(name+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(encodeFormat(FormatVersion, append(body, '\n')))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.Rename(name+".tmp", name); err != nil {
		return err
	}
	return syncDir(d.fs, d.path)
}

func encodeFormat(version int, body []byte) []byte {
	zero := append(fmt.Appendf(nil, formatLine, version, 0), body...)
	sum := crc32.Checksum(zero, castagnoli)
	return append(fmt.Appendf(nil, formatLine, version, sum), body...)
}

func readFormat(fs FS, name string) (Meta, error) {
	f, err := fs.Open(name)
	if err != nil {
		return Meta{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err := errors.Join(err, f.Close()); err != nil {
		return Meta{}, err
	}
	m, err := decodeFormat(b)
	if err != nil {
		return Meta{}, fmt.Errorf("file %s: %w", name, err)
	}
	return m, nil
}

func decodeFormat(b []byte) (Meta, error) {
	line, body, _ := bytes.Cut(b, []byte("\n"))
	var version int
	var sum uint32
	if _, err := fmt.Sscanf(string(line)+"\n", formatLine, &version, &sum); err != nil {
		return Meta{}, fmt.Errorf("first line is damaged: %w", mqerr.ErrCorruptLog)
	}
	if !bytes.Equal(b, encodeFormat(version, body)) {
		return Meta{}, fmt.Errorf("checksum is wrong: %w", mqerr.ErrCorruptLog)
	}
	if version > FormatVersion {
		return Meta{}, fmt.Errorf("format %d, this version of mq reads up to %d: %w", version, FormatVersion, mqerr.ErrNewerFormat)
	}
	var m Meta
	if err := json.Unmarshal(body, &m); err != nil {
		return Meta{}, fmt.Errorf("%w: %w", mqerr.ErrCorruptLog, err)
	}
	return m, nil
}
