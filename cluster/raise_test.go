package cluster

import (
	"fmt"
	"testing"

	"github.com/lni/dragonboat/v4"

	"github.com/raftmq/mq/internal/api"
)

func TestAGroupDoesNotRestAtAnEvenNumberOfVoters(t *testing.T) {
	t.Parallel()
	for _, is := range []struct{ stay, leave, ready, wanted, now int }{
		{1, 0, 1, 3, 0}, // the second alone would make it worse
		{1, 0, 2, 3, 2},
		{2, 0, 1, 3, 1}, // one died in between
		{2, 1, 1, 3, 1}, // the fourth goes next
		{1, 1, 1, 3, 1}, // the second can't go before another one comes
		{1, 2, 1, 3, 0},
		{1, 0, 1, 2, 1}, // it is to have two
		{1, 0, 3, 5, 2},
		{3, 0, 1, 4, 1}, // one of the three leaves next
		{3, 0, 0, 4, 0},
		{3, 0, 2, 3, 0},
	} {
		if now := promotable(is.stay, is.stay+is.leave, is.ready, is.wanted); now != is.now {
			t.Errorf("%d voters, %d leave, %d ready, %d wanted: %d become voters, not %d", is.stay, is.leave, is.ready, is.wanted, now, is.now)
		}
	}
}

func TestAllReplicasThatAreMissingArePlannedAtOnce(t *testing.T) {
	t.Parallel()
	s := newMetaState()
	for id := range int32(3) {
		s.brokers[id+1] = brokerRecord{ID: id + 1}
	}
	s.meta = shardRecord{Shard: metaShard, Replicas: []replicaRecord{{Broker: 1, Replica: 1}}}
	s.putTopic(&topicRecord{Name: "t", Partitions: []shardRecord{
		{Shard: 1024, Replicas: []replicaRecord{{Broker: 1, Replica: 1}}},
		{Shard: 1025, Replicas: []replicaRecord{{Broker: 1, Replica: 1}, {Broker: 2, Replica: 2, Joining: true}}}, // broker 3 came a little later
	}})
	var got []string
	for _, c := range s.plan() {
		got = append(got, fmt.Sprintf("%d:%s %d", c.ChangeReplica.Shard, c.ChangeReplica.Change, c.ChangeReplica.Broker))
	}
	if want := "[1024:add 2 1024:add 3 1025:add 3]"; fmt.Sprint(got) != want && fmt.Sprint(got) != "[1024:add 3 1024:add 2 1025:add 3]" {
		t.Errorf("planned %v, not %s", got, want)
	}
}

// raised is a shard with one voter and two learners, of which only the first has a
// broker that runs.
type raised struct {
	*several
	leader    *Node
	learner   *Node
	away      int32
	shard     shardRecord
	learnerID uint64
}

func newRaised(t *testing.T) *raised {
	c := &raised{several: newSeveral(t, 3)}
	c.threeVoters()
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t", ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	c.put("t", 0, "0")
	c.leader = c.several.leader("t", 0)
	for id, n := range c.nodes {
		if n != c.leader && c.learner == nil {
			c.learner = n
		} else if n != c.leader {
			c.away = id
		}
	}
	if err := c.nodes[c.away].Close(); err != nil {
		t.Fatal(err)
	}
	delete(c.nodes, c.away)
	topic := c.leader.meta.state.Load().topics["t"]
	c.shard = topic.Partitions[0]
	for _, b := range []int32{c.learner.cfg.BrokerID, c.away} {
		add := &changeReplica{Shard: c.shard.Shard, Change: addReplica, Broker: b, TopicID: &topic.ID}
		if err := c.leader.proposeMeta(timeout(t), &metaCommand{ChangeReplica: add}, nil); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the learner to follow", func() bool {
		here := c.leader.replica(c.shard.Shard)
		c.shard = *here.shard.Load()
		answers := c.leader.askAll(timeout(t), statusRequest{Shards: []uint64{c.shard.Shard}})
		a := answers[c.learner.cfg.BrokerID]
		return len(c.shard.Replicas) == 3 && a.begun(c.shard.Shard) && a.near(c.shard.Shard, here.index.Load())
	})
	c.learnerID, _ = c.shard.on(c.learner.cfg.BrokerID)
	return c
}

// voters asks the raft group itself.
func (c *raised) voters() *dragonboat.Membership {
	c.tb.Helper()
	m, err := c.leader.host.SyncGetShardMembership(timeout(c.tb), c.shard.Shard)
	if err != nil {
		c.tb.Fatal(err)
	}
	return m
}

func (c *raised) becomesThree() {
	c.tb.Helper()
	c.open(c.away)
	waitFor(c.tb, "three voters", func() bool {
		for _, n := range c.nodes {
			topic := n.meta.state.Load().topics["t"] // which who has just started may not know
			if topic == nil || topic.Partitions[0].voters() != 3 {
				return false
			}
		}
		return true
	})
	c.ready()
	c.put("t", 0, "last")
}

// With two voters both have to be there, so the second has to wait for the third.
func TestThereIsNoSecondVoterBeforeTheThirdIsReady(t *testing.T) {
	t.Parallel()
	c := newRaised(t)
	c.leader.settle(c.leader.replica(c.shard.Shard))
	if m := c.voters(); len(m.Nodes) != 1 || len(m.NonVotings) == 0 {
		t.Fatalf("voters %v, learners %v", m.Nodes, m.NonVotings)
	}
	if err := c.learner.Close(); err != nil { // which stops nothing
		t.Fatal(err)
	}
	c.put("t", 0, "1")
	c.open(c.learner.cfg.BrokerID)
	c.becomesThree()
}

// A broker that dies when the second is a voter and the third is not yet stops the
// shard, and it goes on by itself when the broker is back.
func TestAShardThatWasStoppedHalfWayToThreeVotersGoesOn(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]func(*raised) *Node{
		"the new voter dies": func(c *raised) *Node { return c.learner },
		"the leader dies":    func(c *raised) *Node { return c.leader },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newRaised(t)
			m := c.voters()
			err := c.leader.host.SyncRequestAddReplica(timeout(t), c.shard.Shard, c.learnerID, c.learner.DirectoryID(), m.ConfigChangeID)
			if err != nil {
				t.Fatal(err)
			}
			n := dies(c)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			again := c.open(n.cfg.BrokerID)
			if n == c.leader {
				c.leader = again
			}
			c.put("t", 0, "1")
			c.becomesThree()
		})
	}
}

func TestTheMetadataKeepsAnOddNumberOfVoters(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 4)
	c.threeVoters()
	votes := int32(2)
	if s := c.nodes[1].meta.state.Load().meta; !s.votes(votes) {
		votes = 3
	}
	c.remove(votes)
	waitFor(t, "the learner to vote in its place", func() bool {
		s := c.nodes[1].meta.state.Load().meta
		return len(s.Replicas) == 3 && s.settled()
	})
}
