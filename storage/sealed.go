package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/internal/mqerr"
)

// A sealed file is one line that all versions can read, then JSON:
//
//	mq data directory, format 1, crc32c 0123abcd
//
// The checksum is that of the whole file with the checksum's digits zero.
const sealFormat = "%s, format %d, crc32c %08x\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal makes the content of a sealed file. what names its kind.
func seal(what string, version int, body []byte) []byte {
	zero := append(fmt.Appendf(nil, sealFormat, what, version, 0), body...)
	return append(fmt.Appendf(nil, sealFormat, what, version, crc32.Checksum(zero, castagnoli)), body...)
}

// unseal checks the content of a sealed file, decodes it into v, and returns
// its version.
func unseal(b []byte, what string, v any) (version int, err error) {
	line, body, _ := bytes.Cut(b, []byte("\n"))
	var sum uint32
	rest, ok := bytes.CutPrefix(line, []byte(what))
	if _, err := fmt.Sscanf(string(rest)+"\n", sealFormat[len("%s"):], &version, &sum); !ok || err != nil {
		return 0, fmt.Errorf("the first line is damaged: %w", mqerr.ErrCorruptLog)
	}
	if !bytes.Equal(b, seal(what, version, body)) {
		return 0, fmt.Errorf("the checksum is wrong: %w", mqerr.ErrCorruptLog)
	}
	if version > FormatVersion {
		return 0, fmt.Errorf("format %d, this version of mq reads up to %d: %w", version, FormatVersion, mqerr.ErrNewerFormat)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return 0, fmt.Errorf("%w: %w", mqerr.ErrCorruptLog, err)
	}
	return version, nil
}

// writeSealed replaces a sealed file: after a crash there is the old one or
// the new one.
func writeSealed(fs FS, dir, name, what string, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	path := fs.PathJoin(dir, name)
	f, err := fs.Create(path+tmpSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(seal(what, FormatVersion, append(body, '\n')))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

const tmpSuffix = ".tmp"

// readSealed reads a sealed file into v and returns its version. Errors name the
// file; one that is absent gives os.ErrNotExist.
func readSealed(fs FS, path, what string, v any) (version int, err error) {
	b, err := readFile(fs, path, 1<<20)
	if err != nil {
		return 0, err
	}
	if version, err = unseal(b, what, v); err != nil {
		return 0, fmt.Errorf("file %s: %w", path, err)
	}
	return version, nil
}

// readFile reads a file, of which no more than limit bytes are of interest.
func readFile(fs FS, path string, limit int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return b, errors.Join(err, f.Close())
}

func syncDir(fs FS, path string) error {
	f, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
