package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
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
}

// blobMinimum is the smallest value that gets into a blob file.
const blobMinimum = 1 << 10

func openEngine(dir string, o Options, stats *engineStats) (*pebble.DB, error) {
	cache := pebble.NewCache(int64(o.CacheBytes))
	defer cache.Unref()
	po := &pebble.Options{
		FS:                          timedFS{FS: o.FS, stats: stats, hook: o.OnFsync},
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		DisableWAL:                  true,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       64,
		MaxOpenFiles:                512,
		FlushDelayDeleteRange:       max(o.FreeDelay, 0),
		LoggerAndTracer:             nil,
		Logger:                      engineLogger{o.Logger},
		EventListener:               listener(o.Logger, stats),
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	po.Experimental.FileCacheShards = 2
	// Fetching a log once from end to end must not cause compactions.
	po.Experimental.ReadSamplingMultiplier = -1
	po.Experimental.EnableColumnarBlocks = func() bool { return true }
	po.Experimental.EnableDeleteOnlyCompactionExcises = func() bool { return true }
	blobs := pebble.ValueSeparationPolicy{
		Enabled:               !o.DisableBlobs,
		MinimumSize:           blobMinimum,
		MaxBlobReferenceDepth: 10,
		RewriteMinimumAge:     time.Minute,
		TargetGarbageRatio:    0.5,
	}
	po.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy { return blobs }
	for i := range po.Levels {
		// Producers compress their batches; to do it again costs and gains nothing.
		po.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		po.Levels[i].BlockSize = 32 << 10
	}
	db, err := pebble.Open(dir, po)
	return db, engineError(err)
}

func listener(log *slog.Logger, stats *engineStats) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { log.Warn("storage engine: background error", "err", err) },
		// Without this the engine would end the process.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			log.Error("storage engine: corrupt file", "path", i.Path, "err", i.Details)
		},
		FlushEnd: func(i pebble.FlushInfo) {
			if i.Err != nil {
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
	case pebble.IsCorruptionError(err):
		if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
			return fmt.Errorf("%w: file %s: %w", mqerr.ErrCorruptLog, info.Path, info.Details)
		}
		return fmt.Errorf("%w: %w", mqerr.ErrCorruptLog, err)
	}
	return err
}
