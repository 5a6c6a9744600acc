package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/lni/dragonboat/v4"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// A member of a new shard that is away when it is made begins with the members
// that the others began with, also if one of them has left meanwhile.
func TestAReplicaThatStartsLateHasTheMembersOfTheOthers(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 4)
	c.threeVoters()
	if err := c.nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	delete(c.nodes, 3)
	c.create("t", 4)
	for p := range int32(4) {
		c.put("t", p, "0")
	}
	leave := &metaCommand{LeaveBroker: &leaveBroker{Broker: 2}}
	if err := c.nodes[1].proposeMeta(timeout(t), leave, nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the replicas of broker 2 that can be given up to go", func() bool {
		left := 0
		for _, s := range c.nodes[1].meta.state.Load().topics["t"].Partitions {
			if _, has := s.on(2); has {
				left++
			}
		}
		return left <= 2 // where broker 3 is needed, not before it is back
	})
	c.open(3)
	c.gone(1, 2)
	c.ready()
	for p, s := range c.nodes[1].meta.state.Load().topics["t"].Partitions {
		waitFor(t, fmt.Sprintf("the members of partition %d to be the same everywhere", p), func() bool {
			seen := map[string]bool{}
			for _, n := range c.nodes {
				for _, i := range n.host.GetNodeHostInfo(dragonboat.NodeHostInfoOption{SkipLogInfo: true}).ShardInfoList {
					if i.ShardID == s.Shard {
						seen[fmt.Sprint(i.ConfigChangeIndex, i.Replicas)] = true
					}
				}
			}
			return len(seen) == 1
		})
	}
}

// metaVoters counts the voters of the metadata, as a broker sees it.
func (c *several) metaVoters(id int32) int { return c.nodes[id].meta.state.Load().meta.voters() }

// threeVoters waits until the metadata has so many.
func (c *several) threeVoters() {
	c.tb.Helper()
	waitFor(c.tb, "three voters of the metadata", func() bool { return c.metaVoters(1) == 3 })
}

// While one is dead, another that is needed for a quorum does not go, and what
// was served is served.
func TestABrokerThatIsNeededIsNotDropped(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 6)
	c.threeVoters()
	if err := c.nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	delete(c.nodes, 3)
	if _, err := c.nodes[1].RemoveBroker(timeout(t), &api.RemoveBrokerRequest{ID: 2}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, n := range c.nodes {
			n.eachReplica(n.settle)
		}
		for p := range int32(6) {
			c.put("t", p, "x")
		}
	}
	c.open(3)
	c.gone(1, 2)
	for p := range int32(6) {
		c.put("t", p, "x")
	}
}

func TestTheFirstOfTwoCanLeave(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 2)
	c.create("t", 2)
	if _, err := c.nodes[2].RemoveBroker(timeout(t), &api.RemoveBrokerRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	c.gone(2, 1)
	for p := range int32(2) {
		c.put("t", p, "x")
	}
}

func TestABrokerThatDiedWhileItJoinedCanBeRemoved(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 1)
	n := c.nodes[1]
	newTopic(t, n, "t", 2, nil)
	dead := brokerRecord{ID: 2, DirID: uuid.NewString(), PeerAddr: "broker-2"}
	if err := n.proposeMeta(timeout(t), &metaCommand{RegisterBroker: &dead}, nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to be given replicas", func() bool {
		return len(n.meta.state.Load().topics["t"].Partitions[0].Replicas) == 2
	})
	c.remove(2)
}

func TestATopicIsNotPlacedOnABrokerThatIsNotThere(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	cmd := &metaCommand{CreateTopic: &createTopic{Name: "t", ID: uuid.New(), Partitions: [][]int32{{1, 9}}}}
	if err := n.proposeMeta(timeout(t), cmd, nil); !errors.Is(err, mqerr.ErrBusy) {
		t.Errorf("got %v, want an error after which it is placed again", err)
	}
}

// All brokers may have the same seeds, and so this one may ask itself first.
func TestARefusalBySomeSeedCounts(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 2)
	cfg := newBadDisk().config()
	cfg.BrokerID, cfg.Network, cfg.PeerListen, cfg.Seeds = 2, c.net, "same number", []string{"same number", "broker-1"}
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	c.fails(n, mqerr.ErrInvalidRequest)
}
