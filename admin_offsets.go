package mq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
)

// PartitionOffset is a place in a partition.
type PartitionOffset struct {
	Partition int32 `json:"partition"`
	// Offset is -1 when no record is as young as ListOffsets was asked for.
	Offset int64 `json:"offset"`
	// Timestamp of the record at Offset; zero unless asked for by time.
	Timestamp time.Time `json:"timestamp,omitzero"`
	// LeaderEpoch is that of the record at Offset; -1 when unknown.
	LeaderEpoch int32 `json:"leader_epoch"`
}

// ListOffsets finds a place in partitions of a topic, all when none is named,
// by number: StartEarliest, StartLatest or StartAtTime. Errors:
// ErrUnknownTopicOrPartition, ErrInvalidRequest for any other place.
func (a *Admin) ListOffsets(ctx context.Context, name string, at Start, partitions ...int32) ([]PartitionOffset, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	found, err := a.listOffsets(ctx, name, at, partitions)
	if err != nil {
		return nil, fmt.Errorf("list offsets of %q: %w", name, err)
	}
	return found, nil
}

func (a *Admin) listOffsets(ctx context.Context, name string, at Start, partitions []int32) ([]PartitionOffset, error) {
	if at.at.Kind != fetch.AtTime {
		return nil, fmt.Errorf("%w: %v is not earliest, latest or a time", ErrInvalidRequest, at)
	}
	qs, err := a.questions(ctx, name, partitions, at.at.Value)
	if err != nil {
		return nil, err
	}
	replies, err := askLeaders(ctx, a.router, adminAttempt, mayReadAgain, qs, askOffsets(ReadUncommitted))
	if err != nil {
		return nil, err
	}
	found := make([]PartitionOffset, len(qs))
	for i, r := range replies {
		found[i] = PartitionOffset{Partition: qs[i].Partition, Offset: r.offset, LeaderEpoch: r.leaderEpoch}
		if r.timestamp >= 0 && r.offset >= 0 && at.at.Value >= 0 {
			found[i].Timestamp = time.UnixMilli(r.timestamp)
		}
	}
	return found, nil
}

// questions makes one about each of the partitions, all when none is named.
func (a *Admin) questions(ctx context.Context, name string, partitions []int32, value int64) ([]question, error) {
	partitions = slices.Clone(partitions)
	if len(partitions) == 0 {
		t, err := a.topic(ctx, name)
		if err != nil {
			return nil, err
		}
		for i := range t.Partitions {
			partitions = append(partitions, int32(i))
		}
	}
	slices.Sort(partitions)
	qs := make([]question, len(partitions))
	for i, n := range partitions {
		qs[i] = question{api.TopicPartition{Topic: name, Partition: n}, value}
	}
	return qs, nil
}

// TrimTopic deletes the records before a place in partitions of a topic, all
// when none is named: StartLatest deletes everything, StartAtTime what is older,
// StartAt(n) what is below offset n. It returns where the logs start now.
// Kafka: DeleteRecords. Errors: ErrUnknownTopicOrPartition, ErrOffsetOutOfRange
// for an offset that is not there yet, ErrInvalidRequest for any other place.
func (a *Admin) TrimTopic(ctx context.Context, name string, to Start, partitions ...int32) ([]PartitionOffset, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("trim topic %q to %v: %w", name, to, context.Cause(ctx))
	}
	starts, err := a.trim(ctx, name, to, partitions)
	if err != nil {
		return nil, fmt.Errorf("trim topic %q to %v: %w", name, to, err)
	}
	return starts, nil
}

func (a *Admin) trim(ctx context.Context, name string, to Start, partitions []int32) ([]PartitionOffset, error) {
	if err := to.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	qs, err := a.questions(ctx, name, partitions, to.at.Value)
	if err != nil {
		return nil, err
	}
	if to.at.Kind != fetch.AtOffset {
		if qs, err = a.resolve(ctx, name, to, qs); err != nil {
			return nil, err
		}
	}
	replies, err := askLeaders(ctx, a.router, adminDeadline, mayChangeAgain, qs, askTrim)
	if err != nil {
		return nil, err
	}
	starts := make([]PartitionOffset, len(qs))
	for i, r := range replies {
		starts[i] = PartitionOffset{Partition: qs[i].Partition, Offset: r.offset, LeaderEpoch: api.NoEpoch}
	}
	return starts, nil
}

// resolve makes the values of questions the offsets of a place, so that a trim
// that is repeated does not take more.
func (a *Admin) resolve(ctx context.Context, name string, to Start, qs []question) ([]question, error) {
	partitions := make([]int32, len(qs))
	for i, q := range qs {
		partitions[i] = q.Partition
	}
	found, err := a.listOffsets(ctx, name, to, partitions)
	if err != nil {
		return nil, err
	}
	for i, f := range found {
		qs[i].value = f.Offset
		if f.Offset < 0 { // nothing is as young: everything goes
			ends, err := a.listOffsets(ctx, name, StartLatest, partitions[i:i+1])
			if err != nil {
				return nil, err
			}
			qs[i].value = ends[0].Offset
		}
	}
	return qs, nil
}

// GroupInfo is a consumer group.
type GroupInfo struct {
	GroupID string     `json:"group_id"`
	State   GroupState `json:"state"`
	Members int        `json:"members"`
}

// ListGroups returns the groups that have members or offsets stored, by name.
func (a *Admin) ListGroups(ctx context.Context) ([]GroupInfo, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	found := make(map[string]GroupInfo)
	err := a.read(ctx, func(ctx context.Context, _ api.Broker) error { return a.groupsOfAll(ctx, found) })
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	groups := make([]GroupInfo, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		groups = append(groups, found[name])
	}
	return groups, nil
}

// groupsOfAll asks every broker for the groups that it has a copy of. Those that
// do not answer are left out as long as one does: others have copies too. Of
// copies that differ, the one with more members is taken for the newer.
func (a *Admin) groupsOfAll(ctx context.Context, found map[string]GroupInfo) error {
	brokers, err := a.router.Brokers(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, info := range brokers {
		resp, err := a.groupsOf(ctx, info.ID)
		if err != nil {
			errs = append(errs, fmt.Errorf("broker %d: %w", info.ID, err))
			continue
		}
		for _, g := range resp.Groups {
			if had, ok := found[g.Group]; !ok || int(g.Members) > had.Members {
				found[g.Group] = GroupInfo{GroupID: g.Group, State: GroupState(g.State), Members: int(g.Members)}
			}
		}
	}
	if len(errs) == len(brokers) {
		return errors.Join(errs...)
	}
	return nil
}

func (a *Admin) groupsOf(ctx context.Context, broker int32) (*api.ListGroupsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, describePatience)
	defer cancel()
	b, err := a.router.Broker(ctx, broker)
	if err != nil {
		return nil, err
	}
	return b.ListGroups(ctx, &api.ListGroupsRequest{})
}

// CommittedOffset is what a group has stored for a partition.
type CommittedOffset struct {
	Topic       string    `json:"topic"`
	TopicID     string    `json:"topic_id"` // UUID; offsets of a deleted topic do not count for one of the same name
	Partition   int32     `json:"partition"`
	Offset      int64     `json:"offset"`       // of the record that the group reads next
	LeaderEpoch int32     `json:"leader_epoch"` // of the last record read; -1 when unknown
	Metadata    string    `json:"metadata,omitempty"`
	CommitTime  time.Time `json:"commit_time"`
}

// CommittedOffsets returns what a group has stored, by topic and partition. A
// group that nobody heard of has nothing. Errors: ErrInvalidGroupID.
func (a *Admin) CommittedOffsets(ctx context.Context, groupID string) ([]CommittedOffset, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	store := newOffsetStore(a.router, groupID)
	var stored []api.CommittedOffset
	err := repeat(ctx, adminAttempt, mayReadAgain, func(ctx context.Context) (err error) {
		stored, err = store.fetch(ctx, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("committed offsets of %q: %w", groupID, err)
	}
	offsets := make([]CommittedOffset, 0, len(stored))
	for _, o := range stored {
		if o.Err != nil {
			return nil, fmt.Errorf("committed offsets of %q: %s/%d: %w", groupID, o.Topic, o.Partition, o.Err)
		}
		offsets = append(offsets, CommittedOffset{
			Topic: o.Topic, TopicID: o.TopicID.String(), Partition: o.Partition, Offset: o.Offset,
			LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata, CommitTime: time.UnixMilli(o.CommitTime),
		})
	}
	return offsets, nil
}
