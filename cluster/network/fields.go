package network

import (
	"encoding/binary"
	"errors"
)

// errMalformed says that a peer sent what no broker sends.
var errMalformed = errors.New("malformed message")

// fields takes a message apart. After the first field that isn't there all
// others are zero, and err is errMalformed.
type fields struct {
	b   []byte
	err error
}

func (f *fields) fail() {
	f.b, f.err = nil, errMalformed
}

// bytes takes the next n bytes; they stay part of the message.
func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.fail()
		return nil
	}
	b := f.b[:n:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	if n <= 0 {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) string() string { return string(f.bytes(f.uvarint())) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
