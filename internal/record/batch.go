package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/raftmq/mq/internal/mqerr"
)

// HeaderSize is the size of a batch without records, in bytes.
const HeaderSize = 61

// Values of Info.ProducerID, ProducerEpoch and BaseSequence in a batch of a
// producer without idempotence, and of LeaderEpoch in one that no broker has
// taken yet.
const (
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	NoLeaderEpoch   int32 = -1
)

// Where the fields of the header are. See the package comment.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57

	lengthEnd = 12 // length counts from here
	magic     = 2
)

// Bits of the attributes.
const (
	codecMask         = 0x07
	attrLogAppendTime = 1 << 3
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
)

// Read only after initialisation.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Info is the header of a batch.
type Info struct {
	BaseOffset  int64
	LeaderEpoch int32
	Codec       Codec // maybe one that this package does not know

	// LogAppendTime says that MaxTimestamp, set by the broker, is the
	// timestamp of every record. Kafka: message.timestamp.type.
	LogAppendTime bool
	Transactional bool
	// Control marks a batch that ends a transaction; its record is not for users.
	Control bool

	LastOffsetDelta int32 // offset of the last record, from BaseOffset
	BaseTimestamp   int64 // ms since 1970
	MaxTimestamp    int64 // ms since 1970
	ProducerID      int64 // NoProducerID without idempotence
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32 // of records
	Size            int   // bytes, header included
}

// LastOffset is the offset of the last record.
func (i Info) LastOffset() int64 { return i.BaseOffset + int64(i.LastOffsetDelta) }

// LastSequence is the sequence of the last record, NoSequence when there is none.
func (i Info) LastSequence() int32 {
	if i.BaseSequence == NoSequence {
		return NoSequence
	}
	return AddSequence(i.BaseSequence, i.LastOffsetDelta)
}

// AddSequence is the sequence n records after seq: after 2147483647 comes 0.
// Neither may be negative. Kafka: DefaultRecordBatch.incrementSequence.
func AddSequence(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & math.MaxInt32)
}

// Parse reads the header of the first batch in b. It checks that the batch is
// whole and of magic 2, but neither the CRC nor what the fields say. Errors:
// ErrCorruptBatch, ErrUnsupportedVersion (newer magic), ErrInvalidRecord (older).
func Parse(b []byte) (Info, error) {
	if len(b) < HeaderSize {
		return Info{}, fmt.Errorf("%w: %d bytes are less than a batch header", mqerr.ErrCorruptBatch, len(b))
	}
	switch m := b[atMagic]; {
	case m > magic:
		return Info{}, fmt.Errorf("%w: record batch magic %d", mqerr.ErrUnsupportedVersion, m)
	case m < magic:
		return Info{}, fmt.Errorf("%w: magic %d, the format before Kafka 0.11", mqerr.ErrInvalidRecord, m)
	}
	be := binary.BigEndian
	size := lengthEnd + int64(int32(be.Uint32(b[atLength:])))
	if size < HeaderSize || size > int64(len(b)) {
		return Info{}, fmt.Errorf("%w: length field says %d bytes, %d are there", mqerr.ErrCorruptBatch, size, len(b))
	}
	attributes := be.Uint16(b[atAttributes:])
	return Info{
		BaseOffset:      int64(be.Uint64(b[atBaseOffset:])),
		LeaderEpoch:     int32(be.Uint32(b[atLeaderEpoch:])),
		Codec:           Codec(attributes & codecMask),
		LogAppendTime:   attributes&attrLogAppendTime != 0,
		Transactional:   attributes&attrTransactional != 0,
		Control:         attributes&attrControl != 0,
		LastOffsetDelta: int32(be.Uint32(b[atLastOffsetDelta:])),
		BaseTimestamp:   int64(be.Uint64(b[atBaseTimestamp:])),
		MaxTimestamp:    int64(be.Uint64(b[atMaxTimestamp:])),
		ProducerID:      int64(be.Uint64(b[atProducerID:])),
		ProducerEpoch:   int16(be.Uint16(b[atProducerEpoch:])),
		BaseSequence:    int32(be.Uint32(b[atBaseSequence:])),
		Count:           int32(be.Uint32(b[atCount:])),
		Size:            int(size),
	}, nil
}

// Next splits the first batch off b, which holds whole batches back to back.
// Both results alias b. It fails as Parse does, also on an empty b.
func Next(b []byte) (batch, rest []byte, err error) {
	info, err := Parse(b)
	if err != nil {
		return nil, b, err
	}
	return b[:info.Size:info.Size], b[info.Size:], nil
}

// CheckCRC verifies the checksum of the first batch in b. It fails as Parse
// does, and with ErrCorruptBatch when the content changed.
func CheckCRC(b []byte) error {
	info, err := Parse(b)
	if err != nil {
		return err
	}
	return checkCRC(b[:info.Size])
}

func checkCRC(batch []byte) error {
	want := binary.BigEndian.Uint32(batch[atCRC:])
	if got := crc32.Checksum(batch[atAttributes:], castagnoli); got != want {
		return fmt.Errorf("%w: CRC is %08x, the header says %08x", mqerr.ErrCorruptBatch, got, want)
	}
	return nil
}
