package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// item is one piece of a pattern.
type item struct {
	verb   byte // the letter, 0 for text
	text   []byte
	coding coding
	inner  []item // of %h
}

// coding is how a verb's bytes or time are written.
type coding uint8

const (
	plain coding = iota
	hexadecimal
	base64text
	rfc3339
)

// parse reads a pattern up to its end, or up to the brace that closes it when
// it is a header's.
func parse(s string, header bool) (items []item, rest string, err error) {
	var text []byte
	flush := func() {
		if len(text) > 0 {
			items = append(items, item{text: text})
			text = nil
		}
	}
	for s != "" {
		switch c := s[0]; {
		case c == '}' && header:
			flush()
			return items, s[1:], nil
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
			var it item
			if it, s, err = parseVerb(s[1:], header); err != nil {
				return nil, "", err
			}
			items = append(items, it)
		default:
			text, s = append(text, c), s[1:]
		}
	}
	if header {
		return nil, "", errors.New("%h{ is not closed by a }")
	}
	flush()
	return items, "", nil
}

func unescape(s string) (byte, string, error) {
	if s == "" {
		return 0, "", errors.New(`it ends in a \`)
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
		return 0, "", errors.New(`\x wants two hexadecimal digits`)
	}
	return 0, "", fmt.Errorf(`no escape \%c`, s[0])
}

// parseVerb reads what follows a percent sign. Braces that are no coding of
// the verb are text.
func parseVerb(s string, header bool) (item, string, error) {
	if s == "" {
		return item{}, "", errors.New("it ends in a %")
	}
	it, s := item{verb: s[0]}, s[1:]
	codings := map[string]coding{}
	switch {
	case it.verb == 'h' && !header:
		if !strings.HasPrefix(s, "{") {
			return item{}, "", errors.New("%h wants a pattern for each header, as in %h{ %k=%v }")
		}
		var err error
		it.inner, s, err = parse(s[1:], true)
		return it, s, err
	case strings.IndexByte("tkv", it.verb) >= 0:
		codings = map[string]coding{"{hex}": hexadecimal, "{base64}": base64text}
	case it.verb == 'd':
		codings = map[string]coding{"{rfc3339}": rfc3339}
	case strings.IndexByte("TKVHpoe", it.verb) < 0:
		return item{}, "", fmt.Errorf("no verb %%%c; there are %%t %%T %%k %%K %%v %%V %%h %%H %%p %%o %%e %%d %%%%", it.verb)
	}
	for name, c := range codings {
		if rest, ok := strings.CutPrefix(s, name); ok {
			it.coding = c
			return it, rest, nil
		}
	}
	return it, s, nil
}
