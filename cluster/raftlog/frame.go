package raftlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/unpack"
)

// A frame is one record of the log:
//
//	0  crc   uint32  CRC-32C of the rest of the frame
//	4  size  uint32  bytes of the body
//	8  kind  uint8
//	9  body          shard id and replica id as uvarints, then what kind says
//
// Fixed-width numbers are little-endian everywhere in the log.
const frameHeaderSize = 9

// kind says what a frame records. The numbers are part of the format.
type kind uint8

const (
	// kindEntry is one entry. It drops every entry of the replica from its
	// index on and puts itself there.
	kindEntry kind = 1
	// kindCarried is a copy of an entry out of an older segment: uvarint number
	// of that segment, then an entry. It changes where the entry is, nothing else.
	kindCarried kind = 2
	// kindState is term, vote and commit index.
	kindState kind = 3
	// kindSnapshot is a snapshot record; the entries stay.
	kindSnapshot kind = 4
	// kindInstall is a snapshot record that replaces the entries: the next one
	// follows the snapshot's index.
	kindInstall kind = 5
	// kindBootstrap is a bootstrap record.
	kindBootstrap kind = 6
	// kindRemoveTo drops the entries up to an index.
	kindRemoveTo kind = 7
	// kindRemoveReplica drops everything about the replica.
	kindRemoveReplica kind = 8
	// kindReplica is everything about one replica but its entries, and where
	// these are: the body of a checkpoint.
	kindReplica kind = 9
	// kindSegments lists the segments that those are in. It is the first frame
	// of a checkpoint, unless there are none.
	kindSegments kind = 10
)

// castagnoli is the polynomial of every checksum in the log, the one that
// processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// nodeID names the replica a frame is about.
type nodeID struct{ shard, replica uint64 }

// frame is a decoded frame. body aliases the buffer it was decoded from.
type frame struct {
	kind kind
	id   nodeID
	body []byte
	crc  uint32
}

var (
	errShortFrame = errors.New("frame is cut off")
	errFrameCRC   = errors.New("frame has a wrong checksum")
	errFrameBody  = errors.New("frame has a malformed body")
)

// decodeFrame reads the frame at the start of b and says how long it is.
func decodeFrame(b []byte) (f frame, size int, err error) {
	if len(b) < frameHeaderSize {
		return frame{}, 0, errShortFrame
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-frameHeaderSize) {
		return frame{}, 0, errShortFrame
	}
	size = frameHeaderSize + int(n)
	f.crc = binary.LittleEndian.Uint32(b)
	if crc32.Checksum(b[4:size], castagnoli) != f.crc {
		return frame{}, 0, errFrameCRC
	}
	r := readerOf(b[frameHeaderSize:size])
	f.kind = kind(b[8])
	f.id = nodeID{r.Uvarint(), r.Uvarint()}
	f.body = r.Rest
	if r.Bad {
		return frame{}, 0, errFrameBody
	}
	return f, size, nil
}

// reader takes the body of a frame apart.
type reader struct{ unpack.Reader }

func readerOf(b []byte) reader { return reader{unpack.Reader{Rest: b}} }

// appendEntryMeta appends the fields of an entry that come before its payload.
// Every field of pb.Entry is there; a test counts them.
func appendEntryMeta(b []byte, e *pb.Entry) []byte {
	b = binary.AppendUvarint(b, e.Index)
	b = binary.AppendUvarint(b, e.Term)
	b = binary.AppendUvarint(b, uint64(e.Type))
	b = binary.AppendUvarint(b, e.Key)
	b = binary.AppendUvarint(b, e.ClientID)
	b = binary.AppendUvarint(b, e.SeriesID)
	return binary.AppendUvarint(b, e.RespondedTo)
}

// decodeEntry decodes the body of an entry. Its Cmd aliases body.
func decodeEntry(body []byte) (e pb.Entry, err error) {
	r := readerOf(body)
	e.Index = r.Uvarint()
	e.Term = r.Uvarint()
	typ := r.Uvarint()
	e.Type = pb.EntryType(typ)
	e.Key = r.Uvarint()
	e.ClientID = r.Uvarint()
	e.SeriesID = r.Uvarint()
	e.RespondedTo = r.Uvarint()
	if r.Bad || typ > math.MaxInt32 {
		return pb.Entry{}, errFrameBody
	}
	if len(r.Rest) > 0 {
		e.Cmd = r.Rest
	}
	return e, nil
}

func appendState(b []byte, st pb.State) []byte {
	b = binary.AppendUvarint(b, st.Term)
	b = binary.AppendUvarint(b, st.Vote)
	return binary.AppendUvarint(b, st.Commit)
}

func (r *reader) state() pb.State {
	return pb.State{Term: r.Uvarint(), Vote: r.Uvarint(), Commit: r.Uvarint()}
}
