package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/raftmq/mq/internal/mqerr"
)

// decompress returns what src holds, in memory of its own, or ErrRecordTooLarge
// when that is more than limit bytes.
//
// What src says about its decoded size is used to allocate once, but believed
// only as far as the format can express it with len(src) bytes; where it says
// nothing, memory grows with what really comes out.
func decompress(src []byte, codec Codec, limit int) ([]byte, error) {
	var out []byte
	var err error
	switch codec {
	case Gzip:
		out, err = gunzip(src, limit)
	case Snappy:
		out, err = decompressSnappy(src, limit)
	case LZ4:
		out, err = decompressLZ4(src, limit)
	case Zstd:
		out, err = decompressZstd(src, limit)
	default:
		return nil, fmt.Errorf("%w: codec %d", mqerr.ErrUnsupportedCompression, int8(codec))
	}
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, errTooLarge):
		return nil, fmt.Errorf("%w: %v data decodes to more than %d bytes", mqerr.ErrRecordTooLarge, codec, limit)
	}
	return nil, fmt.Errorf("%w: %v: %w", mqerr.ErrCorruptBatch, codec, err)
}

// Internal to decompress, which gives them their context.
var (
	errTooLarge = errors.New("decoded size above the limit")
	errSize     = errors.New("decoded size is impossible")
)

// The most bytes that one compressed byte can stand for.
const (
	gzipRatio   = 1032     // deflate: 258 bytes from two bits
	snappyRatio = 64       // copies of up to 64 bytes take two and more
	zstdRatio   = 32 << 10 // a block of up to 128 KiB takes at least 4
)

var gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}

type gzipReader struct {
	src bytes.Reader
	z   gzip.Reader
}

func gunzip(src []byte, limit int) ([]byte, error) {
	r := gzipReaders.Get().(*gzipReader)
	defer gzipReaders.Put(r)
	r.src.Reset(src)
	defer r.src.Reset(nil)
	if err := r.z.Reset(&r.src); err != nil {
		return nil, noEOF(err)
	}
	// The last four bytes are the size of the (usually only) member.
	var size int
	if len(src) > 4 {
		size = int(min(int64(binary.LittleEndian.Uint32(src[len(src)-4:])), gzipRatio*int64(len(src))))
	}
	return readAll(&r.z, size, limit)
}

var lz4Readers = sync.Pool{New: func() any { return &lz4Reader{z: lz4.NewReader(nil)} }}

type lz4Reader struct {
	src bytes.Reader
	z   *lz4.Reader
}

func decompressLZ4(src []byte, limit int) ([]byte, error) {
	r := lz4Readers.Get().(*lz4Reader)
	defer lz4Readers.Put(r)
	r.src.Reset(src)
	defer r.src.Reset(nil)
	r.z.Reset(&r.src)
	return readAll(r.z, 4*len(src), limit)
}

// readAll reads r to its end, or fails with errTooLarge. size is a guess.
func readAll(r io.Reader, size, limit int) ([]byte, error) {
	// One byte more than expected lets the last Read see the end.
	buf := make([]byte, 0, min(max(size, 512), limit)+1)
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(2*cap(buf), limit+1))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > limit:
			return nil, errTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, noEOF(err)
		}
	}
}

// noEOF keeps io.EOF from being taken for an end by somebody.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Framing of the Java client's snappy: this, two version numbers, and then
// blocks, each behind its length. Nobody compares the versions.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = len(xerialMagic) + 8
)

func decompressSnappy(src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, []byte(xerialMagic)) {
		size, err := snappySize(src, limit)
		if err != nil {
			return nil, err
		}
		return s2.Decode(make([]byte, 0, size), src)
	}
	if len(src) < xerialHeader {
		return nil, io.ErrUnexpectedEOF
	}
	src = src[xerialHeader:]

	total := 0
	for rest := src; len(rest) > 0; {
		block, after, err := xerialBlock(rest)
		if err != nil {
			return nil, err
		}
		size, err := snappySize(block, limit-total)
		if err != nil {
			return nil, err
		}
		total, rest = total+size, after
	}
	out := make([]byte, 0, total)
	for len(src) > 0 {
		block, after, err := xerialBlock(src)
		if err != nil {
			return nil, err
		}
		part, err := s2.Decode(out[len(out):], block)
		if err != nil {
			return nil, err
		}
		out, src = out[:len(out)+len(part)], after
	}
	return out, nil
}

func xerialBlock(src []byte) (block, rest []byte, err error) {
	if len(src) < 4 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n := int64(binary.BigEndian.Uint32(src))
	if n > int64(len(src)-4) {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return src[4 : 4+n], src[4+n:], nil
}

// snappySize is the decoded size that a block declares, checked.
func snappySize(block []byte, limit int) (int, error) {
	size, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return 0, err
	case size > snappyRatio*len(block):
		return 0, errSize
	case size > limit:
		return 0, errTooLarge
	}
	return size, nil
}

var zstdReaders = sync.Pool{New: func() any {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	must(err)
	return r
}}

func decompressZstd(src []byte, limit int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return nil, noEOF(err)
	}
	if h.HasFCS && h.FrameContentSize > zstdRatio*uint64(len(src)) {
		return nil, errSize
	}
	r := zstdReaders.Get().(*zstd.Decoder)
	defer zstdReaders.Put(r)
	if err := r.ResetWithOptions(nil, zstd.WithDecoderMaxMemory(uint64(max(limit, 1)))); err != nil {
		return nil, err
	}
	out, err := r.DecodeAll(src, nil)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, errTooLarge // the library's limit is one for content and window
	}
	return out, err
}
