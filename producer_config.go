package mq

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/raftmq/mq/internal/produce"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/internal/topic"
)

// ProducerConfig says how a Producer sends. The zero value is ready to use with
// records that name their topic.
type ProducerConfig struct {
	// Topic is where records without a topic go. Default none: such a record
	// is refused.
	Topic string `yaml:"topic"`

	// Partitioner chooses partitions. Default nil, HashKeys. In YAML
	// "partition: N" is FixedPartition(N).
	Partitioner Partitioner `yaml:"-"`

	// Acks says when a record counts as sent. Default AcksAll. Kafka: acks.
	Acks Acks `yaml:"required_acks"`

	// Compression of batches. Default none. Kafka: compression.type.
	Compression Compression `yaml:"compression"`

	// Linger is how long a batch that is not full waits for more records.
	// Default 5ms; negative sends at once. Longer gives bigger batches and
	// higher latency to SendAsync; Send and SendBatch never wait for it. In YAML
	// also flush_interval_ms. Kafka: linger.ms.
	Linger time.Duration `yaml:"linger"`

	// BatchSize is how many records a batch holds at most. Default 10,000.
	BatchSize int `yaml:"batch_size"`

	// BatchBytes is the size, before compression, at which a batch is full.
	// Default 256 KiB: so large that what a batch costs (a request, a raft
	// entry, a share of an fsync) hardly matters for its records, so small that
	// the batches in flight fit what a broker buffers of a partition. A topic
	// with a smaller max.message.bytes gets smaller batches, and a single record
	// may be larger. Kafka: batch.size.
	BatchBytes int `yaml:"batch_bytes"`

	// MaxRecordBytes is the largest record that is accepted, before compression
	// and with 61 to about 80 bytes of overhead; ErrRecordTooLarge otherwise.
	// Default 1 MiB, which is also what a topic takes by default
	// (max.message.bytes). Kafka: max.request.size.
	MaxRecordBytes int `yaml:"max_record_bytes"`

	// MaxInFlight is how many batches of one partition are on their way at a
	// time. Default 5, at most 32; order is kept whatever it is. With AcksNone
	// it is 1. Kafka: max.in.flight.requests.per.connection.
	MaxInFlight int `yaml:"max_in_flight"`

	// MaxBufferedRecords and MaxBufferedBytes bound what is accepted and not
	// settled. At the bound Send and SendAsync wait and TrySend fails. Default
	// 100,000 records and 64 MiB. Bytes are those of encoded records; beside them
	// each record costs about 150 bytes of memory. Kafka: buffer.memory.
	MaxBufferedRecords int `yaml:"max_buffered_records"`
	MaxBufferedBytes   int `yaml:"max_buffered_bytes"`

	// Timeout bounds one attempt to send a batch: the broker has that long to
	// replicate it. Default 30s. Kafka: request.timeout.ms.
	Timeout time.Duration `yaml:"timeout"`

	// DeliveryTimeout is how long a record may take from Send to its
	// acknowledgement, retries included, counted from the oldest record of its
	// batch. Default 2m; negative means no limit. Kafka: delivery.timeout.ms.
	DeliveryTimeout time.Duration `yaml:"delivery_timeout"`

	// CloseTimeout is how long Close waits for records to get through. Default
	// 30s; negative means as long as DeliveryTimeout lets it.
	CloseTimeout time.Duration `yaml:"close_timeout"`

	// Logger gets the producer's log. Default nil, silent.
	Logger *slog.Logger `yaml:"-"`
}

// maxInFlight is how many batches of a producer a broker remembers per
// partition, at least.
const maxInFlight = 32

// withDefaults returns a copy in which every field has its value.
func (c ProducerConfig) withDefaults() ProducerConfig {
	if c.Partitioner == nil {
		c.Partitioner = HashKeys()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Linger, 5*time.Millisecond)
	setDefault(&c.BatchSize, 10_000)
	setDefault(&c.BatchBytes, 256<<10)
	setDefault(&c.MaxRecordBytes, 1<<20)
	setDefault(&c.MaxInFlight, 5)
	setDefault(&c.MaxBufferedRecords, 100_000)
	setDefault(&c.MaxBufferedBytes, 64<<20)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.DeliveryTimeout, 2*time.Minute)
	setDefault(&c.CloseTimeout, 30*time.Second)
	return c
}

// setDefault sets a field that has its zero value.
func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

func (c ProducerConfig) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if c.Topic != "" {
		if err := topic.CheckName(c.Topic); err != nil {
			faults = append(faults, fmt.Errorf("topic: %w", err))
		}
	}
	if f, ok := c.Partitioner.(fixed); ok {
		fault(f < 0, "partition: %d is negative", f)
	}
	_, err := c.Acks.MarshalText()
	fault(err != nil, "required_acks: %v is unknown", c.Acks)
	_, err = c.Compression.MarshalText()
	fault(err != nil, "compression: %v is unknown", c.Compression)
	fault(c.BatchSize < 0, "batch_size: %d is negative", c.BatchSize)
	fault(c.BatchBytes < 0, "batch_bytes: %d is negative", c.BatchBytes)
	fault(c.BatchBytes > topic.MaxBatchBytes, "batch_bytes: %d is above %d", c.BatchBytes, topic.MaxBatchBytes)
	fault(c.MaxRecordBytes < 0, "max_record_bytes: %d is negative", c.MaxRecordBytes)
	fault(c.MaxRecordBytes > topic.MaxBatchBytes, "max_record_bytes: %d is above %d", c.MaxRecordBytes, topic.MaxBatchBytes)
	fault(c.MaxInFlight < 0 || c.MaxInFlight > maxInFlight, "max_in_flight: %d is not in 1 to %d", c.MaxInFlight, maxInFlight)
	fault(c.MaxBufferedRecords < 0, "max_buffered_records: %d is negative", c.MaxBufferedRecords)
	fault(c.MaxBufferedBytes < 0, "max_buffered_bytes: %d is negative", c.MaxBufferedBytes)
	fault(c.Timeout < 0, "timeout: %v is negative", c.Timeout)
	fault(c.DeliveryTimeout > 0 && c.Linger >= c.DeliveryTimeout, "linger: %v is not below delivery_timeout, %v", c.Linger, c.DeliveryTimeout)
	return invalidConfig("producer", faults)
}

// engine returns the part of a valid config that is the engine's.
func (c ProducerConfig) engine(r *route.Router) produce.Config {
	return produce.Config{
		Router: r,
		Partition: func(p produce.Promise, n int) int {
			return c.Partitioner.Partition(p.(promise).sent(), n)
		},
		Acks:            c.Acks.wire(),
		Codec:           record.Codec(c.Compression),
		BatchRecords:    c.BatchSize,
		BatchBytes:      c.BatchBytes,
		MaxRecordBytes:  c.MaxRecordBytes,
		Linger:          max(c.Linger, 0),
		MaxInFlight:     c.MaxInFlight,
		BufferRecords:   c.MaxBufferedRecords,
		BufferBytes:     c.MaxBufferedBytes,
		Timeout:         c.Timeout,
		DeliveryTimeout: max(c.DeliveryTimeout, 0),
		Logger:          c.Logger,
	}
}

var errNoTopic = errors.New("record without topic, and the producer has none")
