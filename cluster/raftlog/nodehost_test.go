package raftlog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/raftlog"
)

func init() {
	log.SetOutput(io.Discard) // pebble's
	for _, name := range []string{"dragonboat", "raft", "rsm", "transport", "logdb", "config", "settings", "server", "registry", "raftpb", "pebblekv"} {
		logger.GetLogger(name).SetLevel(logger.CRITICAL)
	}
}

// network connects the NodeHosts of a test.
type network struct {
	mu    sync.Mutex
	hosts map[string]*wire
}

func newNetwork() *network { return &network{hosts: make(map[string]*wire)} }

var errCut = errors.New("no such host")

// factory makes the transport of one host.
type factory struct{ net *network }

func (f factory) Validate(string) bool { return true }

func (f factory) Create(c config.NodeHostConfig, m raftio.MessageHandler, _ raftio.ChunkHandler) raftio.ITransport {
	return &wire{net: f.net, addr: c.RaftAddress, handler: m}
}

// wire is one host's end of the network. It carries messages, no snapshots.
type wire struct {
	net     *network
	addr    string
	handler raftio.MessageHandler
	in      sync.RWMutex // held for reading while the handler runs, which must end before Close does
	closed  bool
}

func (w *wire) Name() string { return "test" }

func (w *wire) Start() error {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	w.net.hosts[w.addr] = w
	return nil
}

func (w *wire) Close() error {
	w.net.mu.Lock()
	delete(w.net.hosts, w.addr)
	w.net.mu.Unlock()
	w.in.Lock()
	defer w.in.Unlock()
	w.closed = true
	return nil
}

func (w *wire) GetConnection(_ context.Context, target string) (raftio.IConnection, error) {
	return link{w.net, target}, nil
}

func (w *wire) GetSnapshotConnection(context.Context, string) (raftio.ISnapshotConnection, error) {
	return nil, errCut
}

type link struct {
	net *network
	to  string
}

func (link) Close() {}

func (l link) SendMessageBatch(b pb.MessageBatch) error {
	l.net.mu.Lock()
	w := l.net.hosts[l.to]
	l.net.mu.Unlock()
	if w == nil {
		return errCut
	}
	var in pb.MessageBatch
	pb.MustUnmarshal(&in, pb.MustMarshal(&b))
	w.in.RLock()
	defer w.in.RUnlock()
	if w.closed {
		return errCut
	}
	w.handler(in)
	return nil
}

// sum is an on-disk state machine, as far as the library is concerned: it adds
// up what it is told, and remembers for a test how far it got.
type sum struct {
	disk *sumDisk
	mu   sync.Mutex
	now  sumState
}

type sumState struct{ applied, count uint64 }

// sumDisk survives the NodeHost.
type sumDisk struct {
	mu     sync.Mutex
	synced sumState
}

func (s *sum) Open(<-chan struct{}) (uint64, error) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.now = s.disk.synced
	return s.now.applied, nil
}

func (s *sum) Update(entries []sm.Entry) ([]sm.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range entries {
		s.now.applied = entries[i].Index
		s.now.count++
		entries[i].Result.Value = s.now.count
	}
	return entries, nil
}

func (s *sum) Lookup(any) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.count, nil
}

func (s *sum) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.disk.synced = s.now
	return nil
}

func (s *sum) PrepareSnapshot() (any, error) { return nil, nil }
func (s *sum) Close() error                  { return nil }

func (s *sum) SaveSnapshot(_ any, w io.Writer, _ <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return binary.Write(w, binary.LittleEndian, []uint64{s.now.applied, s.now.count})
}

func (s *sum) RecoverFromSnapshot(r io.Reader, _ <-chan struct{}) error {
	v := make([]uint64, 2)
	if err := binary.Read(r, binary.LittleEndian, v); err != nil {
		return err
	}
	s.now = sumState{v[0], v[1]}
	return nil
}

// host is a NodeHost on our log, or on the stock one.
type host struct {
	*dragonboat.NodeHost
	log  *raftlog.Log // nil on the stock store
	net  *network
	keep uint64
}

type hostConfig struct {
	net     *network
	addr    string
	fs      vfs.FS
	dir     string
	log     *raftlog.Options // nil for the stock store
	workers uint64
	rtt     uint64
	keep    uint64 // entries of a shard that stay when its log is cut; 0 never cuts it
}

func startHost(t testing.TB, c hostConfig) *host {
	t.Helper()
	nhc := config.NodeHostConfig{
		NodeHostDir: c.dir, RaftAddress: c.addr, RTTMillisecond: max(c.rtt, 2),
		Expert: config.ExpertConfig{
			TransportFactory: factory{c.net},
			Engine:           config.EngineConfig{ExecShards: max(c.workers, 1), CommitShards: 1, ApplyShards: 2, SnapshotShards: 2, CloseShards: 1},
			LogDB:            config.GetTinyMemLogDBConfig(),
			FS:               c.fs,
		},
	}
	nhc.Expert.LogDB.Shards = 1
	var f *raftlog.Factory
	if c.log != nil {
		f = raftlog.NewFactory(*c.log)
		nhc.Expert.LogDBFactory = f
	}
	nh, err := dragonboat.NewNodeHost(nhc)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{NodeHost: nh, net: c.net, keep: c.keep}
	if f != nil {
		h.log = f.Log()
	}
	return h
}

// startShard starts a replica and does not wait for a leader.
func (h *host) startShard(t testing.TB, shard, replica uint64, members map[uint64]string, disk *sumDisk) {
	t.Helper()
	err := h.StartOnDiskReplica(members, false, func(uint64, uint64) sm.IOnDiskStateMachine {
		return &sum{disk: disk}
	}, config.Config{
		ShardID: shard, ReplicaID: replica, ElectionRTT: 50, HeartbeatRTT: 5, CheckQuorum: true, PreVote: true,
		SnapshotEntries: h.keep, CompactionOverhead: h.keep, DisableAutoCompactions: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// startReplica starts the only replica of a shard and returns the error.
func (h *host) startReplica(shard uint64) error {
	return h.StartOnDiskReplica(map[uint64]string{1: h.RaftAddress()}, false, func(uint64, uint64) sm.IOnDiskStateMachine {
		return &sum{disk: &sumDisk{}}
	}, config.Config{ShardID: shard, ReplicaID: 1, ElectionRTT: 10, HeartbeatRTT: 1})
}

// leader waits until a shard has a leader.
func (h *host) leader(t testing.TB, shard uint64) uint64 {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if id, _, ok, err := h.GetLeaderID(shard); err == nil && ok {
			return id
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("shard %d has no leader", shard)
	return 0
}

// propose proposes and waits for the result.
func (h *host) propose(t testing.TB, shard uint64, cmd []byte) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := h.SyncPropose(ctx, h.GetNoOPSession(shard), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r.Value
}

// cut removes what was applied from the log of a shard.
func (h *host) cut(t testing.TB, shard uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	o := dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionOverhead: 5}
	if _, err := h.SyncRequestSnapshot(ctx, shard, o); err != nil && !errors.Is(err, dragonboat.ErrRejected) {
		t.Fatal(err)
	}
}

func (h *host) count(t testing.TB, shard uint64) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	v, err := h.SyncRead(ctx, shard, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v.(uint64)
}

func TestNodeHostRunsOnTheLog(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	disk := &sumDisk{}
	opts := raftlog.Options{SegmentBytes: 64 << 10}
	c := hostConfig{net: newNetwork(), addr: "a", fs: fs, dir: "/data", log: &opts}
	members := map[uint64]string{1: "a"}
	for round := range uint64(4) {
		// Nothing in the log depends on the workers, so without the library's note
		// of them their number may change.
		c.workers = 1 + round%2
		if err := fs.RemoveAll("/data/dragonboat.ds"); err != nil {
			t.Fatal(err)
		}
		h := startHost(t, c)
		h.startShard(t, 7, 1, members, disk)
		h.leader(t, 7)
		if got := h.count(t, 7); got != 100*round {
			t.Fatalf("round %d starts with %d", round, got)
		}
		for i := range uint64(100) {
			if got := h.propose(t, 7, make([]byte, 1000)); got != 100*round+i+1 {
				t.Fatalf("got %d, want %d", got, 100*round+i+1)
			}
		}
		if round == 1 {
			h.cut(t, 7)
		}
		h.Close()
	}
}

func TestThreeNodeHostsRunOnTheLog(t *testing.T) {
	t.Parallel()
	net := newNetwork()
	members := map[uint64]string{}
	for i := range uint64(3) {
		members[i+1] = fmt.Sprint("host", i+1)
	}
	opts := raftlog.Options{SegmentBytes: 64 << 10}
	fss := []vfs.FS{vfs.NewMem(), vfs.NewMem(), vfs.NewMem()}
	disks := []*sumDisk{{}, {}, {}}
	for round := range uint64(3) {
		var hosts []*host
		for i := range 3 {
			h := startHost(t, hostConfig{net: net, addr: members[uint64(i+1)], fs: fss[i], dir: "/data", log: &opts, rtt: 20})
			hosts = append(hosts, h)
			h.startShard(t, 9, uint64(i+1), members, disks[i])
		}
		lead := hosts[hosts[0].leader(t, 9)-1]
		for i := range uint64(50) {
			if got := lead.propose(t, 9, make([]byte, 500)); got != 50*round+i+1 {
				t.Fatalf("got %d, want %d", got, 50*round+i+1)
			}
		}
		for _, h := range hosts {
			h.Close()
		}
	}
}
