package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

var t0 = api.TopicPartition{Topic: "t"}

// transferTo asks whoever leads until it is done.
func (c *several) transferTo(to int32) {
	c.tb.Helper()
	waitFor(c.tb, "the leader to have been transferred", func() bool {
		_, err := c.leader("t", 0).TransferLeader(timeout(c.tb), &api.TransferLeaderRequest{TopicPartition: t0, To: to})
		if err != nil && !mqerr.Retriable(err) && !mqerr.OutcomeUnknown(err) {
			c.tb.Fatal(err)
		}
		return err == nil
	})
}

func TestALeaderThatWasChosenLeadsAndGetsItBack(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 1)
	for _, to := range []int32{1, 2, 3, 3} {
		c.transferTo(to)
		if now := c.leader("t", 0).cfg.BrokerID; now != to {
			t.Errorf("broker %d leads, not %d", now, to)
		}
		c.put("t", 0, "x")
	}
	if err := c.nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	c.put("t", 0, "x")
	c.open(3)
	c.ready()
	waitFor(t, "the leader to be the chosen one again", func() bool {
		for _, n := range c.nodes {
			n.eachReplica(func(r *replica) { r.ledSince.Store(0) }) // long ago
			n.membership.nudge()
		}
		return c.leader("t", 0).cfg.BrokerID == 3
	})
	for to, why := range map[int32]string{9: "no replica", 0: "no replica"} {
		_, err := c.leader("t", 0).TransferLeader(timeout(t), &api.TransferLeaderRequest{TopicPartition: t0, To: to})
		if !errors.Is(err, mqerr.ErrInvalidRequest) || !strings.Contains(err.Error(), why) {
			t.Errorf("to broker %d: %v", to, err)
		}
	}
}

// A broker that is down is not handed anything, and whoever leads goes on.
func TestALeaderIsNotTransferredToADeadBroker(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 1)
	dead := c.leader("t", 0).cfg.BrokerID%3 + 1
	if err := c.nodes[dead].Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the transfer to be refused", func() bool {
		_, err := c.leader("t", 0).TransferLeader(timeout(t), &api.TransferLeaderRequest{TopicPartition: t0, To: dead})
		if err == nil {
			t.Fatal("it went to a dead broker")
		}
		return errors.Is(err, mqerr.ErrBusy) // or the leader has just changed
	})
	c.put("t", 0, "x")
}

func TestAReplicaMovesToAnotherBroker(t *testing.T) {
	t.Parallel()
	for _, factor := range []int16{1, 3} {
		t.Run(string('0'+rune(factor)), func(t *testing.T) {
			t.Parallel()
			c := newSeveral(t, 4)
			if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t", ReplicationFactor: factor}); err != nil {
				t.Fatal(err)
			}
			c.put("t", 0, "0")
			from := c.leader("t", 0).cfg.BrokerID // also the hardest
			place := func() shardRecord { return c.nodes[1].meta.state.Load().topics["t"].Partitions[0] }
			waitFor(t, "broker 1 to know the topic", func() bool { return c.nodes[1].meta.state.Load().topics["t"] != nil })
			to := int32(1)
			for _, has := place().on(to); has; _, has = place().on(to) {
				to++
			}
			move := &api.MoveReplicaRequest{TopicPartition: t0, From: from, To: to}
			for range 2 { // who asks twice gets one
				if _, err := c.nodes[1].MoveReplica(timeout(t), move); err != nil && !errors.Is(err, mqerr.ErrInvalidRequest) {
					t.Fatal(err)
				}
			}
			waitFor(t, "the replica to have moved", func() bool {
				c.put("t", 0, "1")
				_, there := place().on(to)
				_, here := place().on(from)
				if place().staying() < int(factor) {
					t.Errorf("only %d replicas are left", place().staying())
				}
				return there && !here && place().settled()
			})
			c.put("t", 0, "2")
			if got := strings.Join(readAll(t, c.leader("t", 0), "t", 0, 0), ""); !strings.HasPrefix(got, "01") || !strings.HasSuffix(got, "12") {
				t.Errorf("it holds %s", got)
			}
			if place().voters() != int(factor) {
				t.Errorf("it is on %+v", place().Replicas)
			}
		})
	}
}

// A move to a broker that never catches up can be taken back.
func TestAMoveCanBeGivenUp(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 4)
	c.threeVoters()
	if err := c.nodes[4].Close(); err != nil {
		t.Fatal(err)
	}
	delete(c.nodes, 4)
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t", ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	place := func() shardRecord { return c.nodes[1].meta.state.Load().topics["t"].Partitions[0] }
	from := place().Replicas[0].Broker
	if from == 4 {
		t.Fatal("it is on the broker that is down")
	}
	for _, move := range []*api.MoveReplicaRequest{{From: from, To: 4}, {From: 4, To: from}} {
		move.TopicPartition = t0
		if _, err := c.nodes[1].MoveReplica(timeout(t), move); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "it to be where it was", func() bool {
		return len(place().Replicas) == 1 && place().settled() && place().Replicas[0].Broker == from
	})
	c.put("t", 0, "x")
	for _, is := range []struct {
		from, to int32
		why      string
	}{{from, 9, "no broker 9"}, {9, 4, "no replica"}, {from, from, "has a replica"}} {
		_, err := c.nodes[1].MoveReplica(timeout(t), &api.MoveReplicaRequest{TopicPartition: t0, From: is.from, To: is.to})
		if !errors.Is(err, mqerr.ErrInvalidRequest) || !strings.Contains(err.Error(), is.why) {
			t.Errorf("from %d to %d: %v", is.from, is.to, err)
		}
	}
}
