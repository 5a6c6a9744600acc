package raftlog_test

import (
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
)

// store is a log store under the conformance suite.
type store struct {
	raftio.ILogDB
	reopen func()
}

const workers = 4

// stores are the log stores that the suite runs on: ours, ours with everything
// read back from segments, and the library's own.
var stores = map[string]func(t testing.TB) *store{
	"raftlog": func(t testing.TB) *store { return ourStore(t, raftlog.Options{SegmentBytes: 64 << 10}) },
	"raftlog/readback": func(t testing.TB) *store {
		return ourStore(t, raftlog.Options{SegmentBytes: 4 << 10, MemoryBudget: -1})
	},
	"stock": func(t testing.TB) *store { return stockStore(t, vfs.NewMem(), "/stock") },
}

func ourStore(t testing.TB, o raftlog.Options) *store {
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	s := &store{}
	s.reopen = func() {
		if s.ILogDB != nil {
			s.Close()
		}
		l, err := raftlog.Open("/log", o)
		if err != nil {
			t.Fatal(err)
		}
		s.ILogDB = l
	}
	s.reopen()
	t.Cleanup(func() { s.Close() })
	return s
}

// stockStore takes the sharded pebble store out of a NodeHost, which is the only
// place that makes one.
func stockStore(t testing.TB, fs vfs.FS, dir string) *store {
	s := &store{}
	var nh *dragonboat.NodeHost
	s.reopen = func() {
		if nh != nil {
			nh.Close()
		}
		c := config.NodeHostConfig{
			NodeHostDir: dir, RaftAddress: "stock", RTTMillisecond: 200,
			Expert: config.ExpertConfig{
				TransportFactory: factory{newNetwork()}, FS: fs, LogDB: config.GetTinyMemLogDBConfig(),
				Engine: config.EngineConfig{ExecShards: workers, CommitShards: 1, ApplyShards: 1, SnapshotShards: 1, CloseShards: 1},
			},
		}
		c.Expert.LogDB.Shards = 1
		var err error
		if nh, err = dragonboat.NewNodeHost(c); err != nil {
			t.Fatal(err)
		}
		f := reflect.ValueOf(nh).Elem().FieldByName("mu").FieldByName("logdb")
		s.ILogDB = *(*raftio.ILogDB)(unsafe.Pointer(f.UnsafeAddr()))
	}
	s.reopen()
	t.Cleanup(func() { nh.Close() })
	return s
}

// onEveryStore runs a test of the suite.
func onEveryStore(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// twice runs a check before and after the store is opened again.
func (s *store) twice(check func(when string)) {
	check("at once")
	s.reopen()
	check("after reopening")
}

func entries(first, last, term uint64) []pb.Entry {
	var out []pb.Entry
	for i := first; i <= last; i++ {
		out = append(out, pb.Entry{Index: i, Term: term, Type: pb.ApplicationEntry, Cmd: fmt.Appendf(nil, "entry %d of term %d", i, term)})
	}
	return out
}

func (s *store) save(t *testing.T, us ...pb.Update) {
	t.Helper()
	if err := s.SaveRaftState(us, 1); err != nil {
		t.Fatal(err)
	}
}

// read returns indexes and terms of the entries low..high-1.
func (s *store) read(t *testing.T, shard, replica, low, high, maxSize uint64) (indexes, terms []uint64) {
	t.Helper()
	ents, size, err := s.IterateEntries(nil, 0, shard, replica, low, high, maxSize)
	if err != nil {
		t.Fatal(err)
	}
	want := uint64(0)
	for _, e := range ents {
		want += uint64(e.SizeUpperLimit())
		indexes, terms = append(indexes, e.Index), append(terms, e.Term)
		if exp := fmt.Sprintf("entry %d of term %d", e.Index, e.Term); len(e.Cmd) > 0 && string(e.Cmd) != exp {
			t.Fatalf("entry %d holds %q", e.Index, e.Cmd)
		}
	}
	if size != want {
		t.Errorf("size is %d, want %d", size, want)
	}
	return indexes, terms
}

func span(first, last uint64) []uint64 {
	var out []uint64
	for i := first; i <= last; i++ {
		out = append(out, i)
	}
	return out
}
