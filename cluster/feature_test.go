package cluster

import (
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
)

// upgrade restarts a broker with a build that knows a feature level.
func (c *several) upgrade(id int32, level uint8) *Node {
	c.tb.Helper()
	if err := c.nodes[id].Close(); err != nil {
		c.tb.Fatal(err)
	}
	cfg := c.cfgs[id]
	cfg.Test.Feature = level
	c.cfgs[id] = cfg
	n := c.open(id)
	c.ready()
	return n
}

func (c *several) feature(id int32) uint8 { return c.nodes[id].meta.state.Load().feature }

// A rolling upgrade: the level is raised when the last broker knows it, and whoever
// does not is not let in any more.
func TestTheFeatureLevelIsRaisedWhenAllBrokersKnowIt(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.threeVoters()
	c.create("t", 3)
	for _, id := range []int32{1, 2, 3} {
		if known := c.nodes[1].meta.state.Load().knownByAll(); known != 1 || c.feature(1) != 1 {
			t.Fatalf("before broker %d was upgraded all know %d, and the level is %d", id, known, c.feature(1))
		}
		c.upgrade(id, 2)
		for p := range int32(3) {
			c.put("t", p, "x")
		}
	}
	waitFor(t, "the level to be raised", func() bool { return c.feature(1) == 2 && c.feature(2) == 2 && c.feature(3) == 2 })
	for p := range int32(3) {
		c.put("t", p, "y")
	}
	if again := c.upgrade(1, 2); again.meta.state.Load().feature != 2 {
		t.Error("the level is forgotten by a restart")
	}
	cfg := c.cfgs[3]
	cfg.Test.Feature = 1
	c.cfgs[3] = cfg
	if err := c.nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	c.fails(c.open(3), mqerr.ErrUnsupportedVersion)
}

// A command that a broker can't apply is not lost to it: its log is not cut until a
// newer build has applied the whole of it.
func TestAParkedReplicaFindsTheRestOfItsLogAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.threeVoters()
	c.create("t", 1)
	shard := c.nodes[1].meta.state.Load().topics["t"].Partitions[0].Shard
	leader := c.upgrade(c.leader("t", 0).cfg.BrokerID, 2)
	for _, n := range c.nodes {
		n.stopping.Store(true) // it leads until the end
	}
	c.put("t", 0, "0")
	waitFor(t, "who knows the level to lead", func() bool {
		now := c.leader("t", 0)
		if now != leader {
			_ = now.host.RequestLeaderTransfer(shard, leader.replica(shard).id.Replica) // again, if it comes to nothing
		}
		return now == leader
	})
	for i := range 3 { // what no cluster does where not all know the level
		r := leader.replica(shard)
		epoch, err := r.epochServed()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan result, 1)
		r.submit(header{kind: kindAppend, epoch: epoch, feature: 2}, makeBatch(t, string('1'+rune(i))), leader.cfg.ProposeTimeout, func(res result) { done <- res })
		if res := <-done; res.err != nil {
			t.Fatal(res.err)
		}
	}
	for id, n := range c.nodes {
		if n == leader {
			continue
		}
		r := n.replica(shard)
		waitFor(t, "it to park", func() bool { return r.machine.parked.Load() })
		if err := n.saveSnapshot(r); err == nil {
			t.Errorf("the raft log of a parked replica was cut")
		}
		n = c.upgrade(id, 2)
		waitFor(t, "it to have the rest", func() bool { return n.endOf(t, "t", 0) == 4 })
	}
	c.put("t", 0, "4")
	if got := strings.Join(readAll(t, c.leader("t", 0), "t", 0, 0), ""); got != "01234" {
		t.Errorf("it holds %s", got)
	}
}
