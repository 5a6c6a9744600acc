package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/mqerr"
)

// ListGroups implements api.Broker. It gives the groups of which this broker has
// a copy; who wants all asks every broker.
func (n *Node) ListGroups(context.Context, *api.ListGroupsRequest) (*api.ListGroupsResponse, error) {
	all := make(map[string]api.GroupInfo)
	var errs []error
	n.eachReplica(func(r *replica) {
		if g, ok := r.machine.app.(*groupStore); ok {
			errs = append(errs, g.list(all))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	resp := &api.ListGroupsResponse{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		resp.Groups = append(resp.Groups, all[name])
	}
	return resp, nil
}

// knownGroup reads a group of which this broker is the coordinator.
func (n *Node) knownGroup(ctx context.Context, name string) (*replica, *group.State, error) {
	if err := checkGroupID(name); err != nil {
		return nil, nil, err
	}
	r, g, err := n.groupShard(ctx, name, false)
	if err != nil {
		return nil, nil, err
	}
	unknown := fmt.Errorf("%w: %s", mqerr.ErrUnknownGroup, name)
	if g == nil {
		return nil, nil, unknown
	}
	s, err := g.state(name)
	if err != nil {
		return nil, nil, fmt.Errorf("group %s: %w", name, err)
	}
	if s.Revision == 0 {
		has, err := g.hasOffsets(name)
		if err != nil {
			return nil, nil, fmt.Errorf("group %s: %w", name, err)
		}
		if !has {
			return nil, nil, unknown
		}
	}
	return r, s, nil
}

// DescribeGroup implements api.Broker.
func (n *Node) DescribeGroup(ctx context.Context, req *api.DescribeGroupRequest) (*api.DescribeGroupResponse, error) {
	_, s, err := n.knownGroup(ctx, req.Group)
	if err != nil {
		return nil, err
	}
	resp := &api.DescribeGroupResponse{
		Group: req.Group, State: stateOf(s), Coordinator: n.cfg.BrokerID,
		Epoch: s.Epoch, AssignmentEpoch: s.Epoch, Assignor: s.Assignor(),
	}
	for _, id := range slices.Sorted(maps.Keys(s.Members)) {
		m := s.Members[id]
		resp.Members = append(resp.Members, api.GroupMember{
			MemberID: id, InstanceID: m.InstanceID, ClientID: m.ClientID, Epoch: s.EpochOf(m),
			GroupSubscription: api.GroupSubscription{
				Topics: m.Topics, Pattern: m.Pattern, Assignor: m.Assignor,
				SessionTimeout: m.SessionTimeout, RebalanceTimeout: m.RebalanceTimeout,
			},
			Assigned: n.named(m.Assigned()), Target: n.named(m.Target), Revoking: n.named(m.Revoking()),
		})
	}
	return resp, nil
}

// DeleteGroup implements api.Broker.
func (n *Node) DeleteGroup(ctx context.Context, req *api.DeleteGroupRequest) (*api.DeleteGroupResponse, error) {
	r, _, err := n.knownGroup(ctx, req.Group)
	if err != nil {
		return nil, err
	}
	if _, err := n.runGroup(ctx, r, kindDeleteGroup, forgetCommand{Group: req.Group}); err != nil {
		return nil, coordinatorError(req.Group, err)
	}
	return &api.DeleteGroupResponse{}, nil
}

// DeleteOffsets implements api.Broker.
func (n *Node) DeleteOffsets(ctx context.Context, req *api.DeleteOffsetsRequest) (*api.DeleteOffsetsResponse, error) {
	for range 10 { // until the group does not change meanwhile
		if resp, err := n.deleteOffsets(ctx, req); !errors.Is(err, errGroupChanged) {
			return resp, err
		}
	}
	return nil, fmt.Errorf("group %s: %w: it changes all the time", req.Group, mqerr.ErrBusy)
}

func (n *Node) deleteOffsets(ctx context.Context, req *api.DeleteOffsetsRequest) (*api.DeleteOffsetsResponse, error) {
	r, s, err := n.knownGroup(ctx, req.Group)
	if err != nil {
		return nil, err
	}
	meta := n.meta.state.Load()
	resp := &api.DeleteOffsetsResponse{}
	cmd := forgetCommand{Group: req.Group, Revision: s.Revision}
	for _, tp := range req.Partitions {
		res := api.CommitResult{TopicPartition: tp}
		if t, err := lookup(meta, tp); err != nil {
			res.Err = err
		} else if s.Reads(t.Name) {
			res.Err = fmt.Errorf("%w: %s", mqerr.ErrGroupSubscribed, t.Name)
		} else {
			res.TopicID = t.ID
			cmd.Offsets = append(cmd.Offsets, commitRecord{TopicID: t.ID, Partition: tp.Partition})
		}
		resp.Results = append(resp.Results, res)
	}
	if len(cmd.Offsets) > 0 {
		if _, err := n.runGroup(ctx, r, kindDeleteOffsets, cmd); err != nil {
			return nil, coordinatorError(req.Group, err)
		}
	}
	return resp, nil
}
