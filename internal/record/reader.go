package record

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	"github.com/raftmq/mq/internal/mqerr"
)

// Record is one record of a batch.
type Record struct {
	Offset     int64
	Timestamp  int64  // ms since 1970
	Key, Value []byte // nil is null, which is not the same as empty
	Headers    []Header
}

// Header is a name and a value that travel with a record. Names may repeat.
// KIP-82.
type Header struct {
	Key   string
	Value []byte // nil is null
}

// DefaultMaxDecodedBytes is how much memory decoding one batch may take by
// default: 64 times the default limit of a batch on the wire.
const DefaultMaxDecodedBytes = 64 << 20

// ReadOptions bound and tune Records. The zero value is the safe one.
type ReadOptions struct {
	// MaxDecodedBytes bounds the memory that decoding one batch takes, that
	// is, decompressed records and the headers of records. A batch that needs
	// more fails with ErrRecordTooLarge, and so does a decompression bomb,
	// early, and zstd data made for a larger window (zstd levels 20 and up
	// can ask for 64 MiB and more). Decoders may take about as much again
	// while they work. Zero means DefaultMaxDecodedBytes, more than 1 GiB
	// means 1 GiB.
	MaxDecodedBytes int

	// SkipCRC leaves out the checksum, for a batch that was checked before.
	SkipCRC bool
}

// Records walks the records of the one batch in b. A failure is the last pair;
// records before it may have come already. Errors: those of Parse,
// ErrCorruptBatch for anything that does not decode, ErrInvalidRecord when
// more than one batch is in b, ErrUnsupportedCompression, ErrRecordTooLarge.
//
// Keys and values alias b or, when the batch is compressed, a buffer that was
// made for this batch and that nobody else uses. Offsets grow strictly, but a
// batch that compaction thinned out has gaps. Control batches are walked as
// any other; see Info.Control.
func Records(b []byte, opts ReadOptions) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		d, err := newDecoder(b, opts)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for d.left > 0 {
			r, err := d.next()
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
		if len(d.buf) > 0 {
			yield(Record{}, fmt.Errorf("%w: %d bytes after the last record", mqerr.ErrCorruptBatch, len(d.buf)))
		}
	}
}

// FirstAtOrAfter finds the first record of the batch in b whose offset is at
// least from and that is not older than timestamp (ms since 1970). ok is false
// when there is none. It fails as Records does with default options.
func FirstAtOrAfter(b []byte, timestamp, from int64) (offset, ts int64, ok bool, err error) {
	info, err := Parse(b)
	if err != nil || info.MaxTimestamp < timestamp {
		return 0, 0, false, err
	}
	for r, err := range Records(b, ReadOptions{}) {
		if err != nil {
			return 0, 0, false, err
		}
		if r.Timestamp >= timestamp && r.Offset >= from {
			return r.Offset, r.Timestamp, true, nil
		}
	}
	return 0, 0, false, nil
}

// headerMemory is what a Header takes besides its bytes on 64-bit machines.
const headerMemory = 40

// decoder walks the records of a batch.
type decoder struct {
	info      Info
	buf       []byte // records not yet read
	left      int32  // how many
	lastDelta int64  // offset delta of the record before, -1 at first
	budget    int    // bytes that may still be allocated

	slab []Header  // free slots for headers
	keys [8]string // of the last headers by position; records tend to repeat them
}

func newDecoder(b []byte, opts ReadOptions) (*decoder, error) {
	info, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if info.Size != len(b) {
		return nil, fmt.Errorf("%w: %d bytes after the batch", mqerr.ErrInvalidRecord, len(b)-info.Size)
	}
	if !opts.SkipCRC {
		if err := checkCRC(b); err != nil {
			return nil, err
		}
	}
	if info.Count < 0 || info.LastOffsetDelta < max(info.Count-1, 0) || info.BaseOffset > math.MaxInt64-int64(info.LastOffsetDelta) {
		return nil, fmt.Errorf("%w: %d records, last offset delta %d, base offset %d",
			mqerr.ErrCorruptBatch, info.Count, info.LastOffsetDelta, info.BaseOffset)
	}
	budget := min(opts.MaxDecodedBytes, 1<<30)
	if budget <= 0 {
		budget = DefaultMaxDecodedBytes
	}
	d := &decoder{info: info, buf: b[HeaderSize:], left: info.Count, lastDelta: -1, budget: budget}
	if info.Codec != None && info.Count > 0 {
		if d.buf, err = decompress(d.buf, info.Codec, budget); err != nil {
			return nil, err
		}
		d.budget -= len(d.buf)
	}
	return d, nil
}

// next reads a record; left must be positive.
func (d *decoder) next() (Record, error) {
	size, n := varint(d.buf)
	if n <= 0 || size < 0 || size > int64(len(d.buf)-n) {
		return Record{}, d.corrupt("record length")
	}
	body := cursor{buf: d.buf[n : n+int(size)]}
	d.buf = d.buf[n+int(size):]

	body.skipByte() // attributes, unused
	timeDelta := body.varint()
	offsetDelta := body.varint()
	r := Record{
		Offset:    d.info.BaseOffset + offsetDelta,
		Timestamp: d.info.BaseTimestamp + timeDelta,
		Key:       body.bytes(),
		Value:     body.bytes(),
	}
	if d.info.LogAppendTime {
		r.Timestamp = d.info.MaxTimestamp
	}
	if !body.failed && (offsetDelta <= d.lastDelta || offsetDelta > int64(d.info.LastOffsetDelta)) {
		return Record{}, d.corrupt("offset delta")
	}
	var err error
	if r.Headers, err = d.headers(&body); err != nil {
		return Record{}, err
	}
	if body.failed || len(body.buf) > 0 {
		return Record{}, d.corrupt("fields")
	}
	d.lastDelta = offsetDelta
	d.left--
	return r, nil
}

func (d *decoder) headers(body *cursor) ([]Header, error) {
	n := body.varint()
	if n == 0 || body.failed {
		return nil, nil
	}
	// A header takes two bytes at least, so a count beyond that is a lie that
	// must not become an allocation. An honest one is paid from the budget.
	if n < 0 || n > int64(len(body.buf)/2) {
		return nil, d.corrupt("header count")
	}
	hs, err := d.headerSlots(int(n))
	if err != nil {
		return nil, err
	}
	for i := range hs {
		key := body.bytes()
		if key == nil {
			return nil, d.corrupt("header key")
		}
		if hs[i].Key, err = d.headerKey(i, key); err != nil {
			return nil, err
		}
		hs[i].Value = body.bytes()
	}
	return hs, nil
}

// headerSlots takes n slots from the slab, which grows by some records' worth.
func (d *decoder) headerSlots(n int) ([]Header, error) {
	if n > len(d.slab) {
		grow := max(n, min(n*int(min(d.left, 256)), 256))
		if err := d.pay(grow * headerMemory); err != nil {
			return nil, err
		}
		d.slab = make([]Header, grow)
	}
	hs := d.slab[:n:n]
	d.slab = d.slab[n:]
	return hs, nil
}

// headerKey makes the key of a record's i-th header a string, if possible the
// one that the record before has.
func (d *decoder) headerKey(i int, key []byte) (string, error) {
	if i < len(d.keys) && d.keys[i] == string(key) {
		return d.keys[i], nil
	}
	if err := d.pay(len(key)); err != nil {
		return "", err
	}
	s := string(key)
	if i < len(d.keys) {
		d.keys[i] = s
	}
	return s, nil
}

// pay takes memory for headers from the budget.
func (d *decoder) pay(n int) error {
	if d.budget -= n; d.budget < 0 {
		return fmt.Errorf("%w: headers of the batch take more memory than allowed", mqerr.ErrRecordTooLarge)
	}
	return nil
}

func (d *decoder) corrupt(what string) error {
	return fmt.Errorf("%w: %s of record %d of %d", mqerr.ErrCorruptBatch, what, d.info.Count-d.left, d.info.Count)
}

// cursor reads the fields of one record. The first failure sticks, later reads
// give zero values.
type cursor struct {
	buf    []byte
	failed bool
}

func (c *cursor) skipByte() {
	if len(c.buf) == 0 {
		c.fail()
		return
	}
	c.buf = c.buf[1:]
}

func (c *cursor) varint() int64 {
	v, n := varint(c.buf)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.buf = c.buf[n:]
	return v
}

// bytes reads a length and as many bytes, without copying them; -1 gives nil.
func (c *cursor) bytes() []byte {
	n := c.varint()
	if n == -1 {
		return nil
	}
	if n < 0 || n > int64(len(c.buf)) {
		c.fail()
		return nil
	}
	b := c.buf[:n:n]
	c.buf = c.buf[n:]
	return b
}

func (c *cursor) fail() { c.buf, c.failed = nil, true }

// varint is binary.Varint with a short way for the usual single byte.
func varint(b []byte) (int64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	return binary.Varint(b)
}
