package jsonl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/lines"
)

// Read yields the records that Append wrote, or that others write with the same
// fields. All may be absent but the value, so that nothing is deleted by a
// forgotten one; Partition and Offset are then -1. Lines of spaces are skipped.
// The error, if any, comes last, alone, and names its line.
func Read(r io.Reader) iter.Seq2[*mq.Record, error] {
	return func(yield func(*mq.Record, error) bool) {
		number := 0
		for text, err := range lines.Read(r) {
			if err != nil {
				yield(nil, err)
				return
			}
			number++
			if len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			rec, err := parse(text)
			if err != nil {
				yield(nil, fmt.Errorf("line %d: %w", number, err))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

type line struct {
	Topic     string          `json:"topic"`
	Partition *int32          `json:"partition"`
	Offset    *int64          `json:"offset"`
	Timestamp json.RawMessage `json:"timestamp"`
	pair
	Headers []pair `json:"headers"`
}

// pair is a key and a value, each in one of two forms. What is absent is nil,
// what is null is "null".
type pair struct {
	Key      json.RawMessage `json:"key"`
	KeyB64   json.RawMessage `json:"key_b64"`
	Value    json.RawMessage `json:"value"`
	ValueB64 json.RawMessage `json:"value_b64"`
}

func parse(text []byte) (*mq.Record, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("is not UTF-8")
	}
	var l line
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return nil, plain(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	rec := &mq.Record{Topic: l.Topic, Partition: -1, Offset: -1, LeaderEpoch: -1}
	if l.Partition != nil {
		if rec.Partition = *l.Partition; rec.Partition < 0 {
			return nil, fmt.Errorf("partition: %d is negative", rec.Partition)
		}
	}
	if l.Offset != nil {
		rec.Offset = *l.Offset
	}
	var err error
	if rec.Timestamp, err = parseTime(l.Timestamp); err != nil {
		return nil, err
	}
	if rec.Key, rec.Value, err = l.bytes(); err != nil {
		return nil, err
	}
	for i, h := range l.Headers {
		key, value, err := h.bytes()
		if err == nil && key == nil {
			err = errors.New("want key or key_b64")
		}
		if err != nil {
			return nil, fmt.Errorf("header %d: %w", i+1, err)
		}
		rec.Headers = append(rec.Headers, mq.Header{Key: string(key), Value: value})
	}
	return rec, strict(text)
}

func (p *pair) bytes() (key, value []byte, err error) {
	if key, err = choose("key", p.Key, p.KeyB64); err != nil {
		return nil, nil, err
	}
	if p.Value == nil && p.ValueB64 == nil {
		return nil, nil, errors.New("want value or value_b64, and null where there is none")
	}
	value, err = choose("value", p.Value, p.ValueB64)
	return key, value, err
}

// choose returns the bytes of a field from the one of its forms that is there.
func choose(name string, text, b64 json.RawMessage) ([]byte, error) {
	raw := text
	if b64 != nil {
		if text != nil {
			return nil, fmt.Errorf("both %s and %[1]s_b64", name)
		}
		raw, name = b64, name+"_b64"
	}
	var s *string
	if raw != nil {
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%s: want a string or null", name)
		}
	}
	switch {
	case s == nil:
		return nil, nil
	case b64 == nil:
		return []byte(*s), nil
	}
	b, err := base64.StdEncoding.DecodeString(*s)
	if err != nil {
		return nil, fmt.Errorf("%s: not standard base64", name)
	}
	return b, nil
}

func parseTime(raw json.RawMessage) (time.Time, error) {
	if raw == nil || string(raw) == "null" {
		return time.Time{}, nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	return ParseTime(text)
}

// ParseTime reads RFC 3339 or a number of milliseconds since 1970. The one time
// that in a record means none, which is the first of the year 1, it refuses.
func ParseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if ms, bad := strconv.ParseInt(text, 10, 64); bad == nil {
		t, err = time.UnixMilli(ms), nil
	}
	switch {
	case err != nil:
		return time.Time{}, errors.New("timestamp: want 2006-01-02T15:04:05.000Z or milliseconds since 1970")
	case t.IsZero():
		return time.Time{}, fmt.Errorf("timestamp: %s can't be that of a record", text)
	}
	return t, nil
}

// plain says what is wrong with a line in the words of JSON, not of Go.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON object is not closed")
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("want a JSON object, got %s", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("%s: of the wrong type, %s", wrong.Field, wrong.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
