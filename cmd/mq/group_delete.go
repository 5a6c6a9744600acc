package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newGroupDelete(p *program) *cobra.Command {
	var risk risk
	var ifExists bool
	cmd := &cobra.Command{
		Use:   "delete GROUP...",
		Short: "Forget groups and their offsets",
		Long: `Forget groups and the offsets that they have stored; records stay. A group that has
members is not deleted, and none of the others then, either.`,
		Args:              someGroups,
		ValidArgsFunction: p.completeGroups(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.mayAsk(risk, "delete a group"); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.deleteGroups(ctx, a, args, ifExists, risk)
			})
		},
	}
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "no group of that name is fine")
	risk.flags(cmd)
	return cmd
}

// someGroups wants names of groups.
func someGroups(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage(fmt.Errorf("%s wants a GROUP (see %[1]s --help)", cmd.CommandPath()))
	}
	for i, id := range args {
		if err := checkGroup(id); err != nil {
			return err
		}
		if slices.Contains(args[:i], id) {
			return usage(fmt.Errorf("group %s is given twice", id))
		}
	}
	return nil
}

// deleteGroups looks at all of the groups before it deletes one.
func (p *program) deleteGroups(ctx context.Context, a *mq.Admin, groupIDs []string, ifExists bool, risk risk) error {
	var ids, plan []string
	for _, id := range groupIDs {
		d, err := a.DescribeGroup(ctx, id)
		switch {
		case ifExists && errors.Is(err, mq.ErrUnknownGroup):
			p.say("there is no group %s", id)
			continue
		case err != nil:
			return err
		case len(d.Members) > 0:
			return inUse(d, "")
		}
		stored, err := a.CommittedOffsets(ctx, id)
		if err != nil {
			return err
		}
		ids = append(ids, id)
		plan = append(plan, fmt.Sprintf("group %s: offsets of %s", id, count(len(stored), "partition")))
	}
	if len(ids) == 0 {
		return nil
	}
	if ok, err := p.goAhead(ctx, risk, "delete "+count(len(ids), "group"), plan...); !ok || err != nil {
		return err
	}
	for i, id := range ids {
		err := a.DeleteGroup(ctx, id)
		switch {
		case err == nil:
			p.say("deleted %s", id)
		case ifExists && errors.Is(err, mq.ErrUnknownGroup): // somebody else did
		case i > 0:
			return &exitError{exitPartly, fmt.Errorf("%d of %s %s deleted: %w", i, count(len(ids), "group"), were(i), err)}
		default:
			return err
		}
	}
	return nil
}

func newGroupDeleteOffsets(p *program) *cobra.Command {
	var risk risk
	var which groupPartitions
	cmd := &cobra.Command{
		Use:   "delete-offsets GROUP --topic TOPIC",
		Short: "Forget what a group has stored for a topic",
		Long: `Forget what a group has stored for a topic or some partitions of it, so that it
begins there anew, and does not lag in what it does not read any more. While a
member reads the topic this is refused.`,
		Args:              exactArgs("GROUP"),
		ValidArgsFunction: p.completeGroups(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if which.topic == "" {
				return usage(errors.New("say of which --topic"))
			}
			if err := which.check(); err != nil {
				return err
			}
			if err := p.mayAsk(risk, "delete offsets"); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.deleteOffsets(ctx, a, args[0], which, risk)
			})
		},
	}
	which.flags(cmd, p, "the topic's `name`")
	risk.flags(cmd)
	return cmd
}

func (p *program) deleteOffsets(ctx context.Context, a *mq.Admin, groupID string, which groupPartitions, risk risk) error {
	d, err := a.DescribeGroup(ctx, groupID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(d.Members, func(m mq.GroupMember) bool { return readsTopic(m, which.topic) }) {
		return fmt.Errorf("group %s: %w: stop its consumers of %s first", groupID, mq.ErrGroupSubscribed, which.topic)
	}
	stored, err := a.CommittedOffsets(ctx, groupID)
	if err != nil {
		return err
	}
	var tps []mq.TopicPartition
	var plan []string
	for _, o := range stored {
		if which.has(o.Topic, o.Partition) {
			tps = append(tps, mq.TopicPartition{Topic: o.Topic, Partition: o.Partition})
			plan = append(plan, fmt.Sprintf("%s/%d: %d", o.Topic, o.Partition, o.Offset))
		}
	}
	if what, missing := which.missing(tps); missing {
		return fmt.Errorf("group %s has no offset stored for %s", groupID, what)
	}
	what := fmt.Sprintf("%s of group %s", count(len(tps), "offset"), groupID)
	if ok, err := p.goAhead(ctx, risk, "delete "+what, plan...); !ok || err != nil {
		return err
	}
	return p.done(a.DeleteOffsets(ctx, groupID, tps...), "deleted %s", what)
}

// readsTopic reports whether a member has subscribed to a topic, by name or by a pattern.
func readsTopic(m mq.GroupMember, topic string) bool {
	return slices.Contains(m.Topics, topic) ||
		slices.ContainsFunc(slices.Concat(m.Assigned, m.Target), func(tp mq.TopicPartition) bool { return tp.Topic == topic })
}
