package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/lni/vfs"

	"github.com/raftmq/mq/internal/mqerr"
)

// A segment is one file of the log, <number>.seg: a header, then groups. It
// gets its whole size, its header and its name before the first group goes in,
// so that a commit touches neither the size nor the directory, and a file that
// is too short or has a bad header is always damage.
//
//	 0  magic   "mqraftlg"
//	 8  version uint8   FormatVersion
//	16  log     [8]byte random, the same in every segment of a log
//	24  number  uint64
//	32  size    uint64  bytes of the file
//	40  crc     uint32  CRC-32C of the 40 bytes above; the running checksum
//	                    before the first group
//	44          zero up to 64
const segmentHeaderSize = 64

const segmentMagic = "mqraftlg"

// minSegmentBytes holds a few groups.
const minSegmentBytes = 4 << 10

// maxSegmentBytes keeps every offset inside 32 bits.
const maxSegmentBytes = 1 << 31

// logID tells the segments of one log from those of another.
type logID [8]byte

type segment struct {
	fs     vfs.FS
	path   string
	number uint64
	log    logID
	size   int64
	chain  uint32 // running checksum before the first group

	// w is the handle for writing, nil once the segment is sealed. It belongs to
	// the preparer until the segment is handed to the writer.
	w vfs.File

	// use is held for reading while somebody reads the file, and for writing
	// while the preparer takes the file away from it.
	use sync.RWMutex
	// reads guards r, which is opened for the first reader, and unread, which says
	// that all the above comes from a checkpoint and nobody compared the header.
	reads  sync.Mutex
	r      vfs.File
	unread bool
	// locating is held while the whole file is read to find its entries.
	locating sync.Mutex

	// Guarded by index.mu.
	runs    int   // how many runs of entries are here; 0 means the file can go
	live    int64 // about how many bytes they take
	located bool  // their locs are known
	// inherited says that the checkpoint that was read when the log was opened
	// lists this segment, so that it must stay until there is a newer one.
	inherited bool
}

func segmentName(number uint64) string { return fmt.Sprintf("%010d.seg", number) }

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string) (number uint64, ok bool) {
	number, err := strconv.ParseUint(strings.TrimSuffix(name, ".seg"), 10, 64)
	return number, err == nil && segmentName(number) == name
}

func putSegmentHeader(log logID, number uint64, size int64) (header []byte, chain uint32) {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic)
	b[8] = FormatVersion
	copy(b[16:24], log[:])
	binary.LittleEndian.PutUint64(b[24:], number)
	binary.LittleEndian.PutUint64(b[32:], uint64(size))
	chain = crc32.Checksum(b[:40], castagnoli)
	binary.LittleEndian.PutUint32(b[40:], chain)
	return b, chain
}

// readHeader takes what a segment is from the header of its file. It opens no
// handle for writing.
func (s *segment) readHeader() error {
	h := make([]byte, segmentHeaderSize)
	err := s.readAt(h, 0)
	if err == nil {
		s.log, s.size, s.chain, err = decodeSegmentHeader(h, s.path, s.number)
	}
	if err == nil {
		err = s.checkSize()
	}
	return err
}

// decodeSegmentHeader is the inverse of putSegmentHeader.
func decodeSegmentHeader(h []byte, path string, number uint64) (log logID, size int64, chain uint32, err error) {
	held, bytes := binary.LittleEndian.Uint64(h[24:]), binary.LittleEndian.Uint64(h[32:])
	chain = binary.LittleEndian.Uint32(h[40:])
	switch {
	case string(h[:8]) != segmentMagic:
		err = damaged(path, 0, "not a segment of the raft log")
	case chain != crc32.Checksum(h[:40], castagnoli):
		err = damaged(path, 0, "segment header has a wrong checksum")
	case h[8] > FormatVersion:
		err = fmt.Errorf("raftlog: %s has format %d, this version of mq reads up to %d: %w", path, h[8], FormatVersion, mqerr.ErrNewerFormat)
	case h[8] == 0:
		err = damaged(path, 0, "segment header has format 0, which never was")
	case held != number:
		err = damaged(path, 0, "file holds segment %d", held)
	case bytes < segmentHeaderSize || bytes > maxSegmentBytes:
		err = damaged(path, 0, "segment header has a wrong size")
	}
	return logID(h[16:24]), int64(bytes), chain, err
}

// checkSize checks that nothing of the file was cut off.
func (s *segment) checkSize() error {
	info, err := s.fs.Stat(s.path)
	if err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	if info.Size() < s.size {
		return damaged(s.path, info.Size(), "file was cut to %d of %d bytes", info.Size(), s.size)
	}
	return nil
}

// inherit takes what a segment is from a checkpoint that lists it. Its header
// is read with what else in it is asked for first.
func (s *segment) inherit(log logID, size int64) error {
	_, s.chain = putSegmentHeader(log, s.number, size)
	s.log, s.size, s.inherited, s.unread = log, size, true, true
	return s.checkSize()
}

// compare checks that f is the segment that the checkpoint listed.
func (s *segment) compare(f vfs.File) error {
	h := make([]byte, segmentHeaderSize)
	if err := readFull(f, s.path, h, 0); err != nil {
		return err
	}
	_, _, chain, err := decodeSegmentHeader(h, s.path, s.number)
	if err == nil && chain != s.chain {
		err = damaged(s.path, 0, "not the segment that the checkpoint lists")
	}
	return err
}

// reader opens the file for reading, if it isn't.
func (s *segment) reader() (vfs.File, error) {
	s.reads.Lock()
	defer s.reads.Unlock()
	if s.r != nil {
		return s.r, nil
	}
	f, err := s.fs.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("raftlog: %w", err)
	}
	if s.unread {
		if err := s.compare(f); err != nil {
			_ = f.Close()
			return nil, err
		}
		s.unread = false
	}
	s.r = f
	return f, nil
}

// readAt fills b from offset off of the file. Missing bytes are damage.
func (s *segment) readAt(b []byte, off int64) error {
	f, err := s.reader()
	if err != nil {
		return err
	}
	return readFull(f, s.path, b, off)
}

func readFull(f vfs.File, path string, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := f.ReadAt(b, off)
		b, off = b[n:], off+int64(n)
		switch {
		case len(b) == 0:
			return nil
		case err == nil && n > 0:
		case err == nil || errors.Is(err, io.EOF):
			return damaged(path, off, "file ends here")
		default:
			return fmt.Errorf("raftlog: read %s: %w", path, err)
		}
	}
	return nil
}

// content reads the whole file.
func (s *segment) content() ([]byte, error) {
	b := make([]byte, s.size)
	if err := s.readAt(b, 0); err != nil {
		return nil, err
	}
	return b, nil
}

// writable opens the handle for writing of an existing file without cutting it.
func (s *segment) writable() error {
	// Renaming a file to its own name changes nothing; of all the calls of a
	// vfs.FS this is the one that opens for writing in place.
	f, err := s.fs.ReuseForWrite(s.path, s.path)
	if err != nil {
		return fmt.Errorf("raftlog: %w", err)
	}
	s.w = f
	return nil
}

// seal gives up the handle for writing.
func (s *segment) seal() error {
	if s.w == nil {
		return nil
	}
	err := s.w.Close()
	s.w = nil
	return err
}

// closeFiles closes both handles.
func (s *segment) closeFiles() {
	_ = s.seal()
	s.reads.Lock()
	defer s.reads.Unlock()
	if s.r != nil {
		_ = s.r.Close()
		s.r = nil
	}
}

// walker follows the groups of a segment's content from its start.
type walker struct {
	content []byte
	number  uint64
	log     logID
	off     int    // end of the last good group
	chain   uint32 // running checksum there
	epoch   uint32
	synced  uint32 // what the last good group knew to be on stable storage
	sealed  bool
	bad     string // why the walk ended at off, if not at a seal
}

func (s *segment) walk(content []byte) *walker {
	return &walker{content: content, number: s.number, log: s.log, off: segmentHeaderSize, chain: s.chain}
}

// next returns the next good group. ok is false where the chain ends.
func (w *walker) next() (h groupHeader, frames []placed, ok bool, err error) {
	if w.sealed {
		return groupHeader{}, nil, false, nil
	}
	h, ok, err = groupAt(w.content, w.off, w.number, w.log)
	switch {
	case err != nil:
		return groupHeader{}, nil, false, err
	case !ok:
		w.bad = "no group"
	case h.prev != w.chain:
		w.bad = "group does not follow the one before it"
	case h.epoch < w.epoch:
		w.bad = "group is left over from an earlier opening"
	default:
		frames, bad := h.frames(w.content)
		if bad != nil {
			w.bad = bad.Error()
			break
		}
		w.off += groupHeaderSize + int(h.size)
		w.chain, w.epoch, w.synced = h.crc, h.epoch, h.synced
		w.sealed = h.flags&flagSeal != 0
		return h, frames, true, nil
	}
	return groupHeader{}, nil, false, nil
}

// vouched looks behind the end of the chain for a group that says that more
// than what the chain holds had reached stable storage, and returns its offset.
func (w *walker) vouched() (off int, found bool, err error) {
	magic := binary.LittleEndian.AppendUint32(nil, groupMagic)
	for at := indexFrom(w.content, magic, w.off); at >= 0; at = indexFrom(w.content, magic, at+1) {
		h, ok, err := groupAt(w.content, at, w.number, w.log)
		if err != nil {
			return 0, false, err
		}
		if ok && h.epoch >= w.epoch && uint64(h.synced) > uint64(w.off) {
			return at, true, nil
		}
	}
	return 0, false, nil
}
