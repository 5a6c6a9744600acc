package mq_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/raftmq/mq"
)

// openCluster opens brokers with the ids from 1 on, one after the other.
func openCluster(t *testing.T, count int32, change func(*mq.BrokerConfig)) map[int32]*mq.Broker {
	t.Helper()
	net := mq.NewNetwork()
	brokers := make(map[int32]*mq.Broker)
	for id := int32(1); id <= count; id++ {
		cfg := mq.BrokerConfig{ID: id, DataDir: t.TempDir(), MinFreeBytes: -1, Cluster: mq.ClusterConfig{Network: net, Listen: fmt.Sprint("b", id)}}
		if id > 1 {
			cfg.Cluster.Seeds = []string{"b1"}
		}
		if change != nil {
			change(&cfg)
		}
		b, err := mq.OpenBroker(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Errorf("broker %d: %v", id, err)
			}
		})
		brokers[id] = b
	}
	for id, b := range brokers {
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		defer cancel()
		if err := b.WaitReady(ctx); err != nil {
			t.Fatalf("broker %d: %v", id, err)
		}
	}
	return brokers
}

func TestEveryBrokerOfAClusterIsAnEndpointForAllOfIt(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	info, err := mq.NewAdmin(brokers[2]).CreateTopic(ctx, mq.TopicSpec{Name: "t", Partitions: 6})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range info.Partitions {
		if len(p.Replicas) != 3 {
			t.Errorf("partition %d is on %v, want all three", p.Partition, p.Replicas)
		}
	}
	sent := 0
	for id, b := range brokers {
		p, err := mq.NewProducer(b, mq.ProducerConfig{Topic: "t"})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := p.Send(ctx, &mq.Record{Key: fmt.Append(nil, sent), Value: fmt.Append(nil, id)}); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for id, b := range brokers {
		c, err := mq.NewConsumer(b, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: fmt.Sprint("g", id), Start: mq.StartEarliest})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for r, err := range c.Messages(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if got[string(r.Key)] {
				t.Errorf("broker %d gave %s twice", id, r.Key)
			}
			if got[string(r.Key)] = true; len(got) == sent {
				break
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProducersAndConsumersFollowTheLeaders(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if _, err := mq.NewAdmin(brokers[1]).CreateTopic(ctx, mq.TopicSpec{Name: "t", Partitions: 6}); err != nil {
		t.Fatal(err)
	}
	p, err := mq.NewProducer(brokers[3], mq.ProducerConfig{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := mq.NewConsumer(brokers[3], mq.ConsumerConfig{Topics: []string{"t"}, Start: mq.StartEarliest})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if i == 100 {
			if err := brokers[1].Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Send(ctx, &mq.Record{Key: fmt.Append(nil, i), Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]bool{}
	for r, err := range c.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if got[string(r.Key)] {
			t.Errorf("%s came twice", r.Key)
		}
		if got[string(r.Key)] = true; len(got) == 200 {
			break
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGroupsOfAClusterAreListedWhereverTheyAre(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 4, nil)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if _, err := mq.NewAdmin(brokers[1]).CreateTopic(ctx, mq.TopicSpec{Name: "t"}); err != nil {
		t.Fatal(err)
	}
	p, err := mq.NewProducer(brokers[4], mq.ProducerConfig{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Send(ctx, &mq.Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 8 {
		group := fmt.Sprint("g", i)
		c, err := mq.NewConsumer(brokers[int32(1+i%4)], mq.ConsumerConfig{Topics: []string{"t"}, GroupID: group, Start: mq.StartEarliest})
		if err != nil {
			t.Fatal(err)
		}
		rs, err := c.Poll(ctx, 1)
		if err == nil {
			err = c.Commit(ctx, rs...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		want = append(want, group)
	}
	for id, b := range brokers {
		groups, err := mq.NewAdmin(b).ListGroups(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range groups {
			got = append(got, g.GroupID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("broker %d lists %v, want %v", id, got, want)
		}
	}
}
