package main

import (
	"fmt"
	"io"
	"iter"
	"os"
	"sync/atomic"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/lines"
)

// input is where produce finds its records.
type input struct {
	read  func(io.Reader) iter.Seq2[*mq.Record, error]
	unit  string   // what a record is in it: line or record
	files []string // - is stdin
	bytes int64    // of all, 0 if that is not known
	got   atomic.Int64
}

// place is where in an input a record was.
type place struct {
	file   string // "" for stdin
	unit   string
	number int // from 1 in each file
}

func (p place) String() string {
	text := fmt.Sprintf("%s %d", p.unit, p.number)
	if p.file != "" {
		text += " of " + p.file
	}
	return text
}

// check looks at all files before anything is sent.
func (in *input) check(stdin io.Reader) error {
	known := true
	for _, name := range in.files {
		size, err := sizeOf(name, stdin)
		if err != nil {
			return err
		}
		in.bytes += size
		known = known && size >= 0
	}
	if !known {
		in.bytes = 0
	}
	return nil
}

// sizeOf is how much there is to read of a file, -1 if only reading can tell.
func sizeOf(name string, stdin io.Reader) (int64, error) {
	var info os.FileInfo
	var read int64
	if name == "-" {
		f, ok := stdin.(*os.File)
		if !ok {
			return -1, nil
		}
		var err error
		if info, err = f.Stat(); err != nil {
			return -1, nil //nolint:nilerr // reading it will tell
		}
		if read, err = f.Seek(0, io.SeekCurrent); err != nil {
			return -1, nil //nolint:nilerr // a pipe
		}
	} else {
		var err error
		if info, err = os.Stat(name); err != nil {
			return 0, err
		}
		if info.IsDir() {
			return 0, fmt.Errorf("%s is a directory", name)
		}
	}
	if !info.Mode().IsRegular() {
		return -1, nil
	}
	return info.Size() - read, nil
}

// each calls do with every record, until it returns false.
func (in *input) each(stdin io.Reader, do func(place, *mq.Record) bool) error {
	for _, name := range in.files {
		more, err := in.eachOf(name, stdin, do)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (in *input) eachOf(name string, stdin io.Reader, do func(place, *mq.Record) bool) (more bool, err error) {
	at := place{unit: in.unit}
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return false, err
		}
		defer closing(f, &err)
		r, at.file = f, name
	}
	for rec, err := range in.read(counted{r, &in.got}) {
		if err != nil {
			if at.file == "" {
				return false, fmt.Errorf("reading the input: %w", err)
			}
			return false, fmt.Errorf("reading %s: %w", name, err)
		}
		at.number++
		if !do(at, rec) {
			return false, nil
		}
	}
	return true, nil
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// valueOnly is a record as input without fields has it.
func valueOnly(value []byte) *mq.Record { return &mq.Record{Value: value, Partition: -1} }

func readLines(r io.Reader) iter.Seq2[*mq.Record, error] {
	return func(yield func(*mq.Record, error) bool) {
		for line, err := range lines.Read(r) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(valueOnly(line), nil) {
				return
			}
		}
	}
}

// readRaw yields all of r as one record.
func readRaw(r io.Reader) iter.Seq2[*mq.Record, error] {
	return func(yield func(*mq.Record, error) bool) {
		value, err := io.ReadAll(io.LimitReader(r, lines.MaxBytes+1))
		switch {
		case err != nil:
			yield(nil, err)
		case len(value) > lines.MaxBytes:
			yield(nil, fmt.Errorf("longer than %d bytes, which no record may be", lines.MaxBytes))
		default:
			yield(valueOnly(value), nil)
		}
	}
}
