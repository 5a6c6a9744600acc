// Package csv reads records from comma-separated values, RFC 4180. A column is
//
//	key    value    header.NAME    what a record has
//	partition                      where it goes; an empty cell: anywhere
//	timestamp                      2006-01-02T15:04:05Z, or ms since 1970; an empty cell: now
//	-                              something else
//
// A cell that is empty is an empty key, value or header. Empty lines are left out,
// unless the value is the only column: there one is an empty value.
package csv

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/jsonl"
)

// MaxBytes bounds a row, so that a quote that is not closed cannot fill memory.
const MaxBytes = 64 << 20

var errTooLong = fmt.Errorf("a row is longer than %d bytes; is a quote not closed?", MaxBytes)

// Columns says what the cells of a row are.
type Columns []func(r *mq.Record, cell string) error

// ParseColumns takes the names of columns in their order.
func ParseColumns(names []string) (Columns, error) {
	seen := map[string]bool{}
	var cols Columns
	for _, name := range names {
		header, isHeader := strings.CutPrefix(name, "header.")
		if seen[name] && !isHeader && name != "-" {
			return nil, fmt.Errorf("two columns %s", name)
		}
		seen[name] = true
		switch {
		case isHeader:
			cols = append(cols, func(r *mq.Record, cell string) error {
				r.Headers = append(r.Headers, mq.Header{Key: header, Value: []byte(cell)})
				return nil
			})
		case name == "-":
			cols = append(cols, func(*mq.Record, string) error { return nil })
		case name == "key":
			cols = append(cols, func(r *mq.Record, cell string) error { r.Key = []byte(cell); return nil })
		case name == "value":
			cols = append(cols, func(r *mq.Record, cell string) error { r.Value = []byte(cell); return nil })
		case name == "partition":
			cols = append(cols, setPartition)
		case name == "timestamp":
			cols = append(cols, setTimestamp)
		default:
			return nil, fmt.Errorf("no column %q; there are key, value, partition, timestamp, header.NAME and - for any other", name)
		}
	}
	if !seen["value"] {
		return nil, errors.New("there is no column value")
	}
	return cols, nil
}

func setPartition(r *mq.Record, cell string) error {
	if cell == "" {
		return nil
	}
	n, err := strconv.ParseInt(cell, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no partition", cell)
	}
	r.Partition = int32(n)
	return nil
}

func setTimestamp(r *mq.Record, cell string) (err error) {
	if cell != "" {
		r.Timestamp, err = jsonl.ParseTime(cell)
	}
	return err
}

// Read yields a record for each row of r. Without columns the first row names
// them. The error, if any, comes last, alone, and names its line.
func Read(r io.Reader, cols Columns) iter.Seq2[*mq.Record, error] {
	return func(yield func(*mq.Record, error) bool) {
		if err := read(r, cols, func(rec *mq.Record) bool { return yield(rec, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

func read(r io.Reader, cols Columns, yield func(*mq.Record) bool) error {
	in := &bounded{r: r, left: MaxBytes}
	rows := csv.NewReader(skipMark(in))
	rows.ReuseRecord = true
	rows.FieldsPerRecord = len(cols) // 0: as many as the first row has
	lines := 0                       // of the rows so far
	// empty yields the lines before line n that rows has passed over.
	empty := func(n int) (more bool) {
		for lines++; len(cols) == 1 && lines < n; lines++ {
			if !yield(&mq.Record{Value: []byte{}, Partition: -1, Offset: -1, LeaderEpoch: -1}) {
				return false
			}
		}
		return true
	}
	for {
		in.left = MaxBytes
		row, err := rows.Read()
		var bad *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			empty(in.newlines + 1)
			return nil
		case errors.As(err, &bad):
			if !empty(bad.StartLine) {
				return nil
			}
			return fmt.Errorf("line %d: %w", bad.Line, bad.Err)
		case err != nil:
			return err
		}
		first, _ := rows.FieldPos(0)
		if cols != nil && !empty(first) {
			return nil
		}
		lines = first + newlines(row)
		if cols == nil {
			if cols, err = ParseColumns(row); err != nil {
				return fmt.Errorf("line 1 names the columns: %w", err)
			}
			continue
		}
		rec := &mq.Record{Partition: -1, Offset: -1, LeaderEpoch: -1}
		for i, set := range cols {
			if err := set(rec, row[i]); err != nil {
				line, _ := rows.FieldPos(i)
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
		if !yield(rec) {
			return nil
		}
	}
}

// newlines counts those within a row.
func newlines(row []string) (n int) {
	for _, cell := range row {
		n += strings.Count(cell, "\n")
	}
	return n
}

// skipMark leaves out the byte order mark that spreadsheets put in front.
func skipMark(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	mark := []byte("\xef\xbb\xbf")
	if start, _ := b.Peek(len(mark)); bytes.Equal(start, mark) { // an error comes back from Read
		_, _ = b.Discard(len(mark))
	}
	return b
}

// bounded fails when more is read than is left.
type bounded struct {
	r        io.Reader
	left     int
	newlines int // read
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.newlines += bytes.Count(p[:n], []byte("\n"))
	return n, err
}
