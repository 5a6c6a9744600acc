package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// ErrStopped is returned by Snapshot.WriteTo and Space.Restore when their stop
// channel was closed.
var ErrStopped = errors.New("storage: stopped")

// A snapshot stream is the magic, the format version and then frames: length
// and CRC-32C of the payload, 4 bytes each, and the payload, whose first byte
// is its type. The first frame is the state, the last says how many pairs came
// between.
const (
	snapshotMagic = "mqsnap"

	frameState = 'S' // encoded spaceMeta
	framePairs = 'P' // pairs: family, uvarint-prefixed rest of key, uvarint-prefixed value
	frameEnd   = 'E' // number of pairs, 8 bytes

	frameTarget = 1 << 20 // a frame of pairs ends when it is this large
	frameMax    = frameTarget + maxValue + 64<<10
)

// Snapshot is a key space as it was at one moment. It costs little to take and
// keeps later deletions from freeing disk space until it is closed.
type Snapshot struct {
	sp   *Space
	meta spaceMeta

	mu   sync.Mutex // guards snap; held over each frame read from it
	snap *pebble.Snapshot
}

// Snapshot takes a snapshot of all committed batches. The caller closes it.
func (sp *Space) Snapshot() (*Snapshot, error) {
	if err := sp.enter(); err != nil {
		return nil, err
	}
	defer sp.s.gate.leave()
	sn := &Snapshot{sp: sp, snap: sp.s.db.NewSnapshot()}
	live, _, err := readMeta(sn.snap, sp.id, false)
	if err == nil && live == nil {
		live = sp.meta.Load() // nothing was ever written
	}
	if err == nil {
		sn.meta = *live
		err = sp.s.track(sn)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("storage: snapshot of %s: %w", sp.id, err), sn.release())
	}
	return sn, nil
}

// Applied is the mark of the newest batch in the snapshot.
func (sn *Snapshot) Applied() uint64 { return sn.meta.Applied }

// State is the log at the moment of the snapshot; of a KV, only Applied counts.
func (sn *Snapshot) State() State { return sn.meta.State }

// Close releases the snapshot. A second Close does nothing.
func (sn *Snapshot) Close() error {
	if err := sn.sp.s.gate.enter(); err != nil {
		return nil // Store.Close released it
	}
	defer sn.sp.s.gate.leave()
	sn.sp.s.mu.Lock()
	delete(sn.sp.s.mu.snapshots, sn)
	sn.sp.s.mu.Unlock()
	return sn.release()
}

func (sn *Snapshot) release() error {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	if sn.snap == nil {
		return nil
	}
	err := engineError(sn.snap.Close())
	sn.snap = nil
	return err
}

// track makes Store.Close release sn.
func (s *Store) track(sn *Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.snapshots == nil {
		return mqerr.ErrClosed
	}
	s.mu.snapshots[sn] = struct{}{}
	return nil
}

// WriteTo writes the snapshot for a Restore to read. It ends with ErrStopped
// soon after stop is closed, and with mqerr.ErrClosed after Store.Close, which
// does not wait for w. About 1 MiB is held in memory, or one value if larger.
func (sn *Snapshot) WriteTo(w io.Writer, stop <-chan struct{}) error {
	if _, err := io.WriteString(w, snapshotMagic+string(rune(FormatVersion))); err != nil {
		return err
	}
	fw := frameWriter{w: w, buf: make([]byte, 0, frameTarget+64<<10)}
	state := sn.meta
	state.writes = 0 // local to the store
	if err := fw.write(frameState, state.encode()); err != nil {
		return err
	}
	var pairs uint64
	for _, f := range sn.sp.kind.families() {
		for from := spaceKey(f, sn.sp.id, sn.meta.gen); from != nil; {
			select {
			case <-stop:
				return ErrStopped
			default:
			}
			fw.begin(framePairs)
			n, next, err := sn.gather(&fw, f, from)
			if err != nil {
				return fmt.Errorf("storage: snapshot of %s: %w", sn.sp.id, err)
			}
			if n > 0 {
				if err := fw.end(); err != nil {
					return err
				}
			}
			pairs += n
			from = next
		}
	}
	return fw.write(frameEnd, binary.BigEndian.AppendUint64(nil, pairs))
}

// gather adds the pairs of a family from a key on until the frame is large
// enough. next is where to go on, nil at the end of the family.
func (sn *Snapshot) gather(fw *frameWriter, f family, from []byte) (n uint64, next []byte, err error) {
	if err := sn.sp.s.gate.enter(); err != nil {
		return 0, nil, err
	}
	defer sn.sp.s.gate.leave()
	sn.mu.Lock()
	defer sn.mu.Unlock()
	if sn.snap == nil {
		return 0, nil, mqerr.ErrClosed
	}
	it, err := sn.snap.NewIter(&pebble.IterOptions{
		LowerBound: from,
		UpperBound: after(spaceKey(f, sn.sp.id, sn.meta.gen)),
	})
	if err != nil {
		return 0, nil, engineError(err)
	}
	defer closeIter(it, &err)
	for ok := it.First(); ok; ok = it.Next() {
		if len(fw.buf) >= frameTarget {
			return n, append([]byte(nil), it.Key()...), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return n, nil, engineError(err)
		}
		fw.pair(f, it.Key()[spaceLen:], v)
		n++
	}
	return n, nil, engineError(it.Error())
}

// frameWriter builds frames in a buffer it reuses.
type frameWriter struct {
	w   io.Writer
	buf []byte
}

const frameHeaderLen = 8

func (fw *frameWriter) begin(typ byte) {
	fw.buf = append(fw.buf[:0], 0, 0, 0, 0, 0, 0, 0, 0, typ)
}

func (fw *frameWriter) pair(f family, key, value []byte) {
	fw.buf = append(fw.buf, byte(f))
	fw.buf = binary.AppendUvarint(fw.buf, uint64(len(key)))
	fw.buf = append(fw.buf, key...)
	fw.buf = binary.AppendUvarint(fw.buf, uint64(len(value)))
	fw.buf = append(fw.buf, value...)
}

func (fw *frameWriter) end() error {
	payload := fw.buf[frameHeaderLen:]
	binary.BigEndian.PutUint32(fw.buf, uint32(len(payload)))
	binary.BigEndian.PutUint32(fw.buf[4:], crc32.Checksum(payload, castagnoli))
	_, err := fw.w.Write(fw.buf)
	return err
}

func (fw *frameWriter) write(typ byte, payload []byte) error {
	fw.begin(typ)
	fw.buf = append(fw.buf, payload...)
	return fw.end()
}
