package raftlog_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

func TestConformanceBootstrap(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		if _, err := s.GetBootstrapInfo(1, 2); !errors.Is(err, raftio.ErrNoBootstrapInfo) {
			t.Errorf("without one: %v", err)
		}
		bs := pb.NewBootstrapInfo(false, pb.OnDiskStateMachine, map[uint64]string{1: "a", 2: "b"})
		for _, id := range []raftio.NodeInfo{{ShardID: 1, ReplicaID: 2}, {ShardID: 1, ReplicaID: 3}, {ShardID: 1 << 60, ReplicaID: 1 << 61}} {
			if err := s.SaveBootstrapInfo(id.ShardID, id.ReplicaID, bs); err != nil {
				t.Fatal(err)
			}
		}
		s.save(t, pb.Update{ShardID: 7, ReplicaID: 7, State: pb.State{Term: 1}}) // not bootstrapped
		s.twice(func(when string) {
			got, err := s.GetBootstrapInfo(1, 3)
			if err != nil || !reflect.DeepEqual(got, bs) {
				t.Errorf("%s: got %+v, %v", when, got, err)
			}
			infos, err := s.ListNodeInfo()
			slices.SortFunc(infos, func(a, b raftio.NodeInfo) int { return int(a.ReplicaID>>1) - int(b.ReplicaID>>1) })
			if err != nil || len(infos) != 3 || infos[2] != (raftio.NodeInfo{ShardID: 1 << 60, ReplicaID: 1 << 61}) {
				t.Errorf("%s: got %v, %v", when, infos, err)
			}
		})
	})
}

func TestConformanceState(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		if _, err := s.ReadRaftState(1, 2, 0); !errors.Is(err, raftio.ErrNoSavedLog) {
			t.Errorf("without one: %v", err)
		}
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 2, State: pb.State{Term: 3, Vote: 4, Commit: 0}})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 3, State: pb.State{Term: 9, Vote: 9, Commit: 9}, EntriesToSave: entries(1, 9, 9)})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 2, State: pb.State{Term: 3, Vote: 4, Commit: 5}, EntriesToSave: entries(1, 6, 3)})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 2, State: pb.State{Term: 3, Vote: 4, Commit: 6}})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 2}) // nothing new
		s.twice(func(when string) {
			rs, err := s.ReadRaftState(1, 2, 0)
			if err != nil || rs != (raftio.RaftState{State: pb.State{Term: 3, Vote: 4, Commit: 6}, FirstIndex: 1, EntryCount: 6}) {
				t.Errorf("%s: got %+v, %v", when, rs, err)
			}
		})
	})
}

func TestConformanceIterate(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		if got, _ := s.read(t, 1, 1, 1, 10, math.MaxUint64); len(got) != 0 {
			t.Errorf("entries of an empty log: %v", got)
		}
		for i := uint64(1); i <= 100; i += 3 {
			s.save(t,
				pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1}, EntriesToSave: entries(i, i+2, 1)},
				pb.Update{ShardID: 1, ReplicaID: 2, State: pb.State{Term: 2}, EntriesToSave: entries(i, i+2, 2)},
				pb.Update{ShardID: 2, ReplicaID: 1, State: pb.State{Term: 3}, EntriesToSave: entries(i, i+2, 3)})
		}
		one := uint64(entries(10, 10, 1)[0].SizeUpperLimit()) // of any with two digits
		s.twice(func(when string) {
			for _, c := range []struct {
				low, high, maxSize uint64
				want               []uint64
			}{
				{1, 103, math.MaxUint64, span(1, 102)},
				{50, 60, math.MaxUint64, span(50, 59)},
				{100, 200, math.MaxUint64, span(100, 102)},
				{103, 110, math.MaxUint64, nil},
				{10, 20, 0, span(10, 10)},
				{10, 20, one - 1, span(10, 10)},
				{10, 20, one, span(10, 11)}, // the one that goes beyond is there
				{10, 20, 3*one + 1, span(10, 13)},
				{10, 11, 0, span(10, 10)},
			} {
				for shard, replica := range map[uint64]uint64{1: 2, 2: 1} {
					got, terms := s.read(t, shard, replica, c.low, c.high, c.maxSize)
					if !slices.Equal(got, c.want) || slices.ContainsFunc(terms, func(x uint64) bool { return x != shard+1 }) {
						t.Errorf("%s: %d..%d below %d of shard %d: got %v", when, c.low, c.high, c.maxSize, shard, got)
					}
				}
			}
			have := entries(8, 9, 1)
			ents, size, err := s.IterateEntries(have, 1000, 1, 1, 10, 12, math.MaxUint64)
			if err != nil || len(ents) != 4 || ents[0].Index != 8 || ents[3].Index != 11 || size != 1000+2*one {
				t.Errorf("%s: appended to %d entries, size %d, %v", when, len(ents), size, err)
			}
		})
	})
}

func TestConformanceOverwrite(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1}, EntriesToSave: entries(1, 10, 1)})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 2}, EntriesToSave: entries(6, 7, 2)})
		s.twice(func(when string) {
			got, terms := s.read(t, 1, 1, 1, 20, math.MaxUint64)
			if !slices.Equal(got, span(1, 7)) || terms[4] != 1 || terms[5] != 2 || terms[6] != 2 {
				t.Errorf("%s: got %v in terms %v", when, got, terms)
			}
			rs, err := s.ReadRaftState(1, 1, 0)
			if err != nil || rs.FirstIndex != 1 || rs.EntryCount != 7 {
				t.Errorf("%s: got %+v, %v", when, rs, err)
			}
		})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 3}, EntriesToSave: entries(8, 20, 3)})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 4}, EntriesToSave: entries(1, 2, 4)})
		s.twice(func(when string) {
			if got, terms := s.read(t, 1, 1, 1, 30, math.MaxUint64); !slices.Equal(got, span(1, 2)) || terms[0] != 4 {
				t.Errorf("%s: got %v in terms %v", when, got, terms)
			}
		})
	})
}

func TestConformanceSnapshotRecord(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		if ss, err := s.GetSnapshot(1, 1); err != nil || !pb.IsEmptySnapshot(ss) {
			t.Errorf("without one: %+v, %v", ss, err)
		}
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: 30}, EntriesToSave: entries(1, 30, 1)})
		record := func(i uint64) pb.Update {
			return pb.Update{ShardID: 1, ReplicaID: 1, Snapshot: pb.Snapshot{
				Index: i, Term: 1, ShardID: 1, Filepath: fmt.Sprint("/ss/", i), Type: pb.OnDiskStateMachine, Dummy: true, OnDiskIndex: i,
				Membership: pb.Membership{ConfigChangeId: i, Addresses: map[uint64]string{1: "a"}},
			}}
		}
		for _, i := range []uint64{5, 20, 10} {
			if err := s.SaveSnapshots([]pb.Update{record(i)}); err != nil {
				t.Fatal(err)
			}
		}
		s.twice(func(when string) {
			ss, err := s.GetSnapshot(1, 1)
			if err != nil || ss.Index != 20 || ss.Filepath != "/ss/20" || !ss.Dummy || ss.Membership.Addresses[1] != "a" || ss.OnDiskIndex != 20 {
				t.Errorf("%s: got %+v, %v", when, ss, err)
			}
			rs, err := s.ReadRaftState(1, 1, 20)
			if err != nil || rs.State.Commit != 30 || rs.FirstIndex+rs.EntryCount != 31 || rs.FirstIndex < 20 || rs.FirstIndex > 21 {
				t.Errorf("%s: got %+v, %v", when, rs, err)
			}
			if got, _ := s.read(t, 1, 1, 1, 40, math.MaxUint64); !slices.Equal(got, span(1, 30)) {
				t.Errorf("%s: a snapshot record took entries away: %v", when, got)
			}
		})
	})
}

func TestConformanceInstalledSnapshot(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: 3}, EntriesToSave: entries(1, 10, 1)})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 2, Commit: 100}, Snapshot: pb.Snapshot{Index: 100, Term: 2, ShardID: 1}})
		s.twice(func(when string) {
			rs, err := s.ReadRaftState(1, 1, 100)
			if err != nil || rs.EntryCount != 0 || rs.State.Commit != 100 {
				t.Errorf("%s: got %+v, %v", when, rs, err)
			}
		})
		s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 2, Commit: 100}, EntriesToSave: entries(101, 105, 2)})
		s.twice(func(when string) {
			rs, err := s.ReadRaftState(1, 1, 100)
			if err != nil || rs.FirstIndex != 101 || rs.EntryCount != 5 {
				t.Errorf("%s: got %+v, %v", when, rs, err)
			}
			if got, _ := s.read(t, 1, 1, 101, 200, math.MaxUint64); !slices.Equal(got, span(101, 105)) {
				t.Errorf("%s: got %v", when, got)
			}
		})
		// A snapshot and what follows it in one update.
		s.save(t, pb.Update{
			ShardID: 1, ReplicaID: 1, State: pb.State{Term: 3, Commit: 300},
			Snapshot: pb.Snapshot{Index: 300, Term: 3, ShardID: 1}, EntriesToSave: entries(301, 302, 3),
		})
		s.twice(func(when string) {
			ss, err := s.GetSnapshot(1, 1)
			if err != nil || ss.Index != 300 {
				t.Errorf("%s: got %+v, %v", when, ss, err)
			}
			if got, _ := s.read(t, 1, 1, 301, 400, math.MaxUint64); !slices.Equal(got, span(301, 302)) {
				t.Errorf("%s: got %v", when, got)
			}
		})
	})
}

func TestConformanceRemoveEntries(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		for i := uint64(1); i <= 300; i += 10 {
			s.save(t, pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: i}, EntriesToSave: entries(i, i+9, 1)})
			s.save(t, pb.Update{ShardID: 2, ReplicaID: 1, State: pb.State{Term: 1, Commit: i}, EntriesToSave: entries(i, i+9, 1)})
		}
		for _, to := range []uint64{100, 50, 199} {
			if err := s.RemoveEntriesTo(1, 1, to); err != nil {
				t.Fatal(err)
			}
		}
		done, err := s.CompactEntriesTo(1, 1, 199)
		if err != nil {
			t.Fatal(err)
		}
		<-done
		s.twice(func(when string) {
			if got, _ := s.read(t, 1, 1, 200, 400, math.MaxUint64); !slices.Equal(got, span(200, 300)) {
				t.Errorf("%s: got %v", when, got)
			}
			// The library's store keeps the last of those to be removed.
			if got, _ := s.read(t, 1, 1, 150, 160, math.MaxUint64); len(got) != 0 {
				t.Errorf("%s: removed entries %v are there", when, got)
			}
			rs, err := s.ReadRaftState(1, 1, 250)
			if err != nil || rs.FirstIndex != 250 || rs.EntryCount != 51 {
				t.Errorf("%s: got %+v, %v", when, rs, err)
			}
			if got, _ := s.read(t, 2, 1, 1, 400, math.MaxUint64); !slices.Equal(got, span(1, 300)) {
				t.Errorf("%s: entries of another shard are gone: %v", when, got)
			}
		})
	})
}

func TestConformanceRemoveReplica(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		for replica := uint64(1); replica <= 2; replica++ {
			if err := s.SaveBootstrapInfo(1, replica, pb.NewBootstrapInfo(true, pb.OnDiskStateMachine, nil)); err != nil {
				t.Fatal(err)
			}
			s.save(t, pb.Update{ShardID: 1, ReplicaID: replica, State: pb.State{Term: 1, Commit: 50}, EntriesToSave: entries(1, 50, 1)})
			if err := s.SaveSnapshots([]pb.Update{{ShardID: 1, ReplicaID: replica, Snapshot: pb.Snapshot{Index: 20, Term: 1}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.RemoveNodeData(1, 1); err != nil {
			t.Fatal(err)
		}
		s.twice(func(when string) {
			if _, err := s.ReadRaftState(1, 1, 0); !errors.Is(err, raftio.ErrNoSavedLog) {
				t.Errorf("%s: state: %v", when, err)
			}
			if _, err := s.GetBootstrapInfo(1, 1); !errors.Is(err, raftio.ErrNoBootstrapInfo) {
				t.Errorf("%s: bootstrap: %v", when, err)
			}
			if ss, err := s.GetSnapshot(1, 1); err != nil || !pb.IsEmptySnapshot(ss) {
				t.Errorf("%s: snapshot: %+v, %v", when, ss, err)
			}
			if got, _ := s.read(t, 1, 1, 1, 100, math.MaxUint64); len(got) != 0 {
				t.Errorf("%s: entries %v", when, got)
			}
			if got, _ := s.read(t, 1, 2, 1, 100, math.MaxUint64); !slices.Equal(got, span(1, 50)) {
				t.Errorf("%s: entries of another replica: %v", when, got)
			}
			if infos, err := s.ListNodeInfo(); err != nil || len(infos) != 1 || infos[0].ReplicaID != 2 {
				t.Errorf("%s: listed %v, %v", when, infos, err)
			}
		})
	})
}

func TestConformanceImport(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		if err := s.SaveBootstrapInfo(2, 4, pb.NewBootstrapInfo(false, pb.OnDiskStateMachine, map[uint64]string{4: "a"})); err != nil {
			t.Fatal(err)
		}
		s.save(t, pb.Update{
			ShardID: 2, ReplicaID: 4, State: pb.State{Term: 1, Vote: 3, Commit: 100}, EntriesToSave: entries(1, 150, 1),
		})
		if err := s.SaveSnapshots([]pb.Update{{ShardID: 2, ReplicaID: 4, Snapshot: pb.Snapshot{Index: 120, Term: 2}}}); err != nil {
			t.Fatal(err)
		}
		imported := pb.Snapshot{Type: pb.OnDiskStateMachine, ShardID: 2, Index: 110, Term: 2, Imported: true}
		if err := s.ImportSnapshot(imported, 4); err != nil {
			t.Fatal(err)
		}
		s.twice(func(when string) {
			ss, err := s.GetSnapshot(2, 4)
			if err != nil || ss.Index != 110 || !ss.Imported {
				t.Errorf("%s: snapshot %+v, %v", when, ss, err)
			}
			bs, err := s.GetBootstrapInfo(2, 4)
			if err != nil || !bs.Join || bs.Type != pb.OnDiskStateMachine || len(bs.Addresses) != 0 {
				t.Errorf("%s: bootstrap %+v, %v", when, bs, err)
			}
			rs, err := s.ReadRaftState(2, 4, 110)
			if when == "at once" { // the library's store remembers the old entries until then
				rs.EntryCount = 0
			}
			if err != nil || rs != (raftio.RaftState{State: pb.State{Term: 2, Commit: 110}, FirstIndex: 110}) {
				t.Errorf("%s: state %+v, %v", when, rs, err)
			}
		})
		s.save(t, pb.Update{ShardID: 2, ReplicaID: 4, State: pb.State{Term: 3, Commit: 110}, EntriesToSave: entries(111, 112, 3)})
		s.twice(func(when string) {
			if got, _ := s.read(t, 2, 4, 111, 200, math.MaxUint64); !slices.Equal(got, span(111, 112)) {
				t.Errorf("%s: entries %v", when, got)
			}
		})
	})
}

// Each worker of the library has its own shards, and all save at once.
func TestConformanceConcurrentWorkers(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *store) {
		const rounds = 60
		var wg sync.WaitGroup
		for w := range uint64(workers) {
			wg.Go(func() {
				for i := range uint64(rounds) {
					var us []pb.Update
					for _, shard := range []uint64{w + workers, w + 2*workers} {
						us = append(us, pb.Update{
							ShardID: shard, ReplicaID: 1, State: pb.State{Term: 1, Commit: 2 * i}, EntriesToSave: entries(2*i+1, 2*i+2, 1),
						})
					}
					if err := s.SaveRaftState(us, w+1); err != nil {
						t.Error(err)
						return
					}
					ents, _, err := s.IterateEntries(nil, 0, w+workers, 1, 1, 2*i+3, math.MaxUint64)
					if err != nil || uint64(len(ents)) != 2*i+2 {
						t.Errorf("worker %d sees %d entries of %d: %v", w, len(ents), 2*i+2, err)
						return
					}
				}
			})
		}
		for k := range uint64(2) { // snapshots come from other goroutines
			wg.Go(func() {
				for i := uint64(1); i < rounds; i++ {
					if err := s.SaveSnapshots([]pb.Update{{ShardID: k + workers, ReplicaID: 1, Snapshot: pb.Snapshot{Index: i, Term: 1}}}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		s.twice(func(when string) {
			for shard := uint64(workers); shard < 3*workers; shard++ {
				if got, _ := s.read(t, shard, 1, 1, 1000, math.MaxUint64); !slices.Equal(got, span(1, 2*rounds)) {
					t.Errorf("%s: shard %d has %d entries", when, shard, len(got))
				}
			}
			if ss, err := s.GetSnapshot(workers, 1); err != nil || ss.Index != rounds-1 {
				t.Errorf("%s: snapshot %+v, %v", when, ss, err)
			}
		})
	})
}
