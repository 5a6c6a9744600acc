package cluster

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
	"github.com/raftmq/mq/storage"
)

// metaCommand is the body of a kindMeta command: exactly one field is set.
type metaCommand struct {
	FormCluster     *formCluster     `json:"form_cluster,omitempty"`
	RegisterBroker  *brokerRecord    `json:"register_broker,omitempty"`
	Registered      bool             `json:"registered,omitempty"` // RegisterBroker only changes one that is there
	CreateTopic     *createTopic     `json:"create_topic,omitempty"`
	DeleteTopic     *deleteTopic     `json:"delete_topic,omitempty"`
	AlterTopic      *alterTopic      `json:"alter_topic,omitempty"`
	AddPartitions   *addPartitions   `json:"add_partitions,omitempty"`
	CreateGroupSlot *createGroupSlot `json:"create_group_slot,omitempty"`
	AllocProducers  *allocProducers  `json:"alloc_producers,omitempty"`
	ChangeReplica   *changeReplica   `json:"change_replica,omitempty"`
	LeaveBroker     *leaveBroker     `json:"leave_broker,omitempty"`
	ForgetBroker    *leaveBroker     `json:"forget_broker,omitempty"`
	RaiseFeature    *raiseFeature    `json:"raise_feature,omitempty"`
}

// formCluster is the first command: a cluster of one broker.
type formCluster struct {
	ClusterID string `json:"cluster_id"`
	Broker    int32  `json:"broker"`
}

type createTopic struct {
	Name       string            `json:"name"`
	ID         uuid.UUID         `json:"id"` // drawn by the proposer
	Configs    map[string]string `json:"configs,omitempty"`
	Partitions [][]int32         `json:"partitions"` // brokers of each
	Factor     int16             `json:"factor,omitempty"`
}

type deleteTopic struct {
	Name string    `json:"name"`
	ID   uuid.UUID `json:"id"`
}

type alterTopic struct {
	Name  string            `json:"name"`
	Set   map[string]string `json:"set,omitempty"`
	Reset []string          `json:"reset,omitempty"`
}

type addPartitions struct {
	Name  string    `json:"name"`
	Total int       `json:"total"`
	Added [][]int32 `json:"added"`
}

type createGroupSlot struct {
	Slot    int     `json:"slot"`
	Brokers []int32 `json:"brokers"`
}

type allocProducers struct {
	Count int64 `json:"count"`
}

// metaValue is what a command gave, and the version of the metadata that has it.
type metaValue struct {
	version int64
	value   any
}

// metadata is the application of the metadata shard. Every broker has it
// locally: readers take an immutable state, and watchers are told of changes.
type metadata struct {
	store   *storage.Store
	id      storage.ReplicaID
	kv      *storage.KV
	epoch   int32
	state   atomic.Pointer[metaState]
	changed func()
}

var _ application = (*metadata)(nil)

// Keys of the metadata's key space.
const (
	keyEpoch  = "epoch" // in every key-value shard
	keyGlobal = "global"
	keyMeta   = "meta" // the metadata's own shard
	preBroker = "broker/"
	preTopic  = "topic/" // by id
	preGroup  = "group/" // by slot
)

type globalRecord struct {
	Version      int64  `json:"version"`
	ClusterID    string `json:"cluster_id"`
	NextShard    uint64 `json:"next_shard"`
	NextProducer int64  `json:"next_producer"`
	Feature      uint8  `json:"feature,omitempty"`
}

func (m *metadata) open() (uint64, error) {
	kv, err := m.store.OpenKV(m.id)
	if err != nil {
		return 0, err
	}
	m.kv = kv
	if err := m.load(); err != nil {
		return 0, err
	}
	return kv.Applied(), nil
}

func (m *metadata) load() error {
	s := newMetaState()
	if err := loadEpoch(m.kv, &m.epoch); err != nil {
		return err
	}
	err := m.kv.Scan(nil, func(key, value []byte) error {
		k := string(key)
		switch {
		case k == keyGlobal:
			var g globalRecord
			if err := json.Unmarshal(value, &g); err != nil {
				return err
			}
			s.version, s.clusterID, s.nextShard, s.nextProducer = g.Version, g.ClusterID, g.NextShard, g.NextProducer
			s.feature = max(g.Feature, oldestFeature)
		case k == keyMeta:
			return json.Unmarshal(value, &s.meta)
		case strings.HasPrefix(k, preBroker):
			var b brokerRecord
			if err := json.Unmarshal(value, &b); err != nil {
				return err
			}
			s.brokers[b.ID] = b
		case strings.HasPrefix(k, preGroup):
			var g groupRecord
			if err := json.Unmarshal(value, &g); err != nil {
				return err
			}
			s.groups[g.Slot] = g
		case strings.HasPrefix(k, preTopic):
			t := &topicRecord{}
			if err := json.Unmarshal(value, t); err != nil {
				return err
			}
			// What was valid when it was set stays usable.
			t.config, _ = topic.Parse(t.Configs)
			s.putTopic(t)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: metadata: %w", mqerr.ErrCorruptLog, err)
	}
	m.publish(s)
	return nil
}

func (m *metadata) publish(s *metaState) {
	m.state.Store(s)
	m.changed()
}

func (m *metadata) sync() error { return m.kv.Sync() }

func (m *metadata) snapshot() (*storage.Snapshot, error) { return m.kv.Snapshot() }

func (m *metadata) restore(r io.Reader, stop <-chan struct{}) (uint64, error) {
	if err := m.kv.Restore(r, stop); err != nil {
		return 0, err
	}
	return m.kv.Applied(), m.load()
}

func (m *metadata) begin() tx {
	return &metaTx{m: m, batch: m.kv.NewBatch(), term: m.epoch, next: m.state.Load()}
}

type metaTx struct {
	m     *metadata
	batch *storage.KVBatch
	term  int32
	next  *metaState
	dirty bool
}

func (t *metaTx) epoch() int32 { return t.term }

func (t *metaTx) beginEpoch(epoch int32, _ uint8) {
	t.term = epoch
	storeEpoch(t.batch, epoch)
}

func (t *metaTx) apply(h header, body []byte) result {
	var cmd metaCommand
	if h.kind != kindMeta {
		return refused(fmt.Errorf("%w: command kind %d in the metadata", mqerr.ErrInternal, h.kind))
	}
	if err := json.Unmarshal(body, &cmd); err != nil {
		return refused(fmt.Errorf("%w: metadata command: %w", mqerr.ErrInternal, err))
	}
	// Work on a copy that is kept only if the command is not refused.
	before := t.next
	t.next = before.clone()
	value, err := t.run(&cmd)
	if err != nil {
		t.next = before
		return refused(err)
	}
	t.next.version++
	t.dirty = true
	return result{value: metaValue{t.next.version, value}}
}

func (t *metaTx) run(cmd *metaCommand) (any, error) {
	s := t.next
	switch {
	case cmd.FormCluster != nil:
		if s.clusterID != "" && s.clusterID != cmd.FormCluster.ClusterID {
			return nil, fmt.Errorf("%w: the cluster is %s", mqerr.ErrInvalidRequest, s.clusterID)
		}
		s.clusterID = cmd.FormCluster.ClusterID
		s.meta = shardRecord{Shard: metaShard, Replicas: []replicaRecord{{Broker: cmd.FormCluster.Broker, Replica: 1}}}
		return nil, t.put(keyMeta, s.meta)
	case cmd.RegisterBroker != nil:
		if _, ok := s.brokers[cmd.RegisterBroker.ID]; cmd.Registered && !ok {
			return nil, fmt.Errorf("%w: no broker %d", mqerr.ErrInvalidRequest, cmd.RegisterBroker.ID)
		}
		return nil, t.registerBroker(*cmd.RegisterBroker)
	case cmd.CreateTopic != nil:
		return t.createTopic(cmd.CreateTopic)
	case cmd.DeleteTopic != nil:
		return t.deleteTopic(cmd.DeleteTopic)
	case cmd.AlterTopic != nil:
		return t.alterTopic(cmd.AlterTopic)
	case cmd.AddPartitions != nil:
		return t.addPartitions(cmd.AddPartitions)
	case cmd.CreateGroupSlot != nil:
		return nil, t.createGroupSlot(cmd.CreateGroupSlot)
	case cmd.AllocProducers != nil:
		first := s.nextProducer
		s.nextProducer += cmd.AllocProducers.Count
		return first, nil
	case cmd.ChangeReplica != nil:
		return nil, t.changeReplica(cmd.ChangeReplica)
	case cmd.LeaveBroker != nil:
		return nil, t.leaveBroker(cmd.LeaveBroker.Broker)
	case cmd.ForgetBroker != nil:
		return nil, t.forgetBroker(cmd.ForgetBroker.Broker)
	case cmd.RaiseFeature != nil:
		return nil, t.raiseFeature(cmd.RaiseFeature.Level)
	}
	return nil, fmt.Errorf("%w: empty metadata command", mqerr.ErrInternal)
}

func (t *metaTx) registerBroker(b brokerRecord) error {
	if level := max(b.Feature, oldestFeature); level < t.next.feature {
		return fmt.Errorf("%w: broker %d knows feature level %d, the cluster is at %d: run the version that it ran before, or a newer one",
			mqerr.ErrUnsupportedVersion, b.ID, level, t.next.feature)
	}
	if old, ok := t.next.brokers[b.ID]; ok && old.DirID != b.DirID {
		return errOtherDirectory(old, b.DirID)
	} else if ok {
		b.Leaving = old.Leaving
	}
	t.next.brokers[b.ID] = b
	return t.put(brokerKey(b.ID), b)
}

func (t *metaTx) createTopic(c *createTopic) (any, error) {
	if t.next.topics[c.Name] != nil {
		return nil, fmt.Errorf("%w: %s", mqerr.ErrTopicExists, c.Name)
	}
	cfg, err := topic.Parse(c.Configs)
	if err != nil {
		return nil, err
	}
	rec := &topicRecord{Name: c.Name, ID: c.ID, Configs: c.Configs, Factor: c.Factor, config: cfg}
	for _, brokers := range c.Partitions {
		s, err := t.newShard(brokers)
		if err != nil {
			return nil, err
		}
		rec.Partitions = append(rec.Partitions, s)
	}
	return rec, t.putTopic(rec)
}

// newShard numbers a shard and its replicas.
func (t *metaTx) newShard(brokers []int32) (shardRecord, error) {
	s, err := t.bear(t.next.nextShard, brokers)
	if err == nil {
		t.next.nextShard++
	}
	return s, err
}

// bear makes the record of a new shard. A broker that has left since the shard was
// placed is refused, and the shard has to be placed again.
func (t *metaTx) bear(shard uint64, brokers []int32) (shardRecord, error) {
	s := shardRecord{Shard: shard, Born: make(map[uint64]string)}
	for i, id := range brokers {
		b, ok := t.next.brokers[id]
		if !ok {
			return s, fmt.Errorf("%w: broker %d has left meanwhile", mqerr.ErrBusy, id)
		}
		r := replicaRecord{Broker: id, Replica: uint64(i) + 1}
		s.Replicas = append(s.Replicas, r)
		s.Born[r.Replica] = b.DirID
	}
	return s, nil
}

func (t *metaTx) deleteTopic(c *deleteTopic) (any, error) {
	rec := t.next.topics[c.Name]
	if rec == nil {
		return nil, fmt.Errorf("%w: %s", mqerr.ErrUnknownTopicOrPartition, c.Name)
	}
	if c.ID != uuid.Nil && c.ID != rec.ID {
		return nil, fmt.Errorf("%w: %s has id %s now", mqerr.ErrUnknownTopicID, c.Name, rec.ID)
	}
	t.next.removeTopic(rec)
	t.batch.Delete([]byte(preTopic + rec.ID.String()))
	return rec, nil
}

func (t *metaTx) alterTopic(c *alterTopic) (any, error) {
	old := t.next.topics[c.Name]
	if old == nil {
		return nil, fmt.Errorf("%w: %s", mqerr.ErrUnknownTopicOrPartition, c.Name)
	}
	rec := *old
	rec.Configs = maps.Clone(old.Configs)
	if rec.Configs == nil {
		rec.Configs = map[string]string{}
	}
	for _, name := range c.Reset {
		delete(rec.Configs, name)
	}
	maps.Copy(rec.Configs, c.Set)
	var err error
	if rec.config, err = topic.Parse(rec.Configs); err != nil {
		return nil, err
	}
	return &rec, t.putTopic(&rec)
}

func (t *metaTx) addPartitions(c *addPartitions) (any, error) {
	old := t.next.topics[c.Name]
	if old == nil {
		return nil, fmt.Errorf("%w: %s", mqerr.ErrUnknownTopicOrPartition, c.Name)
	}
	if have := len(old.Partitions); c.Total <= have || c.Total > topic.MaxPartitions || c.Total-have != len(c.Added) {
		return nil, fmt.Errorf("%w: partitions of %s: %d, want more and at most %d, not %d",
			mqerr.ErrInvalidPartitions, c.Name, have, topic.MaxPartitions, c.Total)
	}
	rec := *old
	rec.Partitions = slices.Clone(old.Partitions)
	for _, brokers := range c.Added {
		s, err := t.newShard(brokers)
		if err != nil {
			return nil, err
		}
		rec.Partitions = append(rec.Partitions, s)
	}
	return &rec, t.putTopic(&rec)
}

func (t *metaTx) createGroupSlot(c *createGroupSlot) error {
	if _, ok := t.next.groups[c.Slot]; ok {
		return nil // somebody else was first; it is there
	}
	if c.Slot < 0 || c.Slot >= groupSlots {
		return fmt.Errorf("%w: group slot %d", mqerr.ErrInternal, c.Slot)
	}
	s, err := t.bear(firstGroup+uint64(c.Slot), c.Brokers)
	if err != nil {
		return err
	}
	g := groupRecord{Slot: c.Slot, shardRecord: s}
	t.next.groups[c.Slot] = g
	return t.put(fmt.Sprintf("%s%d", preGroup, c.Slot), g)
}

func (t *metaTx) putTopic(rec *topicRecord) error {
	t.next.putTopic(rec)
	return t.put(preTopic+rec.ID.String(), rec)
}

func (t *metaTx) put(key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%w: %w", mqerr.ErrInternal, err)
	}
	t.batch.Set([]byte(key), b)
	return nil
}

func (t *metaTx) commit(applied uint64) error {
	if t.dirty {
		s := t.next
		err := t.put(keyGlobal, globalRecord{s.version, s.clusterID, s.nextShard, s.nextProducer, s.feature})
		if err != nil {
			return err
		}
	}
	if err := t.batch.Commit(applied); err != nil {
		return err
	}
	t.m.epoch = t.term
	if t.dirty {
		t.m.publish(t.next)
	}
	return nil
}

func (t *metaTx) close() { t.batch.Close() }

func loadEpoch(kv *storage.KV, epoch *int32) error {
	v, ok, err := kv.Get([]byte(keyEpoch))
	if err != nil || !ok {
		*epoch = 0
		return err
	}
	if len(v) != 4 {
		return fmt.Errorf("%w: epoch of %d bytes", mqerr.ErrCorruptLog, len(v))
	}
	*epoch = int32(binary.BigEndian.Uint32(v))
	return nil
}

func storeEpoch(b *storage.KVBatch, epoch int32) {
	b.Set([]byte(keyEpoch), binary.BigEndian.AppendUint32(nil, uint32(epoch)))
}
