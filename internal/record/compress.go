package record

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/raftmq/mq/internal/mqerr"
)

// compress appends src, compressed, to dst. Compressors write no checksums of
// their own where the format lets them choose: the batch has one.
func compress(dst, src []byte, codec Codec) ([]byte, error) {
	switch codec {
	case Gzip:
		return compressStream(dst, src, &gzipWriters)
	case LZ4:
		return compressStream(dst, src, &lz4Writers)
	case Snappy:
		return compressSnappy(dst, src)
	case Zstd:
		w := zstdWriters.Get().(*zstd.Encoder)
		defer zstdWriters.Put(w)
		return w.EncodeAll(src, dst), nil
	default:
		return dst, fmt.Errorf("%w: %v", mqerr.ErrUnsupportedCompression, codec)
	}
}

// Compressors take hundreds of kilobytes, so they are kept between batches.
var (
	gzipWriters = sync.Pool{New: func() any { return &streamWriter{w: gzip.NewWriter(nil)} }}
	lz4Writers  = sync.Pool{New: func() any { return &streamWriter{w: newLZ4Writer()} }}
	zstdWriters = sync.Pool{New: func() any { return newZstdWriter() }}
)

// newLZ4Writer makes a writer of what every Kafka client reads: the frame
// format with independent blocks of 64 KiB.
func newLZ4Writer() *lz4.Writer {
	w := lz4.NewWriter(nil)
	must(w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)))
	return w
}

// newZstdWriter makes a writer at about level 3, Kafka's default. Its window,
// and so its memory, fits a batch of the default largest size.
func newZstdWriter() *zstd.Encoder {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	must(err)
	return w
}

// must panics when a library refuses our options. They are constants, so the
// first test that compresses would find it.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// streamWriter is a compressor that writes to a slice.
type streamWriter struct {
	w interface {
		io.WriteCloser
		Reset(io.Writer)
	}
	out []byte
}

// Write implements io.Writer for the compressor.
func (s *streamWriter) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	return len(p), nil
}

func compressStream(dst, src []byte, pool *sync.Pool) ([]byte, error) {
	s := pool.Get().(*streamWriter)
	defer pool.Put(s)
	s.out = dst
	defer func() { s.out = nil }()
	s.w.Reset(s)
	if _, err := s.w.Write(src); err != nil {
		return dst, fmt.Errorf("record: compress: %w", err)
	}
	if err := s.w.Close(); err != nil {
		return dst, fmt.Errorf("record: compress: %w", err)
	}
	return s.out, nil
}

// compressSnappy writes the bare block format, which every client reads,
// rather than the framing of the Java client.
func compressSnappy(dst, src []byte) ([]byte, error) {
	most := s2.MaxEncodedLen(len(src))
	if most < 0 {
		return dst, fmt.Errorf("%w: snappy takes no %d bytes", mqerr.ErrRecordTooLarge, len(src))
	}
	dst = slices.Grow(dst, most)
	n := len(s2.EncodeSnappy(dst[len(dst):len(dst)+most], src))
	return dst[:len(dst)+n], nil
}
