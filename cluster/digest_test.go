package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/storage"
)

// However far one replica is behind, they have a mark in common, once they are long
// enough, and a difference before it is seen.
func TestReplicasHaveAMarkInCommon(t *testing.T) {
	t.Parallel()
	const batch, long = 7, 2_000_000
	grown := func(batches, wrongAt int) *replicaMarks {
		m := &replicaMarks{Marks: *startMarks(storage.State{})}
		var st storage.State
		for i := range batches {
			from := st.End
			st.End += batch
			st.Digest = st.Digest*31 + uint64(st.End)
			if i == wrongAt {
				st.Digest++
			}
			m.Marks.grow(from, st)
		}
		m.Applied, m.Now = uint64(batches), mark{st.End, st.Digest}
		return m
	}
	whole := grown(long, -1)
	for _, behind := range []int{0, 1, 50, 200, 3000, 30_000} {
		if end, yes := whole.differ(grown(long-behind, -1)); yes {
			t.Errorf("%d batches behind: it differs at %d", behind, end)
		}
		if _, yes := whole.differ(grown(long-behind, 100)); !yes {
			t.Errorf("%d batches behind: the difference is not seen", behind)
		}
	}
	short := *whole
	short.Now.End--
	if _, yes := whole.differ(&short); !yes {
		t.Error("a record less after the same command is not seen")
	}
}

func TestAReplicaThatHoldsOtherRecordsIsFound(t *testing.T) {
	t.Parallel()
	c, _ := newThree(t)
	look := func() (found []string) {
		for _, n := range c.nodes {
			n.compareReplicas(timeout(t))
		}
		resp, err := c.nodes[1].DescribeCluster(timeout(t), &api.DescribeClusterRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Diverged
	}
	if found := look(); len(found) != 0 {
		t.Fatalf("of equal replicas differ %q", found)
	}
	leader, id := c.leader("t", 0), c.notLeading("t", 0)
	lb := c.nodes[id].replica(leader.shardOf(t, "t", 0).Shard).machine.app.(*partition).log.NewBatch()
	st := lb.State()
	if err := lb.Append(makeBatch(t, "nobody sent this"), st.End, st.End, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := lb.Commit(st.Applied); err != nil {
		t.Fatal(err)
	}
	var found []string
	waitFor(t, "it to be found", func() bool {
		found = look()
		return len(found) > 0
	})
	want := fmt.Sprintf("t/0 on broker %d below offset ", id)
	if same := c.leader("t", 0) == leader; same && (len(found) != 1 || !strings.HasPrefix(found[0], want)) {
		t.Errorf("found %q, not %q", found, want)
	}
}
