package raftlog_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/cluster/raftlog"
)

// segmentSyncs is how often segments in use were synced.
func (d *powerDisk) segmentSyncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs[".seg"]
}

// cluster starts n hosts with one shard, on disks of their own.
func cluster(t testing.TB, n int, o raftlog.Options) (lead *host, disks []*powerDisk) {
	t.Helper()
	net, members := newNetwork(), map[uint64]string{}
	for i := range n {
		members[uint64(i+1)] = fmt.Sprint("host", i+1)
	}
	var hosts []*host
	for i := range n {
		d := newPowerDisk()
		disks = append(disks, d)
		opts := o
		// Slow ticks: on a busy machine no other leader is elected meanwhile.
		h := startHost(t, hostConfig{net: net, addr: members[uint64(i+1)], fs: d, dir: "/data", log: &opts, rtt: 10})
		t.Cleanup(h.Close)
		h.startShard(t, 5, uint64(i+1), members, &sumDisk{})
		hosts = append(hosts, h)
	}
	return hosts[hosts[0].leader(t, 5)-1], disks
}

func TestLoneProposalCostsOneSyncPerReplica(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint("replicas=", n), func(t *testing.T) {
			t.Parallel()
			lead, disks := cluster(t, n, raftlog.Options{})
			lead.propose(t, 5, []byte("warm"))
			var before []int
			for _, d := range disks {
				before = append(before, d.segmentSyncs())
			}
			const proposals = 100
			for range proposals {
				lead.propose(t, 5, make([]byte, 100))
			}
			total := 0
			for i, d := range disks {
				got := d.segmentSyncs() - before[i]
				total += got
				// One more: a follower that was not needed for the warm-up.
				if got > proposals+min(n-1, 1) {
					t.Errorf("%d syncs for %d proposals on replica %d", got, proposals, i+1)
				}
				if n == 1 && got != proposals {
					t.Errorf("%d syncs for %d proposals", got, proposals)
				}
			}
			t.Logf("%d syncs for %d proposals on %d replicas", total, proposals, n)
		})
	}
}

func TestMovedCommitIndexCostsNothing(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	o := raftlog.Options{FS: d, SegmentBytes: 64 << 10, FlushInterval: -1}
	l := open(t, o)
	save(t, l, update(1, 1, 100, 10))
	waitFor(t, d.ready)
	writes := 0
	d.mu.Lock()
	d.before = func(change, string) error { writes++; return nil }
	d.mu.Unlock()
	for i := range uint64(100) {
		save(t, l, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Vote: 1, Commit: i + 1}})
	}
	if err := l.RemoveEntriesTo(1, 1, 50); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.before = nil
	d.mu.Unlock()
	if writes != 0 {
		t.Errorf("%d changes of the disk", writes)
	}
	// But the next commit takes it along, and so does a close.
	save(t, l, update(2, 1, 1, 10))
	save(t, l, pb.Update{ShardID: 2, ReplicaID: 1, State: pb.State{Term: 1, Vote: 1, Commit: 1}})
	l.Close()
	l = open(t, o)
	for shard, want := range map[uint64]uint64{1: 100, 2: 1} {
		if rs, err := l.ReadRaftState(shard, 1, 0); err != nil || rs.State.Commit != want {
			t.Errorf("shard %d: got %+v, %v", shard, rs, err)
		}
	}
}

// What no commit takes along is written after a while, so that a process that
// is killed leaves it behind. It vouches for the group before it, too.
func TestMovedCommitIndexIsWrittenAfterAWhile(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	o := raftlog.Options{FS: d, SegmentBytes: 64 << 10, FlushInterval: 1}
	l := open(t, o)
	save(t, l, update(1, 1, 10, 10))
	groups := l.Stats().Groups
	syncs := d.segmentSyncs()
	save(t, l, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Vote: 1, Commit: 10}})
	waitFor(t, func() bool { return l.Stats().Groups > groups })
	if got := d.segmentSyncs(); got != syncs {
		t.Errorf("it cost %d syncs", got-syncs)
	}
	d.mu.Lock()
	o.FS = d.cut(allKept, nil) // a killed process
	d.mu.Unlock()
	l = open(t, o)
	if rs, err := l.ReadRaftState(1, 1, 0); err != nil || rs.State.Commit != 10 {
		t.Errorf("got %+v, %v", rs, err)
	}
}

// One sync serves all who wait for one.
func TestOneSyncServesAllThatWait(t *testing.T) {
	t.Parallel()
	d := newPowerDisk()
	l := open(t, raftlog.Options{FS: d, FlushInterval: -1})
	save(t, l, update(100, 1, 1, 10))
	waitFor(t, d.ready)

	inSync, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release) // before the log is closed
	first := true
	d.mu.Lock()
	d.before = func(what change, name string) error {
		if what == changeSync && strings.HasSuffix(name, ".seg") && first {
			first = false
			close(inSync)
			<-goOn
		}
		return nil
	}
	d.mu.Unlock()
	before := l.Stats().Syncs
	const callers = 20
	done := make(chan error, callers)
	call := func(shard uint64) {
		go func() { done <- l.SaveRaftState(updates(update(shard, 1, 1, 10)), 1) }()
	}
	call(1)
	<-inSync
	for shard := range uint64(callers - 1) {
		call(shard + 2)
	}
	waitFor(t, func() bool { return l.Waiting() == callers-1 })
	release()
	for range callers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := l.Stats().Syncs - before; got != 2 {
		t.Errorf("%d syncs for one caller and %d that came meanwhile, want 2", got, callers-1)
	}
}
