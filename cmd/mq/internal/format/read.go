package format

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/raftmq/mq"
)

// MaxBytes is the most that is read of one record. It is far above what a
// broker takes and exists so that a wrong pattern cannot fill memory.
const MaxBytes = 64 << 20

// A Reader finds records in a stream. It is safe for concurrent use.
type Reader struct {
	items []item
	end   []byte // the text behind a record's last verb, if there is any
}

// ParseReader compiles a pattern to read by. A topic, key or value whose length
// stands before it may be any bytes, or null. One without a length reaches to
// the text that follows it in the pattern, and not beyond the text that ends
// the record.
func ParseReader(pattern string) (*Reader, error) {
	items, err := parsePattern(pattern)
	if err != nil {
		return nil, err
	}
	if err := readable(items, false); err != nil {
		return nil, fmt.Errorf("format %q can't be read by: %w", pattern, err)
	}
	return &Reader{items: items, end: items[len(items)-1].text}, nil
}

// readable says where a pattern leaves open what a part is or where it ends.
func readable(items []item, header bool) error {
	seen := ""
	before := func(verb byte) bool { return strings.IndexByte(seen, verb) >= 0 }
	for i, it := range items {
		next := textAfter(items, i)
		switch {
		case it.verb == 0:
		case header && strings.IndexByte("kvKV", it.verb) < 0:
			return fmt.Errorf("%%%c is not a header's", it.verb)
		case it.verb == 'h':
			if !before('H') {
				return errors.New("%h wants %H, their number, before it")
			}
			if err := readable(it.inner, true); err != nil {
				return fmt.Errorf("%%h: %w", err)
			}
		case it.isText():
			if !before(it.lengthVerb()) && next == nil {
				return fmt.Errorf("%%%c wants text behind it, or %%%c, its length, before it", it.verb, it.lengthVerb())
			}
		case next == nil || next[0] >= '0' && next[0] <= '9':
			return fmt.Errorf("%%%c wants text behind it that does not begin with a digit", it.verb)
		}
		seen += string(rune(it.verb))
	}
	if !before('v') {
		return errors.New("there is no %v")
	}
	if header && !before('k') {
		return errors.New("there is no %k")
	}
	return nil
}

// isText reports whether the verb stands for text, not for a number.
func (it *item) isText() bool {
	return it.coding == rfc3339 || strings.IndexByte("tkv", it.verb) >= 0
}

// lengthVerb is the verb of the length of a topic, key or value.
func (it *item) lengthVerb() byte { return it.verb - 'a' + 'A' }

// textAfter returns the text that follows an item, nil if a verb does.
func textAfter(items []item, i int) []byte {
	if i+1 < len(items) {
		return items[i+1].text
	}
	return nil
}

// Read yields the records of r. Partition and Offset are -1 if the pattern has
// none. The text that ends the last record may be missing. The error, if any,
// comes last, alone, and names its record. Records stay valid and unchanged.
func (p *Reader) Read(r io.Reader) iter.Seq2[*mq.Record, error] {
	return func(yield func(*mq.Record, error) bool) {
		in := &source{r: r}
		for number := 1; ; number++ {
			in.left = MaxBytes
			if in.atEnd() {
				if !errors.Is(in.err, io.EOF) {
					yield(nil, in.err)
				}
				return
			}
			rec, err := p.record(in)
			if err != nil {
				yield(nil, fmt.Errorf("record %d: %w", number, err))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

func (p *Reader) record(in *source) (*mq.Record, error) {
	rec := &mq.Record{Partition: -1, Offset: -1, LeaderEpoch: -1}
	f := frame{in: in, end: p.end, rec: rec}
	err := f.read(p.items)
	rec.Key, rec.Value = f.key, f.value
	return rec, err
}

// frame is a record, or one of its headers, as far as it is read.
type frame struct {
	in         *source
	end        []byte
	rec        *mq.Record
	header     bool
	key, value []byte
	numbers    ['V' + 1]int64 // lengths, and the number of headers
	known      ['V' + 1]bool  // which of them have come
}

func (f *frame) read(items []item) error {
	for i := range items {
		it, next := &items[i], textAfter(items, i)
		behind := len(items) - 1 - i
		var err error
		switch {
		case it.verb == 0:
			if f.header || behind > 0 || !f.in.atEnd() {
				err = f.in.expect(it.text)
			}
		case it.verb == 'h':
			err = f.readHeaders(it.inner)
		case it.isText():
			var b []byte
			if b, err = f.text(it, next, !f.header && behind == 1); err == nil {
				err = f.setText(it.verb, b)
			}
		default:
			var n int64
			if n, err = f.in.number(); err == nil {
				err = f.setNumber(it.verb, n)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) readHeaders(inner []item) error {
	for n := range f.numbers['H'] {
		h := frame{in: f.in, end: f.end, rec: f.rec, header: true}
		if err := h.read(inner); err != nil {
			return fmt.Errorf("header %d: %w", n+1, err)
		}
		f.rec.Headers = append(f.rec.Headers, mq.Header{Key: string(h.key), Value: h.value})
	}
	return nil
}

// text reads what is as long as was said before, or else all up to next.
func (f *frame) text(it *item, next []byte, last bool) (b []byte, err error) {
	if length := it.lengthVerb(); f.known[length] {
		n := min(f.numbers[length], MaxBytes+1)
		switch {
		case n < 0:
			return nil, nil
		case it.coding == hexadecimal:
			n = int64(hex.EncodedLen(int(n)))
		case it.coding == base64text:
			n = int64(base64.StdEncoding.EncodedLen(int(n)))
		}
		b, err = f.in.take(int(n))
	} else {
		b, err = f.in.until(next, f.end, last)
	}
	if err != nil {
		return nil, fmt.Errorf("%%%c: %w", it.verb, err)
	}
	switch it.coding {
	case hexadecimal:
		b, err = hex.AppendDecode([]byte{}, b)
	case base64text:
		b, err = base64.StdEncoding.AppendDecode([]byte{}, b)
	case plain, rfc3339:
	}
	if err != nil {
		return nil, fmt.Errorf("%%%c: not what %%%[1]c{…} prints: %w", it.verb, err)
	}
	return b, nil
}

func (f *frame) setText(verb byte, b []byte) (err error) {
	switch verb {
	case 't':
		f.rec.Topic = string(b)
	case 'k':
		f.key = b
	case 'v':
		f.value = b
	case 'd':
		if f.rec.Timestamp, err = time.Parse(time.RFC3339, string(b)); err != nil {
			return fmt.Errorf("%%d{rfc3339}: %.40q is none", b)
		}
	}
	return nil
}

func (f *frame) setNumber(verb byte, n int64) error {
	switch verb {
	case 'p':
		if n < -1 || n != int64(int32(n)) { // -1 is none
			return fmt.Errorf("%%p: there is no partition %d", n)
		}
		f.rec.Partition = int32(n)
	case 'o':
		f.rec.Offset = n
	case 'e':
		f.rec.LeaderEpoch = int32(n)
	case 'd':
		f.rec.Timestamp = time.UnixMilli(n)
	default:
		f.numbers[verb], f.known[verb] = n, true
	}
	return nil
}
