package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/raftmq/mq/internal/mqerr"
)

// engineStats count what the engine does. The engine's callbacks write them.
type engineStats struct {
	flushes, flushErrors, compactions atomic.Int64
	fsyncs, fsyncNanos                atomic.Int64
	flushFailed                       atomic.Pointer[error] // newest failure of a flush, nil after a success
	damaged                           atomic.Bool           // a blob file is
}

func openEngine(dir string, exists bool, o Options, stats *engineStats) (*pebble.DB, error) {
	// The engine takes memtables out of the cache's budget; two is normal.
	cache := pebble.NewCache(int64(o.CacheBytes) + 2*int64(o.MemTableBytes))
	defer cache.Unref()
	po := &pebble.Options{
		FS:                          engineFS{FS: o.FS, stats: stats, hook: o.OnFsync},
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		DisableWAL:                  true,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       64,
		MaxOpenFiles:                512,
		Logger:                      engineLogger{o.Logger},
		EventListener:               listener(o.Logger, stats),
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	// Few large tables: each costs two fsyncs. The other levels follow from it.
	po.TargetFileSizes[0] = 16 << 20
	po.Experimental.FileCacheShards = 2
	// Reading a log once from end to end must not cause compactions.
	po.Experimental.ReadSamplingMultiplier = -1
	po.Experimental.EnableColumnarBlocks = func() bool { return true }
	for i := range po.Levels {
		// Producers compress their batches; to do it again costs and gains nothing.
		po.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		po.Levels[i].BlockSize = 32 << 10
	}
	useBlobs(po, !o.DisableBlobs, stats)
	if exists {
		if err := checkBlobFiles(dir, po); err != nil {
			return nil, err
		}
	}
	db, err := pebble.Open(dir, po)
	return db, openError(err)
}

// checkBlobFiles looks whether the blob files of the store are there and as
// long as they should be. The engine does this for tables only, and panics
// when it comes upon a missing blob file. It takes a database that is open for
// reading, where nothing happens in the background.
func checkBlobFiles(dir string, po *pebble.Options) error {
	ro := *po
	ro.ReadOnly, ro.DisableTableStats = true, true
	db, err := pebble.Open(dir, &ro)
	if err != nil {
		return openError(err)
	}
	for blob := range db.DebugCurrentVersion().BlobFiles.All() {
		path := po.FS.PathJoin(dir, fmt.Sprintf("%06d%s", blob.Physical.FileNum, blobSuffix))
		info, statErr := po.FS.Stat(path)
		switch {
		case errors.Is(statErr, os.ErrNotExist):
			err = fmt.Errorf("%w: file %s is missing", mqerr.ErrCorruptLog, path)
		case statErr != nil:
			err = statErr
		case uint64(info.Size()) != blob.Physical.Size:
			err = fmt.Errorf("%w: file %s has %d bytes, not %d", mqerr.ErrCorruptLog, path, info.Size(), blob.Physical.Size)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, db.Close())
}

// useBlobs puts batches into blob files, which compactions do not rewrite.
// Measured with 16 KiB batches, 3 GB in all, bytes written per byte: 1.0 with
// blobs; without 1.3 with one log, 2.0 with 64 and 3.3 with 1,000.
func useBlobs(po *pebble.Options, on bool, stats *engineStats) {
	policy := pebble.ValueSeparationPolicy{
		Enabled:     on,
		MinimumSize: 128, // above the size of anything but batches and large pairs
		// The engine rewrites values when a table refers to more blob files
		// than this, for the sake of locality. Values are in append order and
		// stay so: there is nothing to gain.
		MaxBlobReferenceDepth: 1000,
		// Retention makes most blob files garbage as a whole. The rest, kept
		// alive by a log with little traffic, is rewritten.
		TargetGarbageRatio: 0.3,
		RewriteMinimumAge:  5 * time.Second,
	}
	po.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		now := policy
		if stats.damaged.Load() {
			now.TargetGarbageRatio = 1 // the engine would try to rewrite that file over and over
		}
		return now
	}
	// Without blobs, space is freed by cutting deleted ranges out of tables,
	// once they are flushed. With them that spoils the engine's count of
	// garbage in blob files, and the reclaimer sees to it.
	po.Experimental.EnableDeleteOnlyCompactionExcises = func() bool { return !on }
	if !on {
		po.FlushDelayDeleteRange = 5 * time.Second
	}
}

// nothingFlushed is the text of the error, not exported, by which the engine
// says that a flush found nothing to write.
const nothingFlushed = "pebble: empty table"

func listener(log *slog.Logger, stats *engineStats) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { log.Warn("storage engine: background error", "err", err) },
		// Without this the engine would end the process.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			log.Error("storage engine: corrupt file", "path", i.Path, "err", i.Details)
		},
		FlushEnd: func(i pebble.FlushInfo) {
			if i.Err != nil && i.Err.Error() != nothingFlushed {
				stats.flushErrors.Add(1)
				stats.flushFailed.Store(&i.Err)
				return
			}
			stats.flushes.Add(1)
			stats.flushFailed.Store(nil)
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if i.Err == nil {
				stats.compactions.Add(1)
			}
		},
	}
}

// engineLogger sends the engine's messages to slog.
type engineLogger struct{ log *slog.Logger }

func (l engineLogger) Infof(format string, args ...any) {
	l.log.Debug("storage engine: " + fmt.Sprintf(format, args...))
}

func (l engineLogger) Errorf(format string, args ...any) {
	l.log.Warn("storage engine: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when the engine cannot go on without breaking its promise,
// as after a failed fsync of its manifest. It must not return.
func (l engineLogger) Fatalf(format string, args ...any) {
	msg := "storage engine: " + fmt.Sprintf(format, args...)
	l.log.Error(msg)
	panic(msg)
}

// engineError gives the engine's errors our classes: damage becomes
// mqerr.ErrCorruptLog with the name of the file.
func engineError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrClosed):
		return mqerr.ErrClosed
	case errors.Is(err, mqerr.ErrCorruptLog):
		return err
	case pebble.IsCorruptionError(err):
		return damage(err)
	}
	return err
}

// damage makes an error about damaged files one of ours and names the file.
func damage(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fmt.Errorf("%w: file %s: %w", mqerr.ErrCorruptLog, info.Path, info.Details)
	}
	if n := fileNumber.FindStringSubmatch(err.Error()); n != nil {
		suffix := blobSuffix
		if n[2] != ":" {
			suffix = ".sst"
		}
		return fmt.Errorf("%w: file %s%s: %w", mqerr.ErrCorruptLog, n[1], suffix, err)
	}
	return fmt.Errorf("%w: %w", mqerr.ErrCorruptLog, err)
}

// fileNumber finds the file where the engine tells no more than its number: a
// blob file that cannot be read, a table that is missing.
var fileNumber = regexp.MustCompile(`\bfile (\d+)(:| \(type sstable\))`)

// openError is engineError for opening, when the engine does not mark all
// damage as such: what the system did not say is about the files' content.
func openError(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mqerr.ErrCorruptLog):
		return err
	case isLocked(err):
		return fmt.Errorf("%w: %w", mqerr.ErrDirInUse, err)
	case errors.As(err, &errno) && errno != syscall.ENOENT:
		return err
	}
	return damage(err)
}

// closeIter closes an iterator at the end of a function and lets *err be its
// error unless there is one, which the iterator would repeat.
func closeIter(it *pebble.Iterator, err *error) {
	if closeErr := it.Close(); *err == nil {
		*err = engineError(closeErr)
	}
}
