package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/api"
)

// endOf is how far a broker's copy of a partition is.
func (n *Node) endOf(tb testing.TB, topic string, index int) int64 {
	tb.Helper()
	r := n.replica(n.shardOf(tb, topic, index).Shard)
	if r == nil {
		return -1
	}
	return r.machine.app.(*partition).log.State().End
}

func TestALoneBrokerWithDataBecomesTheFirstOfThree(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 1)
	first := c.nodes[1]
	newTopic(t, first, "t", 3, nil)
	for p := range int32(3) {
		for i := range 5 {
			mustProduce(t, first, "t", p, fmt.Sprint(i))
		}
	}
	commitAt(t, first, "g", "t", 0, 3)
	c.add(2)
	c.add(3)
	c.ready()
	for p := range 3 {
		waitFor(t, fmt.Sprintf("three replicas of partition %d", p), func() bool {
			s := first.meta.state.Load().topics["t"].Partitions[p]
			return len(s.Replicas) == 3 && s.settled()
		})
		c.put("t", int32(p), "5")
		c.ready()
		for id, n := range c.nodes {
			waitFor(t, fmt.Sprintf("broker %d to have partition %d", id, p), func() bool { return n.endOf(t, "t", p) == 6 })
		}
	}
	// Without the first, all of it is still there.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(3) {
		c.put("t", p, "6")
		if got := strings.Join(readAll(t, c.leader("t", p), "t", p, 0), ""); got != "0123456" {
			t.Errorf("partition %d has %s", p, got)
		}
	}
}

// A broker that was away so long that the log behind it is cut gets a copy.
func TestABrokerThatWasAwayForLongCatchesUp(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	c.put("t", 0, "0")
	leader := c.leader("t", 0)
	var away int32
	for id, n := range c.nodes {
		if n != leader {
			away = id
		}
	}
	waitFor(t, "all to have it", func() bool { return c.nodes[away].endOf(t, "t", 0) == 1 })
	if err := c.nodes[away].Close(); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 50; i++ {
		c.put("t", 0, fmt.Sprint(i))
	}
	for id, n := range c.nodes {
		if id != away {
			r := n.replica(n.shardOf(t, "t", 0).Shard)
			if err := n.saveSnapshot(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	back := c.open(away)
	c.ready()
	waitFor(t, "it to catch up", func() bool { return back.endOf(t, "t", 0) == 50 })
	c.put("t", 0, "50")
	waitFor(t, "it to follow", func() bool { return back.endOf(t, "t", 0) == 51 })
}
