package mq_test

import (
	"testing"
	"time"

	"github.com/raftmq/mq"
)

func TestConsumersInARowStartAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "v")
		e, _ := c.endpoint(t)
		for i := range 20 {
			began := time.Now()
			consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"t"}})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, poll(t, consumer, 1), "v")
			if took := time.Since(began); took > 0 {
				t.Errorf("consumer %d of the endpoint took %v to its first record", i, took)
			}
			consumer.Close()
		}
	})
}
