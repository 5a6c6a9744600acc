package mq_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// until asks again until ok, and returns the last answer.
func until[T any](t *testing.T, ask func(context.Context) (T, error), ok func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	var last T
	for {
		got, err := ask(ctx)
		if err == nil {
			if last = got; ok(got) {
				return got
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it stayed %+v, %v", last, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func healthy(c mq.ClusterHealth) bool { return len(c.Problems()) == 0 }

func TestClusterHealthTellsHowEveryBrokerIs(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 3, nil)
	if _, err := mq.NewAdmin(brokers[1]).CreateTopic(t.Context(), mq.TopicSpec{Name: "t", Partitions: 6}); err != nil {
		t.Fatal(err)
	}
	for id, b := range brokers {
		c := until(t, mq.NewAdmin(b).ClusterHealth, func(c mq.ClusterHealth) bool { return healthy(c) && len(c.Brokers) == 3 })
		leaders := 0
		for i, info := range c.Brokers {
			leaders += info.Leaders
			if info.ID != int32(i+1) || !info.Reachable || !info.MetadataVoter || info.Replicas < 6 || info.Addr == "" || info.PeerAddr == "" ||
				info.DirectoryID != brokers[info.ID].DirectoryID() {
				t.Errorf("by broker %d: %+v", id, info)
			}
		}
		if leaders < c.Brokers[0].Replicas {
			t.Errorf("by broker %d: %d leaders of %d replicas", id, leaders, c.Brokers[0].Replicas)
		}
	}

	if err := brokers[2].Close(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []int32{1, 3} {
		c := until(t, mq.NewAdmin(brokers[id]).ClusterHealth, func(c mq.ClusterHealth) bool {
			return c.Controller > 0 && c.Controller != 2 && slices.Equal(c.Problems(), []string{"broker 2 is not reachable"})
		})
		if b := c.Brokers[1]; b.Reachable || b.ID != 2 || b.Replicas < 6 || b.Leaders != 0 {
			t.Errorf("by broker %d: %+v", id, b)
		}
	}
	if err := brokers[3].Close(); err != nil {
		t.Fatal(err)
	}
	until(t, mq.NewAdmin(brokers[1]).ClusterHealth, func(c mq.ClusterHealth) bool {
		p := strings.Join(c.Problems(), "\n")
		return strings.Contains(p, "broker 3 is not reachable") && slices.Contains(c.Leaderless, "t/0") &&
			strings.Contains(p, "nobody leads metadata, ") && strings.Contains(p, "broker 1 is not ready")
	})
}

func TestMetricsOfAClusterTellWhatItLacks(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 3, nil)
	if _, err := mq.NewAdmin(brokers[1]).CreateTopic(t.Context(), mq.TopicSpec{Name: "t", Partitions: 6}); err != nil {
		t.Fatal(err)
	}
	sum := func(t *testing.T, name string) (sum float64) {
		t.Helper()
		for _, b := range brokers {
			sum += scrape(t, b)[name]
		}
		return sum
	}
	awaitSums := func(leaderless, under, led float64) {
		t.Helper()
		until(t, func(context.Context) ([3]float64, error) {
			leads := 0.0
			for n := range 6 {
				leads += sum(t, fmt.Sprintf(`mq_partition_leader{partition="%d",topic="t"}`, n))
			}
			return [3]float64{sum(t, "mq_cluster_leaderless_partitions"), sum(t, "mq_cluster_under_replicated_partitions"), leads}, nil
		}, func(got [3]float64) bool { return got == [3]float64{leaderless, under, led} })
	}
	awaitSums(0, 0, 6)
	for name, want := range map[string]float64{"mq_cluster_brokers": 3, "mq_cluster_topics": 1, "mq_cluster_partitions": 6} {
		if got := scrape(t, brokers[2])[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	p, err := mq.NewProducer(brokers[1], mq.ProducerConfig{Topic: "t", Partitioner: mq.FixedPartition(4)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if err := p.SendBatch(t.Context(), &mq.Record{}, &mq.Record{}); err != nil {
		t.Fatal(err)
	}
	until(t, func(context.Context) (float64, error) {
		return sum(t, `mq_partition_end_offset{partition="4",topic="t"}`), nil
	}, func(sum float64) bool { return sum == 3*2 })
	if got := sum(t, `mq_partition_high_watermark{partition="4",topic="t"}`); got != 2 {
		t.Errorf("leaders tell a high watermark of %v", got)
	}

	if err := brokers[2].Close(); err != nil {
		t.Fatal(err)
	}
	delete(brokers, 2)
	awaitSums(0, 6, 6)
	if err := brokers[3].Close(); err != nil {
		t.Fatal(err)
	}
	delete(brokers, 3)
	awaitSums(6, 0, 0)
}

func TestDescribeTopicTellsHowFarEachReplicaIs(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 3, nil)
	a := mq.NewAdmin(brokers[1])
	if _, err := a.CreateTopic(t.Context(), mq.TopicSpec{Name: "t", Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	p, err := mq.NewProducer(brokers[1], mq.ProducerConfig{Topic: "t", Partitioner: mq.RoundRobin()})
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		if err := p.Send(t.Context(), &mq.Record{Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	describe := func(ctx context.Context) (mq.TopicInfo, error) { return a.DescribeTopic(ctx, "t") }
	everywhere := func(lags ...int64) func(mq.TopicInfo) bool {
		return func(info mq.TopicInfo) bool {
			return !slices.ContainsFunc(info.Partitions, func(p mq.PartitionInfo) bool {
				return p.HighWatermark != 3 || len(p.ReplicaLogs) != 3 || slices.ContainsFunc(p.ReplicaLogs, func(r mq.ReplicaLog) bool {
					return r.Learner || !slices.Contains(lags, r.Lag) || r.Lag == 0 && r.HighWatermark != 3
				})
			})
		}
	}
	until(t, describe, everywhere(0))

	if err := brokers[3].Close(); err != nil {
		t.Fatal(err)
	}
	until(t, describe, func(info mq.TopicInfo) bool {
		for _, p := range info.Partitions {
			for i, r := range p.ReplicaLogs {
				if r.Broker != p.Replicas[i] || (r.Lag < 0) != (r.Broker == 3) {
					return false // one that is busy is not heard either
				}
			}
		}
		return everywhere(0, -1)(info)
	})
}
