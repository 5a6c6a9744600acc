package jsonl

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

var names = []string{"topic", "partition", "offset", "timestamp", "headers", "key", "key_b64", "value", "value_b64"}

// strict refuses what encoding/json takes and changes, or takes one of: names
// that come twice, names in other letters, half of a surrogate pair. The text is
// the JSON of a line without other faults.
func strict(text []byte) error {
	var open [][]string // names so far of each object or array that is not closed
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			open = append(open, nil)
		case '}', ']':
			open = open[:len(open)-1]
		case '"':
			end, err := endOfString(text, i)
			if err != nil {
				return err
			}
			quoted := text[i:end]
			i = end - 1
			if !isName(text[end:]) {
				continue
			}
			name := string(quoted[1 : len(quoted)-1])
			if strings.Contains(name, `\`) {
				if err := json.Unmarshal(quoted, &name); err != nil {
					return err
				}
			}
			seen := &open[len(open)-1]
			if !slices.Contains(names, name) {
				return fmt.Errorf("unknown field %q", name)
			}
			if slices.Contains(*seen, name) {
				return fmt.Errorf("%s: twice", name)
			}
			*seen = append(*seen, name)
		}
	}
	return nil
}

// isName reports whether what follows a string makes it the name of a field.
func isName(rest []byte) bool {
	for _, c := range rest {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c == ':'
		}
	}
	return false
}

var errHalf = errors.New(`half of a surrogate pair, \ud800 to \udfff, is no text; bytes go into key_b64 or value_b64`)

// endOfString returns the offset behind the string that starts at an offset.
func endOfString(text []byte, start int) (int, error) {
	high := false // the character before was the first half of a pair
	for i := start + 1; ; i++ {
		var c rune // of an escape by number
		switch {
		case text[i] == '\\' && text[i+1] == 'u':
			n, _ := strconv.ParseUint(string(text[i+2:i+6]), 16, 16) // it is JSON
			c, i = rune(n), i+5
		case text[i] == '\\':
			i++
		case text[i] == '"' && !high:
			return i + 1, nil
		}
		low := 0xDC00 <= c && c <= 0xDFFF
		if low != high {
			return 0, errHalf
		}
		high = utf16.IsSurrogate(c) && !low
	}
}
