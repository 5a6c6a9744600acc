package lines_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/raftmq/mq/cmd/mq/internal/lines"
)

func collect(t *testing.T, r io.Reader) []string {
	t.Helper()
	var got []string
	for line, err := range lines.Read(r) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line))
	}
	return got
}

func TestEveryByteButTheNewlineIsKept(t *testing.T) {
	t.Parallel()
	for input, want := range map[string][]string{
		"":               nil,
		"\n":             {""},
		"a":              {"a"},
		"a\n":            {"a"},
		"a\n\n\nb":       {"a", "", "", "b"},
		"a\r\nb\r":       {"a\r", "b\r"},
		"\x00\xff\n\x80": {"\x00\xff", "\x80"},
	} {
		for name, r := range map[string]io.Reader{
			"whole":    strings.NewReader(input),
			"one byte": iotest.OneByteReader(strings.NewReader(input)),
			"data+EOF": iotest.DataErrReader(strings.NewReader(input)),
		} {
			if got := collect(t, r); !slices.Equal(got, want) {
				t.Errorf("%s %q: got %q, want %q", name, input, got, want)
			}
		}
	}
}

func TestLinesAcrossChunksStayWholeAndUnchanged(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var want [][]byte
	for range 300 {
		line := bytes.Repeat([]byte{byte('a' + rnd.IntN(26))}, rnd.IntN(5000))
		if rnd.IntN(100) == 0 {
			line = bytes.Repeat([]byte("x"), 700<<10) // longer than a chunk
		}
		want = append(want, line)
	}
	var got [][]byte
	for line, err := range lines.Read(bytes.NewReader(append(bytes.Join(want, []byte("\n")), '\n'))) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line) // kept while later lines are read
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d lines in, %d out, or a line changed", len(want), len(got))
	}
}

func TestReadErrorComesAfterWhatWasRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	var got []string
	var last error
	for line, err := range lines.Read(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken))) {
		if last = err; err == nil {
			got = append(got, string(line))
		}
	}
	if !slices.Equal(got, []string{"a"}) || !errors.Is(last, broken) { // b may be half a line
		t.Errorf("got %q and %v", got, last)
	}
}

func TestInputWithoutNewlinesIsBounded(t *testing.T) {
	t.Parallel()
	var last error
	for line, err := range lines.Read(endless{}) {
		if last = err; line != nil {
			t.Fatalf("a line of %d bytes came out", len(line))
		}
	}
	if !errors.Is(last, lines.ErrTooLong) {
		t.Errorf("got %v", last)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
