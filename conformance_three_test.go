package mq_test

import (
	"os"
	"testing"

	"github.com/raftmq/mq/mqtest"
)

// TestMembersConformOnThreeBrokers runs what groups must do where a topic's
// partitions, and the groups' coordinators, are on several brokers.
func TestMembersConformOnThreeBrokers(t *testing.T) {
	if os.Getenv("MQ_TEST_LONG") == "" {
		t.Skip("takes half a minute on a busy machine: set MQ_TEST_LONG, or make members")
	}
	t.Parallel()
	cluster := mqtest.NewCluster(t, 3)
	broker := cluster.Broker(1).Broker
	for _, s := range []*site{
		{door: door{name: "in process"}, broker: broker},
		{door: door{name: "gRPC", remote: true}, broker: broker, client: cluster.Endpoint()},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range conformMembers {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, s)
				})
			}
		})
	}
}
