package storage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// Restore replaces the whole key space by a snapshot read from r. Until it
// returns nil, readers and a crash see the old content, then the new: it is
// written beside the old one under the next generation, and one batch puts it
// in use and deletes the old. As all batches it is durable after the next
// Sync. It ends with ErrStopped soon after stop is closed; a damaged stream
// gives mqerr.ErrCorruptLog. There must be no other writer meanwhile.
func (sp *Space) Restore(r io.Reader, stop <-chan struct{}) error {
	if !sp.restoring.CompareAndSwap(false, true) {
		return fmt.Errorf("storage: restore %s: another restore is under way", sp.id)
	}
	defer sp.restoring.Store(false)
	if err := sp.write(func() error { return nil }); err != nil {
		return err
	}
	base := sp.meta.Load()
	rs := restore{sp: sp, gen: base.gen + 1, fr: frameReader{r: bufio.NewReaderSize(r, 64<<10)}}
	if err := rs.run(base, stop); err != nil {
		return errors.Join(fmt.Errorf("storage: restore %s: %w", sp.id, err), rs.undo())
	}
	return nil
}

// restore fills one generation.
type restore struct {
	sp    *Space
	gen   uint64
	fr    frameReader
	begun bool // the generation's mark was written
	pairs uint64
}

func (rs *restore) run(base *spaceMeta, stop <-chan struct{}) error {
	if err := rs.fr.header(); err != nil {
		return err
	}
	state, err := rs.fr.expect(frameState)
	if err != nil {
		return err
	}
	next, err := decodeMeta(state)
	if err != nil {
		return err
	}
	if next.kind != rs.sp.kind || !next.plausible() {
		return fmt.Errorf("state of the stream does not fit: %w", mqerr.ErrCorruptLog)
	}
	next.gen, next.restoring = rs.gen, false

	// The mark goes first: whatever of the generation survives a crash, the
	// mark does too, and tells the next open to clear it away.
	mark := spaceMeta{kind: rs.sp.kind, restoring: true, State: freshState()}
	if err := rs.batch(func(b *pebble.Batch) error { return b.Set(metaKey(rs.sp.id, rs.gen), mark.encode(), nil) }); err != nil {
		return err
	}
	rs.begun = true
	for {
		select {
		case <-stop:
			return ErrStopped
		default:
		}
		typ, payload, err := rs.fr.next()
		if err != nil {
			return err
		}
		switch typ {
		case framePairs:
			err = rs.batch(func(b *pebble.Batch) error { return rs.pairsInto(b, payload) })
			if err != nil {
				return err
			}
		case frameEnd:
			if len(payload) != 8 || binary.BigEndian.Uint64(payload) != rs.pairs {
				return fmt.Errorf("stream has %d pairs, not as many as it says: %w", rs.pairs, mqerr.ErrCorruptLog)
			}
			return rs.flip(base, &next)
		default:
			return fmt.Errorf("frame of type %q: %w", typ, mqerr.ErrCorruptLog)
		}
	}
}

// flip puts the new generation in use.
func (rs *restore) flip(base, next *spaceMeta) error {
	if err := rs.sp.enter(); err != nil {
		return err
	}
	defer rs.sp.s.gate.leave()
	b := rs.sp.s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := deleteGeneration(b, rs.sp.kind, rs.sp.id, base.gen); err != nil {
		return engineError(err)
	}
	return rs.sp.commit(b, base, next)
}

// batch writes what fn puts into a batch.
func (rs *restore) batch(fn func(*pebble.Batch) error) error {
	return rs.sp.write(func() error { return rs.sp.s.writeBatch(fn) })
}

// undo clears what was written of a generation that will not be used. When the
// handle or the store is closed, the next open does it.
func (rs *restore) undo() error {
	if !rs.begun || rs.sp.meta.Load().gen == rs.gen {
		return nil
	}
	err := rs.sp.write(func() error { return rs.sp.s.discard(rs.sp.kind, rs.sp.id, rs.gen) })
	if errors.Is(err, mqerr.ErrClosed) {
		return nil
	}
	return err
}

// pairsInto adds the pairs of a frame to b.
func (rs *restore) pairsInto(b *pebble.Batch, payload []byte) error {
	return eachPair(payload, func(f family, key, value []byte) error {
		if !slices.Contains(rs.sp.kind.families(), f) {
			return fmt.Errorf("pair of family %q: %w", byte(f), mqerr.ErrCorruptLog)
		}
		rs.pairs++
		return b.Set(append(spaceKey(f, rs.sp.id, rs.gen), key...), value, nil)
	})
}

// eachPair takes apart what frameWriter.pair put together.
func eachPair(p []byte, fn func(f family, key, value []byte) error) error {
	for len(p) > 0 {
		f := family(p[0])
		key, rest, ok := cutPrefixed(p[1:])
		if !ok {
			return fmt.Errorf("key of family %q is cut off: %w", byte(f), mqerr.ErrCorruptLog)
		}
		value, rest, ok := cutPrefixed(rest)
		if !ok {
			return fmt.Errorf("value of family %q is cut off: %w", byte(f), mqerr.ErrCorruptLog)
		}
		if err := fn(f, key, value); err != nil {
			return err
		}
		p = rest
	}
	return nil
}

// cutPrefixed splits off a slice that is preceded by its length.
func cutPrefixed(p []byte) (v, rest []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, nil, false
	}
	return p[w : w+int(n)], p[w+int(n):], true
}

// frameReader reads a snapshot stream.
type frameReader struct {
	r   *bufio.Reader
	buf bytes.Buffer
}

func (fr *frameReader) header() error {
	var h [len(snapshotMagic) + 1]byte
	if err := fr.full(h[:]); err != nil {
		return err
	}
	if string(h[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("not a snapshot stream: %w", mqerr.ErrCorruptLog)
	}
	if v := h[len(snapshotMagic)]; v > FormatVersion {
		return fmt.Errorf("snapshot stream of format %d: %w", v, mqerr.ErrNewerFormat)
	}
	return nil
}

func (fr *frameReader) expect(typ byte) ([]byte, error) {
	got, payload, err := fr.next()
	if err == nil && got != typ {
		err = fmt.Errorf("frame of type %q instead of %q: %w", got, typ, mqerr.ErrCorruptLog)
	}
	return payload, err
}

// next reads a frame; its payload is valid until the one after it. Memory
// grows with what arrives, not with what the header promises.
func (fr *frameReader) next() (typ byte, payload []byte, err error) {
	var h [frameHeaderLen]byte
	if err := fr.full(h[:]); err != nil {
		return 0, nil, err
	}
	n, sum := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[4:])
	if n == 0 || n > frameMax {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", n, mqerr.ErrCorruptLog)
	}
	fr.buf.Reset()
	if _, err := io.CopyN(&fr.buf, fr.r, int64(n)); err != nil {
		return 0, nil, truncated(err)
	}
	b := fr.buf.Bytes()
	if crc32.Checksum(b, castagnoli) != sum {
		return 0, nil, fmt.Errorf("frame with wrong checksum: %w", mqerr.ErrCorruptLog)
	}
	return b[0], b[1:], nil
}

func (fr *frameReader) full(b []byte) error {
	_, err := io.ReadFull(fr.r, b)
	return truncated(err)
}

// truncated turns the early end of a stream into our error.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("stream is cut off: %w", mqerr.ErrCorruptLog)
	}
	return err
}
