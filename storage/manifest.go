package storage

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// The engine reads its manifest, the journal of which tables make up the
// store, up to the first record it cannot read, and takes the rest for the
// torn end that a crash leaves: damage in the middle makes it forget tables
// and delete them. So we look before it does. A damaged record with a sound
// one behind it was no torn end. Damage of the last record cannot be told from
// one, except after a clean Close, which leaves a note of the manifest's size
// and checksum.

const (
	cleanFile = "CLEAN"
	cleanSeal = "mq store closed"
)

// cleanNote is what Close leaves in the CLEAN file.
type cleanNote struct {
	Manifest string `json:"manifest"`
	Bytes    int    `json:"bytes"`
	CRC32C   uint32 `json:"crc32c"`
}

// checkManifest looks for damage in the manifest of the store in dir, and
// takes away the note of the last Close: from now on it does not hold.
func checkManifest(fs FS, dir string) error {
	name, b, err := currentManifest(fs, dir)
	if err != nil || name == "" {
		return err
	}
	if end := soundRecords(b); recordAfter(b, end) {
		return fmt.Errorf("file %s is damaged at byte %d: %w", name, end, mqerr.ErrCorruptLog)
	}
	note := fs.PathJoin(dir, cleanFile)
	var clean cleanNote
	err = readSealed(fs, note, cleanSeal, &clean)
	if errors.Is(err, os.ErrNotExist) {
		return nil // not closed cleanly
	}
	if err != nil {
		return err
	}
	if clean.Manifest == fs.PathBase(name) && clean != noteOf(fs, name, b) {
		return fmt.Errorf("file %s is not as the store left it when it was closed: %w", name, mqerr.ErrCorruptLog)
	}
	if err := fs.Remove(note); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// noteClean notes the manifest of a store that has been closed.
func noteClean(fs FS, dir string) error {
	name, b, err := currentManifest(fs, dir)
	if err != nil || name == "" {
		return err
	}
	return writeSealed(fs, dir, cleanFile, cleanSeal, noteOf(fs, name, b))
}

func noteOf(fs FS, name string, b []byte) cleanNote {
	return cleanNote{Manifest: fs.PathBase(name), Bytes: len(b), CRC32C: crc32.Checksum(b, castagnoli)}
}

// currentManifest reads the manifest in use; name is empty when there is none.
func currentManifest(fs FS, dir string) (name string, b []byte, err error) {
	desc, err := pebble.Peek(dir, fs)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil || !desc.Exists {
		return "", nil, err
	}
	b, err = readFile(fs, desc.ManifestFilename, 1<<30)
	return desc.ManifestFilename, b, err
}

// The manifest is a row of records cut into chunks, none of which crosses the
// border of a block: checksum (4 bytes), length (2), type (1), payload. The
// checksum is over type and payload.
const (
	blockSize       = 32 << 10
	chunkHeaderSize = 7

	chunkFull  = 1 // a record in one chunk
	chunkFirst = 2
	chunkLast  = 4
)

// chunkAt checks the chunk that begins at pos and finds its end.
func chunkAt(b []byte, pos int) (typ byte, end int, ok bool) {
	block := min((pos/blockSize+1)*blockSize, len(b))
	if pos+chunkHeaderSize > block {
		return 0, 0, false
	}
	typ = b[pos+6]
	end = pos + chunkHeaderSize + int(binary.LittleEndian.Uint16(b[pos+4:]))
	if typ < chunkFull || typ > chunkLast || end > block {
		return 0, 0, false
	}
	c := crc32.Checksum(b[pos+6:end], castagnoli)
	ok = binary.LittleEndian.Uint32(b[pos:]) == (c>>15|c<<17)+0xa282ead8
	return typ, end, ok
}

// soundRecords returns where the first record that is not sound begins.
func soundRecords(b []byte) int {
	record := 0
	for pos := 0; pos < len(b); {
		if rest := blockSize - pos%blockSize; rest < chunkHeaderSize && pos+rest <= len(b) && isZero(b[pos:pos+rest]) {
			pos += rest
			continue
		}
		typ, end, ok := chunkAt(b, pos)
		if !ok {
			return record
		}
		pos = end
		if typ == chunkFull || typ == chunkLast {
			record = end
		}
	}
	return record
}

// recordAfter reports whether a record begins behind the one at pos, at any
// byte: where it should begin is unknown once a length is damaged.
func recordAfter(b []byte, pos int) bool {
	for pos++; pos < len(b); pos++ {
		if typ, _, ok := chunkAt(b, pos); ok && (typ == chunkFull || typ == chunkFirst) {
			return true
		}
	}
	return false
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
