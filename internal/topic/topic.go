// Package topic holds the rules of topic names and topic configs. Config names
// are Kafka's, so that tools and habits carry over.
package topic

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
)

// Limits of a topic.
const (
	MaxNameLength = 249   // Kafka's limit
	MaxPartitions = 10000 // of one topic
	MaxBatchBytes = 16 << 20
)

// Names of the configs.
const (
	RetentionMs     = "retention.ms"
	RetentionBytes  = "retention.bytes"
	MaxMessageBytes = "max.message.bytes"
	TimestampType   = "message.timestamp.type"
)

// Values of message.timestamp.type.
const (
	CreateTime    = "CreateTime"
	LogAppendTime = "LogAppendTime"
)

// Config is the parsed form of a topic's configs. Make one with Parse; Default
// has the value of every config that is not set.
type Config struct {
	// Retention is how long a record is kept, counted from the broker's append
	// time. Default 7 days; negative means for ever. Kafka: retention.ms.
	Retention time.Duration
	// RetentionBytes bounds a partition's size. Default -1, unlimited. Kafka: retention.bytes.
	RetentionBytes int64
	// MaxMessageBytes bounds a record batch. Default 1 MiB, at most 16 MiB. Kafka: max.message.bytes.
	MaxMessageBytes int
	// LogAppendTime makes the broker stamp records. Default false, the
	// producer's time is kept. Kafka: message.timestamp.type.
	LogAppendTime bool
}

// Default is the config of a topic without configs.
func Default() Config {
	return Config{Retention: 7 * 24 * time.Hour, RetentionBytes: -1, MaxMessageBytes: 1 << 20}
}

type setter func(c *Config, v string) error

var setters = map[string]setter{
	RetentionMs: func(c *Config, v string) error {
		ms, err := strconv.ParseInt(v, 10, 64)
		if err != nil || ms < -1 {
			return fmt.Errorf("want milliseconds or -1")
		}
		if ms < 0 {
			c.Retention = -1
			return nil
		}
		c.Retention = time.Duration(min(ms, int64(1<<63-1)/int64(time.Millisecond))) * time.Millisecond
		return nil
	},
	RetentionBytes: func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < -1 {
			return fmt.Errorf("want bytes or -1")
		}
		c.RetentionBytes = n
		return nil
	},
	MaxMessageBytes: func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > MaxBatchBytes {
			return fmt.Errorf("want 1 to %d bytes", MaxBatchBytes)
		}
		c.MaxMessageBytes = n
		return nil
	},
	TimestampType: func(c *Config, v string) error {
		switch v {
		case CreateTime:
			c.LogAppendTime = false
		case LogAppendTime:
			c.LogAppendTime = true
		default:
			return fmt.Errorf("want %s or %s", CreateTime, LogAppendTime)
		}
		return nil
	},
}

// ConfigNames lists the names that Parse knows, sorted.
func ConfigNames() []string { return slices.Sorted(maps.Keys(setters)) }

// Parse reads configs by name. An unknown name or a bad value is an
// ErrInvalidConfig that says which.
func Parse(configs map[string]string) (Config, error) {
	c := Default()
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		set, ok := setters[name]
		if !ok {
			return c, fmt.Errorf("%w: unknown topic config %q, known are %s",
				mqerr.ErrInvalidConfig, name, strings.Join(ConfigNames(), ", "))
		}
		if err := set(&c, configs[name]); err != nil {
			return c, fmt.Errorf("%w: topic config %s=%q: %w", mqerr.ErrInvalidConfig, name, configs[name], err)
		}
	}
	return c, nil
}

// CheckName reports whether a topic may have the name: 1 to 249 of letters,
// digits, dot, underscore and hyphen, and not "." or "..", as in Kafka.
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameLength || name == "." || name == ".." {
		return fmt.Errorf("%w: %q: 1 to %d characters, neither \".\" nor \"..\" alone", mqerr.ErrInvalidTopic, clip(name), MaxNameLength)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("%w: %q: only letters, digits, dot, underscore and hyphen", mqerr.ErrInvalidTopic, clip(name))
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// Map gives every config by name; Parse reads it back.
func (c Config) Map() map[string]string {
	retention := int64(-1)
	if c.Retention >= 0 {
		retention = c.Retention.Milliseconds()
	}
	stamp := CreateTime
	if c.LogAppendTime {
		stamp = LogAppendTime
	}
	return map[string]string{
		RetentionMs:     strconv.FormatInt(retention, 10),
		RetentionBytes:  strconv.FormatInt(c.RetentionBytes, 10),
		MaxMessageBytes: strconv.Itoa(c.MaxMessageBytes),
		TimestampType:   stamp,
	}
}
