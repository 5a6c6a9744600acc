package produce_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
)

// cluster is brokers that keep the rules of idempotent producers: what a
// partition's state machine does, and around it a network that can lose, delay
// and refuse.
type cluster struct {
	mu sync.Mutex

	brokers    map[int32]*broker
	topics     map[string]*topicLog
	autoCreate int32        // partitions of a topic that is created by asking; 0: refuse
	creation   func() error // what comes before that, without the lock; nil: nothing
	nextID     int64
	down       error // what every call fails with
	initErr    error
	metadata   int // requests answered

	// fate decides about one batch of a request; nil lets everything succeed
	// at once.
	fate func(p *partitionLog, b batch) fate
}

// fate is what happens to a batch.
type fate struct {
	refuse error         // before the state machine sees it
	lose   bool          // it never arrives
	late   time.Duration // it arrives so much later than it is answered
	reply  error         // instead of the true answer
	delay  time.Duration // of the answer
	silent bool          // no answer at all
}

type topicLog struct {
	id         uuid.UUID
	configs    map[string]string
	partitions []*partitionLog
	err        error
}

type partitionLog struct {
	topic     string
	index     int32
	leader    int32
	epoch     int32
	values    []string // by offset
	late      int      // batches that arrive after their answer, and did not yet
	producers map[int64]*producerState
}

// producerState is what a partition remembers of a producer.
type producerState struct {
	epoch   int16
	next    int32
	batches int // appended under this epoch
	window  []remembered
}

type remembered struct {
	sequence int32
	offset   int64
}

// batch is a decoded RecordBatch.
type batch struct {
	record.Info
	values []string
	topic  string
}

const window = 32

func newCluster(brokers int) *cluster {
	c := &cluster{brokers: map[int32]*broker{}, topics: map[string]*topicLog{}, nextID: 1000}
	for id := range int32(brokers) {
		c.brokers[id+1] = &broker{cluster: c, id: id + 1}
	}
	return c
}

func (c *cluster) createTopic(name string, partitions int) *topicLog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.createLocked(name, partitions)
}

func (c *cluster) createLocked(name string, partitions int) *topicLog {
	t := &topicLog{id: uuid.New()}
	for i := range int32(partitions) {
		t.partitions = append(t.partitions, &partitionLog{
			topic: name, index: i, leader: i%int32(len(c.brokers)) + 1, producers: map[int64]*producerState{},
		})
	}
	c.topics[name] = t
	return t
}

// values returns what a partition holds.
func (c *cluster) values(topic string, partition int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.topics[topic].partitions[partition].values)
}

func (c *cluster) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// router returns a Router over connections to the brokers.
func (c *cluster) router(t *testing.T) *route.Router {
	r := route.New(route.Config{
		Seeds: []string{"b1"},
		Dial: func(_ context.Context, _ int32, addr string) (route.Conn, error) {
			var id int32
			fmt.Sscanf(addr, "b%d", &id)
			return conn{c.brokers[id]}, nil
		},
	})
	t.Cleanup(func() { _ = r.Close() })
	return r
}

type conn struct{ *broker }

func (conn) Close() error { return nil }

type broker struct {
	api.Broker // the methods that a producer does not need
	cluster    *cluster
	id         int32
	deaf       bool // to produce requests
}

func (b *broker) Metadata(_ context.Context, req *api.MetadataRequest) (*api.MetadataResponse, error) {
	c := b.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return nil, c.down
	}
	c.metadata++
	var refused error
	if c.creation != nil && req.AutoCreate {
		c.mu.Unlock()
		refused = c.creation()
		c.mu.Lock()
	}
	res := &api.MetadataResponse{}
	for id := range c.brokers {
		res.Brokers = append(res.Brokers, api.BrokerInfo{ID: id, Addr: fmt.Sprintf("b%d", id)})
	}
	for _, name := range req.Topics {
		if c.topics[name] == nil && req.AutoCreate && c.autoCreate > 0 && refused == nil {
			c.createLocked(name, int(c.autoCreate))
		}
		t := c.topics[name]
		info := api.TopicInfo{Name: name}
		switch {
		case t == nil:
			info.Err = cmp.Or(refused, error(mqerr.ErrUnknownTopicOrPartition))
		case t.err != nil:
			info.Err = t.err
		default:
			info.ID, info.Configs = t.id, t.configs
			for _, p := range t.partitions {
				info.Partitions = append(info.Partitions, api.PartitionInfo{Index: p.index, Leader: p.leader, LeaderEpoch: p.epoch})
			}
		}
		res.Topics = append(res.Topics, info)
	}
	return res, nil
}

func (b *broker) InitProducer(context.Context, *api.InitProducerRequest) (*api.InitProducerResponse, error) {
	c := b.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return nil, c.down
	}
	if c.initErr != nil {
		return nil, c.initErr
	}
	c.nextID++
	return &api.InitProducerResponse{ProducerID: c.nextID}, nil
}

func (b *broker) Produce(_ context.Context, req *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
	c := b.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		go done(nil, c.down)
		return
	}
	if b.deaf {
		return
	}
	res := &api.ProduceResponse{}
	var delay time.Duration
	silent := false
	for _, p := range req.Partitions {
		r, f := b.produceLocked(p)
		r.TopicPartition = p.TopicPartition
		if req.Acks == api.AcksNone && r.Err == nil {
			r.BaseOffset = -1
		}
		res.Partitions = append(res.Partitions, r)
		delay = max(delay, f.delay)
		silent = silent || f.silent
	}
	if !silent {
		time.AfterFunc(delay, func() { done(res, nil) })
	}
}

func (b *broker) produceLocked(req api.ProducePartition) (api.ProduceResult, fate) {
	c := b.cluster
	refused := func(err error, f fate) (api.ProduceResult, fate) {
		return api.ProduceResult{BaseOffset: -1, Err: err}, f
	}
	t := c.topics[req.Topic]
	switch {
	case t == nil || int(req.Partition) >= len(t.partitions):
		return refused(mqerr.ErrUnknownTopicOrPartition, fate{})
	case req.TopicID != t.id:
		return refused(mqerr.ErrUnknownTopicID, fate{})
	}
	p := t.partitions[req.Partition]
	if p.leader != b.id {
		return refused(&mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: p.leader, LeaderEpoch: p.epoch}, fate{})
	}
	decoded := decode(req.Batch)
	decoded.topic = req.Topic
	var f fate
	if c.fate != nil {
		f = c.fate(p, decoded)
	}
	switch {
	case f.refuse != nil:
		return refused(f.refuse, f)
	case f.lose:
	case f.late > 0:
		p.late++
		time.AfterFunc(f.late, func() { c.set(func() { p.late--; p.apply(decoded) }) })
	default:
		offset, err := p.apply(decoded)
		if f.reply == nil {
			return api.ProduceResult{BaseOffset: offset, Err: err, AppendTime: -1, LeaderEpoch: p.epoch}, f
		}
	}
	if f.reply == nil {
		f.reply = mqerr.ErrTimeout
	}
	return refused(f.reply, f)
}

// apply is the state machine.
func (p *partitionLog) apply(b batch) (int64, error) {
	if b.ProducerID != record.NoProducerID {
		s := p.producers[b.ProducerID]
		switch {
		case s != nil && b.ProducerEpoch < s.epoch:
			return -1, mqerr.ErrProducerFenced
		case s == nil || b.ProducerEpoch > s.epoch:
			if b.BaseSequence != 0 {
				return -1, mqerr.ErrOutOfOrderSequence
			}
			s = &producerState{epoch: b.ProducerEpoch}
			p.producers[b.ProducerID] = s
		}
		for _, r := range s.window {
			if r.sequence == b.BaseSequence {
				return r.offset, nil
			}
		}
		if b.BaseSequence < s.next {
			return -1, nil // older than the window
		}
		if b.BaseSequence > s.next {
			return -1, mqerr.ErrOutOfOrderSequence
		}
		s.next += b.Count
		s.batches++
		s.window = append(s.window, remembered{b.BaseSequence, int64(len(p.values))})
		s.window = s.window[max(0, len(s.window)-window):]
	}
	offset := int64(len(p.values))
	p.values = append(p.values, b.values...)
	return offset, nil
}

func decode(data []byte) batch {
	info, err := record.Parse(data)
	if err != nil {
		panic(err)
	}
	if err := record.CheckCRC(data); err != nil {
		panic(err)
	}
	b := batch{Info: info}
	for r, err := range record.Records(data, record.ReadOptions{}) {
		if err != nil {
			panic(err)
		}
		b.values = append(b.values, string(r.Value))
	}
	return b
}

// chance says yes with a probability of percent in 100.
func chance(rng *rand.Rand, percent int) bool { return rng.IntN(100) < percent }
