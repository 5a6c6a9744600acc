package record

import (
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// Codec says how the records of a batch are compressed. The zero value is
// None. In text and YAML it is its name.
type Codec int8

// The codecs, with Kafka's numbers. Kafka: compression.type.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

func (c Codec) known() bool { return c >= 0 && int(c) < len(codecNames) }

// String returns the codec's name.
func (c Codec) String() string {
	if !c.known() {
		return fmt.Sprintf("Codec(%d)", int8(c))
	}
	return codecNames[c]
}

// ParseCodec finds a codec by its name: none, gzip, snappy, lz4 or zstd. It
// fails with ErrInvalidConfig.
func ParseCodec(s string) (Codec, error) {
	for c, name := range codecNames {
		if s == name {
			return Codec(c), nil
		}
	}
	return None, fmt.Errorf("%w: compression %q is none of none, gzip, snappy, lz4, zstd", mqerr.ErrInvalidConfig, s)
}

// MarshalText implements encoding.TextMarshaler.
func (c Codec) MarshalText() ([]byte, error) {
	if !c.known() {
		return nil, fmt.Errorf("%w: compression %v", mqerr.ErrInvalidConfig, c)
	}
	return []byte(c.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Codec) UnmarshalText(text []byte) error {
	parsed, err := ParseCodec(string(text))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}
