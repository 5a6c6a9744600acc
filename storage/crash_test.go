package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/raftmq/mq/storage"
)

// What was synced is there after a power cut; what was not is lost, which also
// shows that the file system of these tests loses it.
func TestSyncSurvivesPowerCut(t *testing.T) {
	t.Parallel()
	for _, synced := range []bool{false, true} {
		fs := vfs.NewCrashableMem()
		s := mustOpen(t, fs, storage.Options{})
		l := mustOpenLog(t, s, crashLogs[0])
		appendTo(t, l, 1, 1000)
		if synced {
			must(t, l.Sync())
		}
		after := mustOpen(t, fs.CrashClone(vfs.CrashCloneCfg{}), storage.Options{})
		got := mustOpenLog(t, after, crashLogs[0]).State()
		if want := int64(1); synced && got.End != want {
			t.Errorf("synced record is lost: %+v", got)
		}
		if !synced && got.End != 0 {
			t.Errorf("a record that was not synced is there: %+v", got)
		}
		must(t, after.Close())
		must(t, s.Close())
	}
}

var (
	crashLogs = []storage.ReplicaID{{Shard: 1024, Replica: 1}, {Shard: 1025, Replica: 2}, {Shard: 1026, Replica: 3}}
	crashKV   = storage.ReplicaID{Shard: 1, Replica: 9}
	dropped   = storage.ReplicaID{Shard: 1030, Replica: 1}
)

// A power cut at any moment leaves each key space as some batch left it, not
// older than the newest one synced, and all key spaces as of one moment: what
// is lost is a tail of the batches in the order of their commits.
func TestPowerCutLeavesPrefix(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newCrashWorkload(t, seed)
			w.run()
			if len(w.cuts) < 50 {
				t.Fatalf("only %d power cuts", len(w.cuts))
			}
			for i, c := range w.cuts {
				w.check(i, c)
			}
		})
	}
}

// crashWorkload is a run of random changes, with power cuts at some of the
// file system's operations.
type crashWorkload struct {
	t   *testing.T
	rng *rand.Rand
	fs  *vfs.MemFS
	s   *storage.Store

	logs []*storage.Log
	kv   *storage.KV

	// history holds what each key space was like after each of its commits.
	history map[storage.ReplicaID][]moment
	seq     atomic.Int64 // commits of all key spaces begun
	synced  sync.Map     // ReplicaID -> seq of the newest commit known durable
	drop    atomic.Int32 // 1 once Drop is called, 2 once it returned

	mu   sync.Mutex
	cuts []cut
	ops  int
	pick *rand.Rand
}

// moment is a key space after the commit seq.
type moment struct {
	seq         int64
	fingerprint string
}

// cut is what a power cut left, with what must be there and what can be.
type cut struct {
	fs            *vfs.MemFS
	synced        map[storage.ReplicaID]int64
	begun         int64
	dropped, gone bool // Drop was called, returned
}

func newCrashWorkload(t *testing.T, seed uint64) *crashWorkload {
	w := &crashWorkload{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), pick: rand.New(rand.NewPCG(seed, 2)),
		fs: vfs.NewCrashableMem(), history: map[storage.ReplicaID][]moment{},
	}
	hooked := errorfs.Wrap(w.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			w.maybeCut()
		}
		return nil
	}))
	w.s = mustOpen(t, hooked, storage.Options{MemTableBytes: 128 << 10})
	for _, id := range crashLogs {
		w.logs = append(w.logs, mustOpenLog(t, w.s, id))
	}
	var err error
	w.kv, err = w.s.OpenKV(crashKV)
	must(t, err)
	l := mustOpenLog(t, w.s, dropped)
	appendTo(t, l, 1, 10<<10)
	must(t, l.Sync())
	return w
}

// maybeCut takes a copy of what the disk holds, at about every 6th operation.
func (w *crashWorkload) maybeCut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops++
	if w.pick.IntN(6) != 0 {
		return
	}
	c := cut{synced: map[storage.ReplicaID]int64{}, gone: w.drop.Load() == 2}
	w.synced.Range(func(id, seq any) bool {
		c.synced[id.(storage.ReplicaID)] = seq.(int64)
		return true
	})
	c.fs = w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.pick.IntN(3) * 40, RNG: w.pick})
	c.begun, c.dropped = w.seq.Load(), w.drop.Load() > 0
	w.cuts = append(w.cuts, c)
}

func (w *crashWorkload) run() {
	for step := range 180 {
		l := w.logs[w.rng.IntN(len(w.logs))]
		switch op := w.rng.IntN(100); {
		case step == 110:
			w.drop.Store(1)
			must(w.t, w.s.Drop(dropped))
			w.drop.Store(2)
		case op < 55:
			w.commitLog(l)
		case op < 75:
			w.commitKV()
		case op < 90:
			w.sync(l.ID(), l.Sync)
		case op < 94:
			w.sync(crashKV, w.kv.Sync)
		default:
			w.restore(l, w.logs[w.rng.IntN(len(w.logs))])
		}
	}
	must(w.t, w.s.Close())
}

func (w *crashWorkload) commitLog(l *storage.Log) {
	seq := w.seq.Add(1)
	lb := l.NewBatch()
	lb.BeginEpoch(int32(seq / 20))
	for range 1 + w.rng.IntN(3) {
		e := lb.State().End
		data := bytes.Repeat(fmt.Appendf(nil, "%d/%d;", l.ID().Shard, e), 1+w.rng.IntN(3000))
		must(w.t, lb.Append(data, e, e+int64(w.rng.IntN(5)), seq, seq))
	}
	lb.SetProducer(storage.ProducerEntry{ID: int64(w.rng.IntN(3)), Slot: uint8(w.rng.IntN(3)), BaseOffset: lb.State().End})
	if w.rng.IntN(10) == 0 {
		lb.DeleteProducer(int64(w.rng.IntN(3)))
	}
	if w.rng.IntN(3) == 0 {
		st := lb.State()
		lb.Trim(st.Start + (st.End-st.Start)*int64(w.rng.IntN(100))/100)
	}
	must(w.t, lb.Commit(uint64(seq)))
	w.history[l.ID()] = append(w.history[l.ID()], moment{seq, logFingerprint(w.t, l)})
}

func (w *crashWorkload) commitKV() {
	seq := w.seq.Add(1)
	kb := w.kv.NewBatch()
	for range 3 {
		kb.Set(fmt.Append(nil, w.rng.IntN(20)), bytes.Repeat(fmt.Append(nil, seq), w.rng.IntN(500)))
		kb.Delete(fmt.Append(nil, w.rng.IntN(20)))
	}
	must(w.t, kb.Commit(uint64(seq)))
	w.history[crashKV] = append(w.history[crashKV], moment{seq, kvFingerprint(w.t, w.kv)})
}

func (w *crashWorkload) sync(id storage.ReplicaID, sync func() error) {
	must(w.t, sync())
	if h := w.history[id]; len(h) > 0 {
		w.synced.Store(id, h[len(h)-1].seq)
	}
}

// restore makes l what from is.
func (w *crashWorkload) restore(l, from *storage.Log) {
	if l == from || from.Applied() < l.Applied() {
		return
	}
	sn, err := from.Snapshot()
	must(w.t, err)
	var buf bytes.Buffer
	must(w.t, sn.WriteTo(&buf, nil))
	must(w.t, sn.Close())
	seq := w.seq.Add(1)
	must(w.t, l.Restore(&buf, nil))
	w.history[l.ID()] = append(w.history[l.ID()], moment{seq, logFingerprint(w.t, l)})
}

// check opens what a power cut left.
func (w *crashWorkload) check(i int, c cut) {
	s := mustOpen(w.t, c.fs, storage.Options{})
	defer func() { must(w.t, s.Close()) }()
	// The newest commit seen, and the oldest one missed.
	newest, missed := int64(0), int64(1<<62)
	look := func(id storage.ReplicaID, fingerprint string) {
		h := w.history[id]
		at := -1 // index of the moment found; -1 is the empty space
		if fingerprint != "" {
			for j, m := range h {
				if m.fingerprint == fingerprint {
					at = j
				}
			}
			if at < 0 {
				w.t.Fatalf("cut %d: %v is like after no commit: %s", i, id, fingerprint)
			}
			if h[at].seq > c.begun {
				w.t.Fatalf("cut %d: %v has commit %d, only %d had begun", i, id, h[at].seq, c.begun)
			}
			newest = max(newest, h[at].seq)
		}
		if at+1 < len(h) {
			missed = min(missed, h[at+1].seq)
		}
		if want := c.synced[id]; want > 0 && (at < 0 || h[at].seq < want) {
			w.t.Fatalf("cut %d: %v lost the synced commit %d", i, id, want)
		}
	}
	for _, id := range crashLogs {
		l := mustOpenLog(w.t, s, id)
		fingerprint := ""
		if l.Applied() > 0 {
			fingerprint = logFingerprint(w.t, l)
		}
		look(id, fingerprint)
	}
	kv, err := s.OpenKV(crashKV)
	must(w.t, err)
	fingerprint := ""
	if kv.Applied() > 0 {
		fingerprint = kvFingerprint(w.t, kv)
	}
	look(crashKV, fingerprint)
	if newest > missed {
		w.t.Fatalf("cut %d: commit %d is there, the earlier commit %d is not", i, newest, missed)
	}
	there := mustOpenLog(w.t, s, dropped).State().End > 0
	if c.gone && there {
		w.t.Fatalf("cut %d: a dropped log came back", i)
	}
	if !c.dropped && !there && c.begun > 0 {
		w.t.Fatalf("cut %d: a synced log is gone that was not dropped", i)
	}
}

// logFingerprint is made of all that a log tells.
func logFingerprint(t *testing.T, l *storage.Log) string {
	t.Helper()
	h := fnv.New64a()
	st := l.State()
	var buf []byte
	for offset := st.Start; offset < st.End; {
		var err error
		buf, offset, err = l.Read(buf[:0], offset, 64<<10)
		must(t, err)
		_, _ = h.Write(buf)
	}
	must(t, l.Producers(func(p storage.ProducerEntry) error {
		fmt.Fprintf(h, "%+v", p)
		return nil
	}))
	for epoch := range st.Epoch + 1 {
		found, end, err := l.EpochEnd(epoch)
		must(t, err)
		fmt.Fprint(h, found, end)
	}
	return fmt.Sprintf("%+v %x", st, h.Sum64())
}

func kvFingerprint(t *testing.T, kv *storage.KV) string {
	t.Helper()
	h := fnv.New64a()
	must(t, kv.Scan(nil, func(k, v []byte) error {
		fmt.Fprintf(h, "%q=%q", k, v)
		return nil
	}))
	return fmt.Sprintf("%d %x", kv.Applied(), h.Sum64())
}

// A flush that fails is tried again until it succeeds, and Sync waits for it.
func TestSyncWaitsOutFailingDisk(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	tried := make(chan struct{}, 1)
	full := errors.New("no space left")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && op.Kind == errorfs.OpCreate {
			select {
			case tried <- struct{}{}:
			default:
			}
			return full
		}
		return nil
	}))
	s := mustOpen(t, fs, storage.Options{})
	l := mustOpenLog(t, s, crashLogs[0])
	appendTo(t, l, 1, 1000)
	failing.Store(true)
	done := make(chan error, 1)
	go func() { done <- l.Sync() }()
	<-tried
	<-tried
	select {
	case err := <-done:
		t.Fatalf("Sync returned %v while nothing could be written", err)
	default:
	}
	if s.Metrics().FlushErrors == 0 {
		t.Error("metrics know of no failed flush")
	}
	if got, _, err := l.Read(nil, 0, 1); err != nil || len(got) != 1000 {
		t.Errorf("read while the disk fails: %d bytes, %v", len(got), err)
	}
	failing.Store(false)
	must(t, <-done)

	// Close gives up and says so, and ends a wait.
	appendTo(t, l, 1, 1000)
	failing.Store(true)
	go func() { done <- l.Sync() }()
	<-tried
	if err := s.Close(); !errors.Is(err, full) {
		t.Errorf("close with a failing disk: %v", err)
	}
	if err := <-done; err == nil {
		t.Error("Sync was fine with a failing disk")
	}
	failing.Store(false)
	s = mustOpen(t, fs, storage.Options{})
	if st := mustOpenLog(t, s, crashLogs[0]).State(); st.End != 1 {
		t.Errorf("after a failed close: %+v", st)
	}
	must(t, s.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, fs storage.FS, o storage.Options) *storage.Store {
	t.Helper()
	o.FS = fs
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 1 << 20
	}
	s, err := storage.Open("store", o)
	must(t, err)
	return s
}

func mustOpenLog(t testing.TB, s *storage.Store, id storage.ReplicaID) *storage.Log {
	t.Helper()
	l, err := s.OpenLog(id)
	must(t, err)
	return l
}

// appendTo appends one batch of n records.
func appendTo(t testing.TB, l *storage.Log, n int64, size int) {
	t.Helper()
	lb := l.NewBatch()
	e := lb.State().End
	must(t, lb.Append(bytes.Repeat([]byte{byte(e)}, size), e, e+n-1, e, e))
	must(t, lb.Commit(l.Applied()+1))
}
