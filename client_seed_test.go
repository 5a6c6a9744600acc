package mq_test

import (
	"context"
	"testing"

	"github.com/raftmq/mq"
)

// A client that was given one address learns the others with the first answer.
func TestAClientThatKnowsOneBrokerOutlivesIt(t *testing.T) {
	t.Parallel()
	brokers := openCluster(t, 3, func(cfg *mq.BrokerConfig) { cfg.Listen = "127.0.0.1:0" })
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if _, err := mq.NewAdmin(brokers[2]).CreateTopic(ctx, mq.TopicSpec{Name: "t", Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	c, err := mq.Dial(ctx, mq.ClientConfig{Brokers: []string{brokers[1].Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := brokers[1].Close(); err != nil {
		t.Fatal(err)
	}
	p, err := mq.NewProducer(c, mq.ProducerConfig{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for _, key := range []string{"a", "b", "c", "d"} {
		if err := p.Send(ctx, &mq.Record{Key: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := mq.NewAdmin(c).ListTopics(ctx); err != nil || len(info) != 1 {
		t.Errorf("%v, %v", info, err)
	}
}
