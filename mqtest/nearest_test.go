package mqtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// racks puts broker 1 into rack a, 2 into b, and 3 into c.
func racks(cfg *mq.BrokerConfig) { cfg.Rack = string("abc"[cfg.ID-1]) }

// nearby is a producer and a consumer that wants records from near.
type nearby struct {
	*testing.T
	cluster *mqtest.Cluster
	p       *mq.Producer
	c       *mq.Consumer
	next    map[int32]int64 // offset of each partition
}

func newNearby(t *testing.T, cluster *mqtest.Cluster, e mq.Endpoint, rack string) *nearby {
	t.Helper()
	p, err := mq.NewProducer(cluster.Endpoint(), mq.ProducerConfig{Topic: "t", Partitioner: mq.RoundRobin()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	c, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"t"}, ReadFrom: mq.ReadNearest, Rack: rack, MaxWait: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &nearby{t, cluster, p, c, make(map[int32]int64)}
}

// goesOn sends some records and reads them, each once and in order.
func (n *nearby) goesOn() {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 2*time.Minute)
	defer cancel()
	const records = 9
	for range records {
		if err := n.p.Send(ctx, &mq.Record{Value: []byte("x")}); err != nil {
			n.Fatal(err)
		}
	}
	for left := records; left > 0; {
		rs, err := n.c.Poll(ctx, left)
		if err != nil {
			n.Fatal(err)
		}
		for _, r := range rs {
			if r.Offset != n.next[r.Partition] {
				n.Fatalf("partition %d: offset %d came where %d was due", r.Partition, r.Offset, n.next[r.Partition])
			}
			n.next[r.Partition]++
		}
		left -= len(rs)
	}
}

// followed is how many records a broker has given of what it does not lead.
func (n *nearby) followed(id int32) (records int64) {
	n.Helper()
	for _, p := range n.cluster.Broker(id).Stats().Partitions {
		if !p.Leader {
			records += p.RecordsOut
		}
	}
	return records
}

// until goes on until cond holds.
func (n *nearby) until(what string, cond func() bool) {
	n.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			n.Fatalf("%s: not yet", what)
		}
		n.goesOn()
	}
}

func TestConsumerReadsFromItsRack(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"), mqtest.Config(racks))
	n := newNearby(t, c, c.Endpoint(), "b")
	n.until("records come from the follower in rack b", func() bool { return n.followed(2) > 0 })
}

func TestConsumerOnABrokerReadsWhatThatHas(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	n := newNearby(t, c, c.Broker(3), "")
	n.until("records come from the broker itself", func() bool { return n.followed(3) > 0 })
}

// Whatever happens to leaders and followers, a consumer that reads from a follower
// goes on, without a gap and without a record twice.
func TestConsumerLeavesAFollowerThatIsOfNoUse(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"), mqtest.Config(racks))
	n := newNearby(t, c, c.Endpoint(), "b")
	n.until("records come from the follower", func() bool { return n.followed(2) > 0 })

	c.Partition(2, 1, 3) // clients still reach it
	n.goesOn()
	c.Heal()
	c.WaitReady()
	n.goesOn()

	c.Pause(2)
	n.goesOn()
	c.Resume(2)
	c.WaitReady()
	n.goesOn()

	for _, id := range []int32{2, 1, 3} {
		c.Kill(id)
		n.goesOn()
		c.Restart(id)
		c.WaitReady()
		n.goesOn()
	}
}
