package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/topic"
)

func newGroup(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "group",
		Short: "Look at consumer groups, and change what they read next",
	}, newGroupList(p), newGroupDescribe(p), newGroupLag(p), newGroupPeek(p), newGroupSeek(p),
		newGroupDelete(p), newGroupDeleteOffsets(p))
}

func newGroupList(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the groups that have members or offsets stored",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				groups, err := a.ListGroups(ctx)
				if err != nil {
					return err
				}
				return p.show(out, groups, func(t *table) {
					t.head("GROUP", "STATE", "MEMBERS")
					for _, g := range groups {
						t.row(printable(g.GroupID), g.State, g.Members)
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

// groupPartitions are the flags that name some of what a group reads.
type groupPartitions struct {
	topic      string // empty: all
	partitions []int32
}

func (s *groupPartitions) flags(cmd *cobra.Command, p *program, usage string) {
	cmd.Flags().StringVar(&s.topic, "topic", "", usage)
	cmd.Flags().Int32SliceVarP(&s.partitions, "partitions", "p", nil, "only these partitions of it, as in 0,2")
	_ = cmd.RegisterFlagCompletionFunc("topic", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return p.completeTopics(0)(cmd, nil, typed) // a group may have the name of a topic
	})
}

func (s groupPartitions) check() error {
	switch {
	case s.topic != "":
		return errors.Join(topic.CheckName(s.topic), checkPartitions(s.partitions))
	case len(s.partitions) > 0:
		return usage(errors.New("--partitions are those of a --topic: name it"))
	}
	return nil
}

func (s groupPartitions) has(topic string, partition int32) bool {
	return (s.topic == "" || s.topic == topic) && (len(s.partitions) == 0 || slices.Contains(s.partitions, partition))
}

// missing names a partition that was asked for and is not in found, or else the topic.
func (s groupPartitions) missing(found []mq.TopicPartition) (what string, is bool) {
	for _, n := range s.partitions {
		if tp := (mq.TopicPartition{Topic: s.topic, Partition: n}); !slices.Contains(found, tp) {
			return tp.String(), true
		}
	}
	return s.topic, len(found) == 0
}

// membersOf describes a group, which has no members if nobody knows it.
func membersOf(ctx context.Context, a *mq.Admin, groupID string) (mq.GroupDescription, error) {
	d, err := a.DescribeGroup(ctx, groupID)
	if errors.Is(err, mq.ErrUnknownGroup) {
		return mq.GroupDescription{GroupID: groupID}, nil
	}
	return d, err
}

// inUse is the refusal to change a group that has members.
func inUse(d mq.GroupDescription, otherwise string) error {
	return fmt.Errorf("group %s: %w: stop its %s first%s", d.GroupID, mq.ErrNonEmptyGroup, count(len(d.Members), "consumer"), otherwise)
}
