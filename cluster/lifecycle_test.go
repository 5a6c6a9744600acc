package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// calls are one call of each method of a broker.
func calls(topic string) map[string]func(context.Context, *Node) error {
	tp := api.TopicPartition{Topic: topic}
	batch := makeBatchOf([]string{"x"})
	return map[string]func(context.Context, *Node) error{
		"Metadata": func(ctx context.Context, n *Node) error {
			resp, err := n.Metadata(ctx, &api.MetadataRequest{Topics: []string{topic}, AutoCreate: true})
			if err == nil {
				err = resp.Topics[0].Err
			}
			return err
		},
		"Produce": func(ctx context.Context, n *Node) error {
			_, err := produce(ctx, n, topic, 0, batch)
			return err
		},
		"Fetch": func(ctx context.Context, n *Node) error {
			resp, err := n.Fetch(ctx, &api.FetchRequest{MaxWait: 2 * time.Millisecond, MinBytes: 1 << 20, Partitions: []api.FetchPartition{fetchAt(topic, 0, 0)}})
			if err == nil {
				err = resp.Partitions[0].Err
			}
			return err
		},
		"ListOffsets": func(ctx context.Context, n *Node) error {
			resp, err := n.ListOffsets(ctx, &api.ListOffsetsRequest{Partitions: []api.ListOffsetsPartition{{TopicPartition: tp, Timestamp: 5}}})
			if err == nil {
				err = resp.Partitions[0].Err
			}
			return err
		},
		"EpochEnds": func(ctx context.Context, n *Node) error {
			resp, err := n.EpochEnds(ctx, &api.EpochEndsRequest{Partitions: []api.EpochEndsPartition{{TopicPartition: tp, LeaderEpoch: 1}}})
			if err == nil {
				err = resp.Partitions[0].Err
			}
			return err
		},
		"DescribeCluster": func(ctx context.Context, n *Node) error {
			_, err := n.DescribeCluster(ctx, &api.DescribeClusterRequest{})
			return err
		},
		"DescribeLogs": func(ctx context.Context, n *Node) error {
			_, err := n.DescribeLogs(ctx, &api.DescribeLogsRequest{})
			return err
		},
		"InitProducer": func(ctx context.Context, n *Node) error {
			_, err := n.InitProducer(ctx, &api.InitProducerRequest{})
			return err
		},
		"CommitOffsets": func(ctx context.Context, n *Node) error {
			_, err := n.CommitOffsets(ctx, commitRequest("g", topic, 0, 1))
			return err
		},
		"FetchOffsets": func(ctx context.Context, n *Node) error {
			_, err := n.FetchOffsets(ctx, &api.FetchOffsetsRequest{Group: "g"})
			return err
		},
		"ListGroups": func(ctx context.Context, n *Node) error {
			_, err := n.ListGroups(ctx, &api.ListGroupsRequest{})
			return err
		},
		"CreateTopic": func(ctx context.Context, n *Node) error {
			_, err := n.CreateTopic(ctx, &api.CreateTopicRequest{Name: topic + "-new"})
			return err
		},
		"AlterTopic": func(ctx context.Context, n *Node) error {
			_, err := n.AlterTopic(ctx, &api.AlterTopicRequest{Name: topic})
			return err
		},
		"AddPartitions": func(ctx context.Context, n *Node) error {
			_, err := n.AddPartitions(ctx, &api.AddPartitionsRequest{Name: topic, Total: int32(len(n.meta.state.Load().topics[topic].Partitions)) + 1})
			return err
		},
		"TrimTopic": func(ctx context.Context, n *Node) error {
			resp, err := n.TrimTopic(ctx, &api.TrimTopicRequest{Partitions: []api.TrimPartition{{TopicPartition: tp, Offset: -1}}})
			if err == nil {
				err = resp.Partitions[0].Err
			}
			return err
		},
		"DeleteTopic": func(ctx context.Context, n *Node) error {
			_, err := n.DeleteTopic(ctx, &api.DeleteTopicRequest{Name: topic + "-new"})
			return err
		},
		"Stats": func(_ context.Context, n *Node) error {
			n.Stats()
			return nil
		},
	}
}

func TestAClosedBrokerAnswersEveryCall(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	commitAt(t, n, "g", "t", 0, 1)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls("t") {
		err := call(timeout(t), n)
		switch name {
		case "Metadata", "DescribeCluster", "DescribeLogs", "Stats", "EpochEnds", "InitProducer":
			// What needs nobody may still be answered.
		default:
			if !errors.Is(err, mqerr.ErrLeaderNotAvailable) && !errors.Is(err, mqerr.ErrClosed) && !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestClosingIsSafeWhileEverythingIsInUse(t *testing.T) {
	t.Parallel()
	for round := range 4 {
		cfg := Config{}
		if round%2 == 1 {
			cfg.Dir = t.TempDir()
		}
		n := openNode(t, cfg)
		newTopic(t, n, "t", 2, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		var users sync.WaitGroup
		begun := make(chan struct{}, 1000)
		for name, call := range calls("t") {
			users.Go(func() {
				for i := 0; n.closing.Err() == nil || i < 3; i++ {
					err := call(ctx, n)
					if n.closing.Err() == nil && err != nil && mqerr.Of(err) == nil {
						t.Errorf("%s: %v", name, err)
					}
					select {
					case begun <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 200 {
			<-begun
		}
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(func() {
				if err := n.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		closers.Wait()
		users.Wait()
		if ctx.Err() != nil {
			t.Error("a call hung")
		}
		cancel()
	}
}

func TestOpeningEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := filled(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := Open(ctx, Config{Dir: dir}); !errors.Is(err, context.Canceled) || n != nil {
		t.Fatalf("opened %v, %v", n, err)
	}
	n := openNode(t, Config{Dir: dir}) // it is free again
	whole(t, n)
}

// Whatever of the data directory cannot be made, opening fails and leaves nothing open.
func TestOpeningThatFailsHalfWayLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	disk := newBadDisk()
	disk.raftFails.Store(true)
	for range 2 {
		if n, err := Open(timeout(t), disk.config()); !errors.Is(err, errBadDisk) {
			t.Fatalf("opened %v, %v", n, err)
		}
	}
	disk.raftFails.Store(false)
	n := openNode(t, disk.config())
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "x")
}

func TestBrokersInOneProcessAreStrangers(t *testing.T) {
	t.Parallel()
	nodes := make([]*Node, 3)
	for i := range nodes {
		nodes[i] = openNode(t, Config{})
		newTopic(t, nodes[i], "t", 1, nil)
		mustProduce(t, nodes[i], "t", 0, fmt.Sprint("of broker ", i))
	}
	for i, n := range nodes {
		if got := readAll(t, n, "t", 0, 0); len(got) != 1 || got[0] != fmt.Sprint("of broker ", i) {
			t.Errorf("broker %d holds %q", i, got)
		}
	}
}

// Raft's clock of a shard that has just started jumps from zero to the broker's
// age, and what is proposed before it does must not be taken for too old.
func TestAFreshPartitionOfAnOldBrokerDoesNotTimeOut(t *testing.T) {
	t.Parallel()
	const age = 3 * time.Second
	opened := time.Now()
	n := openNode(t, Config{})
	waitFor(t, "the broker to be older than a proposal may be", func() bool { return time.Since(opened) > age })
	for i := range 3 {
		name := fmt.Sprint("t", i)
		newTopic(t, n, name, 200, nil)
		var all sync.WaitGroup
		for p := range int32(200) {
			all.Add(1)
			began := time.Now()
			n.Produce(t.Context(), &api.ProduceRequest{Acks: api.AcksAll, Timeout: age - time.Second, Partitions: []api.ProducePartition{{
				TopicPartition: api.TopicPartition{Topic: name, Partition: p}, Batch: makeBatch(t, "x"),
			}}}, func(resp *api.ProduceResponse, err error) {
				defer all.Done()
				if err == nil {
					err = resp.Partitions[0].Err
				}
				if took := time.Since(began); err != nil && took < age/2 { // later it may be the machine
					t.Errorf("the first record of %s/%d, after %v: %v", name, p, took, err)
				}
			})
		}
		all.Wait()
	}
}
