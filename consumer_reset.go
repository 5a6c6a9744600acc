package mq

import (
	"fmt"
	"strings"
	"time"

	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
)

// ResetPolicy says where to go on when there is no valid offset: ResetEarliest,
// ResetLatest, ResetNone, or what ResetAgo gives. In text and YAML it is earliest,
// latest, none, or @- and a duration: @-24h. Kafka: auto.offset.reset.
type ResetPolicy int64

// The policies that need no argument.
const (
	ResetEarliest = ResetPolicy(fetch.ResetEarliest) // the first record there is
	ResetLatest   = ResetPolicy(fetch.ResetLatest)   // records that come from now on
	ResetNone     = ResetPolicy(fetch.ResetNone)     // nowhere: reading fails with ErrOffsetOutOfRange
)

// ResetAgo is the first record whose timestamp is not older than d when the offset is
// needed; ResetLatest when d is not positive. Kafka: by_duration, KIP-1106.
func ResetAgo(d time.Duration) ResetPolicy {
	if d <= 0 {
		return ResetLatest
	}
	return ResetPolicy(d)
}

// String returns the text form.
func (p ResetPolicy) String() string {
	switch {
	case p == ResetEarliest:
		return "earliest"
	case p == ResetLatest:
		return "latest"
	case p == ResetNone:
		return "none"
	case p > 0:
		return "@-" + time.Duration(p).String()
	}
	return fmt.Sprintf("ResetPolicy(%d)", int64(p))
}

// MarshalText implements encoding.TextMarshaler.
func (p ResetPolicy) MarshalText() ([]byte, error) {
	if p < ResetNone {
		return nil, fmt.Errorf("%w: %v is no reset policy", mqerr.ErrInvalidConfig, p)
	}
	return []byte(p.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *ResetPolicy) UnmarshalText(text []byte) error {
	for _, known := range []ResetPolicy{ResetEarliest, ResetLatest, ResetNone} {
		if string(text) == known.String() {
			*p = known
			return nil
		}
	}
	if ago, ok := strings.CutPrefix(string(text), "@-"); ok {
		if d, err := time.ParseDuration(ago); err == nil && d > 0 {
			*p = ResetPolicy(d)
			return nil
		}
	}
	return fmt.Errorf("%w: %q is none of earliest, latest, none, @-DURATION", mqerr.ErrInvalidConfig, text)
}
