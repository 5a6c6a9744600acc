package mq

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
)

// Start is a place in a partition: where a consumer begins, Seek goes, a trim
// cuts. Values can be compared with ==; the zero value is StartCommitted. In
// text and YAML it is committed, earliest, latest, an offset, or @ and a time:
// RFC 3339, or milliseconds since 1970. Kafka's numbers for earliest and
// latest, -2 and -1, are understood.
type Start struct{ at fetch.Start }

// Places that need no argument. Treat them as constants.
var (
	// StartCommitted is where the group left off; without a group or a stored
	// offset it is where the reset policy says, by default StartEarliest.
	StartCommitted = Start{}
	// StartEarliest is the first record there is.
	StartEarliest = Start{fetch.Start{Kind: fetch.AtTime, Value: api.EarliestTimestamp}}
	// StartLatest is behind the last record there is.
	StartLatest = Start{fetch.Start{Kind: fetch.AtTime, Value: api.LatestTimestamp}}
)

// StartAt is an offset. One that is not in the log is answered by the reset
// policy. A negative one is not valid.
func StartAt(offset int64) Start { return Start{fetch.Start{Kind: fetch.AtOffset, Value: offset}} }

// StartAtTime is the first record whose timestamp is t, to the millisecond, or
// later; StartLatest when there is none. Times before 1970 count as 1970.
func StartAtTime(t time.Time) Start {
	return Start{fetch.Start{Kind: fetch.AtTime, Value: max(t.UnixMilli(), 0)}}
}

// check reports what is wrong with the value.
func (s Start) check() error {
	if s.at.Kind == fetch.AtOffset && s.at.Value < 0 {
		return fmt.Errorf("offset %d is negative", s.at.Value)
	}
	return nil
}

// String returns the text form.
func (s Start) String() string {
	switch {
	case s == StartCommitted:
		return "committed"
	case s == StartEarliest:
		return "earliest"
	case s == StartLatest:
		return "latest"
	case s.at.Kind == fetch.AtOffset:
		return strconv.FormatInt(s.at.Value, 10)
	default:
		return "@" + time.UnixMilli(s.at.Value).UTC().Format("2006-01-02T15:04:05.999Z07:00")
	}
}

// MarshalText implements encoding.TextMarshaler.
func (s Start) MarshalText() ([]byte, error) {
	return []byte(s.String()), s.check()
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Start) UnmarshalText(text []byte) error {
	parsed, ok := parseStart(string(text))
	if !ok || parsed.check() != nil {
		return fmt.Errorf("%w: %q is none of committed, earliest, latest, OFFSET, @TIME", mqerr.ErrInvalidConfig, text)
	}
	*s = parsed
	return nil
}

func parseStart(text string) (Start, bool) {
	switch text {
	case "committed":
		return StartCommitted, true
	case "earliest", "-2":
		return StartEarliest, true
	case "latest", "-1":
		return StartLatest, true
	}
	when, isTime := strings.CutPrefix(text, "@")
	n, err := strconv.ParseInt(when, 10, 64)
	switch {
	case err == nil && isTime:
		return StartAtTime(time.UnixMilli(n)), true
	case err == nil:
		return StartAt(n), true
	case !isTime:
		return Start{}, false
	}
	t, err := time.Parse(time.RFC3339, when)
	return StartAtTime(t), err == nil
}
