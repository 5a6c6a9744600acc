package jsonl_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/jsonl"
)

// records has every case that text could lose.
var records = []*mq.Record{
	{Topic: "t", Partition: 3, Offset: 42, LeaderEpoch: -1, Key: []byte("k"), Value: []byte("v"), Timestamp: time.UnixMilli(1777863721006)},
	{Topic: "t", LeaderEpoch: -1, Timestamp: time.UnixMilli(0)}, // all null
	{Topic: "t", LeaderEpoch: -1, Key: []byte{}, Value: []byte{}, Timestamp: time.UnixMilli(-1)},
	{Topic: "t", LeaderEpoch: -1, Key: []byte("\xff\x00"), Value: []byte("\"\\\n\r\t\x00\x1f\x7f</>é世\u2028"), Timestamp: time.UnixMilli(math.MaxInt64)},
	{Topic: "t", LeaderEpoch: -1, Key: []byte("null"), Value: []byte("\xc3\x28"), Timestamp: time.UnixMilli(math.MinInt64), Headers: []mq.Header{
		{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte{}}, {Key: "\xfe", Value: []byte{0x80}}, {Key: "", Value: []byte("null")},
	}},
}

func read(t *testing.T, text string) ([]*mq.Record, error) {
	t.Helper()
	var got []*mq.Record
	for r, err := range jsonl.Read(strings.NewReader(text)) {
		if err != nil {
			return got, err
		}
		got = append(got, r)
	}
	return got, nil
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	t.Parallel()
	var text []byte
	for _, r := range records {
		text = jsonl.Append(text, r)
	}
	for line := range bytes.Lines(text) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
	got, err := read(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		r.Timestamp = r.Timestamp.Local()
	}
	if !reflect.DeepEqual(got, records) {
		t.Errorf("%s\nread as", text)
		for _, r := range got {
			t.Errorf("%+v", *r)
		}
	}
}

// The form is an interface: programs depend on it.
func TestForm(t *testing.T) {
	t.Parallel()
	r := &mq.Record{
		Topic: "orders", Partition: 3, Offset: 42, LeaderEpoch: 7, Key: []byte("\xff"), Value: []byte("say \"é\"\n"),
		Headers: []mq.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}}, Timestamp: time.Date(2026, 5, 4, 3, 2, 1, 6e6, time.UTC),
	}
	const want = `{"topic":"orders","partition":3,"offset":42,"timestamp":"2026-05-04T03:02:01.006Z","key_b64":"/w==","value":"say \"é\"\n",` +
		`"headers":[{"key":"a","value":"1"},{"key":"a","value":null}]}` + "\n"
	if got := string(jsonl.Append(nil, r)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestHandWrittenLines(t *testing.T) {
	t.Parallel()
	got, err := read(t, "\n {\"value\": \"\\u00e9\"} \r\n\t\n{\"value\":null, \"timestamp\": 1777863721006, \"partition\":0, \"headers\": null}")
	if err != nil || len(got) != 2 {
		t.Fatalf("got %d records, %v", len(got), err)
	}
	if r := got[0]; string(r.Value) != "é" || r.Key != nil || r.Partition != -1 || r.Offset != -1 || !r.Timestamp.IsZero() {
		t.Errorf("got %+v", *r)
	}
	if r := got[1]; r.Value != nil || r.Partition != 0 || r.Timestamp.UnixMilli() != 1777863721006 {
		t.Errorf("got %+v", *r)
	}
}

func TestBadLinesAreNamed(t *testing.T) {
	t.Parallel()
	for line, reason := range map[string]string{
		`{"valeu":"x"}`:                    `unknown field "valeu"`,
		`{}`:                               "want value or value_b64",
		`{"value":"a","value_b64":"YQ=="}`: "both value and value_b64",
		`{"value":{"a":1}}`:                "value: want a string or null",
		`{"value_b64":"*"}`:                "value_b64: not standard base64",
		`{"value":"a","key":1}`:            "key: want a string or null",

		`{"value":"a","headers":[{"value":"x"}]}`: "header 1: want key or key_b64",
		`{"value":"a","headers":[{"key":"x"}]}`:   "header 1: want value or value_b64",
		`{"value":"a","headers":{}}`:              "headers: of the wrong type, object",
		`{"value":"a","timestamp":"yesterday"}`:   "timestamp: want",
		`{"value":"a","timestamp":{}}`:            "timestamp: want",
		`{"value":"a","partition":"x"}`:           "partition: of the wrong type, string",
		`{"value":"a","partition":4294967296}`:    "partition: of the wrong type, number 4294967296",
		`{"value":"a"} {}`:                        "more than one JSON value",
		`{"value":"a"`:                            "not closed",
		`["a"]`:                                   "want a JSON object, got array",
		"{\"value\":\"\xff\"}":                    "not UTF-8",
		`value`:                                   "invalid character 'v'",
		`{"value":"a","key":"b","key":"b"}`:       "key: twice",
		`{"value":null,"v\u0061lue":"b"}`:         "value: twice",
		`{"value":"a","headers":[],"headers":[]}`: "headers: twice",

		`{"value":"a","headers":[{"key":"x","value":"1","value":"2"}]}`: "value: twice",

		`{"Value":"a"}`:                                    `unknown field "Value"`,
		`{"value":"a","Key":"b"}`:                          `unknown field "Key"`,
		`{"value":"a","\u212Aey":"b"}`:                     "unknown field \"\u212Aey\"",
		`{"value":"\ud800"}`:                               "half of a surrogate pair",
		`{"value":"\ud800\\"}`:                             "half of a surrogate pair",
		`{"value":"\udc00\ud800"}`:                         "half of a surrogate pair",
		`{"value":"\ud800x\udc00"}`:                        "half of a surrogate pair",
		`{"value":"a","key":"\uD83D\uD83D\uDE00"}`:         "half of a surrogate pair",
		`{"value":"a","topic":"\udfff"}`:                   "half of a surrogate pair",
		`{"value":"a","partition":-1}`:                     "partition: -1 is negative",
		`{"value":"a","timestamp":"0001-01-01T00:00:00Z"}`: "timestamp: 0001-01-01T00:00:00Z can't be",
		`{"value":"a","timestamp":-62135596800000}`:        "timestamp: -62135596800000 can't be",
	} {
		got, err := read(t, `{"value":"first"}`+"\n\n"+line+"\n"+`{"value":"last"}`)
		if len(got) != 1 || err == nil || !strings.HasPrefix(err.Error(), "line 3: ") || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %d records and %v, want one about %q", line, len(got), err, reason)
		}
	}
}

// What looks like one of those faults is none.
func TestLinesThatAreFine(t *testing.T) {
	t.Parallel()
	got, err := read(t, `{"value":"\ud83d\ude00 \\ud800 \" \\","key":"key\": \"key","headers":[{"key":"a","value":"key"},{"key":"a","value":"{\"key\":1,\"key\":2}"}]}`+"\n"+
		`{"partition":null,"timestamp":null,"value":"value"}`)
	if err != nil || len(got) != 2 {
		t.Fatalf("got %d records, %v", len(got), err)
	}
	if r := got[0]; string(r.Value) != `😀 \ud800 " \` || string(r.Key) != `key": "key` || string(r.Headers[1].Value) != `{"key":1,"key":2}` {
		t.Errorf("got %+v", *r)
	}
	if r := got[1]; r.Partition != -1 || !r.Timestamp.IsZero() {
		t.Errorf("got %+v", *r)
	}
}

// What is read is written in a form that is read the same.
func FuzzRead(f *testing.F) {
	for _, r := range records {
		f.Add(jsonl.Append(nil, r))
	}
	f.Add([]byte(`{"value_b64":"","headers":[{"key_b64":"/w==","value":null}],"timestamp":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var first []byte
		for r, err := range jsonl.Read(bytes.NewReader(text)) {
			if err != nil {
				return
			}
			first = jsonl.Append(first, r)
		}
		var second []byte
		for r, err := range jsonl.Read(bytes.NewReader(first)) {
			if err != nil {
				t.Fatalf("%q: %v", first, err)
			}
			second = jsonl.Append(second, r)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%q became %q", first, second)
		}
	})
}
