package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

// groupDescription is what `group describe` answers.
type groupDescription struct {
	mq.GroupDescription
	Lag    int64      `json:"lag"` // of all topics; -1 when unknown
	Topics []topicLag `json:"topics"`
}

func newGroupDescribe(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "describe GROUP",
		Short: "Show a group's members and where it is in each partition",
		Long: `Show a group: the broker that coordinates it, its members, and where it is in each
partition. Of a member, READS is what it has now, GIVES UP what of that goes to
others, and GETS what it will have as soon as others have given it up.`,
		Args:              exactArgs("GROUP"),
		ValidArgsFunction: p.completeGroups(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				d, err := describeGroup(ctx, a, args[0])
				if err != nil {
					return err
				}
				return p.show(out, d, d.table)
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

// describeGroup puts together what a group is and how far it is, also in topics
// that its members read and for which nothing is stored yet.
func describeGroup(ctx context.Context, a *mq.Admin, groupID string) (groupDescription, error) {
	d, err := a.DescribeGroup(ctx, groupID)
	if err != nil {
		return groupDescription{}, err
	}
	lags, err := a.GroupLag(ctx, groupID)
	if err != nil && !errors.Is(err, mq.ErrUnknownGroup) {
		return groupDescription{}, err
	}
	known := map[string]bool{}
	for _, l := range lags {
		known[l.Topic] = true
	}
	for _, m := range d.Members {
		for _, tp := range slices.Concat(m.Assigned, m.Target) {
			if known[tp.Topic] {
				continue
			}
			known[tp.Topic] = true
			t, err := a.DescribeTopic(ctx, tp.Topic)
			switch {
			case err == nil:
				lags = append(lags, unread(t)...)
			case !errors.Is(err, mq.ErrUnknownTopicOrPartition): // else it was deleted just now
				return groupDescription{}, err
			}
		}
	}
	slices.SortStableFunc(lags, func(a, b mq.PartitionLag) int { return strings.Compare(a.Topic, b.Topic) })
	sum := groupLagOf(groupID, lags)
	return groupDescription{d, sum.Lag, append([]topicLag{}, sum.Topics...)}, nil
}

// unread is the lag in a topic for which nothing is stored.
func unread(t mq.TopicInfo) []mq.PartitionLag {
	var lags []mq.PartitionLag
	for _, part := range t.Partitions {
		l := mq.PartitionLag{
			Topic: t.Name, Partition: part.Partition, CommittedOffset: -1,
			LogStart: part.LogStart, HighWatermark: part.HighWatermark, Lag: -1,
		}
		if l.HighWatermark >= 0 {
			l.Lag = max(l.HighWatermark-max(l.LogStart, 0), 0)
		}
		lags = append(lags, l)
	}
	return lags
}

func (d groupDescription) table(t *table) {
	t.row("group", printable(d.GroupID))
	t.row("state", d.State)
	t.row("coordinator", d.Coordinator)
	t.row("epoch", d.Epoch)
	t.row("lag", known(d.Lag))
	if len(d.Members) > 0 {
		t.row()
		t.head("MEMBER", "INSTANCE", "CLIENT", "EPOCH", "READS", "GIVES UP", "GETS")
		for _, m := range d.Members {
			t.row(orDash(m.MemberID), orDash(m.InstanceID), orDash(m.ClientID), m.Epoch,
				ranges(reads(m)), ranges(m.Revoking), ranges(gets(m)))
		}
	}
	if len(d.Topics) == 0 {
		return
	}
	t.row()
	t.head("TOPIC", "PARTITION", "COMMITTED", "START", "END", "LAG", "COMMITTED AT")
	for _, topic := range d.Topics {
		for _, part := range topic.Partitions {
			at := "-"
			if !part.CommitTime.IsZero() {
				at = part.CommitTime.UTC().Format(time.RFC3339)
			}
			t.row(part.Topic, part.Partition, known(part.CommittedOffset),
				known(part.LogStart), known(part.HighWatermark), known(part.Lag), at)
		}
	}
}

// reads is what a member has now.
func reads(m mq.GroupMember) []mq.TopicPartition {
	return sortedPartitions(slices.Concat(m.Assigned, m.Revoking))
}

// gets is what a member will have, and has not yet.
func gets(m mq.GroupMember) []mq.TopicPartition {
	has := reads(m)
	return slices.DeleteFunc(slices.Clone(m.Target), func(tp mq.TopicPartition) bool { return slices.Contains(has, tp) })
}

func sortedPartitions(tps []mq.TopicPartition) []mq.TopicPartition {
	slices.SortFunc(tps, func(a, b mq.TopicPartition) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition) - int(b.Partition)
	})
	return slices.Compact(tps)
}

// ranges writes sorted partitions in few words: orders/0-3,7 users/1.
func ranges(tps []mq.TopicPartition) string {
	var b strings.Builder
	for i := 0; i < len(tps); {
		first, last := tps[i], tps[i].Partition
		continues := i > 0 && tps[i-1].Topic == first.Topic
		for i++; i < len(tps) && tps[i] == (mq.TopicPartition{Topic: first.Topic, Partition: last + 1}); i++ {
			last++
		}
		switch {
		case continues:
			fmt.Fprintf(&b, ",%d", first.Partition)
		case b.Len() > 0:
			fmt.Fprintf(&b, " %v", first)
		default:
			fmt.Fprint(&b, first)
		}
		if last > first.Partition {
			fmt.Fprintf(&b, "-%d", last)
		}
	}
	return orDash(b.String())
}

// orDash is what somebody has chosen, or a dash for nothing.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return printable(text)
}
