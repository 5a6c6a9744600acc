package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

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

// cleanNote is what Close leaves in the CLEAN file: the files that the engine
// reads whole at open.
type cleanNote struct {
	Files []fileNote `json:"files"` // the manifest first
}

type fileNote struct {
	Name   string `json:"name"`
	Bytes  int    `json:"bytes"`
	CRC32C uint32 `json:"crc32c"`
}

// checkManifest tells whether there is a store in dir, looks for damage in its
// manifest, and takes away the note of the last Close: from now on it does not
// hold.
func checkManifest(fs FS, dir string) (exists bool, err error) {
	now, manifest, err := takeNote(fs, dir)
	if err != nil || len(now.Files) == 0 {
		return false, err
	}
	name := now.Files[0].Name
	if end := soundRecords(manifest); recordAfter(manifest, end) {
		return true, fmt.Errorf("file %s is damaged at byte %d: %w", name, end, mqerr.ErrCorruptLog)
	}
	path := fs.PathJoin(dir, cleanFile)
	var clean cleanNote
	_, err = readSealed(fs, path, cleanSeal, &clean)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // not closed cleanly
	}
	if err != nil {
		return true, err
	}
	// Another manifest means that the store was opened by other means.
	if len(clean.Files) > 0 && clean.Files[0].Name == name {
		for _, f := range clean.Files {
			if !slices.Contains(now.Files, f) {
				return true, fmt.Errorf("file %s is not as it was when the store was closed: %w", f.Name, mqerr.ErrCorruptLog)
			}
		}
	}
	if err := fs.Remove(path); err != nil {
		return true, err
	}
	return true, syncDir(fs, dir)
}

// noteClean leaves a note in the directory of a store that has been closed.
func noteClean(fs FS, dir string) error {
	note, _, err := takeNote(fs, dir)
	if err != nil {
		return err
	}
	return writeSealed(fs, dir, cleanFile, cleanSeal, note)
}

// takeNote reads the manifest and options in use. The note is empty when there
// is no store.
func takeNote(fs FS, dir string) (note cleanNote, manifest []byte, err error) {
	desc, err := pebble.Peek(dir, fs)
	if errors.Is(err, os.ErrNotExist) {
		return note, nil, nil
	}
	if err != nil || !desc.Exists {
		return note, nil, err
	}
	for _, path := range []string{desc.ManifestFilename, desc.OptionsFilename} {
		if path == "" {
			continue
		}
		b, err := readFile(fs, path, 1<<30)
		if errors.Is(err, os.ErrNotExist) {
			return note, nil, fmt.Errorf("file %s is missing: %w", path, mqerr.ErrCorruptLog)
		}
		if err != nil {
			return note, nil, err
		}
		if path == desc.ManifestFilename {
			manifest = b
		}
		note.Files = append(note.Files, fileNote{fs.PathBase(path), len(b), crc32.Checksum(b, castagnoli)})
	}
	return note, manifest, nil
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
	return typ, end, binary.LittleEndian.Uint32(b[pos:]) == engineChecksum(b[pos+6:end])
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
