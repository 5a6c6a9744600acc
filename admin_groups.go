package mq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
)

// GroupState is how a group is.
type GroupState string

// The states.
const (
	GroupEmpty       = GroupState(api.GroupEmpty)       // no members, only offsets
	GroupReconciling = GroupState(api.GroupReconciling) // partitions are on their way from one member to another
	GroupStable      = GroupState(api.GroupStable)      // every member has what it should have
)

// GroupDescription is a group and its members.
type GroupDescription struct {
	GroupID     string     `json:"group_id"`
	State       GroupState `json:"state"`
	Coordinator int32      `json:"coordinator"` // broker id
	// Epoch grows with every change of members, of what they want, and of their
	// topics; AssignmentEpoch is the one for which partitions were shared out.
	Epoch           int32         `json:"epoch"`
	AssignmentEpoch int32         `json:"assignment_epoch"`
	Assignor        string        `json:"assignor"`
	Members         []GroupMember `json:"members"` // by id
}

// GroupMember is a consumer of a group. What it has now is Assigned and, until it
// has given it up, Revoking; Target is what it will have.
type GroupMember struct {
	MemberID         string           `json:"member_id"` // new with every consumer
	InstanceID       string           `json:"instance_id,omitempty"`
	ClientID         string           `json:"client_id,omitempty"`
	Epoch            int32            `json:"epoch"`
	Topics           []string         `json:"topics"`
	TopicPattern     string           `json:"topic_pattern,omitempty"`
	Assignor         string           `json:"assignor,omitempty"`
	SessionTimeout   time.Duration    `json:"session_timeout"`
	RebalanceTimeout time.Duration    `json:"rebalance_timeout"`
	Assigned         []TopicPartition `json:"assigned"`
	Target           []TopicPartition `json:"target"`
	Revoking         []TopicPartition `json:"revoking"`
}

// DescribeGroup tells which members a group has and what they read. Errors:
// ErrUnknownGroup, ErrInvalidGroupID.
func (a *Admin) DescribeGroup(ctx context.Context, groupID string) (GroupDescription, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	var resp *api.DescribeGroupResponse
	err := a.coordinator(ctx, groupID, mayReadAgain, func(ctx context.Context, b api.Broker) (err error) {
		resp, err = b.DescribeGroup(ctx, &api.DescribeGroupRequest{Group: groupID})
		return err
	})
	if err != nil {
		return GroupDescription{}, fmt.Errorf("describe group %q: %w", groupID, err)
	}
	d := GroupDescription{
		GroupID: resp.Group, State: GroupState(resp.State), Coordinator: resp.Coordinator,
		Epoch: resp.Epoch, AssignmentEpoch: resp.AssignmentEpoch, Assignor: resp.Assignor,
		Members: make([]GroupMember, len(resp.Members)),
	}
	for i, m := range resp.Members {
		d.Members[i] = GroupMember{
			MemberID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, Epoch: m.Epoch,
			Topics: m.Topics, TopicPattern: m.Pattern, Assignor: m.Assignor,
			SessionTimeout: m.SessionTimeout, RebalanceTimeout: m.RebalanceTimeout,
			Assigned: namesOf(m.Assigned), Target: namesOf(m.Target), Revoking: namesOf(m.Revoking),
		}
	}
	return d, nil
}

func namesOf(tps []api.TopicPartition) []TopicPartition {
	names := make([]TopicPartition, len(tps))
	for i, tp := range tps {
		names[i] = TopicPartition{tp.Topic, tp.Partition}
	}
	return sorted(names)
}

// coordinator calls fn with the coordinator of a group, and again as repeat does.
func (a *Admin) coordinator(ctx context.Context, groupID string, again func(error) bool, fn func(context.Context, api.Broker) error) error {
	store := newOffsetStore(a.router, groupID)
	return repeat(ctx, adminAttempt, again, func(ctx context.Context) error {
		return store.ask(ctx, func(b api.Broker) error { return fn(ctx, b) })
	})
}

// DeleteGroup forgets a group that has no members, with its offsets. Errors:
// ErrUnknownGroup, ErrNonEmptyGroup, ErrInvalidGroupID.
func (a *Admin) DeleteGroup(ctx context.Context, groupID string) error {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	err := a.coordinator(ctx, groupID, mayChangeAgain, func(ctx context.Context, b api.Broker) error {
		_, err := b.DeleteGroup(ctx, &api.DeleteGroupRequest{Group: groupID})
		return outcome(err)
	})
	if err != nil {
		return fmt.Errorf("delete group %q: %w", groupID, err)
	}
	return nil
}

// DeleteOffsets forgets what a group has stored for partitions, so that it begins
// there anew. Errors: ErrUnknownGroup, ErrGroupSubscribed for topics that a member
// reads, ErrInvalidRequest when no partition is named.
func (a *Admin) DeleteOffsets(ctx context.Context, groupID string, tps ...TopicPartition) error {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	if err := a.deleteOffsets(ctx, groupID, tps); err != nil {
		return fmt.Errorf("delete offsets of group %q: %w", groupID, err)
	}
	return nil
}

func (a *Admin) deleteOffsets(ctx context.Context, groupID string, tps []TopicPartition) error {
	if len(tps) == 0 {
		return fmt.Errorf("%w: no partition is named", ErrInvalidRequest)
	}
	req := &api.DeleteOffsetsRequest{Group: groupID}
	for _, tp := range tps {
		req.Partitions = append(req.Partitions, api.TopicPartition{Topic: tp.Topic, Partition: tp.Partition})
	}
	return a.coordinator(ctx, groupID, mayChangeAgain, func(ctx context.Context, b api.Broker) error {
		resp, err := b.DeleteOffsets(ctx, req)
		if err != nil {
			return outcome(err)
		}
		return errorsOf(resp.Results)
	})
}

func errorsOf(results []api.CommitResult) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s/%d: %w", r.Topic, r.Partition, r.Err))
		}
	}
	return errors.Join(errs...)
}

// GroupSeek is a change of where a group reads a partition next.
type GroupSeek struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"` // what is stored; -1 when nothing is
	To        int64  `json:"to"`
}

// PlanGroupSeek tells what it would mean for a group to go to a place:
// StartEarliest, StartLatest, StartAt or StartAtTime, in the partitions named, or
// in all of the topics for which it has offsets stored. An offset that is not in
// the log becomes its nearest end. Nothing is changed; SeekGroup does that.
// Errors: ErrUnknownGroup when no partition is named and nothing stored,
// ErrUnknownTopicOrPartition, ErrInvalidRequest for StartCommitted.
func (a *Admin) PlanGroupSeek(ctx context.Context, groupID string, to Start, tps ...TopicPartition) ([]GroupSeek, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	plan, err := a.planGroupSeek(ctx, groupID, to, tps)
	if err != nil {
		return nil, fmt.Errorf("plan a seek of group %q to %v: %w", groupID, to, err)
	}
	return plan, nil
}

func (a *Admin) planGroupSeek(ctx context.Context, groupID string, to Start, tps []TopicPartition) ([]GroupSeek, error) {
	if err := to.check(); err != nil || to == StartCommitted {
		return nil, fmt.Errorf("%w: %v is no place to go to: %w", ErrInvalidRequest, to, err)
	}
	stored, err := a.CommittedOffsets(ctx, groupID)
	if err != nil {
		return nil, err
	}
	partitions := make(map[string][]int32) // none: all
	for _, tp := range tps {
		partitions[tp.Topic] = append(partitions[tp.Topic], tp.Partition)
	}
	if len(tps) == 0 {
		for _, o := range stored {
			partitions[o.Topic] = nil
		}
	}
	if len(partitions) == 0 {
		return nil, fmt.Errorf("%w: it has no offsets stored", ErrUnknownGroup)
	}
	var plan []GroupSeek
	for name, ns := range partitions {
		seeks, err := a.seeksIn(ctx, name, to, ns)
		if err != nil {
			return nil, err
		}
		plan = append(plan, seeks...)
	}
	for i := range plan {
		s := &plan[i]
		at := slices.IndexFunc(stored, func(o CommittedOffset) bool { return o.Topic == s.Topic && o.Partition == s.Partition })
		if at >= 0 {
			s.From = stored[at].Offset
		}
	}
	slices.SortFunc(plan, func(a, b GroupSeek) int {
		return fetch.Key{Topic: a.Topic, Partition: a.Partition}.Compare(fetch.Key{Topic: b.Topic, Partition: b.Partition})
	})
	return plan, nil
}

// seeksIn finds a place in partitions of a topic.
func (a *Admin) seeksIn(ctx context.Context, name string, to Start, partitions []int32) ([]GroupSeek, error) {
	starts, err := a.listOffsets(ctx, name, StartEarliest, partitions)
	if err != nil {
		return nil, err
	}
	ends, err := a.listOffsets(ctx, name, StartLatest, partitions)
	if err != nil {
		return nil, err
	}
	var found []PartitionOffset
	if to.at.Kind == fetch.AtTime {
		if found, err = a.listOffsets(ctx, name, to, partitions); err != nil {
			return nil, err
		}
	}
	if len(ends) != len(starts) || found != nil && len(found) != len(starts) { // there are more by now
		return nil, fmt.Errorf("%w: %s has other partitions now", mqerr.ErrUnknownTopicOrPartition, name)
	}
	seeks := make([]GroupSeek, len(starts))
	for i, start := range starts {
		offset := to.at.Value
		if found != nil {
			offset = found[i].Offset
		}
		if offset < 0 { // nothing is as young
			offset = ends[i].Offset
		}
		seeks[i] = GroupSeek{Topic: name, Partition: start.Partition, From: -1, To: min(max(offset, start.Offset), ends[i].Offset)}
	}
	return seeks, nil
}

// SeekGroup stores To of each of the seeks as the offset that a group reads next.
// While the group has members this is refused with ErrNonEmptyGroup. With force
// it is done all the same; but members go on from where they are, and their next
// commit counts. Errors: ErrUnknownTopicOrPartition, ErrInvalidGroupID.
func (a *Admin) SeekGroup(ctx context.Context, groupID string, seeks []GroupSeek, force bool) error {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	if err := a.seekGroup(ctx, groupID, seeks, force); err != nil {
		return fmt.Errorf("seek group %q: %w", groupID, err)
	}
	return nil
}

func (a *Admin) seekGroup(ctx context.Context, groupID string, seeks []GroupSeek, force bool) error {
	req := &api.CommitOffsetsRequest{Group: groupID, MemberEpoch: api.NoMemberEpoch, Force: force}
	ids := make(map[string]uuid.UUID)
	for _, s := range seeks {
		if s.To < 0 {
			return fmt.Errorf("%w: offset %d of %s/%d is negative", ErrInvalidRequest, s.To, s.Topic, s.Partition)
		}
		if _, known := ids[s.Topic]; !known {
			t, err := a.topic(ctx, s.Topic)
			if err != nil {
				return err
			}
			ids[s.Topic] = t.ID
		}
		req.Offsets = append(req.Offsets, api.OffsetCommit{
			TopicPartition: api.TopicPartition{Topic: s.Topic, TopicID: ids[s.Topic], Partition: s.Partition},
			Offset:         s.To, LeaderEpoch: api.NoEpoch,
		})
	}
	err := a.coordinator(ctx, groupID, mayChangeAgain, func(ctx context.Context, b api.Broker) error {
		resp, err := b.CommitOffsets(ctx, req)
		if err != nil {
			return outcome(err)
		}
		return errorsOf(resp.Results)
	})
	if errors.Is(err, ErrUnknownMember) {
		return fmt.Errorf("%w: stop its consumers first: %w", ErrNonEmptyGroup, err)
	}
	return err
}
