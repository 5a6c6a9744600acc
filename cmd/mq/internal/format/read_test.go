package format_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/format"
)

// lossless is the pattern of the documentation.
const lossless = `%p %d %K %V %H %k%v%h{%K %V %k%v}\n`

// stored has every case that a pattern without lengths would lose.
var stored = []*mq.Record{
	{Partition: 3, Key: []byte("k"), Value: []byte("v"), Timestamp: time.UnixMilli(1777863721006)},
	{Timestamp: time.UnixMilli(0)},
	{Key: []byte{}, Value: []byte{}, Timestamp: time.UnixMilli(-1)},
	{Key: []byte("\n1 2"), Value: []byte("\x00\xff\n"), Timestamp: time.UnixMilli(math.MaxInt64)},
	{Value: bytes.Repeat([]byte("0123456789"), 100_000), Timestamp: time.UnixMilli(1), Headers: []mq.Header{
		{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte{}}, {Key: "\xfe\n", Value: []byte("7 7 ")}, {},
	}},
}

func readAll(t *testing.T, pattern string, in io.Reader) (got []*mq.Record, err error) {
	t.Helper()
	reader, err := format.ParseReader(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range reader.Read(in) {
		if err != nil {
			return got, err
		}
		got = append(got, r)
	}
	return got, nil
}

func TestLengthsKeepEverything(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		lossless,
		`%p %d %K %V %H %k%v%h{%K %V %k%v}`,
		`%K:%V:%k{hex}%v{base64}%d,%H,%p;%h{%V %v{hex}%K %k{base64}}`,
		`%p|%d|%K|%V|%T|%k|%v|%t|%H|%h{%K|%V|%k|%v|}|%o|%e\n`,
	} {
		printer, err := format.Parse(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		for _, r := range stored {
			text = printer.Append(text, r)
		}
		for name, in := range map[string]io.Reader{
			"whole":    bytes.NewReader(text),
			"one byte": iotest.OneByteReader(bytes.NewReader(text)),
			"data+EOF": iotest.DataErrReader(bytes.NewReader(text)),
			"cut end":  bytes.NewReader(bytes.TrimSuffix(text, []byte("\n"))),
		} {
			got, err := readAll(t, pattern, in)
			if err != nil {
				t.Errorf("%s, %s: %v", pattern, name, err)
			}
			for _, r := range got {
				r.Offset, r.LeaderEpoch = 0, 0
			}
			if !reflect.DeepEqual(got, stored) {
				t.Errorf("%s, %s: %d records differ from %d", pattern, name, len(got), len(stored))
			}
		}
	}
}

func TestTextEndsWhereThePatternGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, in, want string }{ // want: key=value pairs
		{`%v\n`, "a\n\nb", "<nil>=a <nil>= <nil>=b"},
		{`%v\n`, "", ""},
		{`%k\t%v\n`, "k\tv\nk2\t\tv\n", "k=v k2=\tv"},
		{`%k\t%v\n`, "k\tv", "k=v"},
		{`%v\r\n`, "a\rb\r\nc\r\n", "<nil>=a\rb <nil>=c"},
		{`%k{hex} %v{base64};`, "6b00 aGVsbG8=; ;", "k\x00=hello ="},
		{`[%p:%o] %k %v\n`, "[2:77] k v\n", "k=v"},
		{`%d{rfc3339} %v\n`, "2026-05-04T03:02:01.006Z v\n", "<nil>=v"},
		{`%H %h{%k=%v,}%v\n`, "2 a=1,b=2,v\n0 w\n", "<nil>=v <nil>=w"},
	} {
		for _, in := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			records, err := readAll(t, c.pattern, in)
			if err != nil {
				t.Errorf("%s: %v", c.pattern, err)
			}
			var got []string
			for _, r := range records {
				key := "<nil>"
				if r.Key != nil {
					key = string(r.Key)
				}
				got = append(got, key+"="+string(r.Value))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: got %q, want %q", c.pattern, got, c.want)
			}
		}
	}
}

func TestWhatAPatternNamesIsFilledIn(t *testing.T) {
	t.Parallel()
	got, err := readAll(t, `%t:%p:%o:%e:%d{rfc3339} %H %h{%k=%v,}%v\n`, strings.NewReader("orders:3:42:7:2026-05-04T03:02:01.006Z 2 a=1,b=22,hello\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := record
	want.Key = nil
	if !reflect.DeepEqual(got, []*mq.Record{&want}) {
		t.Errorf("got %+v", *got[0])
	}
}

func TestPatternsThatCannotBeReadBy(t *testing.T) {
	t.Parallel()
	for pattern, reason := range map[string]string{
		``: "no %v", `%k\n`: "no %v", `%v`: "%v wants text behind it, or %V", `%k%v\n`: "%k wants", `%v%V\n`: "%v wants",
		`%V%v`: "%V wants text behind it", `%p0%v\n`: "%p wants", `%v\n%d`: "%d wants", `%d{rfc3339}%v\n`: "%d wants",
		`%h{%k=%v,}%v\n`: "%h wants %H", `%H %h{%k=%v}%v\n`: "%h: %v wants", `%H %h{%v,}%v\n`: "%h: there is no %k",
		`%H %h{%o %k=%v,}%v\n`: "%o is not a header's", `%z`: "no verb %z",
	} {
		if _, err := format.ParseReader(pattern); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got error %v, want one about %q", pattern, err, reason)
		}
	}
}

func TestBadInputIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, in, reason string }{
		{`%k\t%v\n`, "k\tv\nkv\nk\tv\n", `record 2: %k: no "\t" before "\n"`},
		{`%k\t%v\n`, "k\tv\nkv", "record 2: %k: the input ends within it"},
		{`%V %v\n`, "1 v\n5 abc", "record 2: %v: the input ends within it"},
		{`%V %v\n`, "1 v\n1 v", ""},
		{`%V %v\n`, "1 v\n1 vx\n", `record 2: want "\n", found "x"`},
		{`%V %v\n`, "1 v\nx v\n", `record 2: want a number, found "x"`},
		{`%V %v\n`, "1 v\n12345678901234567890123 v\n", "record 2: want a number"},
		{`%V %v\n`, "1 v\n99999999999 v\n", "record 2: %v: longer than 67108864 bytes"},
		{`%V %v\n`, "1 v\n67108865 v\n", "record 2: %v: longer than 67108864 bytes"},
		{`%V %v{hex}\n`, "1 61\n1 zz\n", "record 2: %v: not what"},
		{`%v{base64}\n`, "YQ==\n*\n", "record 2: %v: not what"},
		{`%p %v\n`, "1 v\n4294967296 v\n", "record 2: %p: there is no partition 4294967296"},
		{`%p %v\n`, "-1 v\n-2 v\n", "record 2: %p: there is no partition -2"},
		{`%d{rfc3339} %v\n`, "2026-05-04T03:02:01Z v\nnow v\n", `record 2: %d{rfc3339}: "now"`},
		{`%H %h{%k=%v,}%v\n`, "1 a=1,v\n1000000000000 a=1,\n", `record 2: header 2: %k: no "=" before "\n"`},
	} {
		got, err := readAll(t, c.pattern, strings.NewReader(c.in))
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s of %q: %v", c.pattern, c.in, err)
			}
		} else if len(got) != 1 || err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s of %q: got %d records and %v, want one about %q", c.pattern, c.in, len(got), err, c.reason)
		}
	}
}

func TestInputThatNeverEndsARecordIsBounded(t *testing.T) {
	t.Parallel()
	if got, err := readAll(t, `%v\n`, endless('x')); len(got) > 0 || err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %d records and %v", len(got), err)
	}
}

func TestReadErrorEndsTheRecords(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	for in, want := range map[string]int{"a\n": 1, "a\nb": 1} {
		got, err := readAll(t, `%v\n`, io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)))
		if len(got) != want || !errors.Is(err, broken) {
			t.Errorf("%q: got %d records and %v", in, len(got), err)
		}
	}
}

// endless is a stream of one byte.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// By any pattern and from any input, reading ends, and what a pattern with
// lengths printed is read back the same.
func FuzzRead(f *testing.F) {
	f.Add(lossless, []byte("0 1 -1 3 1 abc1 1 kv\n"))
	f.Add(`%k{hex} %v{base64};%d{rfc3339} %H %h{%k=%v,}`, []byte("6b00 aGVsbG8=;2026-05-04T03:02:01.006Z 0 "))
	f.Fuzz(func(t *testing.T, pattern string, in []byte) {
		reader, err := format.ParseReader(pattern)
		if err != nil {
			return
		}
		printer, err := format.Parse(lossless)
		if err != nil {
			t.Fatal(err)
		}
		var first []byte
		for r, err := range reader.Read(bytes.NewReader(in)) {
			if err != nil {
				break
			}
			first = printer.Append(first, r)
		}
		records, err := readAll(t, lossless, bytes.NewReader(first))
		if err != nil {
			t.Fatalf("%q: %v", first, err)
		}
		var second []byte
		for _, r := range records {
			second = printer.Append(second, r)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%q became %q", first, second)
		}
	})
}
