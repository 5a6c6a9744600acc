package csv_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/raftmq/mq/cmd/mq/internal/csv"
	"github.com/raftmq/mq/cmd/mq/internal/jsonl"
)

func read(t *testing.T, columns, in string) (string, int, error) {
	t.Helper()
	var cols csv.Columns
	if columns != "" {
		var err error
		if cols, err = csv.ParseColumns(strings.Split(columns, ",")); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	n := 0
	for r, err := range csv.Read(iotest.OneByteReader(strings.NewReader(in)), cols) {
		if err != nil {
			return string(got), n, err
		}
		n++
		got = jsonl.Append(got, r)
	}
	return string(got), n, nil
}

// lines are records with these values and nothing else.
func lines(values ...string) string {
	var all strings.Builder
	for _, v := range values {
		all.WriteString(`{"topic":"","partition":null,"offset":-1,"timestamp":null,"key":null,"value":"` + v + `","headers":[]}` + "\n")
	}
	return all.String()
}

func TestRowsAreRecords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ columns, in, want string }{
		{"", "key,value\nk,v\nk2,\"two\nlines, \"\"quoted\"\"\"\r\n", `{"topic":"","partition":null,"offset":-1,"timestamp":null,"key":"k","value":"v","headers":[]}` + "\n" +
			`{"topic":"","partition":null,"offset":-1,"timestamp":null,"key":"k2","value":"two\nlines, \"quoted\"","headers":[]}` + "\n"},
		{"", "\xef\xbb\xbfvalue,header.a,header.b,header.a,-,-\n\xff,1,,2,x,y", `{"topic":"","partition":null,"offset":-1,"timestamp":null,"key":null,"value_b64":"/w==","headers":[{"key":"a","value":"1"},{"key":"b","value":""},{"key":"a","value":"2"}]}` + "\n"},
		{"partition,timestamp,-,value", "7,2026-05-04T03:02:01.006Z,x,\n,1777863721006,,v\n", `{"topic":"","partition":7,"offset":-1,"timestamp":"2026-05-04T03:02:01.006Z","key":null,"value":"","headers":[]}` + "\n" +
			`{"topic":"","partition":null,"offset":-1,"timestamp":"2026-05-04T03:02:01.006Z","key":null,"value":"v","headers":[]}` + "\n"},
		// Empty lines are values where there is nothing else in a row.
		{"", "\nvalue\n\na\n\n\"b\nc\"\r\n\r\n", lines("", "a", "", `b\nc`, "")},
		{"value", "\n\na", lines("", "", "a")},
		{"value", "\"\"\n\n", lines("", "")},
		{"value,-", "\na,\n\nb,\n\n", lines("a", "b")},
		{"", "", ""},
		{"", "value\n", ""},
		{"value", "", ""},
	} {
		got, _, err := read(t, c.columns, c.in)
		if err != nil || got != c.want {
			t.Errorf("%q: %v, got\n%swant\n%s", c.in, err, got, c.want)
		}
	}
}

func TestBadRowsAreNamed(t *testing.T) {
	t.Parallel()
	for in, reason := range map[string]string{
		"id,value\n1,a\n":                 `line 1 names the columns: no column "id"; there are key, value`,
		"value,value\n":                   "line 1 names the columns: two columns value",
		"key\n":                           "there is no column value",
		"key,value\nk,v\nk\n":             "line 3: wrong number of fields",
		"key,value\nk,v\nk,v,w\n":         "line 3: wrong number of fields",
		"key,value\n\"k\n\",v\nk,a\"b\n":  `line 4: bare " in non-quoted-field`,
		"key,value\nk,v\nk,\"a\n\n":       `extraneous or missing " in quoted-field`,
		"value,partition\na,0\nb,-1\n":    `line 3: "-1" is no partition`,
		"value,partition\na,0\nb,x\n":     `line 3: "x" is no partition`,
		"value,timestamp\na,\nb,midday\n": "line 3: timestamp: want",
		"value\n\na\"b\n":                 `line 3: bare " in non-quoted-field`,
	} {
		if _, n, err := read(t, "", in); n > 1 || err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: got %d records and %v, want one about %q", in, n, err, reason)
		}
	}
}

func TestQuoteThatIsNotClosedIsBounded(t *testing.T) {
	t.Parallel()
	var last error
	for _, err := range csv.Read(io.MultiReader(strings.NewReader("value\na\n\""), endless{}), nil) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "is a quote not closed?") {
		t.Errorf("got %v", last)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("x\n"), len(p)/2)), nil
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("key,value,header.a,partition,timestamp\nk,\"v\n\",1,0,1\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for r, err := range csv.Read(bytes.NewReader(in), nil) {
			if (r == nil) == (err == nil) {
				t.Fatalf("record %v with error %v", r, err)
			}
			if r != nil && r.Value == nil {
				t.Fatalf("%+v has no value", *r)
			}
		}
	})
}
