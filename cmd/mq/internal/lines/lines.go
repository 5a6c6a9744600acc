// Package lines splits a stream into lines without copying each one.
package lines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// MaxBytes is the longest line that Read accepts. It is far above what a
// broker takes and exists so that input without newlines cannot fill memory.
const MaxBytes = 64 << 20

// ErrTooLong reports a line above MaxBytes.
var ErrTooLong = errors.New("line too long")

const chunkBytes = 256 << 10

// Read yields the lines of r without their newline; everything else, a
// carriage return included, is kept. Input that does not end in a newline has
// one more line, unless it is empty. The error, if any, comes last, alone.
//
// A line stays valid and unchanged for as long as it is referenced: lines are
// cut from chunks that are never reused.
func Read(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		chunk := make([]byte, 0, chunkBytes)
		start := 0 // of the line that is not complete yet
		for number := 1; ; {
			if cap(chunk)-len(chunk) == 0 {
				rest := chunk[start:]
				if len(rest) > MaxBytes {
					yield(nil, fmt.Errorf("line %d: %w (more than %d bytes)", number, ErrTooLong, MaxBytes))
					return
				}
				chunk = append(make([]byte, 0, max(chunkBytes, 2*len(rest))), rest...)
				start = 0
			}
			n, err := r.Read(chunk[len(chunk):cap(chunk)])
			fresh := len(chunk)
			chunk = chunk[:len(chunk)+n]
			for {
				i := bytes.IndexByte(chunk[fresh:], '\n')
				if i < 0 {
					break
				}
				end := fresh + i
				if !yield(chunk[start:end:end], nil) {
					return
				}
				number++
				start, fresh = end+1, end+1
			}
			if err == nil {
				continue
			}
			if errors.Is(err, io.EOF) && start < len(chunk) && !yield(chunk[start:len(chunk):len(chunk)], nil) {
				return
			}
			if !errors.Is(err, io.EOF) {
				yield(nil, err)
			}
			return
		}
	}
}
