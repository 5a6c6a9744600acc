package mq

import (
	"fmt"
	"strconv"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// Record is one message of a topic: what a producer sends and a consumer
// receives.
type Record struct {
	// Topic is where the record belongs. Sending: empty means the producer's
	// configured topic, which is then filled in.
	Topic string

	// Partition, Offset and LeaderEpoch are where the record was stored. They
	// are output only: a sent record has them after it was acknowledged.
	// Offset is -1 when the broker does not tell: with AcksNone, and for a
	// retry so late that the broker forgot the position of the original.
	// LeaderEpoch is -1 when unknown. (To choose a partition: Partitioner.)
	Partition   int32
	Offset      int64
	LeaderEpoch int32

	// Key decides the partition unless the Partitioner says otherwise. Records
	// with equal keys stay in order. Nil and empty are different.
	Key []byte
	// Value is the payload. Nil and empty are different: in Kafka's habit nil
	// says that the key is deleted.
	Value []byte
	// Headers are ordered; keys may repeat.
	Headers []Header

	// Timestamp has millisecond precision. Sending: zero means now, which is
	// then filled in. Received from a topic with
	// message.timestamp.type=LogAppendTime it is the broker's time.
	Timestamp time.Time
}

// Header is a name and a value beside the payload. KIP-82.
type Header struct {
	Key   string
	Value []byte
}

// TopicPartition names a partition of a topic. Partitions count from 0.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String returns topic/partition.
func (tp TopicPartition) String() string {
	return tp.Topic + "/" + strconv.Itoa(int(tp.Partition))
}

// Acks says when a record counts as sent. In YAML also by Kafka's numbers: -1
// or all, 0 or none, 1 or leader. Kafka: acks.
type Acks int8

const (
	// AcksAll, the zero value, waits until a majority of the partition's
	// replicas has the record on disk.
	AcksAll Acks = iota
	// AcksLeader gives the same guarantee as AcksAll here, because a leader
	// knows no state between "proposed" and "on a majority". It exists for
	// configurations written for Kafka.
	AcksLeader
	// AcksNone counts a record as sent when the broker took it. It can still be
	// lost, and a retry may store it twice.
	AcksNone
)

// String returns all, leader or none.
func (a Acks) String() string {
	switch a {
	case AcksAll:
		return "all"
	case AcksLeader:
		return "leader"
	case AcksNone:
		return "none"
	}
	return fmt.Sprintf("Acks(%d)", int8(a))
}

// MarshalText implements encoding.TextMarshaler.
func (a Acks) MarshalText() ([]byte, error) {
	if a < AcksAll || a > AcksNone {
		return nil, fmt.Errorf("%w: %v", mqerr.ErrInvalidConfig, a)
	}
	return []byte(a.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Acks) UnmarshalText(text []byte) error {
	switch string(text) {
	case "all", "-1":
		*a = AcksAll
	case "leader", "1":
		*a = AcksLeader
	case "none", "0":
		*a = AcksNone
	default:
		return fmt.Errorf("%w: acks %q is none of all (-1), none (0), leader (1)", mqerr.ErrInvalidConfig, text)
	}
	return nil
}

// wire returns Kafka's number.
func (a Acks) wire() int16 {
	switch a {
	case AcksLeader:
		return api.AcksLeader
	case AcksNone:
		return api.AcksNone
	default:
		return api.AcksAll
	}
}

// Compression is how a batch is compressed on its way to the broker, in the
// log, and on its way to consumers. In YAML it is its name. Kafka:
// compression.type.
type Compression int8

// The codecs. The zero value is none.
const (
	CompressionNone   = Compression(record.None)
	CompressionGzip   = Compression(record.Gzip)
	CompressionSnappy = Compression(record.Snappy)
	CompressionLZ4    = Compression(record.LZ4)
	CompressionZstd   = Compression(record.Zstd)
)

// String returns the codec's name.
func (c Compression) String() string { return record.Codec(c).String() }

// MarshalText implements encoding.TextMarshaler.
func (c Compression) MarshalText() ([]byte, error) { return record.Codec(c).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Compression) UnmarshalText(text []byte) error {
	return (*record.Codec)(c).UnmarshalText(text)
}
