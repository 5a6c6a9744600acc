// Package jsonl writes and reads records as JSON lines, one object each,
// without losing anything of them:
//
//	{"topic":"t","partition":0,"offset":7,"timestamp":"2026-05-04T03:02:01.006Z",
//	 "key":"k","value":null,"headers":[{"key":"a","value":"1"}]}
//
// Keys, values, header keys and header values are strings where they are valid
// UTF-8; where they are not, the field is called key_b64 or value_b64 and holds
// standard base64. null is null, "" is empty. Headers are in their order and
// may repeat. Partition and timestamp are null where there is none. A timestamp is
// RFC 3339 in UTC with milliseconds, or the number of milliseconds since 1970
// where the year has not four digits.
package jsonl

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/raftmq/mq"
)

// Append appends r to dst, a newline included. Every field is always there.
func Append(dst []byte, r *mq.Record) []byte {
	dst = appendText(append(dst, '{'), "topic", []byte(r.Topic))
	dst = append(dst, `,"partition":`...)
	if r.Partition < 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(r.Partition), 10)
	}
	dst = strconv.AppendInt(append(dst, `,"offset":`...), r.Offset, 10)
	dst = appendTime(append(dst, `,"timestamp":`...), r.Timestamp)
	dst = appendText(append(dst, ','), "key", r.Key)
	dst = appendText(append(dst, ','), "value", r.Value)
	dst = append(dst, `,"headers":[`...)
	for i, h := range r.Headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(append(dst, '{'), "key", []byte(h.Key))
		dst = append(appendText(append(dst, ','), "value", h.Value), '}')
	}
	return append(dst, "]}\n"...)
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return strconv.AppendInt(dst, t.UnixMilli(), 10)
	}
	return t.AppendFormat(dst, `"2006-01-02T15:04:05.000Z07:00"`)
}

// appendText appends a field of bytes under its name, or under name_b64.
func appendText(dst []byte, name string, text []byte) []byte {
	dst = append(append(dst, '"'), name...)
	switch {
	case text == nil:
		return append(dst, `":null`...)
	case !utf8.Valid(text):
		dst = base64.StdEncoding.AppendEncode(append(dst, `_b64":"`...), text)
		return append(dst, '"')
	}
	dst = append(dst, `":"`...)
	const hex = "0123456789abcdef"
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
