package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/cluster/raftlog"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
	"github.com/raftmq/mq/storage"
)

// Node is one broker without its front doors. It implements api.Broker.
//
// Opened bottom-up and closed top-down in the order of these fields.
type Node struct {
	cfg   Config
	log   *slog.Logger
	nonce uint64 // of this process's proposals

	clusterID string
	dir       *storage.Dir
	store     *storage.Store
	link      *network.Link
	peers     addressBook
	rlog      *raftlog.Factory
	host      *dragonboat.NodeHost

	inflight budget
	commands bufferPool
	stats    counters
	fence    atomic.Pointer[error] // set while the broker refuses writes

	clockOffset atomic.Int64 // from this broker's clock to the time: see now
	held        atomic.Int64 // record bytes in all partitions

	ids struct {
		sem       chan struct{} // guards the rest
		next, end int64
	}

	meta     *metadata
	metaRep  atomic.Pointer[replica] // nil until the broker belongs to a cluster
	changed  broadcast               // leadership or metadata changed
	replicas struct {
		sync.RWMutex
		byShard map[uint64]*replica
	}

	coordinator coordinator // of groups
	damages     damages
	comparisons comparisons

	lost     lost // brokers that may be dead
	guesses  atomic.Uint64
	mourning chan string // and what is to be looked at
	stopping atomic.Bool // leaderships are being given away

	leaders    leaderQueue // raft's listener only enqueues here
	sweep      sweeper
	upkeep     nudger
	snapshots  nudger
	reconcile  nudger
	membership nudger
	followed   *metaState   // of the reconcile loop: the metadata that it went by last
	informed   atomic.Bool  // its metadata was up to date once and has it
	registered atomic.Bool  // metadata knows this broker: replicas may start
	reconciled atomic.Int64 // version of the metadata that the replicas follow
	logSeen    atomic.Int64 // raft log that no snapshot covers, when the snapshot loop looked last
	logSince   atomic.Int64 // and what was added since

	failed struct {
		sync.Once
		c   chan struct{}
		err error // set before c is closed
	}
	released chan struct{} // closed when the raft log of a failed node was told to end
	loops    sync.WaitGroup
	closing  context.Context // ends when Close begins; an owner's lifetime, not a call's
	stop     context.CancelFunc
	closed   struct {
		sync.Once
		err error
	}
}

// Open starts a broker's local parts. A lone broker leads all its shards when
// it returns. ctx bounds the start only.
func Open(ctx context.Context, cfg Config) (_ *Node, err error) {
	cfg = cfg.withDefaults()
	n := &Node{
		cfg: cfg, log: cfg.Logger, nonce: rand.Uint64(), //nolint:forbidigo // names this process, replicated as it is
	}
	n.closing, n.stop = context.WithCancel(context.Background())
	n.replicas.byShard = make(map[uint64]*replica)
	n.inflight.limit = int64(cfg.InFlightBytes)
	n.failed.c = make(chan struct{})
	n.released = make(chan struct{})
	n.ids.sem = make(chan struct{}, 1)
	n.leaders.init()
	n.reconcile.init()
	n.upkeep.init()
	n.snapshots.init()
	n.sweep.init()
	n.membership.init()
	n.coordinator.init(n)
	n.mourning = make(chan string, 16)
	n.meta = &metadata{changed: n.metaChanged}
	n.meta.state.Store(newMetaState())
	defer func() {
		if err != nil {
			err = errors.Join(n.advise(err), n.Close())
		}
	}()
	if err := n.openStore(); err != nil {
		return nil, err
	}
	n.checkSpace() // before anything is served
	if err := n.attach(ctx); err != nil {
		return nil, err
	}
	n.loops.Go(n.leaderLoop)      // ends with closing, as do the others
	n.loops.Go(n.sweepLoop)       //
	n.loops.Go(n.reconcileLoop)   //
	n.loops.Go(n.upkeepLoop)      //
	n.loops.Go(n.snapshotLoop)    //
	n.loops.Go(n.membershipLoop)  //
	n.loops.Go(n.mournLoop)       //
	n.loops.Go(n.coordinatorLoop) //
	if err := n.enter(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// inMemory reports whether records are gone when the node closes.
func (n *Node) inMemory() bool { return n.cfg.Dir == "" }

func (n *Node) minTimeout() time.Duration { return 2 * tick }

func (n *Node) openStore() error {
	fs := n.cfg.Test.StoreFS
	if n.inMemory() && fs == nil {
		fs = storage.NewMemFS()
	}
	path := n.path("")
	dir, err := storage.OpenDir(path, fs, storage.Meta{BrokerID: n.cfg.BrokerID})
	if err != nil {
		return err
	}
	n.dir = dir
	if n.clusterID = dir.Meta().ClusterID; n.clusterID == "" {
		// New, or the process died before the broker belonged to a cluster:
		// nothing was ever acknowledged, and what is here may be half made.
		if err := n.clear(); err != nil {
			return fmt.Errorf("data directory %s: %w", path, err)
		}
	}
	opts := storage.Options{FS: fs, Logger: n.log, OnFsync: n.cfg.Observe.StoreSync}
	if n.inMemory() {
		opts.CacheBytes, opts.MemTableBytes = 4<<20, 8<<20
	}
	n.store, err = storage.Open(n.path(storeDir), opts)
	return err
}

// clear removes what an opening that was not completed left behind.
func (n *Node) clear() error {
	store, raft := n.path(storeDir), n.path(raftDir)
	if n.cfg.Test.StoreFS == nil && !n.inMemory() {
		return errors.Join(os.RemoveAll(store), os.RemoveAll(raft))
	}
	var errs []error
	if fs := n.cfg.Test.StoreFS; fs != nil {
		errs = append(errs, fs.RemoveAll(store))
	}
	if fs := n.cfg.Test.RaftFS; fs != nil {
		errs = append(errs, fs.RemoveAll(raft))
	}
	return errors.Join(errs...)
}

// Names inside the data directory.
const (
	storeDir = "store"
	raftDir  = "raft"
)

// startReplica starts this broker's copy of a shard. fresh says that metadata
// was told of it just now or that the process died in between.
func (n *Node) startReplica(s shardRecord, name string, app func(*replica) application) (*replica, error) {
	mine, ok := s.on(n.cfg.BrokerID)
	if !ok {
		return nil, fmt.Errorf("%s: %w: no replica on broker %d", name, mqerr.ErrInternal, n.cfg.BrokerID)
	}
	r := &replica{
		node: n, name: name,
		id:      storage.ReplicaID{Shard: s.Shard, Replica: mine},
		session: n.host.GetNoOPSession(s.Shard),
	}
	r.shard.Store(&s)
	r.savedAt.Store(n.now().UnixMilli())
	r.machine = &machine{r: r}
	r.machine.app = app(r)

	known := n.host.HasNodeInfo(s.Shard, mine)
	if err := r.open(known); err != nil {
		if p, ok := r.machine.app.(*partition); ok {
			p.resized(0)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Shard == metaShard {
		n.placeMeta(r)
		if err := n.notAlone(r, known); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	n.replicas.Lock()
	n.replicas.byShard[s.Shard] = r
	n.replicas.Unlock()
	start, err := n.howToStart(r, known)
	if err == nil {
		err = noPanic(func() error {
			return n.host.StartOnDiskReplica(start.members, start.join, r.create, config.Config{
				ShardID: s.Shard, ReplicaID: mine, IsNonVoting: start.learner,
				ElectionRTT: electionRTT, HeartbeatRTT: heartbeat, CheckQuorum: true, PreVote: true,
				OrderedConfigChange:    true,
				DisableAutoCompactions: true,
				// A coarse fuse far above our own budget, which answers first, and
				// above any batch, since it bounds single commands too.
				MaxInMemLogSize: uint64(max(8*n.cfg.PartitionInFlightBytes, 4*topic.MaxBatchBytes)),
			})
		})
	}
	if err != nil {
		n.forget(r)
		return nil, fmt.Errorf("%s: raft: %w", name, err)
	}
	r.fresh.Store(!known && !start.join)
	n.sweep.note(r) // which makes a lone voter campaign until it leads
	return r, nil
}

// starting says how raft is to start a replica.
type starting struct {
	members map[uint64]dragonboat.Target // of a shard that is new
	join    bool                         // a shard that is there
	learner bool
}

// howToStart says how raft is to start a replica, which the raft log knows or
// not. Raft wants to be told again what it was first, also where its log says
// what became of it: a learner as it was in the last snapshot, or at first.
func (n *Node) howToStart(r *replica, known bool) (starting, error) {
	s := r.shard.Load()
	me := s.Replicas[s.replica(r.id.Replica)]
	if known {
		snap, err := n.rlog.Log().GetSnapshot(r.id.Shard, r.id.Replica)
		if err != nil {
			return starting{}, err
		}
		_, learner := snap.Membership.NonVotings[r.id.Replica]
		return starting{learner: learner || snap.Index == 0 && me.Added}, nil
	}
	if me.Added {
		return starting{join: true, learner: true}, nil
	}
	members := make(map[uint64]dragonboat.Target)
	for replica, dirID := range s.Born {
		members[replica] = dirID
	}
	if s.Shard == metaShard { // which its first broker makes before it can be in a record
		members[r.id.Replica] = n.DirectoryID()
	}
	return starting{members: members}, nil
}

func (n *Node) forget(r *replica) {
	n.replicas.Lock()
	delete(n.replicas.byShard, r.id.Shard)
	n.replicas.Unlock()
	r.stop()
}

func (n *Node) replica(shard uint64) *replica {
	n.replicas.RLock()
	defer n.replicas.RUnlock()
	return n.replicas.byShard[shard]
}

func (n *Node) eachReplica(fn func(*replica)) {
	n.replicas.RLock()
	all := make([]*replica, 0, len(n.replicas.byShard))
	for _, r := range n.replicas.byShard {
		all = append(all, r)
	}
	n.replicas.RUnlock()
	for _, r := range all {
		fn(r)
	}
}

// Close stops everything, answers what waits and makes the store durable. It is
// idempotent and safe on a node that opened half-way.
func (n *Node) Close() error {
	n.closed.Do(func() { n.closed.err = n.close() })
	return n.closed.err
}

func (n *Node) close() error {
	n.stop()
	unstuck := n.watchClose()
	defer unstuck()
	n.loops.Wait()
	n.eachReplica((*replica).stop)
	n.changed.broadcast()
	var errs []error
	if n.link != nil {
		errs = append(errs, n.link.Close()) // and what it serves, which may call the host
	}
	if n.host != nil {
		errs = append(errs, n.closeHost())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.Close())
	}
	return errors.Join(errs...)
}
