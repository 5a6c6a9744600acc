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
	pass    sync.WaitGroup // at most one goroutine, which ends with its pass or with Close
}

// noteDeleted counts deletions and, when they are worth it by now, starts a
// pass: at twice what is gathered in memory and a tenth of the store. Batches
// are in blob files, so a pass goes through keys and costs little beside what
// it frees. The caller is inside the gate.
func (s *Store) noteDeleted(bytes int64) {
	r := &s.reclaim
	if r.deleted.Add(bytes) < s.reclaimFloor || !s.blobs || !r.running.CompareAndSwap(false, true) {
		return
	}
	r.pass.Go(func() {
		defer r.running.Store(false)
		if err := s.reclaimPass(); err != nil && !errors.Is(err, mqerr.ErrClosed) {
			s.log.Warn("storage: disk space was not reclaimed", "err", err)
		}
	})
}

func (s *Store) reclaimPass() error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	m := s.db.Metrics()
	live := m.Table.Local.LiveSize + m.BlobFiles.LiveSize
	n := s.reclaim.deleted.Load()
	if n < int64(live/10) {
		return nil
	}
	s.reclaim.deleted.Add(-n)
	err := s.db.Compact(s.closing, []byte{byte(famData)}, []byte{byte(famData) + 1}, false)
	if err == nil {
		return nil
	}
	s.reclaim.deleted.Add(n)
	if s.closing.Err() != nil {
		return mqerr.ErrClosed
	}
	return engineError(err)
}
