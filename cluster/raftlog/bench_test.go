package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
)

// benchStores are the stores on the disk that holds the temporary directory.
func benchStores(b *testing.B, run func(b *testing.B, open func(b *testing.B) raftio.ILogDB)) {
	b.Run("store=raftlog", func(b *testing.B) {
		run(b, func(b *testing.B) raftio.ILogDB {
			l, err := raftlog.Open(b.TempDir(), raftlog.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { l.Close() })
			return l
		})
	})
	b.Run("store=stock", func(b *testing.B) {
		run(b, func(b *testing.B) raftio.ILogDB { return stockStore(b, vfs.Default, b.TempDir()) })
	})
}

// BenchmarkSave is one worker that saves one entry at a time, synced, and
// removes what is older than 64 MiB.
func BenchmarkSave(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%dKiB", size>>10), func(b *testing.B) {
			benchStores(b, func(b *testing.B, open func(b *testing.B) raftio.ILogDB) {
				l := open(b)
				cmd := payload(1, 1, size)
				keep := uint64(64 << 20 / size)
				b.SetBytes(int64(size))
				i := uint64(0)
				for b.Loop() {
					i++
					u := pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: i - 1}, EntriesToSave: []pb.Entry{{Term: 1, Index: i, Cmd: cmd}}}
					if err := l.SaveRaftState([]pb.Update{u}, 1); err != nil {
						b.Fatal(err)
					}
					if i%256 == 0 && i > keep {
						if err := l.RemoveEntriesTo(1, 1, i-keep); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		})
	}
}

// BenchmarkPropose is proposals through NodeHosts in one process, each with its
// own log, until they are applied. In memory, where a sync costs nothing, it shows
// what is left for the log to win: with three replicas and 16 shards that is
// nothing, since raft's own work for each message is the limit. The log is cut as a
// broker does it, and begins with segments to use again, as that of a broker that
// has run for a while: new ones are written twice, once as zeros.
func BenchmarkPropose(b *testing.B) {
	for _, c := range []struct{ replicas, shards, inFlight, size int }{
		{1, 1, 1, 1 << 10},
		{3, 1, 1, 1 << 10},
		{1, 1, 16, 64 << 10},
		{3, 1, 16, 64 << 10},
		{1, 1, 100, 1 << 10},
		{1, 16, 100, 1 << 10},
		{3, 1, 100, 1 << 10},
		{3, 16, 100, 1 << 10},
	} {
		name := fmt.Sprintf("replicas=%d/shards=%d/inflight=%d/size=%dKiB", c.replicas, c.shards, c.inFlight, c.size>>10)
		for _, kind := range []string{"raftlog", "stock", "simulated", "memory"} {
			b.Run(name+"/store="+kind, func(b *testing.B) {
				benchPropose(b, kind, c.replicas, c.shards, c.inFlight, c.size)
			})
		}
	}
}

func benchPropose(b *testing.B, kind string, replicas, shards, inFlight, size int) {
	net, members := newNetwork(), map[uint64]string{}
	for i := range replicas {
		members[uint64(i+1)] = fmt.Sprint("host", i+1)
	}
	hosts := map[uint64]*host{}
	for id, addr := range members {
		c := hostConfig{net: net, addr: addr, fs: vfs.Default, dir: b.TempDir(), workers: 4, rtt: 20}
		c.keep = uint64(16 << 20 / size / shards) // entries
		switch kind {
		case "raftlog":
			c.log = &raftlog.Options{SegmentBytes: 16 << 20}
		case "memory":
			c.log, c.fs, c.dir = &raftlog.Options{SegmentBytes: 8 << 20}, vfs.NewMem(), "/data"
		case "simulated":
			c.log, c.fs, c.dir = &raftlog.Options{SegmentBytes: 8 << 20}, slowDisk{vfs.NewMem()}, "/data"
		}
		h := startHost(b, c)
		b.Cleanup(h.Close)
		hosts[id] = h
		for s := range shards {
			h.startShard(b, uint64(s+1), id, members, &sumDisk{})
		}
	}
	leads := make([]*host, shards)
	for s := range shards {
		leads[s] = hosts[hosts[1].leader(b, uint64(s+1))]
		leads[s].propose(b, uint64(s+1), []byte("warm"))
	}
	run := func(n, inFlight int, cmd []byte) {
		var wg sync.WaitGroup
		var left atomic.Int64
		left.Store(int64(n))
		for i := range inFlight {
			wg.Go(func() {
				s := i % shards
				session := leads[s].GetNoOPSession(uint64(s + 1))
				for left.Add(-1) >= 0 {
					ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
					_, err := leads[s].SyncPropose(ctx, session, cmd)
					for errors.Is(err, dragonboat.ErrSystemBusy) { // the library's store says so at times
						time.Sleep(time.Millisecond)
						_, err = leads[s].SyncPropose(ctx, session, cmd)
					}
					cancel()
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	run(1024, 16, payload(1, 1, 64<<10))
	for _, h := range hosts {
		for s := range shards {
			h.cut(b, uint64(s+1))
		}
	}
	syncs := func() (n int64) {
		for _, h := range hosts {
			if h.log != nil {
				n += h.log.Stats().Syncs
			}
		}
		return n
	}
	before := syncs()
	b.SetBytes(int64(size))
	b.ResetTimer()
	run(b.N, inFlight, payload(1, 1, size))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	if n := syncs() - before; n > 0 {
		b.ReportMetric(float64(b.N*replicas)/float64(n), "entries/sync")
	}
}

// slowDisk is a disk in memory whose syncs take as long as those of a good one,
// always. It shows what the log does where the real one is shared and noisy.
type slowDisk struct{ vfs.FS }

const slowSync = 200 * time.Microsecond

type slowFile struct{ vfs.File }

func (f slowFile) Sync() error {
	time.Sleep(slowSync)
	return f.File.Sync()
}

func (d slowDisk) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return slowFile{f}, err
}

func (d slowDisk) ReuseForWrite(from, to string) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to)
	return slowFile{f}, err
}

// BenchmarkOpen opens a log with so many segments before the tail.
func BenchmarkOpen(b *testing.B) {
	for _, segments := range []int64{1, 10, 100} {
		b.Run(fmt.Sprint("segments=", segments), func(b *testing.B) {
			dir := b.TempDir()
			o := raftlog.Options{SegmentBytes: 1 << 20, MaxBytes: math.MaxInt64}
			l, err := raftlog.Open(dir, o)
			if err != nil {
				b.Fatal(err)
			}
			for i := uint64(1); l.Stats().Files < segments+2; i++ {
				save(b, l, update(i%50, i/50+1, 1, 16<<10))
			}
			for b.Loop() {
				b.StopTimer()
				l.Close()
				b.StartTimer()
				if l, err = raftlog.Open(dir, o); err != nil {
					b.Fatal(err)
				}
			}
			l.Close()
		})
	}
}

// BenchmarkReadBack reads entries that are not in memory any more.
func BenchmarkReadBack(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("size=%dKiB", size>>10), func(b *testing.B) {
			l, err := raftlog.Open(b.TempDir(), raftlog.Options{MemoryBudget: -1})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			const n = 256
			save(b, l, update(1, 1, n, size))
			b.SetBytes(int64(n * size))
			for b.Loop() {
				ents, _, err := l.IterateEntries(nil, 0, 1, 1, 1, n+1, math.MaxUint64)
				if err != nil || len(ents) != n {
					b.Fatal(len(ents), err)
				}
			}
		})
	}
}
