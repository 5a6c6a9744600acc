package storage

import "time"

// Metrics are numbers about a store at one moment.
type Metrics struct {
	DiskBytes     uint64 // all files of the store, those about to be deleted too
	LiveBytes     uint64 // tables and blob files in use
	MemTableBytes uint64 // written, not yet flushed, and memory kept for it
	MemTables     int64
	L0Files       int64  // tables not yet sorted into the levels
	L0Sublevels   int64  // what a read must look through among them
	PendingBytes  uint64 // estimate of what compactions have yet to write

	Flushes, FlushErrors, Compactions int64
	FlushedBytes, CompactedBytes      uint64 // written by flushes and by compactions

	CacheBytes             int64
	CacheHits, CacheMisses int64

	Fsyncs    int64
	FsyncTime time.Duration // sum over all fsyncs
}

// Metrics returns the present numbers; all zero after Close.
func (s *Store) Metrics() Metrics {
	if s.gate.enter() != nil {
		return Metrics{}
	}
	defer s.gate.leave()
	pm := s.db.Metrics()
	var flushed, compacted uint64
	for i := range pm.Levels {
		l := &pm.Levels[i]
		flushed += l.TableBytesFlushed + l.BlobBytesFlushed
		// The engine counts blob files that a flush wrote in both.
		compacted += l.TableBytesCompacted + l.BlobBytesCompacted - l.BlobBytesFlushed
	}
	return Metrics{
		DiskBytes:     pm.DiskSpaceUsage(),
		LiveBytes:     pm.Table.Local.LiveSize + pm.BlobFiles.LiveSize,
		MemTableBytes: pm.MemTable.Size,
		MemTables:     pm.MemTable.Count,
		L0Files:       pm.Levels[0].TablesCount,
		L0Sublevels:   int64(pm.Levels[0].Sublevels),
		PendingBytes:  pm.Compact.EstimatedDebt,

		Flushes:        s.stats.flushes.Load(),
		FlushErrors:    s.stats.flushErrors.Load(),
		Compactions:    s.stats.compactions.Load(),
		FlushedBytes:   flushed,
		CompactedBytes: compacted,

		CacheBytes:  pm.BlockCache.Size,
		CacheHits:   pm.BlockCache.Hits,
		CacheMisses: pm.BlockCache.Misses,

		Fsyncs:    s.stats.fsyncs.Load(),
		FsyncTime: time.Duration(s.stats.fsyncNanos.Load()),
	}
}
