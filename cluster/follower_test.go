package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// follower returns a broker with a replica of partition 0 of t that does not lead it.
func (c *several) follower(leader *Node) *Node {
	for _, n := range c.nodes {
		if n != leader {
			return n
		}
	}
	return nil
}

func TestFollowerAnswersWhoeverAllowsIt(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 1)
	c.put("t", 0, "a")
	leader := c.leader("t", 0)
	n := c.follower(leader)
	waitFor(t, "the follower to have it", func() bool { return n.endOf(t, "t", 0) == 1 })

	result := func(offset int64, follower bool) api.FetchResult {
		t.Helper()
		p := fetchAt("t", 0, offset)
		p.LeaderEpoch = 1 // older than any: no follower needs to fence its reader
		return fetch(t, n, &api.FetchRequest{Follower: follower, Partitions: []api.FetchPartition{p}}).Partitions[0]
	}
	if r := result(0, false); !errors.Is(r.Err, mqerr.ErrNotLeader) {
		t.Errorf("without leave: %v", r.Err)
	}
	if r := result(0, true); r.Err != nil || countBatches(t, r.Batches) != 1 || r.HighWatermark != 1 {
		t.Errorf("with leave: %v, high watermark %d", r.Err, r.HighWatermark)
	}
	if r := result(1, true); r.Err != nil || len(r.Batches) != 0 {
		t.Errorf("at its end: %v", r.Err)
	}
	for _, offset := range []int64{2, -1} {
		if r := result(offset, true); !errors.Is(r.Err, mqerr.ErrNotLeader) || errors.Is(r.Err, mqerr.ErrOffsetOutOfRange) {
			t.Errorf("offset %d: %v", offset, r.Err)
		}
	}

	// A long poll at a follower is woken by what it applies.
	answered := make(chan *api.FetchResponse, 1)
	go func() { // ends with the fetch
		resp, _ := n.Fetch(timeout(t), &api.FetchRequest{Follower: true, MaxWait: time.Minute, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 1)}})
		answered <- resp
	}()
	c.put("t", 0, "b")
	if resp := <-answered; resp == nil || len(resp.Partitions) != 1 || countBatches(t, resp.Partitions[0].Batches) != 1 {
		t.Errorf("the long poll got %+v", resp)
	}
}

// Somebody who reads from a broker that is cut off must be told, or would wait
// for ever.
func TestFollowerThatIsCutOffSendsItsReadersAway(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	c.create("t", 1)
	c.put("t", 0, "a")
	n := c.follower(c.leader("t", 0))
	waitFor(t, "the follower to have it", func() bool { return n.endOf(t, "t", 0) == 1 })
	answered := make(chan *api.FetchResponse, 1)
	go func() { // ends with the fetch
		resp, _ := n.Fetch(timeout(t), &api.FetchRequest{Follower: true, MaxWait: time.Minute, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 1)}})
		answered <- resp
	}()
	for _, other := range c.nodes {
		if other != n {
			c.faults.Set(n.DirectoryID(), other.DirectoryID(), network.Rule{Drop: 1})
			c.faults.Set(other.DirectoryID(), n.DirectoryID(), network.Rule{Drop: 1})
		}
	}
	if resp := <-answered; resp == nil || len(resp.Partitions) != 1 || !errors.Is(resp.Partitions[0].Err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("the long poll got %+v", resp)
	}
}
