package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/raftmq/mq/internal/mqerr"
)

// Builder collects records and encodes them as a batch. The zero value is
// ready; Reset makes it ready again and keeps its memory. Not safe for
// concurrent use.
type Builder struct {
	records        []byte // encoded, not compressed
	count          int32
	baseTime, maxT int64
}

// BuildOptions say what a batch holds besides its records.
type BuildOptions struct {
	// Codec compresses the records, unless that would not make them smaller.
	Codec Codec

	// ProducerID makes the batch idempotent. It has no safe zero value, for
	// zero is an id as any: set NoProducerID for none, then the next two are
	// ignored.
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32 // of the first record
}

// Append adds a record with a timestamp in ms since 1970. A nil key or value is
// null, which consumers can tell from empty. Everything is copied.
func (b *Builder) Append(key, value []byte, headers []Header, timestamp int64) {
	if b.count == 0 {
		b.baseTime, b.maxT = timestamp, timestamp
	}
	b.maxT = max(b.maxT, timestamp)
	timeDelta, offsetDelta := timestamp-b.baseTime, int64(b.count)

	r := binary.AppendVarint(b.records, int64(bodySize(key, value, headers, timeDelta, offsetDelta)))
	r = append(r, 0) // attributes, unused
	r = binary.AppendVarint(r, timeDelta)
	r = binary.AppendVarint(r, offsetDelta)
	r = appendBytes(r, key)
	r = appendBytes(r, value)
	r = binary.AppendVarint(r, int64(len(headers)))
	for _, h := range headers {
		r = binary.AppendVarint(r, int64(len(h.Key)))
		r = append(r, h.Key...)
		r = appendBytes(r, h.Value)
	}
	b.records = r
	b.count++
}

// SizeOf is by how much Append with the same arguments would make Size grow.
func (b *Builder) SizeOf(key, value []byte, headers []Header, timestamp int64) int {
	timeDelta := timestamp - b.baseTime
	if b.count == 0 {
		timeDelta = 0
	}
	n := bodySize(key, value, headers, timeDelta, int64(b.count))
	return varintSize(int64(n)) + n
}

// Len is the number of records.
func (b *Builder) Len() int { return int(b.count) }

// Size is the size of the batch without compression, in bytes, header included.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// Reset drops the records.
func (b *Builder) Reset() { *b = Builder{records: b.records[:0]} }

// Build appends the batch to dst and returns the longer slice. Base offset is
// 0 and leader epoch NoLeaderEpoch until a broker calls Patch. The Builder
// keeps its records. Errors: ErrInvalidRecord without records or for an
// idempotent batch without epoch or sequence, ErrRecordTooLarge for a batch
// above 2 GiB, ErrUnsupportedCompression for an unknown codec.
func (b *Builder) Build(dst []byte, opts BuildOptions) ([]byte, error) {
	if b.Size() > math.MaxInt32 {
		return dst, fmt.Errorf("%w: batch of %d bytes", mqerr.ErrRecordTooLarge, b.Size())
	}
	if opts.ProducerID == NoProducerID {
		opts.ProducerEpoch, opts.BaseSequence = NoProducerEpoch, NoSequence
	}
	info := Info{
		Codec: opts.Codec, Count: b.count, LastOffsetDelta: b.count - 1,
		ProducerID: opts.ProducerID, ProducerEpoch: opts.ProducerEpoch, BaseSequence: opts.BaseSequence,
	}
	if err := checkProduced(info); err != nil {
		return dst, err
	}

	start := len(dst)
	out := append(dst, make([]byte, HeaderSize)...)
	codec := None
	if opts.Codec != None {
		var err error
		if out, err = compress(out, b.records, opts.Codec); err != nil {
			return dst, err
		}
		if codec = opts.Codec; len(out)-start >= b.Size() {
			out, codec = out[:start+HeaderSize], None
		}
	}
	if codec == None {
		out = append(out, b.records...)
	}
	b.putHeader(out[start:], codec, opts)
	return out, nil
}

func (b *Builder) putHeader(batch []byte, codec Codec, opts BuildOptions) {
	be := binary.BigEndian
	be.PutUint32(batch[atLength:], uint32(len(batch)-lengthEnd))
	Patch(batch, 0, NoLeaderEpoch)
	batch[atMagic] = magic
	be.PutUint16(batch[atAttributes:], uint16(codec))
	be.PutUint32(batch[atLastOffsetDelta:], uint32(b.count-1))
	be.PutUint64(batch[atBaseTimestamp:], uint64(b.baseTime))
	be.PutUint64(batch[atMaxTimestamp:], uint64(b.maxT))
	be.PutUint32(batch[atCount:], uint32(b.count))
	SetProducer(batch, opts.ProducerID, opts.ProducerEpoch, opts.BaseSequence)
}

// bodySize is the size of a record behind its length.
func bodySize(key, value []byte, headers []Header, timeDelta, offsetDelta int64) int {
	n := 1 + varintSize(timeDelta) + varintSize(offsetDelta) +
		bytesSize(key) + bytesSize(value) + varintSize(int64(len(headers)))
	for _, h := range headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	return n
}

// appendBytes appends a length and the bytes; nil has length -1.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func bytesSize(b []byte) int {
	if b == nil {
		return varintSize(-1)
	}
	return varintSize(int64(len(b))) + len(b)
}

// varintSize is the length of binary.AppendVarint's encoding of v.
func varintSize(v int64) int {
	zigzag := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(zigzag|1) + 6) / 7
}
