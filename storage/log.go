package storage

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// Log is one replica of a partition: record batches by offset. Readers may be
// many, the writer is one.
type Log struct {
	Space
	damaged atomic.Pointer[damagedBatch]
}

// OpenLog opens the log of a replica; one never written is empty. It reads the
// state only, so it takes as long for a large log as for a small one. A handle
// opened before for the same replica is closed.
func (s *Store) OpenLog(id ReplicaID) (*Log, error) {
	l := &Log{}
	if err := s.openSpace(&l.Space, id, kindLog); err != nil {
		return nil, err
	}
	return l, nil
}

// State is the log as the newest committed batch left it. It costs nothing.
func (l *Log) State() State { return l.meta.Load().State }

// EpochEnd finds the largest epoch not above the one asked for and the offset
// behind its last record. As in Kafka (KIP-101): an epoch that is newer than
// all known gives (-1, -1); one older than all known gives itself and the
// offset at which the oldest known began.
func (l *Log) EpochEnd(epoch int32) (found int32, end int64, err error) {
	if err := l.enter(); err != nil {
		return NoEpoch, -1, err
	}
	defer l.s.gate.leave()
	m, it, err := l.view()
	if err != nil {
		return NoEpoch, -1, err
	}
	defer closeIter(it, &err)
	if epoch < 0 || epoch > m.Epoch {
		return NoEpoch, -1, nil
	}
	prefix := spaceKey(famEpoch, l.id, m.gen)
	it.SetBounds(prefix, after(spaceKey(famEpoch, l.id, m.gen)))
	if epoch == m.Epoch {
		return epoch, m.End, nil
	}
	if !it.SeekGE(epochKey(l.id, m.gen, epoch+1)) {
		if err := it.Error(); err != nil {
			return NoEpoch, -1, engineError(err)
		}
		return NoEpoch, -1, fmt.Errorf("storage: log %s: epoch %d has no start: %w", l.id, m.Epoch, mqerr.ErrCorruptLog)
	}
	if _, end, err = decodeEpoch(it); err != nil {
		return NoEpoch, -1, err
	}
	if !it.Prev() {
		return epoch, end, engineError(it.Error())
	}
	found, _, err = decodeEpoch(it)
	return found, end, err
}

func decodeEpoch(it *pebble.Iterator) (epoch int32, start int64, err error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return 0, 0, engineError(err)
	}
	k := it.Key()
	if len(k) != epochLen || len(v) != 8 {
		return 0, 0, fmt.Errorf("storage: epoch entry of %d and %d bytes: %w", len(k), len(v), mqerr.ErrCorruptLog)
	}
	return int32(binary.BigEndian.Uint32(k[spaceLen:]) ^ (1 << 31)), int64(binary.BigEndian.Uint64(v)), nil
}
