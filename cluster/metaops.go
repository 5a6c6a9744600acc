package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
)

// metaAnswer is metaValue on the wire.
type metaAnswer struct {
	Version int64           `json:"version"`
	Value   json.RawMessage `json:"value,omitempty"`
}

// proposeMeta runs a metadata command at whichever broker leads the metadata,
// and returns when its outcome is seen here as well. What it gave goes into out,
// unless that is nil.
func (n *Node) proposeMeta(ctx context.Context, cmd *metaCommand, out any) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ProposeTimeout)
	defer cancel()
	for failures := 1; ; failures++ {
		answer, err := n.askMetaLeader(ctx, cmd)
		if err == nil {
			if out != nil {
				if err := json.Unmarshal(answer.Value, out); err != nil {
					return fmt.Errorf("%w: outcome of a metadata command: %w", mqerr.ErrInternal, err)
				}
			}
			return n.waitVersion(ctx, answer.Version)
		}
		unled := errors.Is(err, mqerr.ErrLeaderNotAvailable)
		if !errors.Is(err, mqerr.ErrNotLeader) && !unled || unled && n.stopping.Load() || n.Failure() != nil || n.closing.Err() != nil {
			return err
		}
		if over := backoff.Sleep(ctx, metaBackoff.Delay(failures)); over != nil {
			return fmt.Errorf("%w: %w", err, over)
		}
	}
}

var metaBackoff = backoff.Policy{Base: 5 * time.Millisecond, Max: 500 * time.Millisecond}

func (n *Node) askMetaLeader(ctx context.Context, cmd *metaCommand) (*metaAnswer, error) {
	r := n.metaRep.Load()
	if r == nil {
		return nil, errNotJoined
	}
	if l := r.lead.Load(); l == nil || l.self || l.leader == 0 {
		return n.runMeta(ctx, cmd)
	}
	dirID, ok := n.leaderDir(r)
	if !ok {
		return nil, fmt.Errorf("metadata: %w", mqerr.ErrLeaderNotAvailable)
	}
	return call[metaAnswer](ctx, n.link, dirID, callMeta, cmd)
}

// runMeta runs a metadata command if this broker leads the metadata.
func (n *Node) runMeta(ctx context.Context, cmd *metaCommand) (*metaAnswer, error) {
	r := n.metaRep.Load()
	if r == nil {
		return nil, errNotJoined
	}
	body, err := json.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrInternal, err)
	}
	res, err := n.proposeAndWait(ctx, r, kindMeta, body)
	if err != nil {
		return nil, err
	}
	got := res.value.(metaValue)
	a := &metaAnswer{Version: got.version}
	if got.value != nil {
		if a.Value, err = json.Marshal(got.value); err != nil {
			return nil, fmt.Errorf("%w: %w", mqerr.ErrInternal, err)
		}
	}
	return a, nil
}

// waitVersion waits until this broker has seen a version of the metadata.
func (n *Node) waitVersion(ctx context.Context, version int64) error {
	if err := n.await(ctx, func() bool { return n.meta.state.Load().version >= version }); err != nil {
		return fmt.Errorf("%w: done, this broker has not heard of it yet: %w", mqerr.ErrTimeout, err)
	}
	return nil
}

// proposeAndWait is for commands that need no pipelining.
func (n *Node) proposeAndWait(ctx context.Context, r *replica, k kind, body []byte) (result, error) {
	out := make(chan result, 1) // takes the one answer even if nobody waits any more
	r.propose(k, body, n.cfg.ProposeTimeout, func(res result) { out <- res })
	select {
	case res := <-out:
		return res, res.err
	case <-ctx.Done():
		return result{}, fmt.Errorf("%w: %w", mqerr.ErrTimeout, context.Cause(ctx))
	}
}

// loaded fails until this broker has metadata that is up to date. What is not
// there before that may well exist.
func (n *Node) loaded() error {
	if !n.informed.Load() {
		return fmt.Errorf("%w: metadata is loading", mqerr.ErrLeaderNotAvailable)
	}
	return nil
}

// Metadata implements api.Broker.
func (n *Node) Metadata(ctx context.Context, req *api.MetadataRequest) (*api.MetadataResponse, error) {
	if err := n.loaded(); err != nil {
		return nil, err
	}
	s := n.meta.state.Load()
	refused := make(map[string]error) // why a topic could not be created
	if req.AutoCreate {
		for _, name := range req.Topics {
			if s.topics[name] == nil {
				if _, err := n.autoCreate(ctx, name); err != nil {
					refused[name] = err
				}
			}
		}
		s = n.meta.state.Load()
	}
	resp := &api.MetadataResponse{ClusterID: s.clusterID, Controller: -1, Version: s.version}
	if r := n.metaRep.Load(); r != nil {
		resp.Controller = n.leaderOf(r)
	}
	for _, id := range slices.Sorted(maps.Keys(s.brokers)) {
		b := s.brokers[id]
		resp.Brokers = append(resp.Brokers, api.BrokerInfo{ID: b.ID, Addr: b.Addr, Rack: b.Rack})
	}
	if req.Topics == nil {
		for _, t := range s.sortedTopics() {
			resp.Topics = append(resp.Topics, n.topicInfo(t))
		}
		return resp, nil
	}
	for _, name := range req.Topics {
		t := s.topics[name]
		if t != nil {
			resp.Topics = append(resp.Topics, n.topicInfo(t))
			continue
		}
		err := topic.CheckName(name)
		if err == nil {
			err = refused[name]
		}
		if err == nil {
			err = fmt.Errorf("%w: topic %q", mqerr.ErrUnknownTopicOrPartition, name)
		}
		resp.Topics = append(resp.Topics, api.TopicInfo{Name: name, Err: err})
	}
	return resp, nil
}

func (n *Node) autoCreate(ctx context.Context, name string) (*api.CreateTopicResponse, error) {
	if n.cfg.DisableAutoCreate {
		return nil, mqerr.ErrUnknownTopicOrPartition
	}
	return n.CreateTopic(ctx, &api.CreateTopicRequest{Name: name})
}

func (n *Node) topicInfo(t *topicRecord) api.TopicInfo {
	info := api.TopicInfo{Name: t.Name, ID: t.ID, Configs: t.effective()}
	for i, shard := range t.Partitions {
		p := api.PartitionInfo{Index: int32(i), Leader: -1, LeaderEpoch: api.NoEpoch, Learners: shard.learners()}
		for _, r := range shard.Replicas {
			p.Replicas = append(p.Replicas, r.Broker)
		}
		if r := n.replica(shard.Shard); r == nil {
			p.Leader = n.guess(shard) // who knows better, or is it
		} else if _, err := r.epochServed(); err != nil && !errors.Is(err, mqerr.ErrNotLeader) {
			p.Err = err
		} else if leader := n.leaderOf(r); leader < 0 {
			p.Err = mqerr.ErrLeaderNotAvailable
		} else {
			p.Leader, p.LeaderEpoch = leader, r.lead.Load().epoch()
		}
		info.Partitions = append(info.Partitions, p)
	}
	return info
}

// CreateTopic implements api.Broker. It returns when every partition of the
// topic on this broker has a leader.
func (n *Node) CreateTopic(ctx context.Context, req *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
	if err := topic.CheckName(req.Name); err != nil {
		return nil, err
	}
	cfg, err := topic.Parse(req.Configs)
	if err != nil {
		return nil, err
	}
	count := req.Partitions
	if count == 0 {
		count = n.cfg.DefaultPartitions
	}
	if count < 1 || count > topic.MaxPartitions {
		return nil, fmt.Errorf("%w: %d, want 1 to %d", mqerr.ErrInvalidPartitions, count, topic.MaxPartitions)
	}
	if err := n.loaded(); err != nil {
		return nil, err
	}
	s, err := n.metaWhere(ctx, req.Name, false)
	if err != nil {
		return nil, err
	}
	if s.topics[req.Name] != nil {
		return nil, fmt.Errorf("%w: %s", mqerr.ErrTopicExists, req.Name)
	}
	placed, err := n.place(s, int(count), req.ReplicationFactor)
	if err != nil {
		return nil, err
	}
	if req.ValidateOnly {
		info := api.TopicInfo{Name: req.Name, Configs: (&topicRecord{config: cfg}).effective()}
		for i, brokers := range placed {
			info.Partitions = append(info.Partitions, api.PartitionInfo{
				Index: int32(i), Leader: -1, LeaderEpoch: api.NoEpoch, Replicas: brokers,
			})
		}
		return &api.CreateTopicResponse{Topic: info}, nil
	}
	if err := n.fenced(); err != nil {
		return nil, err
	}
	rec, err := n.proposeTopic(ctx, &metaCommand{CreateTopic: &createTopic{
		Name: req.Name, ID: uuid.New(), Configs: req.Configs, Partitions: placed, Factor: req.ReplicationFactor,
	}})
	if err != nil {
		return nil, err
	}
	if err := n.waitTopic(ctx, rec); err != nil {
		return nil, err
	}
	return &api.CreateTopicResponse{Topic: n.topicInfo(rec)}, nil
}

// metaWhere is the metadata in which a topic is there, or is not. Where that is not
// what this broker knows, it looks whether another one heard of it sooner.
func (n *Node) metaWhere(ctx context.Context, topic string, there bool) (*metaState, error) {
	if s := n.meta.state.Load(); (s.topics[topic] != nil) == there {
		return s, nil
	}
	if err := n.refreshMeta(ctx); err != nil {
		return nil, err
	}
	return n.meta.state.Load(), nil
}

// waitTopic waits until the topic's partitions on this broker serve.
func (n *Node) waitTopic(ctx context.Context, t *topicRecord) error {
	for i := range t.Partitions {
		var state error
		err := n.await(ctx, func() bool {
			_, state = n.find(t.tp(i))
			return !errors.Is(state, mqerr.ErrLeaderNotAvailable)
		})
		switch {
		case err != nil:
			return fmt.Errorf("%w: topic %s was made, its leaders are not there yet: %w", mqerr.ErrTimeout, t.Name, err)
		case state != nil && !errors.Is(state, mqerr.ErrNotLeader):
			return state // deleted meanwhile
		}
	}
	return nil
}

// DeleteTopic implements api.Broker. It returns when the disk is freed here.
func (n *Node) DeleteTopic(ctx context.Context, req *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error) {
	rec, err := n.proposeTopic(ctx, &metaCommand{DeleteTopic: &deleteTopic{Name: req.Name, ID: req.ID}})
	if err != nil {
		return nil, err
	}
	err = n.await(ctx, func() bool {
		gone := !slices.ContainsFunc(rec.Partitions, func(s shardRecord) bool { return n.replica(s.Shard) != nil })
		return gone && n.reconciled.Load() >= n.meta.state.Load().version
	})
	if err != nil {
		return nil, fmt.Errorf("%w: topic %s is deleted, its files are not gone yet: %w", mqerr.ErrTimeout, rec.Name, err)
	}
	return &api.DeleteTopicResponse{}, nil
}

// AlterTopic implements api.Broker.
func (n *Node) AlterTopic(ctx context.Context, req *api.AlterTopicRequest) (*api.AlterTopicResponse, error) {
	s, err := n.metaWhere(ctx, req.Name, true)
	if err != nil {
		return nil, err
	}
	old := s.topics[req.Name]
	if old == nil {
		return nil, fmt.Errorf("%w: topic %q", mqerr.ErrUnknownTopicOrPartition, req.Name)
	}
	for _, name := range req.Reset {
		if !slices.Contains(topic.ConfigNames(), name) {
			return nil, fmt.Errorf("%w: unknown topic config %q", mqerr.ErrInvalidConfig, name)
		}
	}
	if _, err := topic.Parse(req.Set); err != nil {
		return nil, err
	}
	if req.ValidateOnly {
		return &api.AlterTopicResponse{Topic: n.topicInfo(old)}, nil
	}
	rec, err := n.proposeTopic(ctx, &metaCommand{AlterTopic: &alterTopic{Name: req.Name, Set: req.Set, Reset: req.Reset}})
	if err != nil {
		return nil, err
	}
	n.upkeepNow()
	return &api.AlterTopicResponse{Topic: n.topicInfo(rec)}, nil
}

// AddPartitions implements api.Broker.
func (n *Node) AddPartitions(ctx context.Context, req *api.AddPartitionsRequest) (*api.AddPartitionsResponse, error) {
	s, err := n.metaWhere(ctx, req.Name, true)
	if err != nil {
		return nil, err
	}
	old := s.topics[req.Name]
	if old == nil {
		return nil, fmt.Errorf("%w: topic %q", mqerr.ErrUnknownTopicOrPartition, req.Name)
	}
	have := len(old.Partitions)
	if int(req.Total) <= have || req.Total > topic.MaxPartitions {
		return nil, fmt.Errorf("%w: partitions of %s: %d, want more and at most %d, not %d",
			mqerr.ErrInvalidPartitions, req.Name, have, topic.MaxPartitions, req.Total)
	}
	added, err := n.place(s, int(req.Total)-have, int16(len(old.Partitions[0].Replicas)))
	if err != nil {
		return nil, err
	}
	if req.ValidateOnly {
		return &api.AddPartitionsResponse{Topic: n.topicInfo(old)}, nil
	}
	if err := n.fenced(); err != nil {
		return nil, err
	}
	rec, err := n.proposeTopic(ctx, &metaCommand{AddPartitions: &addPartitions{Name: req.Name, Total: int(req.Total), Added: added}})
	if err != nil {
		return nil, err
	}
	if err := n.waitTopic(ctx, rec); err != nil {
		return nil, err
	}
	return &api.AddPartitionsResponse{Topic: n.topicInfo(rec)}, nil
}

// proposeTopic runs a command that gives a topic.
func (n *Node) proposeTopic(ctx context.Context, cmd *metaCommand) (*topicRecord, error) {
	rec := &topicRecord{}
	if err := n.proposeMeta(ctx, cmd, rec); err != nil {
		return nil, err
	}
	rec.config, _ = topic.Parse(rec.Configs) // as it was when it was set
	return rec, nil
}

// producerBlock is how many producer ids are taken from the metadata at once.
const producerBlock = 1000

// InitProducer implements api.Broker. Ids come from a block of the metadata's;
// what is left of a block when the broker stops is never used.
func (n *Node) InitProducer(ctx context.Context, _ *api.InitProducerRequest) (*api.InitProducerResponse, error) {
	select {
	case n.ids.sem <- struct{}{}: // one at a time, without blocking past ctx
		defer func() { <-n.ids.sem }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", mqerr.ErrTimeout, context.Cause(ctx))
	}
	if n.ids.next == n.ids.end {
		if err := n.proposeMeta(ctx, &metaCommand{AllocProducers: &allocProducers{Count: producerBlock}}, &n.ids.next); err != nil {
			return nil, err
		}
		n.ids.end = n.ids.next + producerBlock
	}
	id := n.ids.next
	n.ids.next++
	return &api.InitProducerResponse{ProducerID: id}, nil
}
