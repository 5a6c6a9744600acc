package mq

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/raftmq/mq/internal/topic"
)

// BrokerConfig says how to run a broker. The zero value is one broker, in
// memory, without a socket.
type BrokerConfig struct {
	// ID is the broker's number in its cluster. Default 1. It is recorded in the
	// data directory and can't change. Kafka: node.id.
	ID int32 `yaml:"id"`

	// DataDir is where records are kept. It is made if it is not there; one
	// process at a time may have it. Default "", everything in memory: a crash
	// or a Close loses it, see Durable. Kafka: log.dirs.
	DataDir string `yaml:"data_dir"`

	// Listen is the host:port to serve gRPC on; port 0 picks one, see Addr.
	// Default "", no socket: only this program reaches the broker. Kafka: listeners.
	Listen string `yaml:"listen"`

	// Advertise is the host:port that clients elsewhere are told to use. Default
	// the address listened on, which must then name a host that they reach.
	// Kafka: advertised.listeners.
	Advertise string `yaml:"advertise"`

	// Rack is where the broker stands: brokers of one rack may fail together.
	// Replicas of a partition are put into as many racks as there are. Default "",
	// of no matter. Kafka: broker.rack.
	Rack string `yaml:"rack"`

	// Cluster says how the broker finds others. Default: it stays alone.
	Cluster ClusterConfig `yaml:"cluster"`

	// TLS, when set, is demanded of every connection of a client, and ClientAuth says
	// whether clients must show a certificate. This broker's own clients reach the
	// other brokers with it, too: they take certificates that RootCAs signed, nil
	// being the system's, and show this one. Default nil, plain text, which is
	// warned of unless Listen is on loopback.
	TLS *tls.Config `yaml:"-"`

	// DisableAutoCreate stops producers and consumers from creating a topic by
	// naming it. Kafka: auto.create.topics.enable=false.
	DisableAutoCreate bool `yaml:"disable_auto_create"`

	// DefaultPartitions is how many partitions a topic gets that does not say.
	// Default 1, at most 10000. Kafka: num.partitions.
	DefaultPartitions int `yaml:"default_partitions"`

	// MaxMemory bounds, in bytes, what a broker without DataDir uses for
	// records; when it is full producers get ErrBusy until retention or a trim
	// frees some. Default 256 MiB, at least 16 MiB.
	MaxMemory int64 `yaml:"max_memory"`

	// MaxInFlightBytes bounds what is on its way to the raft log; beyond it
	// producers get ErrBusy and come again. Default 128 MiB, and half of
	// MaxMemory at most in memory.
	MaxInFlightBytes int `yaml:"max_in_flight_bytes"`

	// MinFreeBytes is the free space on the disk of DataDir below which the
	// broker refuses to append (ErrDiskFull) and goes on serving reads, trims
	// and metadata. A full disk kills the process, so leave room. Default 512
	// MiB; negative means never refuse.
	MinFreeBytes int64 `yaml:"min_free_bytes"`

	// RetentionInterval is how often retention is applied; a partition that
	// grows fast is looked at sooner. Default 5s. Kafka: log.retention.check.interval.ms.
	RetentionInterval time.Duration `yaml:"retention_interval"`

	// MaxGroupMembers is how many members a consumer group may have; one more gets
	// ErrGroupMaxSize. Default 1000. Kafka: group.consumer.max.size.
	MaxGroupMembers int `yaml:"max_group_members"`

	// OffsetsRetention is after how long without members a consumer group loses
	// its offsets. Default 7 days; negative means never. Kafka: offsets.retention.minutes.
	OffsetsRetention time.Duration `yaml:"offsets_retention"`

	// CloseTimeout bounds how long Close lets requests finish. Default 10s.
	CloseTimeout time.Duration `yaml:"close_timeout"`

	// Logger gets the broker's log, raft's and the store's included. Raft's log
	// is the process's: of several brokers, the one opened last gets it.
	// Default nil, silent.
	Logger *slog.Logger `yaml:"-"`
}

const minMaxMemory = 16 << 20

func (c BrokerConfig) withDefaults() BrokerConfig {
	if c.ID == 0 {
		c.ID = 1
	}
	if c.DefaultPartitions == 0 {
		c.DefaultPartitions = 1
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = 256 << 20
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = 128 << 20
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = 512 << 20
	}
	if c.RetentionInterval == 0 {
		c.RetentionInterval = 5 * time.Second
	}
	if c.MaxGroupMembers == 0 {
		c.MaxGroupMembers = 1000
	}
	if c.OffsetsRetention == 0 {
		c.OffsetsRetention = 7 * 24 * time.Hour
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = 10 * time.Second
	}
	c.Cluster = c.Cluster.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c BrokerConfig) validate() error {
	var faults []error
	if c.ID < 1 {
		faults = append(faults, fmt.Errorf("id: %d is below 1", c.ID))
	}
	for key, addr := range map[string]string{"listen": c.Listen, "advertise": c.Advertise} {
		if addr == "" {
			continue
		}
		if err := addrFault(addr); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	faults = append(faults, c.Cluster.faults()...)
	if c.Advertise != "" && c.Listen == "" {
		faults = append(faults, errors.New("advertise: needs listen"))
	}
	if c.TLS != nil && c.Listen == "" {
		faults = append(faults, errors.New("TLS: needs listen"))
	}
	if c.DefaultPartitions < 1 || c.DefaultPartitions > topic.MaxPartitions {
		faults = append(faults, fmt.Errorf("default_partitions: %d is not 1 to %d", c.DefaultPartitions, topic.MaxPartitions))
	}
	if c.MaxMemory < minMaxMemory {
		faults = append(faults, fmt.Errorf("max_memory: %d is below %d", c.MaxMemory, minMaxMemory))
	}
	if c.MaxInFlightBytes < 1 {
		faults = append(faults, fmt.Errorf("max_in_flight_bytes: %d is below 1", c.MaxInFlightBytes))
	}
	if c.MaxGroupMembers < 1 {
		faults = append(faults, fmt.Errorf("max_group_members: %d is below 1", c.MaxGroupMembers))
	}
	for key, d := range map[string]time.Duration{"retention_interval": c.RetentionInterval, "close_timeout": c.CloseTimeout} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("%s: %v is negative", key, d))
		}
	}
	return invalidConfig("broker", faults)
}
