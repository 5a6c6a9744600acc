package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// ledBy counts the partitions of a topic that each broker leads.
func (c *several) ledBy(topic string, partitions int32) map[int32]int {
	c.tb.Helper()
	led := map[int32]int{}
	for p := range partitions {
		led[c.leader(topic, p).cfg.BrokerID]++
	}
	return led
}

func (c *several) create(topic string, partitions int32) {
	c.tb.Helper()
	for _, n := range c.nodes {
		if n.closing.Err() == nil {
			if _, err := n.CreateTopic(timeout(c.tb), &api.CreateTopicRequest{Name: topic, Partitions: partitions}); err != nil {
				c.tb.Fatal(err)
			}
			return
		}
	}
}

func TestLeadersOfANewTopicAreSpread(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 9)
	if led := c.ledBy("t", 9); led[1] != 3 || led[2] != 3 || led[3] != 3 {
		t.Errorf("the brokers lead %v", led)
	}
}

func TestABrokerHandsOverBeforeItStops(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 6)
	c.threeVoters()
	leaves := c.leader("t", 0)
	if err := leaves.HandOver(timeout(t)); err != nil {
		t.Fatal(err)
	}
	leaves.eachReplica(func(r *replica) {
		if l := r.lead.Load(); l != nil && l.self {
			t.Errorf("it leads %s still", r.name)
		}
	})
	if err := leaves.Close(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(6) {
		c.put("t", p, "x")
	}
}

func TestLeadersGoBackWhenABrokerReturns(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 6)
	if err := c.nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(6) {
		c.put("t", p, "x")
	}
	c.open(1)
	c.ready()
	waitFor(t, "the leaders to be spread again", func() bool {
		for _, n := range c.nodes {
			n.eachReplica(func(r *replica) { r.ledSince.Store(0) }) // long ago
			n.membership.nudge()
		}
		led := c.ledBy("t", 6)
		return led[1] == 2 && led[2] == 2 && led[3] == 2
	})
}

// A broken connection alone takes leadership from nobody.
func TestALeaderThatOneBrokerLostStays(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 1)
	stays := false
	for tries := 0; tries < 5 && !stays; tries++ { // on a busy machine it may lose leadership by itself
		leader := c.leader("t", 0)
		stays = true
		for _, n := range c.nodes {
			if n != leader {
				n.lost.set(leader.DirectoryID(), true)
				n.succeed(leader.DirectoryID()) // the other has not lost it
				stays = stays && c.leader("t", 0) == leader
				n.lost.set(leader.DirectoryID(), false)
			}
		}
	}
	if !stays {
		t.Error("another took it each time")
	}
}

// Who voted for a new leader may not have heard of it yet, and so take the shard for
// one without a leader. Standing for it then would take leadership from the new one.
func TestALeaderThatWasJustElectedStays(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 1)
	for _, n := range c.nodes {
		n.stopping.Store(true) // nobody gives leadership to who should have it
	}
	old := c.leader("t", 0)
	shard := old.shardOf(t, "t", 0).Shard
	if err := old.HandOver(timeout(t)); err != nil { // so that there is a term before the leader's
		t.Fatal(err)
	}
	stays := false
	for tries := 0; tries < 5 && !stays; tries++ { // on a busy machine it may lose leadership by itself
		leader := c.leader("t", 0)
		follower := c.nodes[leader.cfg.BrokerID%3+1]
		var epoch int32
		waitFor(t, "a follower in the term of its leader", func() bool {
			epoch, _ = leader.replica(shard).epochServed()
			_, term, _, err := follower.host.GetLeaderID(shard)
			return epoch == 0 || err == nil && int32(term) == epoch
		})
		if epoch == 0 {
			continue
		}
		was := &leadership{leader: old.replica(shard).id.Replica, term: uint64(epoch) - 1}
		follower.succeedLeader(shard, follower.replica(shard).id.Replica, was)
		waitFor(t, "raft to answer, which it does after it has seen the message", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), readPatience) // it may lose the question
			defer cancel()
			_, err := follower.host.SyncRead(ctx, shard, nil)
			return err == nil
		})
		now, _ := leader.replica(shard).epochServed()
		stays = now == epoch
	}
	if !stays {
		t.Error("it was deposed each time")
	}
	// In the term of the leader it works.
	waitFor(t, "another leader", func() bool {
		if l := old.replica(shard).lead.Load(); l != nil && l.leader != 0 && !l.self {
			old.succeedLeader(shard, old.replica(shard).id.Replica, l)
		}
		_, err := old.replica(shard).epochServed()
		return err == nil
	})
}

// Requests that wait for what can't be replicated do not hold up a broker that closes.
func TestABrokerThatStopsWithoutAQuorumAnswersWhatWaits(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.threeVoters()
	c.create("t", 1)
	c.put("t", 0, "0")
	for id, n := range c.nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := c.cfgs[id]
		cfg.ProposeTimeout = time.Hour
		c.cfgs[id] = cfg
		c.open(id)
		c.ready()
	}
	n := c.leader("t", 0)
	for _, other := range c.nodes {
		if other != n {
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	answered := make(chan error, 2)
	go func() {
		_, err := produce(timeout(t), n, "t", 0, makeBatch(t, "1"))
		answered <- err
	}()
	go func() {
		_, err := n.CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "new"})
		answered <- err
	}()
	r := n.replica(n.shardOf(t, "t", 0).Shard)
	waitFor(t, "the record to wait", func() bool { return !r.pend.empty() || len(answered) > 0 })
	if err := n.HandOver(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case err := <-answered:
			if !mqerr.OutcomeUnknown(err) && !mqerr.Retriable(err) {
				t.Errorf("the answer is %v", err)
			}
		case <-timeout(t).Done():
			t.Fatal("there is no answer")
		}
	}
}
