package storage

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/raftmq/mq/internal/mqerr"
)

// reclaimer frees the disk space of what was deleted. The engine by itself
// frees what it comes across while it sorts new data, which may be never in a
// store with few writes.
type reclaimer struct {
	deleted atomic.Int64 // bytes of batches since the last pass
	running atomic.Bool
	passes  sync.WaitGroup // at most one goroutine, which ends with its passes or with Close
}

// noteDeleted counts deletions and, when they are worth it by now, starts a
// pass: at twice what is gathered in memory and a tenth of the store. Batches
// are in blob files, so a pass goes through keys and costs little beside what
// it frees. The caller is inside the gate.
func (s *Store) noteDeleted(bytes int64) {
	r := &s.reclaim
	if r.deleted.Add(bytes) >= s.reclaimFloor && s.blobs && r.running.CompareAndSwap(false, true) {
		r.passes.Go(s.reclaimLoop)
	}
}

// reclaimLoop makes passes until none is worth it. What is deleted while it
// says that it is not running any more starts it again, here or there.
func (s *Store) reclaimLoop() {
	r := &s.reclaim
	for {
		seen := r.deleted.Load()
		done, err := s.reclaimPass(seen)
		if err != nil && !errors.Is(err, mqerr.ErrClosed) {
			s.log.Warn("storage: disk space was not reclaimed", "err", err)
		}
		r.running.Store(false)
		now := r.deleted.Load()
		if err != nil || now < s.reclaimFloor || !done && now == seen || !r.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// reclaimPass frees the space of deleted bytes, if they are worth it.
func (s *Store) reclaimPass(deleted int64) (done bool, err error) {
	if err := s.gate.enter(); err != nil {
		return false, err
	}
	defer s.gate.leave()
	m := s.db.Metrics()
	if live := m.Table.Local.LiveSize + m.BlobFiles.LiveSize; deleted < int64(live/10) {
		return false, nil
	}
	s.reclaim.deleted.Add(-deleted)
	err = s.db.Compact(s.closing, []byte{byte(famData)}, []byte{byte(famData) + 1}, false)
	if err == nil {
		return true, nil
	}
	s.reclaim.deleted.Add(deleted)
	if s.closing.Err() != nil {
		return false, mqerr.ErrClosed
	}
	return false, engineError(err)
}

// sizeOf is what dropping a key space frees, at least: what the engine
// estimates, which counts a table shared with others in part, or what the key
// space itself says, if it can be read. The caller is inside the gate.
func (s *Store) sizeOf(id ReplicaID) (int64, error) {
	size, err := s.db.EstimateDiskUsage(replicaKey(famData, id), after(replicaKey(famData, id)))
	if err != nil {
		return 0, engineError(err)
	}
	if live, _, err := readMeta(s.db, id, false); err == nil && live != nil { // a damaged key space can be dropped, too
		return max(int64(size), live.written-live.freedBytes), nil
	}
	return int64(size), nil
}
