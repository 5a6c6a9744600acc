package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/raftmq/mq/internal/mqerr"
)

// A group is what one write puts into the log: a header and frames that take
// effect together or not at all.
//
//	 0  magic   uint32
//	 4  version uint8   FormatVersion
//	 5  flags   uint8
//	 6          uint16  zero
//	 8  segment uint64  number of the segment
//	16  offset  uint32  of this header in the segment
//	20  size    uint32  bytes of frames that follow
//	24  synced  uint32  offset below which this segment was known to be on stable
//	                    storage when the group was written; older segments are
//	                    there as a whole
//	28  epoch   uint32  which opening of the log wrote it; never falls
//	32  prev    uint32  running checksum before this group
//	36  body    uint32  CRC-32C of the checksums of the frames
//	40  crc     uint32  CRC-32C of the log's id and of the 40 bytes above:
//	                    the running checksum after this group
//
// prev makes the groups of a segment a chain: none can be lost, repeated or
// swapped unseen. synced tells damage from a torn tail: a group that starts
// below the synced of any later one had reached the disk whole.
const groupHeaderSize = 44

const groupMagic = 0x4751_524d // "MRQG"

// Flags of a group. The numbers are part of the format.
const (
	// flagCheckpoint: the frames are the state of the whole log, and what older
	// segments say no longer counts. The first group of every segment.
	flagCheckpoint = 1 << iota
	// flagSeal: nothing follows in this segment, the log goes on in the next.
	flagSeal
	// flagOpen: an opening of the log cut off here what it found behind.
	flagOpen
)

// groupHeader is a decoded group header.
type groupHeader struct {
	flags   uint8
	segment uint64
	offset  uint32
	size    uint32
	synced  uint32
	epoch   uint32
	prev    uint32
	body    uint32
	crc     uint32
}

// put encodes h and sets its crc.
func (h *groupHeader) put(b []byte, log logID) {
	le := binary.LittleEndian
	le.PutUint32(b, groupMagic)
	b[4], b[5], b[6], b[7] = FormatVersion, h.flags, 0, 0
	le.PutUint64(b[8:], h.segment)
	le.PutUint32(b[16:], h.offset)
	le.PutUint32(b[20:], h.size)
	le.PutUint32(b[24:], h.synced)
	le.PutUint32(b[28:], h.epoch)
	le.PutUint32(b[32:], h.prev)
	le.PutUint32(b[36:], h.body)
	h.crc = groupCRC(b, log)
	le.PutUint32(b[40:], h.crc)
}

func groupCRC(b []byte, log logID) uint32 {
	return crc32.Update(crc32.Checksum(log[:], castagnoli), castagnoli, b[:40])
}

// groupAt decodes the header at offset off of a segment's content. ok says that
// a header of this log, meant for this place, is there; err is a format this
// version does not read.
func groupAt(content []byte, off int, number uint64, log logID) (h groupHeader, ok bool, err error) {
	if off < 0 || off+groupHeaderSize > len(content) {
		return groupHeader{}, false, nil
	}
	b, le := content[off:], binary.LittleEndian
	h = groupHeader{
		flags:   b[5],
		segment: le.Uint64(b[8:]),
		offset:  le.Uint32(b[16:]),
		size:    le.Uint32(b[20:]),
		synced:  le.Uint32(b[24:]),
		epoch:   le.Uint32(b[28:]),
		prev:    le.Uint32(b[32:]),
		body:    le.Uint32(b[36:]),
		crc:     le.Uint32(b[40:]),
	}
	if le.Uint32(b) != groupMagic || h.crc != groupCRC(b, log) ||
		h.segment != number || uint64(h.offset) != uint64(off) {
		return groupHeader{}, false, nil
	}
	if b[4] > FormatVersion {
		return groupHeader{}, false, fmt.Errorf("raftlog: group at offset %d has format %d: %w", off, b[4], mqerr.ErrNewerFormat)
	}
	return h, true, nil
}

// frames checks the frames of the group whose header is h and returns them.
func (h *groupHeader) frames(content []byte) ([]placed, error) {
	start := int(h.offset) + groupHeaderSize
	if uint64(h.size) > uint64(len(content)-start) {
		return nil, errShortFrame
	}
	var out []placed
	sum := uint32(0)
	for b, off := content[start:start+int(h.size)], start; len(b) > 0; {
		f, size, err := decodeFrame(b)
		if err != nil {
			return nil, err
		}
		sum = crc32.Update(sum, castagnoli, b[:4])
		out = append(out, placed{f, loc{uint32(off), uint32(size)}})
		b, off = b[size:], off+size
	}
	if sum != h.body {
		return nil, errFrameCRC
	}
	return out, nil
}

// loc is where in its segment a frame is.
type loc struct{ off, size uint32 }

// placed is a frame and where it is.
type placed struct {
	frame
	at loc
}
