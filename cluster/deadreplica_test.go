package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// A broker that stops hands what it leads to whoever is alive, whoever comes first
// in line.
func TestABrokerThatStopsHandsNothingToADeadOne(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.threeVoters()
	c.create("t", 6)
	for p := range int32(6) {
		c.put("t", p, "0")
	}
	stops, dead := c.nodes[2], c.nodes[3]
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(6) { // it may be the leader of some; then others take over
		c.put("t", p, "1")
	}
	if err := stops.HandOver(timeout(t)); err != nil {
		t.Fatal(err)
	}
	stops.eachReplica(func(r *replica) {
		if l := r.lead.Load(); l != nil && l.self {
			t.Errorf("it leads %s still", r.name)
		}
	})
	for p := range int32(6) {
		if leader := c.leader("t", p); leader != c.nodes[1] {
			t.Errorf("broker %d leads partition %d", leader.cfg.BrokerID, p)
		}
	}
	c.open(3) // or the two that are left are one too few when one of them closes
	c.ready()
}

// A broker without a copy of a partition names one that has it, and not only one
// that is dead.
func TestABrokerWithoutACopyNamesOneThatHasIt(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 4)
	c.threeVoters()
	c.create("t", 4)
	for p := range int32(4) {
		var without *Node
		waitFor(t, "all to know the topic", func() bool {
			for _, n := range c.nodes {
				topic := n.meta.state.Load().topics["t"]
				if topic == nil {
					return false
				}
				if _, has := topic.Partitions[p].on(n.cfg.BrokerID); !has {
					without = n
				}
			}
			return true
		})
		shard := without.meta.state.Load().topics["t"].Partitions[p]
		named := map[int32]bool{}
		for range 2 * len(shard.Replicas) { // another one each time
			resp, err := without.Metadata(timeout(t), &api.MetadataRequest{Topics: []string{"t"}})
			if err != nil {
				t.Fatal(err)
			}
			named[resp.Topics[0].Partitions[p].Leader] = true
		}
		for _, r := range shard.Replicas {
			if !named[r.Broker] {
				t.Errorf("partition %d is on %v, and broker %d names %v", p, shard.Replicas, without.cfg.BrokerID, named)
			}
		}
		_, err := produce(timeout(t), without, "t", p, makeBatch(t, fmt.Sprint(p)))
		if !errors.Is(err, mqerr.ErrNotLeader) {
			t.Errorf("it took a record: %v", err)
		}
		// One that it has lost is not named.
		gone := c.nodes[shard.Replicas[0].Broker].DirectoryID()
		without.lost.set(gone, true)
		for range 2 * len(shard.Replicas) {
			if b := without.guess(shard); b == shard.Replicas[0].Broker {
				t.Errorf("it names broker %d, which it has lost", b)
			}
		}
		without.lost.set(gone, false)
	}
}

// A copy that is on its way to a broker when the connection is lost comes all the same.
func TestACopyWhoseStreamWasInterruptedComes(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.threeVoters()
	c.create("t", 1)
	c.put("t", 0, "0")
	leader := c.leader("t", 0)
	id := leader.cfg.BrokerID%3 + 1
	if err := c.nodes[id].Close(); err != nil {
		t.Fatal(err)
	}
	const records = 40
	for range records {
		c.put("t", 0, string(make([]byte, 100<<10)))
	}
	for other, n := range c.nodes {
		if other != id {
			if err := n.saveSnapshot(n.replica(n.shardOf(t, "t", 0).Shard)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sent := func() (bytes uint64) {
		for other, n := range c.nodes {
			if other != id {
				bytes += n.link.Stats().SnapshotBytes
			}
		}
		return bytes
	}
	before := sent()
	for other, n := range c.nodes {
		if other != id {
			n.link.SetSnapshotRate(1 << 20) // so that there is a middle to break it in
		}
	}
	back := c.open(id)
	waitFor(t, "the copy to be on its way", func() bool { return sent() > before })
	for other, n := range c.nodes {
		if other != id {
			c.faults.Set(n.DirectoryID(), back.DirectoryID(), network.Rule{Broken: true})
		}
	}
	if end := back.endOf(t, "t", 0); end > records {
		t.Errorf("it has %d records already", end)
	}
	c.faults.HealAll()
	for other, n := range c.nodes {
		if other != id {
			n.link.SetSnapshotRate(-1)
		}
	}
	waitFor(t, "the copy to be there", func() bool { return back.endOf(t, "t", 0) == records+1 })
	c.put("t", 0, "last")
	waitFor(t, "it to follow", func() bool { return back.endOf(t, "t", 0) == records+2 })
}
