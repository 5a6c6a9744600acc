package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// groupShard returns the shard of a group, which is made on first use if asked.
// It is nil when nothing was ever committed to the shard.
func (n *Node) groupShard(ctx context.Context, group string, create bool) (*replica, *groupStore, error) {
	slot := slotOf(group)
	if _, ok := n.meta.state.Load().groups[slot]; !ok {
		if !create {
			return nil, nil, nil
		}
		placed, err := n.place(n.meta.state.Load(), 1, 0)
		if err != nil {
			return nil, nil, err
		}
		if err := n.proposeMeta(ctx, &metaCommand{CreateGroupSlot: &createGroupSlot{Slot: slot, Brokers: placed[0]}}, nil); err != nil {
			return nil, nil, err
		}
	}
	var (
		r       *replica
		refusal error
	)
	err := n.await(ctx, func() bool {
		r, refusal = n.coordinating(group, n.meta.state.Load().groups[slot].shardRecord) // it may move meanwhile
		return r != nil || refusal != nil
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, nil, fmt.Errorf("group %s: %w: %w", group, mqerr.ErrCoordinatorLoading, err)
	case err != nil:
		return nil, nil, mqerr.ErrLeaderNotAvailable
	case refusal != nil:
		return nil, nil, refusal
	}
	return r, r.machine.app.(*groupStore), nil
}

// coordinating gives this broker's replica of a group's shard if it serves, an
// error if it will not, and neither as long as that is open.
func (n *Node) coordinating(group string, s shardRecord) (*replica, error) {
	if _, here := s.on(n.cfg.BrokerID); !here {
		return nil, n.notCoordinator(group, n.guess(s))
	}
	r := n.replica(s.Shard)
	if r == nil {
		return nil, nil
	}
	switch _, err := r.epochServed(); {
	case err == nil:
		return r, nil
	case errors.Is(err, mqerr.ErrNotLeader):
		return nil, n.notCoordinator(group, n.leaderOf(r))
	case r.machine.parked.Load():
		return nil, fmt.Errorf("group %s: %w", group, err)
	}
	return nil, nil
}

// CommitOffsets implements api.Broker.
func (n *Node) CommitOffsets(ctx context.Context, req *api.CommitOffsetsRequest) (*api.CommitOffsetsResponse, error) {
	if err := checkCommit(req); err != nil {
		return nil, err
	}
	if req.MemberID == "" && req.MemberEpoch != api.NoMemberEpoch {
		return nil, fmt.Errorf("group %s: %w: no member has no id", req.Group, mqerr.ErrUnknownMember)
	}
	resp := &api.CommitOffsetsResponse{}
	cmd := commitCommand{Group: req.Group, MemberID: req.MemberID, MemberEpoch: req.MemberEpoch, Force: req.Force}
	var at []int // which results the offsets of the command are for
	s := n.meta.state.Load()
	for _, o := range req.Offsets {
		res := api.CommitResult{TopicPartition: o.TopicPartition}
		if t, err := lookup(s, o.TopicPartition); err != nil {
			res.Err = err
		} else if o.Offset < 0 {
			res.Err = fmt.Errorf("%w: commit of offset %d", mqerr.ErrInvalidRequest, o.Offset)
		} else {
			res.TopicID = t.ID
			cmd.Offsets = append(cmd.Offsets, commitRecord{t.ID, o.Partition, o.Offset, o.LeaderEpoch, o.Metadata})
			at = append(at, len(resp.Results))
		}
		resp.Results = append(resp.Results, res)
	}
	if len(cmd.Offsets) == 0 {
		return resp, nil
	}
	r, _, err := n.groupShard(ctx, req.Group, true)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // its member may have sent another one since, which this must not follow
		return nil, fmt.Errorf("group %s: %w: %w", req.Group, mqerr.ErrTimeout, context.Cause(ctx))
	}
	res, err := n.runGroup(ctx, r, kindCommitOffsets, cmd)
	if err != nil {
		return nil, coordinatorError(req.Group, err)
	}
	for i, err := range res.value.([]error) {
		resp.Results[at[i]].Err = err
	}
	return resp, nil
}

// proposeGroup hands a command of groups to raft, as propose does.
func (n *Node) proposeGroup(r *replica, k kind, cmd any, done func(result)) {
	body, err := json.Marshal(cmd)
	if err != nil {
		done(refused(fmt.Errorf("%w: %w", mqerr.ErrInternal, err)))
		return
	}
	r.propose(k, body, n.cfg.ProposeTimeout, done)
}

// runGroup proposes a command of groups and waits for its outcome.
func (n *Node) runGroup(ctx context.Context, r *replica, k kind, cmd any) (result, error) {
	body, err := json.Marshal(cmd)
	if err != nil {
		return result{}, fmt.Errorf("%w: %w", mqerr.ErrInternal, err)
	}
	return n.proposeAndWait(ctx, r, k, body)
}

// notCoordinator tells whom to ask about a group instead.
func (n *Node) notCoordinator(group string, broker int32) error {
	err := fmt.Errorf("group %s: %w", group, mqerr.ErrNotCoordinator)
	if broker < 0 {
		return err
	}
	return &mqerr.Detail{Err: err, Leader: broker, LeaderAddr: n.meta.state.Load().brokers[broker].Addr, LeaderEpoch: api.NoEpoch}
}

// coordinatorError tells a client of the group, not of the shard behind it.
func coordinatorError(group string, err error) error {
	if errors.Is(err, mqerr.ErrNotLeader) {
		return fmt.Errorf("group %s: %w", group, mqerr.ErrNotCoordinator)
	}
	return fmt.Errorf("group %s: %w", group, err)
}

// FetchOffsets implements api.Broker. Offsets of topics that are gone, or were
// created anew, are not shown.
func (n *Node) FetchOffsets(ctx context.Context, req *api.FetchOffsetsRequest) (*api.FetchOffsetsResponse, error) {
	if err := checkGroupID(req.Group); err != nil {
		return nil, err
	}
	_, g, err := n.groupShard(ctx, req.Group, false)
	if err != nil {
		return nil, err
	}
	s := n.meta.state.Load()
	committed := make(map[api.TopicPartition]api.CommittedOffset)
	if g != nil {
		err = g.offsets(req.Group, func(topicID uuid.UUID, partition int32, o offsetRecord) error {
			if t := s.byID[topicID]; t != nil {
				tp := t.tp(int(partition))
				committed[tp] = api.CommittedOffset{
					TopicPartition: tp, Offset: o.offset, LeaderEpoch: o.leaderEpoch,
					MemberEpoch: o.memberEpoch, Metadata: o.metadata, CommitTime: o.commitTime,
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", req.Group, err)
		}
	}
	resp := &api.FetchOffsetsResponse{}
	if req.Partitions == nil {
		for _, tp := range slices.SortedFunc(maps.Keys(committed), compareTP) {
			resp.Offsets = append(resp.Offsets, committed[tp])
		}
		return resp, nil
	}
	for _, tp := range req.Partitions {
		t, err := lookup(s, tp)
		if err != nil {
			resp.Offsets = append(resp.Offsets, api.CommittedOffset{TopicPartition: tp, Offset: -1, LeaderEpoch: api.NoEpoch, MemberEpoch: -1, Err: err})
			continue
		}
		c, ok := committed[t.tp(int(tp.Partition))]
		if !ok {
			c = api.CommittedOffset{TopicPartition: t.tp(int(tp.Partition)), Offset: -1, LeaderEpoch: api.NoEpoch, MemberEpoch: -1, CommitTime: -1}
		}
		resp.Offsets = append(resp.Offsets, c)
	}
	return resp, nil
}

// purgeOffsets drops what groups committed to a deleted topic. It is a matter of
// tidiness: offsets are keyed by topic id, so nothing reads them any more.
func (n *Node) purgeOffsets(id uuid.UUID) {
	n.eachReplica(func(r *replica) {
		if _, ok := r.machine.app.(*groupStore); ok {
			if _, err := r.epochServed(); err == nil { // whoever leads it does it
				r.propose(kindPurgeTopic, id[:], n.cfg.ProposeTimeout, n.upkeepDone(r, "purge of offsets"))
			}
		}
	})
}
