package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

var errTooLong = fmt.Errorf("longer than %d bytes", MaxBytes)

const chunkBytes = 256 << 10

// source hands out pieces of a stream without copying each one. Pieces stay
// valid and unchanged: they are cut from chunks that are never reused.
type source struct {
	r    io.Reader
	rest []byte // read, not handed out; its capacity is the rest of the chunk
	err  error  // of r, once it has ended
	left int    // bytes that the record may still take
}

// fill reads until there are n bytes, or the stream has ended.
func (s *source) fill(n int) {
	for len(s.rest) < n && s.err == nil {
		if len(s.rest) == cap(s.rest) {
			s.rest = append(make([]byte, 0, max(chunkBytes, 2*len(s.rest))), s.rest...)
		}
		var got int
		got, s.err = s.r.Read(s.rest[len(s.rest):cap(s.rest)])
		s.rest = s.rest[:len(s.rest)+got]
	}
}

func (s *source) atEnd() bool {
	s.fill(1)
	return len(s.rest) == 0
}

// short is why there is no more.
func (s *source) short() error {
	if errors.Is(s.err, io.EOF) {
		return errors.New("the input ends within it")
	}
	return s.err
}

// take hands out n bytes.
func (s *source) take(n int) ([]byte, error) {
	if n > s.left {
		return nil, errTooLong
	}
	if s.fill(n); len(s.rest) < n {
		return nil, s.short()
	}
	b := s.rest[:n:n]
	s.rest = s.rest[n:]
	s.left -= n
	return b, nil
}

func (s *source) expect(text []byte) error {
	b, err := s.take(len(text))
	if err == nil && !bytes.Equal(b, text) {
		err = fmt.Errorf("want %q, found %q", text, b)
	}
	return err
}

// until hands out all before delim, which must come before the text that ends
// the record. If delim is that, the end of the stream does, too.
func (s *source) until(delim, end []byte, last bool) ([]byte, error) {
	for from := 0; ; {
		i, j := index(s.rest, delim, from), index(s.rest, end, from)
		switch {
		case i >= 0 && (j < 0 || i <= j):
			return s.take(i)
		case j >= 0 && j+len(delim) <= len(s.rest):
			return nil, fmt.Errorf("no %q before %q", delim, end)
		case len(s.rest) > s.left:
			return nil, errTooLong
		case s.err != nil && last && errors.Is(s.err, io.EOF):
			return s.take(len(s.rest))
		case s.err != nil:
			return nil, s.short()
		}
		from = max(0, len(s.rest)-len(delim)-len(end))
		s.fill(len(s.rest) + 1)
	}
}

// index is bytes.Index from a place on, and never finds nothing.
func index(b, text []byte, from int) int {
	if len(text) == 0 {
		return -1
	}
	if i := bytes.Index(b[from:], text); i >= 0 {
		return from + i
	}
	return -1
}

// number reads decimal digits, with or without a minus.
func (s *source) number() (int64, error) {
	n := 0
	for ; n < len("-9223372036854775808"); n++ {
		s.fill(n + 1)
		if n == len(s.rest) || (s.rest[n] < '0' || s.rest[n] > '9') && (n > 0 || s.rest[n] != '-') {
			break
		}
	}
	v, err := strconv.ParseInt(string(s.rest[:n]), 10, 64)
	if err != nil {
		if n == len(s.rest) && s.err != nil {
			return 0, s.short()
		}
		return 0, fmt.Errorf("want a number, found %q", s.rest[:min(n+1, len(s.rest))])
	}
	_, err = s.take(n)
	return v, err
}
