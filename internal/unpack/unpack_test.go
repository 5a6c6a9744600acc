package unpack_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/raftmq/mq/internal/unpack"
)

func TestWhatWasPackedIsUnpacked(t *testing.T) {
	t.Parallel()
	b := binary.AppendUvarint(nil, 300)
	b = binary.AppendVarint(b, -5)
	b = append(b, 7)
	b = binary.BigEndian.AppendUint64(b, 1<<40)
	b = unpack.AppendString(b, "text")
	b = append(binary.AppendUvarint(b, 2), 'x', 'y')
	r := unpack.Reader{Rest: b}
	if u, v, c, f, s, n := r.Uvarint(), r.Varint(), r.Byte(), r.Uint64(), r.Text(), r.Count(1); u != 300 || v != -5 || c != 7 || f != 1<<40 || s != "text" || n != 2 {
		t.Errorf("unpacked %v %v %v %v %q %v", u, v, c, f, s, n)
	}
	if r.Done() {
		t.Error("done before the end")
	}
	if got := r.Bytes(2); !bytes.Equal(got, []byte("xy")) || cap(got) != 2 || !r.Done() {
		t.Errorf("the rest is %q, done %v", got, r.Done())
	}
}

// After what isn't there everything is zero, though there are bytes.
func TestNothingIsTakenAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(*unpack.Reader){
		"Bytes":    func(r *unpack.Reader) { r.Bytes(4) },
		"Uint64":   func(r *unpack.Reader) { r.Uint64() },
		"Uvarint":  func(r *unpack.Reader) { r.Uvarint() },
		"Varint":   func(r *unpack.Reader) { r.Varint() },
		"Prefixed": func(r *unpack.Reader) { r.Prefixed() },
		"Text":     func(r *unpack.Reader) { r.Text() },
		"Count":    func(r *unpack.Reader) { r.Count(1) },
		"Fail":     func(r *unpack.Reader) { r.Fail() },
	} {
		r := unpack.Reader{Rest: []byte{0x83, 0x80, 0x80}} // of no varint, and too few
		if take(&r); !r.Bad || r.Done() || r.Byte() != 0 || r.Uvarint() != 0 || r.Text() != "" || r.Rest != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := (unpack.Reader{Rest: []byte{3, 1, 1, 1, 1, 1}}); r.Count(2) != 0 || !r.Bad {
		t.Error("three values of two bytes are in five")
	}
}
