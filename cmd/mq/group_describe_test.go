package main

import (
	"strings"
	"testing"

	"github.com/raftmq/mq"
)

// of is some partitions of a topic.
func of(topic string, partitions ...int32) []mq.TopicPartition {
	var tps []mq.TopicPartition
	for _, n := range partitions {
		tps = append(tps, mq.TopicPartition{Topic: topic, Partition: n})
	}
	return tps
}

func TestDescriptionOfAGroupTellsWhatMoves(t *testing.T) {
	t.Parallel()
	d := groupDescription{GroupDescription: mq.GroupDescription{
		GroupID: "g", State: mq.GroupReconciling, Coordinator: 2, Epoch: 7,
		Members: []mq.GroupMember{
			{MemberID: "old", Epoch: 6, Assigned: of("t", 0, 1), Target: of("t", 0, 1), Revoking: of("t", 2, 3)},
			{MemberID: "new", Epoch: 7, Assigned: of("t", 4), Target: of("t", 2, 3, 4)},
			{MemberID: "idle", Epoch: 7},
		},
	}}
	var out strings.Builder
	p := &program{out: &out}
	if err := p.show(&output{form: formTable}, d, d.table); err != nil {
		t.Fatal(err)
	}
	const want = `group        g
state        reconciling
coordinator  2
epoch        7
lag          0

MEMBER  INSTANCE  CLIENT  EPOCH  READS  GIVES UP  GETS
old     -         -       6      t/0-3  t/2-3     -
new     -         -       7      t/4    -         t/2-3
idle    -         -       7      -      -         -
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestRangesOfPartitions(t *testing.T) {
	t.Parallel()
	for want, tps := range map[string][]mq.TopicPartition{
		"-":              nil,
		"a/3":            of("a", 3),
		"a/0-1":          of("a", 0, 1),
		"a/0,2-4,9":      of("a", 0, 2, 3, 4, 9),
		"a/0-1 b/1 c/10": append(append(of("a", 0, 1), of("b", 1)...), of("c", 10)...),
		"a/0 b/1":        append(of("a", 0), of("b", 1)...),
	} {
		if got := ranges(tps); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What was trimmed does not come again, and where nothing is stored nobody can tell.
func TestEffectOfMovingAGroup(t *testing.T) {
	t.Parallel()
	move := func(from, to, first int64) groupMove {
		return groupMove{mq.GroupSeek{From: from, To: to}, first}
	}
	for want, moves := range map[string][]groupMove{
		"":                                    {move(-1, 5, 0), move(2, 4, 4)},
		": 1 record again":                    {move(5, 4, 0)},
		": 3 records again":                   {move(5, 2, 0), move(-1, 9, 0)},
		": 1 record skipped":                  {move(2, 5, 4)},
		": 5 records again, 1 record skipped": {move(5, 0, 0), move(0, 1, 0)},
	} {
		if got := effect(moves...); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
