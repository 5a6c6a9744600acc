// Package format prints records by a pattern, the way printf prints values, and
// reads them back by the same pattern, the way scanf does.
//
//	%t topic    %k key    %v value    %h{ %k=%v } each header by the inner pattern
//	%T %K %V    their lengths in bytes, -1 for null; %H the number of headers
//	%p partition    %o offset    %e leader epoch    %d timestamp, ms since 1970
//	%%  a percent sign    \n \t \r \\ \xAB  bytes
//
// After t, k and v: {hex} or {base64}; after d: {rfc3339}. The verbs are those
// of rpk and kgo, so patterns can be taken along.
package format

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/raftmq/mq"
)

// A Formatter appends records to a buffer. It is safe for concurrent use.
type Formatter struct{ items []item }

// Parse compiles a pattern.
func Parse(pattern string) (*Formatter, error) {
	items, err := parsePattern(pattern)
	if err != nil {
		return nil, err
	}
	return &Formatter{items: items}, nil
}

func parsePattern(pattern string) ([]item, error) {
	items, rest, err := parse(pattern, false)
	if err == nil && rest != "" {
		err = fmt.Errorf("what does %q close?", rest)
	}
	if err != nil {
		return nil, fmt.Errorf("bad format %q: %w", pattern, err)
	}
	return items, nil
}

// Append appends r to dst as the pattern says.
func (f *Formatter) Append(dst []byte, r *mq.Record) []byte {
	return appendItems(dst, f.items, r, r.Key, r.Value)
}

// appendItems appends r with the key and value of its own or of a header.
func appendItems(dst []byte, items []item, r *mq.Record, key, value []byte) []byte {
	for i := range items {
		it := &items[i]
		switch it.verb {
		case 0:
			dst = append(dst, it.text...)
		case 't':
			dst = it.encode(dst, []byte(r.Topic))
		case 'k':
			dst = it.encode(dst, key)
		case 'v':
			dst = it.encode(dst, value)
		case 'h':
			for _, h := range r.Headers {
				dst = appendItems(dst, it.inner, r, []byte(h.Key), h.Value)
			}
		case 'd':
			if it.coding == rfc3339 {
				dst = r.Timestamp.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
				break
			}
			dst = strconv.AppendInt(dst, r.Timestamp.UnixMilli(), 10)
		case 'T':
			dst = strconv.AppendInt(dst, int64(len(r.Topic)), 10)
		case 'K':
			dst = appendLength(dst, key)
		case 'V':
			dst = appendLength(dst, value)
		case 'H':
			dst = strconv.AppendInt(dst, int64(len(r.Headers)), 10)
		case 'p':
			dst = strconv.AppendInt(dst, int64(r.Partition), 10)
		case 'o':
			dst = strconv.AppendInt(dst, r.Offset, 10)
		case 'e':
			dst = strconv.AppendInt(dst, int64(r.LeaderEpoch), 10)
		}
	}
	return dst
}

func appendLength(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "-1"...)
	}
	return strconv.AppendInt(dst, int64(len(b)), 10)
}

func (it *item) encode(dst, src []byte) []byte {
	switch it.coding {
	case hexadecimal:
		return hex.AppendEncode(dst, src)
	case base64text:
		return base64.StdEncoding.AppendEncode(dst, src)
	default:
		return append(dst, src...)
	}
}
