package mq_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/raftmq/mq"
)

// Addresses are not what brokers are known by: all may change at once, as when a
// cluster of containers is started anew. One that is named as a seed is enough.
func TestBrokersMeetAgainWhenAllAddressesHaveChanged(t *testing.T) {
	t.Parallel()
	dirs := map[int32]string{1: t.TempDir(), 2: t.TempDir(), 3: t.TempDir()}
	for _, run := range []string{"first", "second"} {
		net := mq.NewNetwork()
		addr := func(id int32) string { return fmt.Sprintf("%s-%d", run, id) }
		var brokers []*mq.Broker
		for _, id := range []int32{1, 2, 3} {
			cfg := mq.BrokerConfig{ID: id, DataDir: dirs[id], MinFreeBytes: -1, Cluster: mq.ClusterConfig{Network: net, Listen: addr(id)}}
			if id > 1 {
				cfg.Cluster.Seeds = []string{addr(1)}
			}
			b, err := mq.OpenBroker(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			brokers = append(brokers, b)
		}
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		defer cancel()
		for i, b := range brokers {
			if err := b.WaitReady(ctx); err != nil {
				t.Fatalf("%s run, broker %d: %v", run, i+1, err)
			}
			until(t, mq.NewAdmin(b).ClusterHealth, func(c mq.ClusterHealth) bool { return healthy(c) && len(c.Brokers) == 3 })
		}
		if err := errors.Join(brokers[2].Close(), brokers[1].Close(), brokers[0].Close()); err != nil {
			t.Fatal(err)
		}
	}
}
