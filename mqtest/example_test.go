package mqtest_test

import (
	"testing"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// A test of a program would be a function like this one.
func Example() {
	test := func(t *testing.T) {
		cluster := mqtest.NewCluster(t, 3, mqtest.Topics(1, "orders"))
		checker := mqtest.NewChecker(t)
		producer := checker.Producer(cluster.Endpoint(), mq.ProducerConfig{Topic: "orders"})
		for range 100 {
			if err := producer.Send(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		leader := cluster.Leader("orders", 0)
		cluster.Kill(leader)
		if err := producer.Send(t.Context()); err != nil { // to the next leader
			t.Fatal(err)
		}
		cluster.Restart(leader)
		cluster.WaitReady()
		t.Log(checker.Check(cluster.Endpoint(), cluster.Brokers()...))
	}
	_ = test // what go test would run
}
