package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
)

// FormatVersion is the version of everything the log writes. It only grows.
const FormatVersion = 1

// Name is the name under which a data directory records that its log is of
// this kind. The library refuses a directory with a log of another kind.
const Name = "mq-raftlog"

// Options configures a log. The zero value is usable.
type Options struct {
	// SegmentBytes is the size up to which segments grow; the first has 1 MiB
	// and each further one is twice as large as the one before. A commit larger
	// than that gets a segment of its own. Default 64 MiB, at least 4 KiB.
	SegmentBytes int64

	// MaxBytes is what all files together should take at most. From three
	// segments below it on, entries that are still wanted are copied out of mostly
	// dead segments so that these can go, and callers wait for that if they are
	// faster. Entries that nobody removed can't be dropped: with many of these
	// the log grows beyond. Default 512 MiB.
	MaxBytes int64

	// MemoryBudget bounds the recent entries of all replicas that are kept in
	// memory; older ones are read back from their segment. Default 32 MiB;
	// negative keeps none.
	MemoryBudget int64

	// FlushInterval is how long a commit index that moved alone may stay in
	// memory before it is written (and not synced; no promise depends on it).
	// Default 200ms; negative writes it with the next commit only.
	FlushInterval time.Duration

	// MustExist makes opening a directory without a log an error. For owners
	// that know that there was one.
	MustExist bool

	// FS is the file system to use instead of the NodeHost's. It lets the owner
	// give the NodeHost a wrapped one, see the package comment on failures.
	FS vfs.FS

	// Clock times retries and the FlushInterval. Default the machine's.
	Clock clock.Clock

	// Logger gets what happens to the log. Default silent.
	Logger *slog.Logger

	// OnSync, if set, is told how long each sync of a commit took. It is called
	// between commits and must not block.
	OnSync func(time.Duration)

	// OnFailure is called once when the log can't go on: a write or a sync
	// failed, or stored data turned out to be damaged. Nothing is acknowledged
	// from then on, see the package comment. It is called on a goroutine of the
	// log and must only signal: it must not close the NodeHost or the log.
	// Without it, calls fail with the error, on which the library panics.
	OnFailure func(error)
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 512 << 20
	}
	if o.MemoryBudget == 0 {
		o.MemoryBudget = 32 << 20
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = 200 * time.Millisecond
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	if o.SegmentBytes < minSegmentBytes || o.SegmentBytes > maxSegmentBytes {
		return errors.Join(mqerr.ErrInvalidConfig, errors.New("raftlog: SegmentBytes is out of range"))
	}
	if o.MaxBytes < 0 {
		return errors.Join(mqerr.ErrInvalidConfig, errors.New("raftlog: MaxBytes is negative"))
	}
	return nil
}

// Factory opens the log for a NodeHost: set it as
// NodeHostConfig.Expert.LogDBFactory. It serves one NodeHost.
type Factory struct {
	opts Options
	log  atomic.Pointer[Log]
}

var _ config.LogDBFactory = (*Factory)(nil)

// NewFactory returns a factory for logs with these options.
func NewFactory(o Options) *Factory { return &Factory{opts: o} }

// Name implements config.LogDBFactory.
func (f *Factory) Name() string { return Name }

// Create implements config.LogDBFactory. The log is in the folder raftlog of
// the first WAL directory.
func (f *Factory) Create(cfg config.NodeHostConfig, _ config.LogDBCallback, dirs, wals []string) (raftio.ILogDB, error) {
	o := f.opts
	if o.FS == nil {
		o.FS = cfg.Expert.FS
	}
	if len(wals) > 0 {
		dirs = wals
	}
	if len(dirs) == 0 || o.FS == nil {
		return nil, errors.Join(mqerr.ErrInvalidConfig, errors.New("raftlog: no directory or file system"))
	}
	if err := refuseStock(o.FS, dirs[0]); err != nil {
		return nil, err
	}
	l, err := Open(o.FS.PathJoin(dirs[0], "raftlog"), o)
	if err != nil {
		return nil, err
	}
	f.log.Store(l)
	return l, nil
}

// refuseStock refuses a directory that the library's own store has its log in.
// The library does so too, but only as long as its flag file is there.
func refuseStock(fs vfs.FS, dir string) error {
	stock := fs.PathJoin(dir, "logdb-0")
	if _, err := fs.Stat(stock); err == nil {
		return fmt.Errorf("raftlog: %s is a raft log of another kind: %w", stock, mqerr.ErrForeignDir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("raftlog: %w", err)
	}
	return nil
}

// Log returns the log of the NodeHost, nil before there is one.
func (f *Factory) Log() *Log { return f.log.Load() }
