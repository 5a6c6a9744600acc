package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/raftmq/mq/internal/mqerr"
)

// reclaimFloor is how much must have been deleted before Reclaim does anything.
const reclaimFloor = 64 << 20

// deletions remembers what was deleted since the last Reclaim.
type deletions struct {
	sync.Mutex
	bytes      int64
	start, end []byte // spans all deletions
}

// add notes that about n bytes of batches between two data keys are deleted.
func (d *deletions) add(start, end []byte, n int64) {
	d.Lock()
	defer d.Unlock()
	d.bytes += n
	if d.start == nil || bytes.Compare(start, d.start) < 0 {
		d.start = start
	}
	if bytes.Compare(end, d.end) > 0 {
		d.end = end
	}
}

// take empties d if at least floor bytes were deleted.
func (d *deletions) take(floor int64) (start, end []byte, n int64) {
	d.Lock()
	defer d.Unlock()
	if d.bytes < floor || d.start == nil {
		return nil, nil, 0
	}
	start, end, n = d.start, d.end, d.bytes
	d.bytes, d.start, d.end = 0, nil, nil
	return start, end, n
}

// Reclaim frees the disk space of what Trim, Restore and Drop deleted, if that
// is worth it by now: at least 64 MiB and a tenth of the store. Without it the
// engine frees what it comes across while it sorts new data, which on a store
// with few writes may be never. It goes through keys, not values, so it costs
// little beside what it frees; with Options.DisableBlobs it leaves the matter
// to the engine. Call it after each round of retention, from one goroutine.
func (s *Store) Reclaim(ctx context.Context) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if !s.blobs {
		return nil
	}
	pm := s.db.Metrics()
	live := pm.Table.Local.LiveSize + pm.BlobFiles.LiveSize
	start, end, n := s.deleted.take(max(reclaimFloor, int64(live/10)))
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with this call
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := s.db.Compact(ctx, start, end, false); err != nil {
		s.deleted.add(start, end, n)
		if errors.Is(err, context.Canceled) && s.isClosing() {
			return mqerr.ErrClosed
		}
		return fmt.Errorf("storage: reclaim: %w", engineError(err))
	}
	return nil
}

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}
