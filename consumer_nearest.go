package mq

import (
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/route"
)

// ReadFrom says which broker a Consumer reads a partition from. In YAML it is
// leader or nearest. Kafka: client.rack, KIP-392.
type ReadFrom uint8

// The brokers to read from.
const (
	ReadLeader  ReadFrom = iota // the one that leads the partition
	ReadNearest                 // one that has a replica and is near, if there is one, else the leader
)

var readFromNames = []string{ReadLeader: "leader", ReadNearest: "nearest"}

// String returns leader or nearest.
func (f ReadFrom) String() string { return nameOf(readFromNames, "ReadFrom", uint8(f)) }

// MarshalText implements encoding.TextMarshaler.
func (f ReadFrom) MarshalText() ([]byte, error) { return marshalName(readFromNames, uint8(f)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *ReadFrom) UnmarshalText(text []byte) error {
	return unmarshalName(readFromNames, (*uint8)(f), text)
}

// avoidFollower is how long a partition is read from its leader after a follower
// could not be read.
const avoidFollower = lookForPartitions

// followerPatience is how long a follower may take beyond what it was told to
// wait. That is less than a leader may, for the leader can be asked instead.
const followerPatience = 3 * time.Second

// nearness chooses followers to read from. A nil one chooses none.
type nearness struct {
	router *route.Router
	rack   string
	mu     struct {
		sync.Mutex
		avoided map[replicaAt]time.Time // until when
	}
}

// replicaAt is the replica that a broker has of a partition.
type replicaAt struct {
	topic     string
	partition int32
	broker    int32
}

// newNearness returns what chooses for a consumer, nil when that is always the leader.
func newNearness(router *route.Router, cfg ConsumerConfig) *nearness {
	if cfg.ReadFrom != ReadNearest {
		return nil
	}
	n := &nearness{router: router, rack: cfg.Rack}
	n.mu.avoided = make(map[replicaAt]time.Time)
	return n
}

// follower is the broker to read a partition from instead of its leader, 0 for
// none. The broker in this process is nearest, then come those of the same rack.
func (n *nearness) follower(topic string, p api.PartitionInfo) int32 {
	if n == nil {
		return 0
	}
	local, embedded := n.router.Local()
	here := func(id int32) bool { return embedded && id == local }
	if id := n.among(topic, p, here); id != 0 || here(p.Leader) {
		return id
	}
	rack := n.rack
	if rack == "" && embedded {
		rack = n.router.Rack(local)
	}
	beside := func(id int32) bool { return rack != "" && n.router.Rack(id) == rack }
	if beside(p.Leader) {
		return 0
	}
	return n.among(topic, p, beside)
}

// among picks one of the replicas that are near, vote, and are not avoided: not
// for all partitions the same.
func (n *nearness) among(topic string, p api.PartitionInfo, near func(int32) bool) int32 {
	var ids []int32
	for _, id := range p.Replicas {
		if id != p.Leader && near(id) && !slices.Contains(p.Learners, id) && !n.avoids(replicaAt{topic, p.Index, id}) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 0
	}
	return ids[int(p.Index)%len(ids)]
}

// avoid reads a partition from its leader for a while.
func (n *nearness) avoid(at replicaAt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.avoided[at] = time.Now().Add(avoidFollower)
}

func (n *nearness) avoids(at replicaAt) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	until, ok := n.mu.avoided[at]
	if ok && time.Now().After(until) {
		delete(n.mu.avoided, at)
		return false
	}
	return ok
}
