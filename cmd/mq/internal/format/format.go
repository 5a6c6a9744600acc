// Package format prints records by a pattern, the way printf prints values.
//
//	%t topic    %k key    %v value    %h{ %k=%v } each header by the inner pattern
//	%T %K %V    their lengths in bytes; %H the number of headers
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
	"strings"

	"github.com/raftmq/mq"
)

// A Formatter appends records to a buffer. It is safe for concurrent use.
type Formatter struct{ parts []part }

// part appends one piece of the pattern. h is set inside %h{ }.
type part func(dst []byte, r *mq.Record, h *mq.Header) []byte

// Parse compiles a pattern.
func Parse(pattern string) (*Formatter, error) {
	parts, rest, err := parse(pattern, false)
	if err != nil {
		return nil, fmt.Errorf("bad format %q: %w", pattern, err)
	}
	if rest != "" {
		return nil, fmt.Errorf("bad format %q: what does %q close?", pattern, rest)
	}
	return &Formatter{parts: parts}, nil
}

// Append appends r to dst as the pattern says.
func (f *Formatter) Append(dst []byte, r *mq.Record) []byte { return run(dst, f.parts, r, nil) }

func run(dst []byte, parts []part, r *mq.Record, h *mq.Header) []byte {
	for _, p := range parts {
		dst = p(dst, r, h)
	}
	return dst
}

// parse reads a pattern up to its end, or up to the brace that closes it when
// it is a header's.
func parse(s string, header bool) (parts []part, rest string, err error) {
	var text []byte
	flush := func() {
		if len(text) > 0 {
			literal := text
			parts = append(parts, func(dst []byte, _ *mq.Record, _ *mq.Header) []byte { return append(dst, literal...) })
			text = nil
		}
	}
	for s != "" {
		switch c := s[0]; {
		case c == '}' && header:
			flush()
			return parts, s[1:], nil
		case c == '\\':
			var b byte
			if b, s, err = unescape(s[1:]); err != nil {
				return nil, "", err
			}
			text = append(text, b)
		case c == '%' && strings.HasPrefix(s, "%%"):
			text, s = append(text, '%'), s[2:]
		case c == '%':
			flush()
			var p part
			if p, s, err = parseVerb(s[1:], header); err != nil {
				return nil, "", err
			}
			parts = append(parts, p)
		default:
			text, s = append(text, c), s[1:]
		}
	}
	if header {
		return nil, "", fmt.Errorf("%%h{ is not closed by a }")
	}
	flush()
	return parts, "", nil
}

func unescape(s string) (byte, string, error) {
	if s == "" {
		return 0, "", fmt.Errorf(`it ends in a \`)
	}
	switch s[0] {
	case 'n':
		return '\n', s[1:], nil
	case 't':
		return '\t', s[1:], nil
	case 'r':
		return '\r', s[1:], nil
	case '\\':
		return '\\', s[1:], nil
	case 'x':
		if len(s) >= 3 {
			if n, err := strconv.ParseUint(s[1:3], 16, 8); err == nil {
				return byte(n), s[3:], nil
			}
		}
		return 0, "", fmt.Errorf(`\x wants two hexadecimal digits`)
	}
	return 0, "", fmt.Errorf(`no escape \%c`, s[0])
}

// parseVerb reads what follows a percent sign.
func parseVerb(s string, header bool) (part, string, error) {
	if s == "" {
		return nil, "", fmt.Errorf("it ends in a %%")
	}
	verb, s := s[0], s[1:]
	if verb == 'h' && !header {
		if !strings.HasPrefix(s, "{") {
			return nil, "", fmt.Errorf("%%h wants a pattern for each header, as in %%h{ %%k=%%v }")
		}
		inner, rest, err := parse(s[1:], true)
		return func(dst []byte, r *mq.Record, _ *mq.Header) []byte {
			for i := range r.Headers {
				dst = run(dst, inner, r, &r.Headers[i])
			}
			return dst
		}, rest, err
	}
	if get := bytesOf(verb, header); get != nil {
		encode, rest, err := parseEncoding(s)
		return func(dst []byte, r *mq.Record, h *mq.Header) []byte { return encode(dst, get(r, h)) }, rest, err
	}
	if get := bytesOf(verb+'a'-'A', header); get != nil { // its length
		return func(dst []byte, r *mq.Record, h *mq.Header) []byte {
			return strconv.AppendInt(dst, int64(len(get(r, h))), 10)
		}, s, nil
	}
	if verb == 'd' {
		if rest, ok := strings.CutPrefix(s, "{rfc3339}"); ok {
			return func(dst []byte, r *mq.Record, _ *mq.Header) []byte {
				return r.Timestamp.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
			}, rest, nil
		}
	}
	get := numberOf(verb)
	if get == nil {
		return nil, "", fmt.Errorf("no verb %%%c; there are %%t %%T %%k %%K %%v %%V %%h %%H %%p %%o %%e %%d %%%%", verb)
	}
	return func(dst []byte, r *mq.Record, _ *mq.Header) []byte { return strconv.AppendInt(dst, get(r), 10) }, s, nil
}

// bytesOf returns what a verb for bytes stands for, nil if it is not one.
func bytesOf(verb byte, header bool) func(*mq.Record, *mq.Header) []byte {
	switch {
	case verb == 't':
		return func(r *mq.Record, _ *mq.Header) []byte { return []byte(r.Topic) }
	case verb == 'k' && header:
		return func(_ *mq.Record, h *mq.Header) []byte { return []byte(h.Key) }
	case verb == 'v' && header:
		return func(_ *mq.Record, h *mq.Header) []byte { return h.Value }
	case verb == 'k':
		return func(r *mq.Record, _ *mq.Header) []byte { return r.Key }
	case verb == 'v':
		return func(r *mq.Record, _ *mq.Header) []byte { return r.Value }
	}
	return nil
}

func numberOf(verb byte) func(*mq.Record) int64 {
	switch verb {
	case 'p':
		return func(r *mq.Record) int64 { return int64(r.Partition) }
	case 'o':
		return func(r *mq.Record) int64 { return r.Offset }
	case 'e':
		return func(r *mq.Record) int64 { return int64(r.LeaderEpoch) }
	case 'd':
		return func(r *mq.Record) int64 { return r.Timestamp.UnixMilli() }
	case 'H':
		return func(r *mq.Record) int64 { return int64(len(r.Headers)) }
	}
	return nil
}

// parseEncoding reads the optional {hex} or {base64} behind a verb. Other
// braces are text.
func parseEncoding(s string) (func(dst, src []byte) []byte, string, error) {
	if rest, ok := strings.CutPrefix(s, "{hex}"); ok {
		return hex.AppendEncode, rest, nil
	}
	if rest, ok := strings.CutPrefix(s, "{base64}"); ok {
		return base64.StdEncoding.AppendEncode, rest, nil
	}
	return func(dst, src []byte) []byte { return append(dst, src...) }, s, nil
}
