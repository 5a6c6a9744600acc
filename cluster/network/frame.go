package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A frame is the unit of a connection:
//
//	length uint32   of kind and body
//	crc    uint32   CRC-32C of kind and body
//	kind   uint8
//	body
//
// Integers are big-endian.
const headerBytes = 9

// kind says what a frame holds.
type kind uint8

const (
	kindPing     kind = iota + 1 // nothing: the sender is alive
	kindBye                      // nothing: the sender closes the connection and means it
	kindMessages                 // a raftpb.MessageBatch
	kindChunk                    // number, raftpb.Chunk
	kindRequest                  // number, timeout, method, payload
	kindAnswer                   // number, outcome; to a chunk or a request
	kindCancel                   // number of a request whose answer is no longer wanted
)

// String names the kind in errors.
func (k kind) String() string {
	names := []string{"ping", "bye", "messages", "chunk", "request", "answer", "cancel"}
	if i := int(k) - 1; i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

var (
	errFrameDamaged = errors.New("frame fails its checksum")
	errFrameSize    = errors.New("frame has an impossible size")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newFrame begins a frame; append the body and seal it.
func newFrame(k kind, body int) []byte {
	b := make([]byte, headerBytes, headerBytes+body)
	b[headerBytes-1] = byte(k)
	return b
}

// seal completes a frame.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-headerBytes+1))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[headerBytes-1:], castagnoli))
	return b
}

func kindOf(frame []byte) kind { return kind(frame[headerBytes-1]) }

// readStep is how much memory a frame gets before as much of it has arrived.
const readStep = 1 << 20

// readFrame reads one frame with a body of at most limit bytes, into buf if it
// has room. A length that is a lie costs no more memory than what arrives.
func readFrame(r io.Reader, limit int, buf []byte) (kind, []byte, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length == 0 || uint64(length)-1 > uint64(limit) {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errFrameSize, length, limit)
	}
	body := buf[:0]
	for n := int(length) - 1; len(body) < n; {
		had := len(body)
		step := min(n-had, max(readStep, had, cap(body)-had))
		body = slices.Grow(body, step)[:had+step]
		if _, err := io.ReadFull(r, body[had:]); err != nil {
			return 0, nil, unexpected(err)
		}
	}
	crc := crc32.Update(crc32.Checksum(header[headerBytes-1:], castagnoli), castagnoli, body)
	if crc != binary.BigEndian.Uint32(header[4:]) {
		return 0, nil, errFrameDamaged
	}
	return kind(header[headerBytes-1]), body, nil
}

// unexpected makes an end within something that was begun an error of its own.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
