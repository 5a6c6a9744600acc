package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/mqerr"
)

// Bounds of what a member may ask for. A session has to be longer than an
// election takes.
const (
	minSession   = time.Second
	maxSession   = 30 * time.Minute
	maxRebalance = 24 * time.Hour
)

// GroupHeartbeat implements api.Broker.
func (n *Node) GroupHeartbeat(ctx context.Context, req *api.GroupHeartbeatRequest) (*api.GroupHeartbeatResponse, error) {
	h, err := n.heartbeat(req)
	if err != nil {
		return nil, err
	}
	if n.loaded() != nil {
		return nil, fmt.Errorf("group %s: %w: metadata is loading", req.Group, mqerr.ErrCoordinatorLoading)
	}
	h.Owned = n.partitionsOf(req.Owned)
	r, _, err := n.groupShard(ctx, req.Group, h.Epoch == api.JoinEpoch)
	switch {
	case err != nil:
		return nil, err
	case r == nil && h.Epoch < 0: // there is nothing to leave
		return &api.GroupHeartbeatResponse{MemberEpoch: h.Epoch, Interval: n.cfg.GroupInterval}, nil
	case r == nil:
		return nil, fmt.Errorf("group %s: %w: %s", req.Group, mqerr.ErrUnknownMember, h.MemberID)
	}
	b := &beat{Heartbeat: h, group: req.Group, shard: r.id.Shard, arrived: n.now(), answer: make(chan group.Answer, 1)}
	// A member that waits is not heard: it must not be taken for dead meanwhile.
	a, err := n.coordinator.ask(ctx, b, min(req.MaxWait, h.SessionTimeout/3))
	if err == nil {
		err = a.Err
	}
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", req.Group, err)
	}
	resp := &api.GroupHeartbeatResponse{MemberEpoch: a.Epoch, Interval: min(n.cfg.GroupInterval, max(h.SessionTimeout/3, minSession/3))}
	resp.Assignment = n.named(a.Assigned)
	return resp, nil
}

// beat is a heartbeat whose caller waits for the answer.
type beat struct {
	*group.Heartbeat
	group   string
	shard   uint64
	arrived time.Time
	hurry   atomic.Bool // the caller does not wait for news, or not any more
	answer  chan group.Answer
}

func (b *beat) reply(a group.Answer) {
	select {
	case b.answer <- a: // takes the one answer even if nobody waits any more
	default:
	}
}

// hand gives a heartbeat to the loop.
func (c *coordinator) hand(b *beat) error {
	c.post.Lock()
	full := len(c.post.beats) >= maxPosted
	if !full {
		c.post.beats = append(c.post.beats, b)
	}
	c.post.Unlock()
	if full {
		return fmt.Errorf("%w: %d heartbeats wait", mqerr.ErrBusy, maxPosted)
	}
	c.nudge()
	return nil
}

// hurry makes the loop answer a heartbeat without news.
func (c *coordinator) hurry(b *beat) {
	b.hurry.Store(true)
	c.call(func() {
		if g := c.group(b); g != nil && g.held[b.MemberID] == b {
			g.release(b.MemberID)
		}
	})
}

// ask hands a heartbeat over and waits for the answer.
func (c *coordinator) ask(ctx context.Context, b *beat, wait time.Duration) (group.Answer, error) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	} else {
		b.hurry.Store(true)
	}
	if err := c.hand(b); err != nil {
		return group.Answer{}, err
	}
	for {
		select {
		case a := <-b.answer:
			return a, nil
		case <-over:
			c.hurry(b)
		case <-ctx.Done():
			c.hurry(b)
			return group.Answer{}, fmt.Errorf("%w: %w", mqerr.ErrTimeout, context.Cause(ctx))
		case <-c.node.closing.Done():
			return group.Answer{}, mqerr.ErrLeaderNotAvailable
		}
	}
}

// heartbeat checks a request, and fills in what the member leaves to the broker.
func (n *Node) heartbeat(req *api.GroupHeartbeatRequest) (*group.Heartbeat, error) {
	if err := checkGroupID(req.Group); err != nil {
		return nil, err
	}
	h := &group.Heartbeat{
		MemberID: req.MemberID, InstanceID: req.InstanceID, ClientID: req.ClientID, Epoch: req.MemberEpoch,
		Subscription: group.Subscription{
			Topics: slices.Clone(req.Topics), Pattern: req.Pattern, Assignor: req.Assignor,
			SessionTimeout: req.SessionTimeout, RebalanceTimeout: req.RebalanceTimeout,
		},
	}
	slices.Sort(h.Topics)
	h.Topics = slices.Compact(h.Topics)
	orInt(&h.SessionTimeout, n.cfg.SessionTimeout)
	orInt(&h.RebalanceTimeout, n.cfg.RebalanceTimeout)
	if h.Epoch >= 0 {
		if s := h.SessionTimeout; s < minSession || s > maxSession {
			return nil, fmt.Errorf("group %s: %w: session timeout %s, want %s to %s", req.Group, mqerr.ErrInvalidRequest, s, minSession, maxSession)
		}
		if s := h.RebalanceTimeout; s < minSession || s > maxRebalance {
			return nil, fmt.Errorf("group %s: %w: rebalance timeout %s, want %s to %s", req.Group, mqerr.ErrInvalidRequest, s, minSession, maxRebalance)
		}
	}
	if err := h.Check(); err != nil {
		return nil, fmt.Errorf("group %s: %w", req.Group, err)
	}
	return h, nil
}

// partitionsOf gives partitions by the ids of their topics, each once. Of a topic
// that is gone the caller has to know the id.
func (n *Node) partitionsOf(tps []api.TopicPartition) []group.Partition {
	s := n.meta.state.Load()
	seen := make(map[group.Partition]bool, len(tps))
	out := make([]group.Partition, 0, len(tps))
	for _, tp := range tps {
		p := group.Partition{Topic: tp.TopicID, Number: tp.Partition}
		if t := s.topics[tp.Topic]; p.Topic == uuid.Nil && t != nil {
			p.Topic = t.ID
		}
		if p.Topic != uuid.Nil && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// named gives partitions with the names of their topics, without those of topics
// that are gone.
func (n *Node) named(ps []group.Partition) []api.TopicPartition {
	s := n.meta.state.Load()
	out := make([]api.TopicPartition, 0, len(ps))
	for _, p := range ps {
		if t := s.byID[p.Topic]; t != nil {
			out = append(out, t.tp(int(p.Number)))
		}
	}
	slices.SortFunc(out, compareTP)
	return out
}
