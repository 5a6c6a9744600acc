package mqtest_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// For longer than a session no majority of the brokers is there, so nobody can take
// a member's sign of life, nor its partitions. Afterwards all is as it was: nobody
// joins again, no partition moves, and no record is handled twice.
func TestGroupOutlivesTheLossOfItsQuorumForLongerThanASession(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(c *mqtest.Cluster) (heal func()){
		"brokers that do not hear each other": func(c *mqtest.Cluster) func() {
			c.Partition(1, 2, 3)
			c.Partition(2, 3)
			return c.Heal
		},
		"two that are killed": func(c *mqtest.Cluster) func() {
			c.Kill(1)
			c.Kill(2)
			return func() { c.Restart() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := mqtest.NewCluster(t, 3, mqtest.Topics(6, "t"))
			e := cluster.Endpoint()
			sent := flow(t, e)
			g := &group{session: 5 * time.Second, offsets: map[int32][]int64{}}
			first, leaveFirst := g.join(t, e)
			second, leaveSecond := g.join(t, e)
			var before mq.GroupDescription
			waitFor(t, "both members have a half", func() bool {
				var err error
				before, err = mq.NewAdmin(e).DescribeGroup(t.Context(), "g")
				return err == nil && before.State == mq.GroupStable && len(first.Assignment()) == 3 && len(second.Assignment()) == 3
			})
			g.goesOn(t)
			g.mu.Lock()
			assigned := g.assigned
			g.mu.Unlock()

			heal := fault(cluster)
			ctx, cancel := context.WithTimeout(t.Context(), g.session+time.Second)
			defer cancel()
			// There may be nothing to commit; else it is tried as long as ctx lets it.
			err := first.Commit(ctx)
			for _, refusal := range []error{mq.ErrUnknownMember, mq.ErrFencedMemberEpoch, mq.ErrStaleMemberEpoch} {
				if errors.Is(err, refusal) {
					t.Errorf("commit: %v", err)
				}
			}
			<-ctx.Done()
			heal()
			cluster.WaitReady()
			g.goesOn(t)
			after, err := mq.NewAdmin(e).DescribeGroup(t.Context(), "g")
			if err != nil {
				t.Fatal(err)
			}
			after.Coordinator = before.Coordinator
			if !reflect.DeepEqual(after, before) {
				t.Errorf("before %+v\nafter  %+v", before, after)
			}
			n := sent()
			waitFor(t, "everything is handled", func() bool { return g.count() >= n })
			g.mu.Lock()
			if g.assigned != assigned {
				t.Errorf("%d partitions were assigned before and %d after", assigned, g.assigned)
			}
			g.mu.Unlock()
			leaveFirst()
			leaveSecond()
			g.check(t, n)
		})
	}
}
