package raftlog_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/cluster/raftlog"
)

// model is what a log must hold: by shard, for replica 1.
type model map[uint64]shardModel

type shardModel struct {
	boot        bool
	state       pb.State
	snap        uint64
	first, last uint64 // entries there must be; none if first > last
	terms       []uint64
	base        uint64 // terms[0] is the term of entry base
}

func (m model) clone() model { return maps.Clone(m) } // terms are never changed in place

// step is one call of the log, and what it does to the model.
type step struct {
	name string
	call func(l raftio.ILogDB) error
	do   func(m model)
}

const cutPayload = 700

func cutEntry(shard, index, term uint64) pb.Entry {
	return pb.Entry{Index: index, Term: term, Cmd: payload(shard*1000+term, index, cutPayload)}
}

// workload makes n steps as a raft node would take them, always the same for a
// seed.
func workload(seed uint64, n int) []step {
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := model{}
	var steps []step
	add := func(s step) {
		s.do(m)
		steps = append(steps, s)
	}
	for shard := uint64(1); shard <= 5; shard++ {
		add(step{"bootstrap", func(l raftio.ILogDB) error {
			return l.SaveBootstrapInfo(shard, 1, pb.Bootstrap{Addresses: map[uint64]string{1: "a"}})
		}, func(m model) { m[shard] = shardModel{boot: true, first: 1, base: 1} }})
	}
	for len(steps) < n {
		// Shard 5 is nearly idle, shard 1 busy.
		shard := []uint64{1, 1, 1, 1, 2, 2, 3, 4}[rnd.IntN(8)]
		if rnd.IntN(60) == 0 {
			shard = 5
		}
		s := m[shard]
		switch k := rnd.IntN(40); {
		case k < 20: // append, perhaps with a second shard
			us := []pb.Update{appendUpdate(m, shard, 1+rnd.IntN(3), 0)}
			if other := shard%4 + 1; rnd.IntN(3) == 0 {
				us = append(us, appendUpdate(m, other, 1, 0))
			}
			add(saveStep("append", us))
		case k < 23: // a new leader takes back what was not committed
			back := min(uint64(rnd.IntN(3)), s.last-max(s.state.Commit, min(s.first-1, s.last)))
			add(saveStep("overwrite", []pb.Update{appendUpdate(m, shard, 1+rnd.IntN(2), back)}))
		case k < 30: // commit index only
			if s.last > s.state.Commit {
				st := s.state
				st.Commit = s.state.Commit + 1 + uint64(rnd.IntN(int(s.last-s.state.Commit)))
				add(saveStep("commit", []pb.Update{{ShardID: shard, ReplicaID: 1, State: st}}))
			}
		case k < 32: // a vote
			st := s.state
			st.Term, st.Vote = st.Term+1, uint64(rnd.IntN(3))
			add(saveStep("vote", []pb.Update{{ShardID: shard, ReplicaID: 1, State: st}}))
		case k < 38: // a snapshot of what is committed, and the log behind it goes
			if shard == 5 || s.state.Commit <= s.snap+1 {
				continue
			}
			at := s.state.Commit
			add(step{"snapshot", func(l raftio.ILogDB) error {
				return l.SaveSnapshots([]pb.Update{{ShardID: shard, ReplicaID: 1, Snapshot: pb.Snapshot{Index: at, Term: 1, ShardID: shard}}})
			}, func(m model) {
				s := m[shard]
				s.snap = at
				m[shard] = s
			}})
			to := at - 1
			add(step{"remove entries", func(l raftio.ILogDB) error { return l.RemoveEntriesTo(shard, 1, to) }, func(m model) {
				s := m[shard]
				s.first = max(s.first, min(to, s.last)+1)
				m[shard] = s
			}})
		case k == 38 && shard == 3: // fell behind, gets a snapshot
			at := s.last + 5
			st := pb.State{Term: s.state.Term + 1, Commit: at}
			u := pb.Update{ShardID: shard, ReplicaID: 1, State: st, Snapshot: pb.Snapshot{Index: at, Term: st.Term, ShardID: shard}}
			add(saveStep("install", []pb.Update{u}))
		case k == 39 && shard == 4: // the replica goes, and comes back from an import
			add(step{"remove replica", func(l raftio.ILogDB) error { return l.RemoveNodeData(shard, 1) }, func(m model) { delete(m, shard) }})
			at := s.last + 1
			add(step{"import", func(l raftio.ILogDB) error {
				return l.ImportSnapshot(pb.Snapshot{ShardID: shard, Index: at, Term: 1, Type: pb.OnDiskStateMachine}, 1)
			}, func(m model) {
				m[shard] = shardModel{boot: true, state: pb.State{Term: 1, Commit: at}, snap: at, first: at + 1, last: at, base: at + 1}
			}})
		}
	}
	return steps
}

// appendUpdate is an update that appends n entries to a shard, the first of
// them back entries before its end, in a new term if that is so.
func appendUpdate(m model, shard uint64, n int, back uint64) pb.Update {
	s := m[shard]
	st := s.state
	st.Term = max(st.Term, 1)
	if back > 0 {
		st.Term++
	}
	u := pb.Update{ShardID: shard, ReplicaID: 1, State: st}
	for i := range uint64(n) {
		u.EntriesToSave = append(u.EntriesToSave, cutEntry(shard, s.last-back+1+i, st.Term))
	}
	return u
}

func saveStep(name string, us []pb.Update) step {
	return step{name, func(l raftio.ILogDB) error { return l.SaveRaftState(us, 1) }, func(m model) {
		for _, u := range us {
			s := m[u.ShardID]
			s.state = u.State
			if u.Snapshot.Index > 0 {
				s.snap, s.last = u.Snapshot.Index, u.Snapshot.Index
				s.first, s.base, s.terms = s.last+1, s.last+1, nil
			}
			if e := u.EntriesToSave; len(e) > 0 {
				terms := slices.Clone(s.terms[:e[0].Index-s.base])
				for i := range e {
					terms = append(terms, e[i].Term)
				}
				s.terms, s.last = terms, e[len(e)-1].Index
				s.first = min(s.first, e[0].Index)
			}
			m[u.ShardID] = s
		}
	}}
}

// matches checks that the log holds what the model says. The commit index may be
// an older one, and entries that were removed may be back.
func (m model) matches(l raftio.ILogDB) error {
	infos, err := l.ListNodeInfo()
	if err != nil {
		return err
	}
	if len(infos) != len(m) {
		return fmt.Errorf("%d replicas, want %d", len(infos), len(m))
	}
	for shard, s := range m {
		if err := s.matches(l, shard); err != nil {
			return fmt.Errorf("shard %d: %w", shard, err)
		}
	}
	return nil
}

func (s shardModel) matches(l raftio.ILogDB, shard uint64) error {
	if _, err := l.GetBootstrapInfo(shard, 1); err != nil {
		return err
	}
	ss, err := l.GetSnapshot(shard, 1)
	if err != nil || ss.Index != s.snap {
		return fmt.Errorf("snapshot %d (%w), want %d", ss.Index, err, s.snap)
	}
	rs, err := l.ReadRaftState(shard, 1, s.snap)
	if s.state == (pb.State{}) {
		if !errors.Is(err, raftio.ErrNoSavedLog) {
			return fmt.Errorf("state without one saved: %w", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if rs.State.Term != s.state.Term || rs.State.Vote != s.state.Vote || rs.State.Commit > s.state.Commit || rs.State.Commit < s.snap {
		return fmt.Errorf("state %+v, want %+v", rs.State, s.state)
	}
	wantLast := max(s.last, s.snap)
	if got := max(rs.FirstIndex+rs.EntryCount, 1) - 1; rs.EntryCount > 0 && got != wantLast || rs.EntryCount == 0 && s.last > s.snap {
		return fmt.Errorf("entries %d+%d, want up to %d", rs.FirstIndex, rs.EntryCount, wantLast)
	}
	ents, _, err := l.IterateEntries(nil, 0, shard, 1, s.first, s.last+10, math.MaxUint64)
	if err != nil {
		return err
	}
	if uint64(len(ents)) != s.last+1-s.first {
		return fmt.Errorf("%d entries from %d on, want up to %d", len(ents), s.first, s.last)
	}
	for i, e := range ents {
		index := s.first + uint64(i)
		want := cutEntry(shard, index, s.terms[index-s.base])
		if e.Index != index || e.Term != want.Term || string(e.Cmd) != string(want.Cmd) {
			return fmt.Errorf("entry %d is entry %d of term %d, want term %d", index, e.Index, e.Term, want.Term)
		}
	}
	return nil
}

// cutOptions makes segments of a few groups and a log that has to copy.
func cutOptions(d *powerDisk) raftlog.Options {
	return raftlog.Options{FS: d, SegmentBytes: 8 << 10, MaxBytes: 48 << 10, MemoryBudget: 4 << 10, FlushInterval: -1}
}

// models are the states of the log before the first step and after each.
func models(steps []step) []model {
	out := []model{{}}
	for _, s := range steps {
		m := out[len(out)-1].clone()
		s.do(m)
		out = append(out, m)
	}
	return out
}

// recovered opens the log on d and checks that it holds what it held after done
// steps, or after one more. It stays open.
func recovered(d *powerDisk, states []model, done int) (*raftlog.Log, error) {
	l, err := raftlog.Open("/log", cutOptions(d))
	if err != nil {
		return nil, err
	}
	err = states[done].matches(l)
	if err != nil && done+1 < len(states) {
		if err2 := states[done+1].matches(l); err2 != nil {
			err = fmt.Errorf("not after step %d: %w; nor after the next: %w", done, err, err2)
		} else {
			err = nil
		}
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// alive checks that a recovered log takes more and gives it back.
func alive(d *powerDisk, l *raftlog.Log) error {
	u := update(77, 1, 2, 100)
	if err := l.SaveRaftState([]pb.Update{u}, 1); err != nil {
		return err
	}
	l.Close()
	l, err := raftlog.Open("/log", cutOptions(d))
	if err != nil {
		return err
	}
	defer l.Close()
	ents, _, err := l.IterateEntries(nil, 0, 77, 1, 1, 3, math.MaxUint64)
	if err != nil || len(ents) != 2 {
		return fmt.Errorf("%d entries after another opening: %w", len(ents), err)
	}
	return nil
}

// The power goes before every change of the disk that a workload makes. What is
// not on stable storage is then lost, kept, or here and there kept.
func TestPowerCutAtEveryChangeLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	steps := 150
	if testing.Short() {
		steps = 60
	}
	for _, flush := range []time.Duration{-1, time.Microsecond} {
		t.Run(fmt.Sprint("flush=", flush), func(t *testing.T) {
			t.Parallel()
			cutEverywhere(t, flush, steps)
		})
	}
}

// The power goes again while the log is being opened after a power cut.
func TestPowerCutDuringRecoveryLosesNothing(t *testing.T) {
	t.Parallel()
	steps := workload(2, 80)
	states := models(steps)
	type image struct {
		disk *powerDisk
		done int
	}
	var images []image
	rnd := rand.New(rand.NewPCG(8, 8))
	d := newPowerDisk()
	var acked atomic.Int64
	seen := 0
	d.before = func(change, string) error {
		if seen++; seen%7 == 0 {
			images = append(images, image{d.cut(someKept, rnd), int(acked.Load())})
		}
		return nil
	}
	l, err := raftlog.Open("/log", cutOptions(d))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range steps {
		if err := s.call(l); err != nil {
			t.Fatalf("step %d, %s: %v", i, s.name, err)
		}
		acked.Add(1)
	}
	l.Close()
	points := 0
	for _, im := range images {
		im.disk.before = func(what change, name string) error {
			for _, f := range []fate{allLost, allKept, someKept} {
				points++
				l, err := recovered(im.disk.cut(f, rnd), states, im.done)
				if err != nil {
					t.Fatalf("power cut before %s of %s while opening after %d steps, fate %d: %v", what, name, im.done, f, err)
				}
				l.Close()
			}
			return nil
		}
		l, err := raftlog.Open("/log", cutOptions(im.disk))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	t.Logf("%d power cuts while opening %d disks", points, len(images))
}

func cutEverywhere(t *testing.T, flush time.Duration, n int) {
	steps := workload(1, n)
	states := models(steps)
	rnd := rand.New(rand.NewPCG(7, 7))
	var acked, points, bad atomic.Int64
	changes := map[change]int{}
	d := newPowerDisk()
	d.before = func(what change, name string) error {
		if bad.Load() > 3 {
			return nil
		}
		changes[what]++
		done := int(acked.Load())
		for _, f := range []fate{allLost, allKept, someKept} {
			points.Add(1)
			c := d.cut(f, rnd)
			l, err := recovered(c, states, done)
			if err == nil && f == someKept {
				err = alive(c, l)
			} else if err == nil {
				l.Close()
			}
			if err != nil {
				bad.Add(1)
				t.Errorf("power cut before %s of %s after %d steps, fate %d: %v", what, name, done, f, err)
			}
		}
		return nil
	}
	o := cutOptions(d)
	o.FlushInterval = flush
	l, err := raftlog.Open("/log", o)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range steps {
		if err := s.call(l); err != nil {
			t.Fatalf("step %d, %s: %v", i, s.name, err)
		}
		acked.Add(1)
	}
	stats := l.Stats()
	l.Close()
	if stats.Carried == 0 && !testing.Short() {
		t.Error("the workload copied no entries")
	}
	t.Logf("%d power cuts at %v in %d steps; %+v", points.Load(), changes, len(steps), stats)
}
