package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
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

func TestABrokerThatIsRemovedLosesNothing(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 4)
	c.create("t", 6)
	for p := range int32(6) {
		c.put("t", p, "0")
	}
	leaves := c.nodes[2]
	c.remove(2)
	s := c.nodes[1].meta.state.Load()
	s.eachShard(func(shard shardRecord, _ *topicRecord) {
		if len(shard.Replicas) != 3 || !shard.settled() {
			t.Errorf("shard %d is on %+v", shard.Shard, shard.Replicas)
		}
	})
	for range 2 { // it ends, and does not come back
		<-leaves.Failed()
		if err := leaves.Failure(); !errors.Is(err, mqerr.ErrRemoved) {
			t.Fatal(err)
		}
		if err := leaves.Close(); err != nil {
			t.Fatal(err)
		}
		leaves = c.open(2)
	}
	delete(c.nodes, 2)
	for p := range int32(6) {
		c.put("t", p, "1")
		if got := strings.Join(readAll(t, c.leader("t", p), "t", p, 0), ""); got != "01" {
			t.Errorf("partition %d has %s", p, got)
		}
	}
}

func TestThreeBecomeTwo(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 3)
	if err := c.nodes[2].Close(); err != nil { // dead
		t.Fatal(err)
	}
	delete(c.nodes, 2)
	c.remove(2)
	for p := range int32(3) {
		c.put("t", p, "x")
	}
	// A new one takes the place, under a number of its own.
	c.add(4)
	c.ready()
	waitFor(t, "three replicas of everything", func() bool {
		missing := 0
		c.nodes[1].meta.state.Load().eachShard(func(shard shardRecord, _ *topicRecord) {
			if len(shard.Replicas) != 3 || !shard.settled() {
				missing++
			}
		})
		return missing == 0
	})
}

func TestABrokerThatIsNotThereOrTheLastIsNotRemoved(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	for id, why := range map[int32]string{1: "the last", 7: "no broker 7"} {
		if _, err := n.RemoveBroker(timeout(t), &api.RemoveBrokerRequest{ID: id}); !errors.Is(err, mqerr.ErrInvalidRequest) || !strings.Contains(err.Error(), why) {
			t.Errorf("broker %d: %v", id, err)
		}
	}
}

// After a power cut the store may have forgotten that others came; the raft log
// knows. Opening must not wait for them, nor the broker go on alone.
func TestABrokerThatWasTheFirstDoesNotGoOnAlone(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 0)
	disk := newBadDisk()
	disk.store = vfs.NewCrashableMem()
	cfg := disk.config()
	cfg.BrokerID, cfg.Network, cfg.PeerListen = 1, c.net, "broker-1"
	c.cfgs[1] = cfg
	first := c.open(1)
	c.add(2)
	c.add(3)
	c.ready()
	waitFor(t, "three voters of the metadata", func() bool {
		s := first.meta.state.Load().meta
		return len(s.Replicas) == 3 && s.settled()
	})
	cut := disk.store.CrashClone(vfs.CrashCloneCfg{})
	for _, n := range c.nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	disk.store = cut
	cfg.Test.StoreFS = disk.config().Test.StoreFS
	c.cfgs[1] = cfg
	again := c.open(1)
	if again.metaRep.Load().lone() {
		t.Error("it takes itself for the only one")
	}
	c.open(2)
	c.open(3)
	c.ready()
	c.create("t", 1)
	c.put("t", 0, "x")
}

// remove removes a broker by way of the first and waits until it is forgotten.
func (c *several) remove(id int32) {
	c.tb.Helper()
	if _, err := c.nodes[1].RemoveBroker(timeout(c.tb), &api.RemoveBrokerRequest{ID: id}); err != nil {
		c.tb.Fatal(err)
	}
	c.gone(1, id)
}

// gone waits until a broker knows no more of one that was removed.
func (c *several) gone(at, id int32) {
	c.tb.Helper()
	waitFor(c.tb, fmt.Sprintf("broker %d to be gone", id), func() bool {
		_, there := c.nodes[at].meta.state.Load().brokers[id]
		return !there
	})
	delete(c.nodes, id)
}
