package cluster

import (
	"log/slog"
	"time"

	lvfs "github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/storage"
)

// Config is what a Node is made of. The root package fills every field; zero
// values get the defaults below.
type Config struct {
	BrokerID int32  // default 1
	Dir      string // data directory; "" keeps everything in memory
	Addr     string // advertised to clients, "" for none
	Rack     string // where it stands; replicas are spread over racks
	Logger   *slog.Logger

	// Network connects the broker with others. Nil is a network of its own.
	Network network.Network
	// PeerListen is where this broker listens for others, PeerAddr where they
	// dial it; default the address it listens on.
	PeerListen, PeerAddr string
	// Seeds are where other brokers of the cluster may be found. A new broker
	// without any forms a cluster, one that has some asks to be let in.
	Seeds []string
	// Bootstrap makes a new broker form a cluster although it has Seeds, unless
	// one of them belongs to one already.
	Bootstrap bool
	Faults    *network.Faults // of tests
	// CatchUpBytes bounds the copies sent to brokers that were away for long, in bytes
	// per second for all together; default 64 MiB, negative for no bound.
	CatchUpBytes int64

	// DisableAutoCreate stops unknown topics from being created on first use.
	DisableAutoCreate bool
	DefaultPartitions int32 // of a created topic, default 1

	InFlightBytes          int           // proposals on their way, whole broker; default 128 MiB
	PartitionInFlightBytes int           // and to one partition; default 16 MiB
	MaxMemory              int64         // in memory only: bound of the records held; default 256 MiB
	MinFreeBytes           int64         // on disk: below it the broker is fenced; default 512 MiB
	SnapshotBytes          int64         // raft log of one shard before it is cut; default 64 MiB
	SnapshotTotalBytes     int64         // and of all shards together; default 1 GiB
	ProposeTimeout         time.Duration // wait for replication, default 10 s
	RetentionInterval      time.Duration // between sweeps of retention, default 5 s
	Observe                Observer
	ProducerExpiry         time.Duration // a producer silent for so long is forgotten; default 7 days. Kafka: transactional.id.expiration.ms

	MaxGroupMembers  int           // of one group; default 1000. Kafka: group.consumer.max.size
	GroupInterval    time.Duration // between heartbeats of a member; default 3 s. Kafka: group.consumer.heartbeat.interval.ms
	SessionTimeout   time.Duration // of members that do not say; default 45 s. Kafka: group.consumer.session.timeout.ms
	RebalanceTimeout time.Duration // of members that do not say; default 5 min. Kafka: max.poll.interval.ms
	OffsetsRetention time.Duration // after which a group without members loses its offsets; default 7 days, negative never. Kafka: offsets.retention.minutes

	Test TestSeams
}

// Observer is told how long things took. Its functions may be nil; they are
// called where speed matters and must not block.
type Observer struct {
	LogSync   func(time.Duration) // the raft log was synced
	StoreSync func(time.Duration) // a file of the store was
	Apply     func(time.Duration) // commands were applied to the store
}

// TestSeams replace the outside world in tests.
type TestSeams struct {
	StoreFS  storage.FS // file system of the store and the directory itself
	RaftFS   lvfs.FS    // file system of the raft log
	Now      func() time.Time
	DiskFree func() (free, total uint64, ok bool)
	// StoreGrace is how long the store may fail to write for another reason than
	// lack of room before the node counts as failed. Default 10 s.
	StoreGrace time.Duration
	// SnapshotTimeout is how long to wait for one cut of a raft log. Raft does not
	// tell of every one that fails. Default 30 s.
	SnapshotTimeout time.Duration
	Feature         uint8 // feature level that the build knows, if not 0
	SkipSync        bool  // breaks Sync on purpose, to see that tests notice
}

const (
	tick        = 50 * time.Millisecond // dragonboat's RTTMillisecond
	electionRTT = 20
	heartbeat   = 2
)

func orInt[T int | int32 | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (c Config) withDefaults() Config {
	orInt(&c.BrokerID, 1)
	orInt(&c.DefaultPartitions, 1)
	orInt(&c.InFlightBytes, 128<<20)
	orInt(&c.PartitionInFlightBytes, 16<<20)
	orInt(&c.MaxMemory, 256<<20)
	orInt(&c.MinFreeBytes, 512<<20)
	orInt(&c.SnapshotBytes, 64<<20)
	orInt(&c.SnapshotTotalBytes, 1<<30)
	orInt(&c.ProposeTimeout, 10*time.Second)
	orInt(&c.RetentionInterval, 5*time.Second)
	orInt(&c.Test.SnapshotTimeout, 30*time.Second)
	orInt(&c.Test.StoreGrace, 10*time.Second)
	orInt(&c.ProducerExpiry, 7*24*time.Hour)
	orInt(&c.MaxGroupMembers, 1000)
	orInt(&c.GroupInterval, 3*time.Second)
	orInt(&c.SessionTimeout, 45*time.Second)
	orInt(&c.RebalanceTimeout, 5*time.Minute)
	orInt(&c.OffsetsRetention, 7*24*time.Hour)
	if c.Dir == "" {
		// Raft log and store live in the same memory.
		c.SnapshotBytes = min(c.SnapshotBytes, c.MaxMemory/16)
		c.SnapshotTotalBytes = min(c.SnapshotTotalBytes, c.MaxMemory/4)
		c.InFlightBytes = min(c.InFlightBytes, int(c.MaxMemory/8))
		c.PartitionInFlightBytes = min(c.PartitionInFlightBytes, c.InFlightBytes)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Test.Now == nil {
		c.Test.Now = clock.System{}.Now
	}
	return c
}
