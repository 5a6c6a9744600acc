package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
)

// BenchmarkRebalance is the time from the first heartbeat of one more member
// until it has its share, without what the handlers of the others take. They wait
// for news; the one leaves again between the rounds.
func BenchmarkRebalance(b *testing.B) {
	for _, shape := range []struct{ members, partitions int32 }{{10, 100}, {100, 1000}} {
		b.Run(fmt.Sprintf("members=%d/partitions=%d", shape.members, shape.partitions), func(b *testing.B) {
			n := openNode(b, Config{})
			newTopic(b, n, "t", shape.partitions, nil)
			stable := func(members int32) {
				b.Helper()
				waitFor(b, "the group to be stable", func() bool {
					resp, err := n.DescribeGroup(b.Context(), &api.DescribeGroupRequest{Group: "g"})
					return err == nil && len(resp.Members) == int(members) && resp.State == api.GroupStable
				})
			}
			ctx, cancel := context.WithCancel(b.Context())
			var all sync.WaitGroup
			for i := range shape.members - 1 {
				m := newMember(b, n, "g", fmt.Sprint("m", i), "t")
				m.req.MaxWait = time.Hour
				all.Go(func() {
					for m.try(ctx) == nil { // until it is cancelled
					}
				})
			}
			stable(shape.members - 1)
			for round := 0; b.Loop(); round++ {
				m := newMember(b, n, "g", fmt.Sprint("one more ", round), "t").beat()
				m.req.MaxWait = time.Hour
				for len(m.req.Owned) < int(shape.partitions/shape.members) {
					m.beat()
				}
				b.StopTimer()
				m.leave()
				stable(shape.members - 1)
				b.StartTimer()
			}
			cancel()
			all.Wait()
		})
	}
}
