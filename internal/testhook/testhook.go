// Package testhook is how package mqtest gets at what package mq keeps to itself:
// the disk that a broker runs on, and the copy of a partition that a broker has.
// Package mq fills it in. Programs can't import it.
package testhook

import (
	"context"
	"net"
	"time"
)

// Disk is what a broker runs on. After Kill or PowerCut the broker on it
// acknowledges nothing more; what they return is for the next one.
type Disk interface {
	// Kill gives the disk as the death of the process leaves it: all that was
	// written is there.
	Kill() (Disk, error)

	// PowerCut gives it as a loss of power leaves it: all that was synced, and of
	// the rest each block and each name with a chance of unsynced percent.
	PowerCut(unsynced int, seed uint64) Disk

	// Pause makes syncs of the raft log wait until resume is called.
	Pause() (resume func())

	// Slow makes each sync of the raft log take longer by so much, from now on.
	Slow(by time.Duration)
}

// Inside is the inside of a broker.
type Inside interface {
	// Settled says what is missing until the cluster has this many brokers and
	// every shard all its replicas, as far as this broker knows.
	Settled(brokers int) error

	// ReadCopy reads batches of this broker's copy of a partition from an offset
	// on, leader or not, and tells where the copy starts and ends. One that the
	// broker does not have is mq.ErrUnknownTopicOrPartition.
	ReadCopy(topic string, partition int32, from int64) (batches []byte, start, end int64, err error)
}

// Machine is what a broker runs on.
type Machine struct {
	Disk Disk

	// Now is its clock; nil for the real one.
	Now func() time.Time

	// ClientAddr is where it listens for clients on its Network, and Dial how its
	// own clients reach those of others.
	ClientAddr string
	Dial       Dial
}

// Dial connects to a listener for clients.
type Dial func(ctx context.Context, addr string) (net.Conn, error)

var (
	// NewDisk makes an empty disk in memory.
	NewDisk func() Disk

	// OpenBroker is mq.OpenBroker on a machine: of an mq.BrokerConfig, whose
	// DataDir is a name on the machine's disk, it makes an *mq.Broker.
	OpenBroker func(ctx context.Context, cfg any, m Machine) (broker any, err error)

	// NewClient makes an *mq.Client that connects by dial.
	NewClient func(brokers []string, dial Dial) (client any)

	// Look gives the inside of an *mq.Broker.
	Look func(broker any) Inside
)
