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
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

func newGroupSeek(p *program) *cobra.Command {
	var to string
	var which groupPartitions
	var force bool
	var risk risk
	var out *output
	cmd := &cobra.Command{
		Use:   "seek GROUP --to OFFSET",
		Short: "Change what a group reads next",
		Long: `Change what a group reads next, in all topics for which it has offsets stored or in
those of --topic, which need have none: so a group can be placed before its first
consumer starts. --to is
  start    the oldest record           end    what is written from now on
  N        offset N                    -N     N records before the end
  +N       N records after the start
  @TIME    the first record since 2006-01-02, 2006-01-02T15:04:05Z, a number of
           milliseconds since 1970, or a duration before now such as @-1h30m
in each partition. An offset that is not in the log becomes the nearest that is.

While the group has members this is refused. --force does it all the same, but they
go on from where they are, and what they store next counts: it is of use for
partitions that none of them reads.

-o json and yaml answer with what was moved, or would be.`,
		Example: `  mq group seek printers --to @-1h --dry-run
  mq group seek printers --to 1200 --topic jobs -p 3`,
		Args:              exactArgs("GROUP"),
		ValidArgsFunction: p.completeGroups(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usage(errors.New("say --to which place"))
			}
			r, err := offsets.Parse(to, time.Now())
			if err != nil {
				return usage(err)
			}
			if r.HasTo {
				return usage(fmt.Errorf("--to %s: want start, end, N, +N, -N or @TIME", to))
			}
			if err := which.check(); err != nil {
				return err
			}
			if err := p.mayAsk(risk, "move a group"); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.seekGroup(ctx, a, args[0], r.From, which, force, risk, out)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `offset` of what is read next")
	which.flags(cmd, p, "only in the topic of this `name`")
	cmd.Flags().BoolVar(&force, "force", false, "also while the group has members")
	risk.flags(cmd)
	out = outputFlag(cmd)
	return cmd
}

// groupSeek is what `group seek` answers with -o.
type groupSeek struct {
	GroupID    string         `json:"group_id"`
	DryRun     bool           `json:"dry_run"`
	Partitions []mq.GroupSeek `json:"partitions"` // that move
}

// seekGroup stores the offsets that were shown.
func (p *program) seekGroup(ctx context.Context, a *mq.Admin, groupID string, to offsets.Point, which groupPartitions, force bool, risk risk, out *output) error {
	answer := func(seeks []mq.GroupSeek) error {
		return p.show(out, groupSeek{groupID, risk.dryRun, seeks}, func(*table) {}) // stderr has it
	}
	d, err := membersOf(ctx, a, groupID)
	if err != nil {
		return err
	}
	members := len(d.Members)
	if members > 0 && !force {
		return inUse(d, ", or say --force")
	}
	spans, moves, err := planMoves(ctx, a, groupID, to, which)
	if err != nil {
		return err
	}
	if text := outside(spans); text != "" {
		p.say("%s", text)
	}
	if len(moves) == 0 {
		p.say("group %s is there already", groupID)
		return answer([]mq.GroupSeek{})
	}
	var seeks []mq.GroupSeek
	var plan []string
	for _, m := range moves {
		seeks = append(seeks, m.GroupSeek)
		plan = append(plan, m.String())
	}
	if members > 0 {
		plan = append(plan, fmt.Sprintf("it has %s: what they store next counts", count(members, "member")))
	}
	what := fmt.Sprintf("group %s in %s%s", groupID, count(len(moves), "partition"), effect(moves...))
	if ok, err := p.goAhead(ctx, risk, "move "+what, plan...); err != nil {
		return err
	} else if !ok {
		return answer(seeks)
	}
	if err := a.SeekGroup(ctx, groupID, seeks, force); err != nil {
		return err
	}
	p.say("moved %s", what)
	if risk.yes { // nobody has seen it yet
		for _, line := range plan {
			p.say("  %s", line)
		}
	}
	return answer(seeks)
}

// groupMove is a change of what a group reads next of a partition.
type groupMove struct {
	mq.GroupSeek
	first int64 // where the log starts
}

// planMoves finds a place in partitions, and what going there would change.
func planMoves(ctx context.Context, a *mq.Admin, groupID string, to offsets.Point, which groupPartitions) ([]span, []groupMove, error) {
	stored, err := a.CommittedOffsets(ctx, groupID)
	if err != nil {
		return nil, nil, err
	}
	from := make(map[mq.TopicPartition]int64)
	topics := []string{which.topic}
	if which.topic == "" {
		topics = nil
	}
	for _, o := range stored {
		from[mq.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.Offset
		if which.topic == "" && !slices.Contains(topics, o.Topic) {
			topics = append(topics, o.Topic)
		}
	}
	if len(topics) == 0 {
		return nil, nil, fmt.Errorf("seek group %q: %w: it has no offsets stored; name a --topic to begin with", groupID, mq.ErrUnknownGroup)
	}
	var spans []span
	var moves []groupMove
	for _, topic := range topics {
		found, err := resolve(ctx, a, topic, which.partitions, offsets.Range{From: to})
		if err != nil {
			return nil, nil, err
		}
		for _, s := range found {
			m := groupMove{mq.GroupSeek{Topic: topic, Partition: s.tp.Partition, From: -1, To: s.seek}, s.first}
			if at, ok := from[s.tp]; ok {
				m.From = at
			}
			if m.From != m.To {
				moves = append(moves, m)
			}
		}
		spans = append(spans, found...)
	}
	return spans, moves, nil
}

// effect tells how many records come again, and how many are skipped, because of
// moves. Where nothing is stored, the config of a consumer says where it begins,
// and nobody knows.
func effect(moves ...groupMove) string {
	var again, skipped int64
	for _, m := range moves {
		if m.From < 0 {
			continue
		}
		by := m.To - max(m.From, m.first)
		again, skipped = again+max(-by, 0), skipped+max(by, 0)
	}
	var parts []string
	if again > 0 {
		parts = append(parts, count(again, "record")+" again")
	}
	if skipped > 0 {
		parts = append(parts, count(skipped, "record")+" skipped")
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func (m groupMove) String() string {
	if m.From < 0 {
		return fmt.Sprintf("%s/%d: to %d, nothing is stored yet", m.Topic, m.Partition, m.To)
	}
	return fmt.Sprintf("%s/%d: from %d to %d%s", m.Topic, m.Partition, m.From, m.To, effect(m))
}
