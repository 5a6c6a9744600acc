package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

// copyOf reads what a broker's own copy of a partition holds.
func copyOf(n *Node, topic string, partition int32) (values []string, err error) {
	for from := int64(0); ; {
		batches, _, end, err := n.ReadCopy(topic, partition, from)
		if err != nil {
			return values, err
		}
		for rest := batches; len(rest) > 0; {
			var batch []byte
			if batch, rest, err = record.Next(rest); err != nil {
				return values, err
			}
			for rec, err := range record.Records(batch, record.ReadOptions{}) {
				if err != nil {
					return values, err
				}
				values, from = append(values, string(rec.Value)), rec.Offset+1
			}
		}
		if from >= end {
			return values, nil
		}
	}
}

// digest is that of a broker's copy of a partition.
func (n *Node) digest(tb testing.TB, topic string, index int) uint64 {
	tb.Helper()
	return n.replica(n.shardOf(tb, topic, index).Shard).machine.app.(*partition).log.State().Digest
}

// number is that of a broker's replica of a partition, 0 for none.
func (c *several) number(id int32, topic string, partition int) uint64 {
	c.tb.Helper()
	mine, _ := c.leader(topic, int32(partition)).meta.state.Load().topics[topic].Partitions[partition].on(id)
	return mine
}

// replaced waits until a broker has another replica of a partition than the one it
// had, and all vote.
func (c *several) replaced(id int32, topic string, partition int, old uint64) {
	c.tb.Helper()
	waitFor(c.tb, fmt.Sprintf("broker %d to have another replica of %s/%d", id, topic, partition), func() bool {
		n := c.nodes[id]
		s := n.meta.state.Load().topics[topic].Partitions[partition]
		mine, has := s.on(id)
		r := n.replica(s.Shard)
		return has && mine != old && s.settled() && len(s.Replicas) == 3 && r != nil && r.id.Replica == mine
	})
}

// sameEverywhere waits until all have as much of a partition as the leader, and
// checks that it is the same.
func (c *several) sameEverywhere(topic string, partition int, want []string) {
	c.tb.Helper()
	leader := c.leader(topic, int32(partition))
	end := leader.endOf(c.tb, topic, partition)
	for id, n := range c.nodes {
		waitFor(c.tb, fmt.Sprintf("broker %d to have all of %s/%d", id, topic, partition), func() bool { return n.endOf(c.tb, topic, partition) >= end })
		if has, want := n.digest(c.tb, topic, partition), leader.digest(c.tb, topic, partition); has != want {
			c.tb.Errorf("the copy of %s/%d on broker %d has digest %x, the leader's %x", topic, partition, id, has, want)
		}
		got, err := copyOf(n, topic, int32(partition))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			c.tb.Errorf("the copy of %s/%d on broker %d holds %.200q, %v", topic, partition, id, got, err)
		}
	}
}

// hurt changes one byte of each place where a text stands in the files of a broker's
// store.
func (c *several) hurt(id int32, text string) {
	c.tb.Helper()
	disk, dir, found := c.cfgs[id].Test.StoreFS, c.cfgs[id].Dir+"/"+storeDir, 0
	names, err := disk.List(dir)
	if err != nil {
		c.tb.Fatal(err)
	}
	for _, name := range names {
		f, err := disk.Open(disk.PathJoin(dir, name))
		if err != nil {
			c.tb.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			c.tb.Fatal(err)
		}
		changed := bytes.ReplaceAll(content, []byte(text), append([]byte("!"), text[1:]...))
		if bytes.Equal(changed, content) {
			continue
		}
		found++
		out, err := disk.Create(disk.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = out.Write(changed)
		}
		if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
			c.tb.Fatal(err)
		}
	}
	if found == 0 {
		c.tb.Fatalf("%q is in none of the files %v", text, names)
	}
}

// newThree is a cluster with a topic of two partitions in three replicas, and what
// each holds.
func newThree(t *testing.T) (c *several, values []string) {
	c = newSeveral(t, 3)
	return c, c.fill()
}

func (c *several) fill() (values []string) {
	c.tb.Helper()
	c.threeVoters()
	c.create("t", 2)
	for i := range 6 {
		values = append(values, fmt.Sprintf("record %d %s", i, strings.Repeat("x", 40<<10))) // larger than what has one checksum
		for p := range int32(2) {
			c.put("t", p, values[i])
		}
	}
	for _, p := range []int{0, 1} {
		c.sameEverywhere("t", p, values)
	}
	return values
}

// notLeading is a broker that does not lead a partition.
func (c *several) notLeading(topic string, partition int32) int32 {
	return c.leader(topic, partition).cfg.BrokerID%3 + 1
}

// loses opens a broker again without what its store had of a replica, which the raft
// log does not have any more.
func (c *several) loses(n *Node, lost storage.ReplicaID) *Node {
	c.tb.Helper()
	id := n.cfg.BrokerID
	if err := errors.Join(n.saveSnapshot(n.replica(lost.Shard)), n.Close()); err != nil {
		c.tb.Fatal(err)
	}
	s, err := storage.Open(c.cfgs[id].Dir+"/"+storeDir, storage.Options{FS: c.cfgs[id].Test.StoreFS})
	if err == nil {
		err = errors.Join(s.Drop(lost), s.Close())
	}
	if err != nil {
		c.tb.Fatal(err)
	}
	return c.open(id)
}

// onlyOn checks, with the others dead, that a broker has what was acknowledged.
func (c *several) onlyOn(id int32, topic string, partition int32, want []string) {
	c.tb.Helper()
	for other, n := range c.nodes {
		if other == id {
			continue
		}
		if err := n.Close(); err != nil {
			c.tb.Fatal(err)
		}
	}
	got, err := copyOf(c.nodes[id], topic, partition)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		c.tb.Errorf("broker %d alone has %.200q, %v", id, got, err)
	}
}

// The store has forgotten a replica of which the raft log is cut.
func TestAReplicaThatTheStoreLostIsReplacedByItsPeers(t *testing.T) {
	t.Parallel()
	c, values := newThree(t)
	id := c.notLeading("t", 0)
	old, other := c.number(id, "t", 0), c.number(id, "t", 1)
	n := c.nodes[id]
	lost := storage.ReplicaID{Shard: n.shardOf(t, "t", 0).Shard, Replica: old}
	n = c.loses(n, lost)
	c.ready()
	c.put("t", 1, "meanwhile")
	c.replaced(id, "t", 0, old)
	c.sameEverywhere("t", 0, values)
	c.sameEverywhere("t", 1, append(values[:len(values):len(values)], "meanwhile"))
	if now := c.number(id, "t", 1); now != other {
		t.Errorf("its replica of the other partition was %d and is %d", other, now)
	}
	waitFor(t, "nothing to be left of it", func() bool {
		stored, logged := n.traces(t, lost)
		return !stored && !logged && n.Stats().Damaged == 0 && n.Stats().Replaced == 1
	})
	if err := n.Failure(); err != nil {
		t.Error(err)
	}
	c.put("t", 0, "last")
	values = append(values, "last")
	c.sameEverywhere("t", 0, values)
	c.onlyOn(id, "t", 0, values)
}

func TestAReplicaThatIsDamagedWhenReadIsReplacedByItsPeers(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"a follower": false, "the leader": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, values := newThree(t)
			id := c.notLeading("t", 0)
			if leads {
				id = c.leader("t", 0).cfg.BrokerID
			}
			old, other := c.number(id, "t", 0), c.number(id, "t", 1)
			if err := c.nodes[id].Close(); err != nil {
				t.Fatal(err)
			}
			c.hurt(id, "record 3")
			n := c.open(id)
			c.ready()
			r := n.replica(n.shardOf(t, "t", 0).Shard)
			if leads {
				waitFor(t, "it to lead again", func() bool {
					now := c.leader("t", 0)
					if now != n {
						_ = now.host.RequestLeaderTransfer(r.id.Shard, r.id.Replica) // again, if it comes to nothing
					}
					return now == n
				})
				resp, err := n.Fetch(timeout(t), &api.FetchRequest{Partitions: []api.FetchPartition{fetchAt("t", 0, 3)}})
				if err != nil || !errors.Is(resp.Partitions[0].Err, mqerr.ErrCorruptLog) && !mqerr.Retriable(resp.Partitions[0].Err) {
					t.Errorf("read of what is damaged: %+v, %v", resp, err)
				}
			}
			waitFor(t, "both partitions to be found damaged, which had the record", func() bool {
				for p := range int32(2) {
					_, _ = copyOf(n, "t", p)
				}
				st := n.Stats()
				return st.Damaged+int(st.Replaced) == 2
			})
			c.replaced(id, "t", 0, old)
			c.replaced(id, "t", 1, other)
			for p := range 2 {
				c.put("t", int32(p), "last")
				c.sameEverywhere("t", p, append(values[:len(values):len(values)], "last"))
			}
			if err := n.Failure(); err != nil {
				t.Error(err)
			}
			c.onlyOn(id, "t", 0, append(values, "last"))
		})
	}
}

// What is found while a command is applied stops the replica, not the broker.
func TestALeaderThatIsDamagedWhenWrittenIsReplacedByItsPeers(t *testing.T) {
	t.Parallel()
	c, values := newThree(t)
	n := c.leader("t", 0)
	id := n.cfg.BrokerID
	old := c.number(id, "t", 0)
	n.replica(n.shardOf(t, "t", 0).Shard).machine.unusable(fmt.Errorf("%w: file 7.sst", mqerr.ErrCorruptLog))
	c.put("t", 0, "meanwhile")
	c.replaced(id, "t", 0, old)
	c.sameEverywhere("t", 0, append(values, "meanwhile"))
	if err := n.Failure(); err != nil {
		t.Error(err)
	}
}

// Where two of three are damaged, but can vote, there are never fewer than two.
func TestTwoDamagedReplicasAreReplacedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	c, values := newThree(t)
	shard := c.nodes[1].shardOf(t, "t", 0).Shard
	leader := c.leader("t", 0).cfg.BrokerID
	old := map[int32]uint64{}
	for id := range c.nodes {
		if id != leader {
			old[id] = c.number(id, "t", 0)
		}
	}
	for id, n := range c.nodes {
		if id != leader {
			n.replica(shard).readError(fmt.Errorf("%w: file 7.sst", mqerr.ErrCorruptLog))
		}
	}
	for id, was := range old {
		c.replaced(id, "t", 0, was)
	}
	c.put("t", 0, "last")
	c.sameEverywhere("t", 0, append(values, "last"))
}

// A partition with one replica is lost with it; its broker goes on with the others
// and says so, and the replica is not replaced by an empty one.
func TestTheOnlyReplicaIsNotGivenUp(t *testing.T) {
	t.Parallel()
	c, values := newThree(t)
	if _, err := c.nodes[1].CreateTopic(timeout(t), &api.CreateTopicRequest{Name: "one", ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	c.put("one", 0, "x")
	n := c.leader("one", 0)
	id := n.cfg.BrokerID
	lost := n.shardOf(t, "one", 0)
	n = c.loses(n, lost)
	c.ready()
	c.sameEverywhere("t", 0, values)
	for range 3 {
		n.replaceDamaged()
	}
	if shard := n.meta.state.Load().topics["one"].Partitions[0]; fmt.Sprint(shard.Replicas) != fmt.Sprint([]replicaRecord{{Broker: id, Replica: lost.Replica}}) {
		t.Errorf("it is on %+v", shard.Replicas)
	}
	waitFor(t, "another broker to hear of it", func() bool {
		resp, err := c.nodes[id%3+1].DescribeCluster(timeout(t), &api.DescribeClusterRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range resp.Brokers {
			if b.ID != id && b.Damaged != nil {
				t.Errorf("broker %d has damaged %q", b.ID, b.Damaged)
			}
			if b.ID == id && len(b.Damaged) == 1 && strings.HasPrefix(b.Damaged[0], "one/0: ") {
				return true
			}
		}
		return false
	})
	if st := n.Stats(); st.Damaged != 1 || st.Replaced != 0 {
		t.Errorf("of replicas %d are damaged, %d replaced", st.Damaged, st.Replaced)
	}
	if err := n.Failure(); err != nil {
		t.Error(err)
	}
}

// Without its raft log a broker has forgotten how it voted. It says what is damaged and
// what to do, and that does it.
func TestABrokerWhoseRaftLogIsDamagedComesBackAsAnother(t *testing.T) {
	t.Parallel()
	c := &several{tb: t, onDisk: true, net: &network.Mem{}, faults: network.NewFaults(1), cfgs: map[int32]Config{}, nodes: map[int32]*Node{}}
	for id := int32(1); id <= 3; id++ {
		c.add(id)
	}
	c.ready()
	values := c.fill()
	id := c.notLeading("t", 0)
	if err := c.nodes[id].Close(); err != nil {
		t.Fatal(err)
	}
	delete(c.nodes, id)
	hurtOnDisk(t, filepath.Join(c.cfgs[id].Dir, raftDir), "record 5")
	err := opens(t, c.cfgs[id])
	for _, says := range []string{raftDir, ".seg", "damaged at offset", fmt.Sprintf("mq cluster remove %d", id), "new id"} {
		if !errors.Is(err, mqerr.ErrCorruptLog) || !strings.Contains(err.Error(), says) {
			t.Errorf("it does not say %q: %v", says, err)
		}
	}
	other := id%3 + 1
	if _, err := c.nodes[other].RemoveBroker(timeout(t), &api.RemoveBrokerRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	c.gone(other, id)
	cfg := c.cfgs[id]
	cfg.Dir, cfg.BrokerID, cfg.PeerListen = t.TempDir(), 4, "broker-4"
	cfg.Bootstrap, cfg.Seeds = false, []string{fmt.Sprint("broker-", other)}
	c.cfgs[4] = cfg
	n := c.open(4)
	c.ready()
	for p := range 2 {
		waitFor(t, "it to have a replica that votes", func() bool {
			topic := n.meta.state.Load().topics["t"]
			if topic == nil {
				return false
			}
			s := topic.Partitions[p]
			_, has := s.on(4)
			return has && s.settled() && n.replica(s.Shard) != nil
		})
		c.sameEverywhere("t", p, values)
	}
	c.onlyOn(4, "t", 0, values)
}

// hurtOnDisk changes one byte of each place where a text stands in the files below a
// directory.
func hurtOnDisk(tb testing.TB, dir, text string) {
	tb.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		changed := bytes.ReplaceAll(content, []byte(text), append([]byte("!"), text[1:]...))
		if err != nil || bytes.Equal(content, changed) {
			return err
		}
		found++
		return os.WriteFile(path, changed, 0o600)
	})
	if err != nil || found == 0 {
		tb.Fatalf("%q is in %d files below %s, %v", text, found, dir, err)
	}
}
