// Package unpack takes messages and stored records apart: numbers are varints,
// strings and bytes have their length before them.
package unpack

import "encoding/binary"

// Reader takes values off the front of Rest. After the first one that isn't
// there Bad is set, and every later one is zero. Not safe for concurrent use.
type Reader struct {
	Rest []byte // what was not taken yet; nil when Bad
	Bad  bool
}

// Fail is for values that are there and make no sense.
func (r *Reader) Fail() { r.Rest, r.Bad = nil, true }

// Done reports whether all values were there and nothing is left.
func (r *Reader) Done() bool { return !r.Bad && len(r.Rest) == 0 }

// Bytes takes the next n bytes. They alias what is read, with no room behind them.
func (r *Reader) Bytes(n uint64) []byte {
	if n > uint64(len(r.Rest)) {
		r.Fail()
		return nil
	}
	b := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return b
}

// Byte takes one.
func (r *Reader) Byte() byte {
	if b := r.Bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// Uint64 takes a number of eight bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	if b := r.Bytes(8); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Uvarint takes a number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Varint takes a number that may be negative.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Prefixed takes a length and that many bytes, as Bytes does.
func (r *Reader) Prefixed() []byte { return r.Bytes(r.Uvarint()) }

// Text takes a length and that many bytes.
func (r *Reader) Text() string { return string(r.Prefixed()) }

// Count takes how many values of at least size bytes follow. There can't be more
// than fit into what is left, so it is safe to make room for them.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.Rest)/size) {
		r.Fail()
		return 0
	}
	return int(n)
}

// AppendString is what Text takes.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
