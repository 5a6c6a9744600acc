package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/internal/mqerr"
)

// blobFile is a blob file that the engine reads. The engine (pebble v2.1.7) panics
// when it finds one absent or with a bad footer (findOrCreateBlob), or comes upon a
// damaged block while it rewrites one (runBlobFileRewriteLocked), unless the error
// is not marked as damage, as ours is not. And where it does mark one, it first looks
// for the bit that is wrong, half a minute for 1 MiB.
type blobFile struct {
	vfs.File
	name   string
	blocks int64 // where they end and the footer begins
	stats  *engineStats
}

const (
	blobSuffix      = ".blob"
	blobFooterLen   = 38
	blobChecksumAt  = 20 // in the footer: the kind of checksum that blocks have
	checksumCRC32C  = 1
	blockTrailerLen = 5 // kind, checksum
)

// openBlob checks the footer of a blob file, which begins with the checksum of the
// rest.
func openBlob(f vfs.File, name string, stats *engineStats) (vfs.File, error) {
	b := blobFile{File: f, name: name, stats: stats}
	if err := b.readFooter(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func (f *blobFile) readFooter() error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < blobFooterLen {
		return blobDamage(f.name, "it is cut to %d bytes", info.Size())
	}
	var b [blobFooterLen]byte
	end := info.Size() - blobFooterLen
	if _, err := f.File.ReadAt(b[:], end); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b[:]) != engineChecksum(b[4:]) {
		return blobDamage(f.name, "its footer is damaged")
	}
	if b[blobChecksumAt] == checksumCRC32C {
		f.blocks = end
	}
	return nil
}

// ReadAt implements io.ReaderAt. The engine reads the footer, or a whole block.
func (f blobFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err == nil && off+int64(n) <= f.blocks && !soundBlock(p[:n]) {
		f.stats.damaged.Store(true)
		err = blobDamage(f.name, "the block of %d bytes at %d is damaged", n, off)
	}
	return n, err
}

func soundBlock(b []byte) bool {
	return len(b) >= blockTrailerLen && binary.LittleEndian.Uint32(b[len(b)-4:]) == engineChecksum(b[:len(b)-4])
}

func blobDamage(name, format string, args ...any) error {
	return fmt.Errorf("%w: file %s: %s", mqerr.ErrCorruptLog, name, fmt.Sprintf(format, args...))
}
