package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// several are brokers of one cluster on a network inside the process.
type several struct {
	tb     testing.TB
	onDisk bool
	net    *network.Mem
	faults *network.Faults
	cfgs   map[int32]Config
	nodes  map[int32]*Node
}

func newSeveral(tb testing.TB, count int32) *several {
	tb.Helper()
	c := &several{tb: tb, net: &network.Mem{}, faults: network.NewFaults(1), cfgs: map[int32]Config{}, nodes: map[int32]*Node{}}
	for id := int32(1); id <= count; id++ {
		c.add(id)
	}
	c.ready()
	return c
}

func (c *several) add(id int32) *Node {
	c.tb.Helper()
	disk := newBadDisk()
	cfg := disk.config()
	if c.onDisk {
		cfg = Config{Dir: c.tb.TempDir(), MinFreeBytes: -1}
	}
	cfg.BrokerID, cfg.Network, cfg.Faults = id, c.net, c.faults
	cfg.PeerListen = fmt.Sprint("broker-", id)
	if id > 1 {
		cfg.Seeds = []string{"broker-1"}
	}
	c.cfgs[id] = cfg
	return c.open(id)
}

func (c *several) open(id int32) *Node {
	c.tb.Helper()
	n, err := Open(c.tb.Context(), c.cfgs[id])
	if err != nil {
		c.tb.Fatal(err)
	}
	c.nodes[id] = n
	c.tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			c.tb.Errorf("broker %d: Close: %v", id, err)
		}
	})
	return n
}

func (c *several) ready() {
	c.tb.Helper()
	for id, n := range c.nodes {
		if err := n.WaitReady(timeout(c.tb)); err != nil {
			c.tb.Fatalf("broker %d: %v", id, err)
		}
	}
}

// leader waits until a partition has a leader that serves.
func (c *several) leader(topic string, partition int32) *Node {
	c.tb.Helper()
	var leader *Node
	waitFor(c.tb, "a leader", func() bool {
		for _, n := range c.nodes {
			if n.closing.Err() != nil {
				continue
			}
			if _, err := n.find(api.TopicPartition{Topic: topic, Partition: partition}); err == nil {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// put produces to whoever leads, again and again until it is acknowledged.
func (c *several) put(topic string, partition int32, value string) {
	c.tb.Helper()
	for {
		_, err := produce(timeout(c.tb), c.leader(topic, partition), topic, partition, makeBatch(c.tb, value))
		if err == nil {
			return
		}
		if !mqerr.Retriable(err) {
			c.tb.Fatalf("produce: %v", err)
		}
	}
}

func TestThreeBrokersFormACluster(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	resp, err := c.nodes[3].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t", Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range resp.Topic.Partitions {
		if len(p.Replicas) != 3 {
			t.Errorf("partition %d is on %v", p.Index, p.Replicas)
		}
	}
	for p := range int32(4) {
		for i := range 10 {
			c.put("t", p, fmt.Sprint(i))
		}
		for id, n := range c.nodes {
			r := n.replica(n.shardOf(t, "t", int(p)).Shard)
			waitFor(t, fmt.Sprintf("broker %d to have partition %d", id, p), func() bool { return r.machine.app.(*partition).log.State().End == 10 })
		}
	}
	waitFor(t, "three voters of the metadata", func() bool {
		s := c.nodes[2].meta.state.Load().meta
		return len(s.Replicas) == 3 && s.settled()
	})
}

func TestALeaderThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 3)
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	total := 0
	for range 3 {
		c.put("t", 0, fmt.Sprint(total))
		total++
		old := c.leader("t", 0)
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		c.put("t", 0, fmt.Sprint(total))
		total++
		c.open(old.cfg.BrokerID)
		c.ready()
	}
	if got := readAll(t, c.leader("t", 0), "t", 0, 0); len(got) != total {
		t.Errorf("%d records, want %d: %q", len(got), total, got)
	}
}

func TestOneWithAnothersNumberIsRefused(t *testing.T) {
	t.Parallel()
	c := newSeveral(t, 2)
	disk := newBadDisk()
	cfg := disk.config()
	cfg.BrokerID, cfg.Network, cfg.Seeds = 2, c.net, []string{"broker-1"}
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	c.fails(n, mqerr.ErrInvalidRequest)
}

// fails waits until a broker ends by itself, for a reason.
func (c *several) fails(n *Node, why error) {
	c.tb.Helper()
	select {
	case <-n.Failed():
	case <-timeout(c.tb).Done():
		c.tb.Fatal("it goes on for ever")
	}
	if err := n.Failure(); !errors.Is(err, why) {
		c.tb.Error(err)
	}
}

// What one broker answered is true when the next one is asked, though raft tells
// that one later.
func TestEachBrokerKnowsWhatAnotherJustDid(t *testing.T) {
	t.Parallel()
	c, ctx := newSeveral(t, 3), timeout(t)
	var a, b *Node
	waitFor(t, "a leader of the metadata", func() bool {
		for id, n := range c.nodes {
			if _, err := n.metaRep.Load().epochServed(); err == nil {
				a, b = n, c.nodes[id%3+1]
				return true
			}
		}
		return false
	})
	c.faults.Set(a.DirectoryID(), b.DirectoryID(), network.Rule{Delay: 200 * time.Millisecond})
	for range 2 {
		if _, err := a.CreateTopic(ctx, &api.CreateTopicRequest{Name: "t", Partitions: 1}); err != nil {
			t.Fatalf("create: %v", err)
		}
		if _, err := b.AddPartitions(ctx, &api.AddPartitionsRequest{Name: "t", Total: 2}); err != nil {
			t.Fatalf("add: %v", err)
		}
		if _, err := a.DeleteTopic(ctx, &api.DeleteTopicRequest{Name: "t"}); err != nil {
			t.Fatalf("delete: %v", err)
		}
		if _, err := b.CreateTopic(ctx, &api.CreateTopicRequest{Name: "t", Partitions: 1}); err != nil {
			t.Fatalf("create: %v", err)
		}
		if _, err := a.DeleteTopic(ctx, &api.DeleteTopicRequest{Name: "t"}); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
}
