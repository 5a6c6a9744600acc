// Package offsets parses the little language in which a person names a range
// of a topic: FROM or FROM:TO, each of them
//
//	start   the oldest record      end   what is newest now
//	N       offset N               -N    N records before the end
//	+N      as FROM: N records after the start; as TO: N records after FROM
//	@TIME   the first record at or after a time: 2006-01-02,
//	        2006-01-02T15:04:05Z, milliseconds since 1970, or a duration
//	        before now such as @-1h30m
//
// An omitted FROM is start; without a TO there is no end. TO itself is not in
// the range. The same as rpk's and kcat's where those agree.
package offsets

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Kind says how a Point is measured.
type Kind uint8

// The kinds of points.
const (
	Start  Kind = iota // N records after the oldest
	Offset             // N itself
	End                // N records before the newest
	Time               // the first record at or after Time
	Plus               // N records after the range's first; only as Range.To
)

// Point is a place in each partition of a topic.
type Point struct {
	Kind Kind
	N    int64
	Time time.Time
}

// Range is the half-open range From to To. Without HasTo it has no end.
type Range struct {
	From, To Point
	HasTo    bool
}

// Parse reads a range; now is what durations count back from.
func Parse(s string, now time.Time) (Range, error) {
	if strings.HasPrefix(s, "@") {
		return parseTimes(s, now)
	}
	from, to, hasTo := strings.Cut(s, ":")
	r := Range{HasTo: hasTo}
	var err error
	if from != "" || !hasTo {
		if r.From, err = parsePoint(from, now); err != nil {
			return Range{}, err
		}
		if r.From.Kind == Plus {
			r.From.Kind = Start
		}
	}
	if hasTo {
		if r.To, err = parsePoint(to, now); err != nil {
			return Range{}, err
		}
	}
	return r, nil
}

// parseTimes reads @TIME or @TIME:TO. Times may hold colons, so every colon is tried.
func parseTimes(s string, now time.Time) (Range, error) {
	from, err := parsePoint(s, now)
	if err == nil {
		return Range{From: from}, nil
	}
	for i := range s {
		if s[i] != ':' {
			continue
		}
		from, fromErr := parsePoint(s[:i], now)
		to, toErr := parsePoint("@"+s[i+1:], now) // @T1:T2 needs no second @
		if toErr != nil {
			to, toErr = parsePoint(s[i+1:], now)
		}
		if fromErr == nil && toErr == nil {
			return Range{From: from, To: to, HasTo: true}, nil
		}
	}
	return Range{}, err
}

func parsePoint(s string, now time.Time) (Point, error) {
	bad := func() (Point, error) {
		return Point{}, fmt.Errorf("bad offset %q: want start, end, N, +N, -N or @TIME", s)
	}
	switch {
	case s == "start":
		return Point{Kind: Start}, nil
	case s == "end":
		return Point{Kind: End}, nil
	case s == "":
		return bad()
	case s[0] == '@':
		t, err := parseTime(s[1:], now)
		return Point{Kind: Time, Time: t}, err
	}
	kind, digits := Offset, s
	switch s[0] {
	case '+':
		kind, digits = Plus, s[1:]
	case '-':
		kind, digits = End, s[1:]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return bad()
	}
	return Point{Kind: kind, N: int64(n)}, nil
}

func parseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && strings.HasPrefix(s, "-") {
		return now.Add(d), nil
	}
	if ms, err := strconv.ParseUint(s, 10, 63); err == nil {
		return time.UnixMilli(int64(ms)), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("bad time %q: want 2006-01-02, 2006-01-02T15:04:05Z, milliseconds since 1970 or -1h", s)
}
