package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
)

// Shard ids. They are never reused.
const (
	metaShard      = 1
	firstGroup     = 2
	groupSlots     = 16
	firstPartition = 1024
)

// metaState is the cluster's metadata at one version. A published one is
// immutable: a change works on a copy.
type metaState struct {
	version      int64
	clusterID    string
	brokers      map[int32]brokerRecord
	topics       map[string]*topicRecord
	byID         map[uuid.UUID]*topicRecord
	groups       map[int]groupRecord // by slot
	meta         shardRecord         // where the metadata itself is
	feature      uint8               // level of the commands that are proposed
	nextShard    uint64
	nextProducer int64
}

// The records below are stored as JSON: they change seldom, and unknown fields
// of a newer version do no harm. Their names are the disk format.

type brokerRecord struct {
	ID    int32  `json:"id"`
	DirID string `json:"dir_id"` // of the data directory: a wiped disk is another broker
	Addr  string `json:"addr,omitempty"`
	// PeerAddr is where other brokers find it.
	PeerAddr string `json:"peer_addr,omitempty"`
	Rack     string `json:"rack,omitempty"`    // brokers of one may fail together
	Feature  uint8  `json:"feature,omitempty"` // the newest level that it applies
	// Leaving brokers get nothing new, and what they have goes elsewhere.
	Leaving bool `json:"leaving,omitempty"`
}

type topicRecord struct {
	Name       string            `json:"name"`
	ID         uuid.UUID         `json:"id"`
	Configs    map[string]string `json:"configs,omitempty"`
	Partitions []shardRecord     `json:"partitions"`
	Factor     int16             `json:"factor,omitempty"` // replicas asked for; 0 follows the number of brokers

	config topic.Config // parsed Configs
}

type shardRecord struct {
	Shard    uint64          `json:"shard"`
	Replicas []replicaRecord `json:"replicas"`
	// Preferred is the replica that should lead, if it is there; 0 for any.
	Preferred uint64 `json:"preferred,omitempty"`
	Newest    uint64 `json:"newest,omitempty"` // replica number given out last, once it was changed
	// Born are the replicas that the shard was made with and the directory ids of
	// their brokers. It never changes: one of them that starts late has to begin
	// with the same members as the others did, wherever those are by then.
	Born map[uint64]string `json:"born,omitempty"`
}

type replicaRecord struct {
	Broker  int32  `json:"broker"`
	Replica uint64 `json:"replica"`         // never reused within the shard
	Added   bool   `json:"added,omitempty"` // to a shard that was there: it began as a learner
	Joining bool   `json:"joining,omitempty"`
	Leaving bool   `json:"leaving,omitempty"`
	// Replaces is the replica that goes when this one has joined; 0 for none.
	Replaces uint64 `json:"replaces,omitempty"`
}

type groupRecord struct {
	Slot int `json:"slot"`
	shardRecord
}

func newMetaState() *metaState {
	return &metaState{
		brokers: map[int32]brokerRecord{}, topics: map[string]*topicRecord{}, byID: map[uuid.UUID]*topicRecord{},
		groups: map[int]groupRecord{}, nextShard: firstPartition, nextProducer: 1, feature: oldestFeature,
	}
}

// clone copies the maps; records are replaced, never changed.
func (s *metaState) clone() *metaState {
	c := *s
	c.brokers = maps.Clone(s.brokers)
	c.topics = maps.Clone(s.topics)
	c.byID = maps.Clone(s.byID)
	c.groups = maps.Clone(s.groups)
	return &c
}

func (s *metaState) putTopic(t *topicRecord) {
	s.topics[t.Name] = t
	s.byID[t.ID] = t
}

func (s *metaState) removeTopic(t *topicRecord) {
	delete(s.topics, t.Name)
	delete(s.byID, t.ID)
}

// sortedTopics gives the topics by name.
func (s *metaState) sortedTopics() []*topicRecord {
	out := make([]*topicRecord, 0, len(s.topics))
	for _, name := range slices.Sorted(maps.Keys(s.topics)) {
		out = append(out, s.topics[name])
	}
	return out
}

// on returns the replica that a broker has of a shard.
func (s shardRecord) on(broker int32) (uint64, bool) {
	for _, r := range s.Replicas {
		if r.Broker == broker {
			return r.Replica, true
		}
	}
	return 0, false
}

// replica returns the place of a replica among Replicas, -1 for none.
func (s shardRecord) replica(id uint64) int {
	return slices.IndexFunc(s.Replicas, func(r replicaRecord) bool { return r.Replica == id })
}

// settled reports that a replica votes and is there to stay.
func (r replicaRecord) settled() bool { return !r.Joining && !r.Leaving }

// settled reports that no replica comes or goes.
func (s shardRecord) settled() bool {
	return s.voters() == len(s.Replicas)
}

// voters counts the replicas that vote and stay.
func (s shardRecord) voters() int {
	n := 0
	for _, r := range s.Replicas {
		if r.settled() {
			n++
		}
	}
	return n
}

// staying counts the replicas that are there to stay, or will be.
func (s shardRecord) staying() int {
	n := 0
	for _, r := range s.Replicas {
		if !r.Leaving {
			n++
		}
	}
	return n
}

// byDir finds a broker by its directory id.
func (s *metaState) byDir(dirID string) (brokerRecord, bool) {
	for _, b := range s.brokers {
		if b.DirID == dirID {
			return b, true
		}
	}
	return brokerRecord{}, false
}

// staying gives the brokers that are there to stay.
func (s *metaState) staying() map[int32]brokerRecord {
	out := maps.Clone(s.brokers)
	maps.DeleteFunc(out, func(_ int32, b brokerRecord) bool { return b.Leaving })
	return out
}

// eachShard calls fn with every shard and its topic, nil for one of none.
func (s *metaState) eachShard(fn func(shardRecord, *topicRecord)) {
	fn(s.meta, nil)
	for _, slot := range slices.Sorted(maps.Keys(s.groups)) {
		fn(s.groups[slot].shardRecord, nil)
	}
	for _, t := range s.sortedTopics() {
		for _, shard := range t.Partitions {
			fn(shard, t)
		}
	}
}

// effective returns all configs of a topic, defaults included.
func (t *topicRecord) effective() map[string]string {
	out := t.config.Map()
	maps.Copy(out, t.Configs)
	return out
}

func (t *topicRecord) tp(partition int) api.TopicPartition {
	return api.TopicPartition{Topic: t.Name, TopicID: t.ID, Partition: int32(partition)}
}

func compareTP(a, b api.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// lookup checks that a partition exists, wherever it lives.
func lookup(s *metaState, tp api.TopicPartition) (*topicRecord, error) {
	t := s.topics[tp.Topic]
	switch {
	case t == nil:
		return nil, fmt.Errorf("%w: topic %q", mqerr.ErrUnknownTopicOrPartition, tp.Topic)
	case tp.TopicID != uuid.Nil && tp.TopicID != t.ID:
		return nil, fmt.Errorf("%w: %s", mqerr.ErrUnknownTopicID, tp.Topic)
	case tp.Partition < 0 || int(tp.Partition) >= len(t.Partitions):
		return nil, fmt.Errorf("%w: %s has partitions 0 to %d, not %d",
			mqerr.ErrUnknownTopicOrPartition, tp.Topic, len(t.Partitions)-1, tp.Partition)
	}
	return t, nil
}
