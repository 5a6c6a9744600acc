package cluster

import (
	"context"
	"fmt"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// TransferLeader implements api.Broker. The choice is kept, or leadership would go
// back to the one that came first before.
func (n *Node) TransferLeader(ctx context.Context, req *api.TransferLeaderRequest) (*api.TransferLeaderResponse, error) {
	f, err := n.find(req.TopicPartition)
	if err != nil {
		return nil, err
	}
	s := f.topic.Partitions[req.Partition]
	to, ok := s.on(req.To)
	if !ok || !s.Replicas[s.replica(to)].settled() {
		return nil, fmt.Errorf("%s: %w: broker %d has no replica that votes", f.rep.name, mqerr.ErrInvalidRequest, req.To)
	}
	if s.Preferred != to {
		prefer := &changeReplica{Shard: s.Shard, Change: preferReplica, Replica: to, TopicID: &f.topic.ID}
		if err := n.proposeMeta(ctx, &metaCommand{ChangeReplica: prefer}, nil); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ProposeTimeout)
	defer cancel()
	for {
		var now *leadership
		err := n.await(ctx, func() bool {
			now = f.rep.lead.Load()
			return now != nil && now.leader != 0 || f.rep.stopped.Load()
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w: broker %d does not lead yet: %w", f.rep.name, mqerr.ErrTimeout, req.To, err)
		}
		if now != nil && now.leader == to {
			return &api.TransferLeaderResponse{}, nil
		}
		if _, err := f.rep.epochServed(); err != nil {
			return nil, err // who leads now knows more
		}
		asked := n.transfer(ctx, []*replica{f.rep}, func(_ *replica, r replicaRecord) bool { return r.Replica == to })
		if len(asked) == 0 {
			return nil, fmt.Errorf("%s: %w: broker %d is down or not up to date", f.rep.name, mqerr.ErrBusy, req.To)
		}
		try, cancel := context.WithTimeout(ctx, electionRTT*tick) // raft gives it up after that time
		_ = n.waitHandedOver(try, asked)                          // looked at above
		cancel()
	}
}

// MoveReplica implements api.Broker. See plan for what follows.
func (n *Node) MoveReplica(ctx context.Context, req *api.MoveReplicaRequest) (*api.MoveReplicaResponse, error) {
	if err := n.loaded(); err != nil {
		return nil, err
	}
	t, err := lookup(n.meta.state.Load(), req.TopicPartition)
	if err != nil {
		return nil, err
	}
	s := t.Partitions[req.Partition]
	from, ok := s.on(req.From)
	to, has := s.on(req.To)
	c := &changeReplica{Shard: s.Shard, Change: moveReplica, Replica: from, Broker: req.To, TopicID: &t.ID}
	switch {
	case !ok:
		return nil, fmt.Errorf("%s/%d: %w: broker %d has no replica", t.Name, req.Partition, mqerr.ErrInvalidRequest, req.From)
	case has && s.Replicas[s.replica(to)].Replaces == from:
		return &api.MoveReplicaResponse{}, nil // asked again
	case has && s.Replicas[s.replica(from)].Replaces == to && s.Replicas[s.replica(from)].Joining:
		c.Change, c.Broker = leaveReplica, 0 // it does not come after all
	}
	if err := n.proposeMeta(ctx, &metaCommand{ChangeReplica: c}, nil); err != nil {
		return nil, err
	}
	n.membership.nudge()
	return &api.MoveReplicaResponse{}, nil
}
