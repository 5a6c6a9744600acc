package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/mqerr"
)

// addressBook knows where the other brokers are, by directory id. What a broker
// told in a handshake is newer than what metadata says of it. What others said of
// it counts until this broker's metadata is up to date, see meet.
type addressBook struct {
	mu struct {
		sync.Mutex
		told, heard map[string]string
	}
}

func (a *addressBook) put(dirID, addr string) {
	if dirID == "" || addr == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.told == nil {
		a.mu.told = make(map[string]string)
	}
	a.mu.told[dirID] = addr
}

func (a *addressBook) get(dirID string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if addr := a.mu.told[dirID]; addr != "" {
		return addr
	}
	return a.mu.heard[dirID]
}

func (a *addressBook) hear(addrs map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.heard == nil {
		a.mu.heard = make(map[string]string)
	}
	maps.Copy(a.mu.heard, addrs)
}

func (a *addressBook) forgetHeard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.heard = nil
}

// attach gives the broker its place among the others. A lone broker has a
// network of its own and reaches nobody.
func (n *Node) attach(ctx context.Context) (err error) {
	net := n.cfg.Network
	if net == nil {
		net = &network.Mem{}
	}
	n.link, err = network.Attach(ctx, net, network.Config{
		Self: network.Identity{
			ClusterID: n.dir.Meta().ClusterID, BrokerID: n.cfg.BrokerID,
			DirectoryID: n.DirectoryID(), Addr: n.cfg.PeerAddr, Feature: uint32(n.knows()),
		},
		Listen:  n.cfg.PeerListen,
		Resolve: n.resolve,
		Handlers: network.Handlers{
			Call: n.serveCall, Admit: n.admit, OnBroken: n.peerLost,
			Keep: n.keeps, KeepChunk: func(c *raftpb.Chunk) bool { return !n.shortOfDisk() && n.mayCut(c.ShardID) == nil },
			OnRefused: func(dirID string, err error) {
				n.log.Error("another broker refuses this one", "directory", dirID, "error", err)
			},
		},
		SnapshotBytesPerSecond: n.cfg.CatchUpBytes,

		Faults: n.cfg.Faults,
		Logger: n.log,
	})
	return err
}

// resolve tells where a broker is.
func (n *Node) resolve(dirID string) (string, error) {
	if addr := n.peers.get(dirID); addr != "" {
		return addr, nil
	}
	if b, ok := n.meta.state.Load().byDir(dirID); ok && b.PeerAddr != "" {
		return b.PeerAddr, nil
	}
	return "", fmt.Errorf("%w: nobody knows where the broker with directory %s is", mqerr.ErrLeaderNotAvailable, dirID)
}

// admit refuses a broker whose number belongs to another directory: its disk was
// wiped, or two brokers were given one number.
func (n *Node) admit(peer network.Identity) error {
	if b, ok := n.meta.state.Load().brokers[peer.BrokerID]; ok && b.DirID != peer.DirectoryID && peer.ClusterID != "" {
		return errOtherDirectory(b, peer.DirectoryID)
	}
	if peer.ClusterID != "" { // and so it is of this one
		n.peers.put(peer.DirectoryID, peer.Addr)
		n.lost.set(peer.DirectoryID, false)
	}
	return nil
}

func errOtherDirectory(known brokerRecord, dirID string) error {
	return fmt.Errorf("%w: broker %d is registered with data directory %s, this is %s: "+
		"a broker that lost its data joins under a new id", mqerr.ErrInvalidRequest, known.ID, known.DirID, dirID)
}

// Calls between brokers. Payloads are JSON: they are few and small.
const (
	callJoin   = "join"   // joinRequest → joinAnswer, at any member
	callMeta   = "meta"   // metaCommand → metaAnswer, at the leader of the metadata
	callMeet   = "meet"   // meetRequest → meetAnswer
	callKnown  = "known"  // knownRequest → knownAnswer
	callStatus = "status" // statusRequest → statusAnswer
	callState  = "state"  // stateRequest → stateAnswer
	callMarks  = "marks"  // marksRequest → marksAnswer
)

// serveCall answers other brokers.
func (n *Node) serveCall(ctx context.Context, from network.Identity, method string, payload []byte) ([]byte, error) {
	switch method {
	case callJoin:
		return serve(ctx, payload, n.serveJoin)
	case callMeta:
		return serve(ctx, payload, n.runMeta)
	case callStatus:
		return serve(ctx, payload, n.serveStatus)
	case callKnown:
		return serve(ctx, payload, n.serveKnown)
	case callMeet:
		return serve(ctx, payload, n.serveMeet)
	case callState:
		return serve(ctx, payload, n.serveState)
	case callMarks:
		return serve(ctx, payload, n.serveMarks)
	}
	return nil, fmt.Errorf("%w: call %q of %v", mqerr.ErrUnsupportedVersion, method, from)
}

func serve[Q, A any](ctx context.Context, payload []byte, fn func(context.Context, *Q) (*A, error)) ([]byte, error) {
	var q Q
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrInvalidRequest, err)
	}
	a, err := fn(ctx, &q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

// call asks the broker with a directory id.
func call[A any](ctx context.Context, l *network.Link, dirID, method string, question any) (*A, error) {
	payload, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrInternal, err)
	}
	b, err := l.Call(ctx, dirID, method, payload)
	if err != nil {
		return nil, err
	}
	return decodeAnswer[A](b)
}

// callAddr asks whoever listens at an address, and tells who that is.
func callAddr[A any](ctx context.Context, l *network.Link, addr, method string, question any) (network.Identity, *A, error) {
	payload, err := json.Marshal(question)
	if err != nil {
		return network.Identity{}, nil, fmt.Errorf("%w: %w", mqerr.ErrInternal, err)
	}
	who, b, err := l.CallAddr(ctx, addr, method, payload)
	if err != nil {
		return who, nil, err
	}
	a, err := decodeAnswer[A](b)
	return who, a, err
}

// others are the brokers of the cluster but this one.
func (n *Node) others() []brokerRecord {
	return slices.DeleteFunc(slices.Collect(maps.Values(n.meta.state.Load().brokers)), func(b brokerRecord) bool { return b.ID == n.cfg.BrokerID })
}

// callAll asks brokers, all at once, and gives what each answered in time or why
// it did not.
func callAll[A any](ctx context.Context, l *network.Link, brokers []brokerRecord, patience time.Duration, method string, question any) map[int32]answered[A] {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make([]answered[A], len(brokers))
	var all sync.WaitGroup
	for i, b := range brokers {
		all.Go(func() { answers[i].answer, answers[i].err = call[A](ctx, l, b.DirID, method, question) })
	}
	all.Wait()
	out := make(map[int32]answered[A], len(brokers))
	for i, b := range brokers {
		out[b.ID] = answers[i]
	}
	return out
}

// answered is an answer, or why there is none.
type answered[A any] struct {
	answer *A
	err    error
}

func decodeAnswer[A any](b []byte) (*A, error) {
	a := new(A)
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("%w: answer of a broker: %w", mqerr.ErrInternal, err)
	}
	return a, nil
}

// keeps reports whether a raft message is taken in. While the disk is nearly full
// records are not: to raft they are lost, and sent again when there is room. What
// else there is goes on, so that the broker votes and hears of trims.
func (n *Node) keeps(m *raftpb.Message) bool {
	if m.Type != raftpb.Replicate || len(m.Entries) == 0 || m.ShardID < firstPartition {
		return true
	}
	return !n.shortOfDisk() || !slices.ContainsFunc(m.Entries, func(e raftpb.Entry) bool { return len(e.Cmd) > smallCommand })
}

// shortOfDisk reports that the disk is nearly full.
func (n *Node) shortOfDisk() bool { return !n.inMemory() && n.fence.Load() != nil }

// campaign makes a replica of this broker stand for election now instead of
// after a randomised election timeout: the message a leader sends to the one it
// hands leadership to (raft thesis 3.10), sent by the replica to itself. It is
// for shards that have no leader: it would take leadership from a healthy one.
func (n *Node) campaign(shard, replica uint64) {
	n.link.Deliver(raftpb.Message{Type: raftpb.TimeoutNow, ShardID: shard, To: replica, From: replica})
}

// succeedLeader is campaign for a shard whose leader is dead: the message that the
// leader would have sent, in its term. Raft drops it where it has gone on to another
// term, as a replica has that voted for a new leader and has not heard of it yet.
func (n *Node) succeedLeader(shard, replica uint64, dead *leadership) {
	n.link.Deliver(raftpb.Message{Type: raftpb.TimeoutNow, ShardID: shard, To: replica, From: dead.leader, Term: dead.term})
}

// statusRequest asks how far replicas are.
type statusRequest struct {
	Shards []uint64 `json:"shards,omitempty"`
	Lost   string   `json:"lost,omitempty"` // directory id of a broker that may be dead
}

// statusAnswer has the applied index of each shard that the broker has.
type statusAnswer struct {
	Applied  map[uint64]uint64 `json:"applied,omitempty"`
	Damaged  []uint64          `json:"damaged,omitempty"` // of these it votes, but has no good copy
	Lost     bool              `json:"lost,omitempty"`
	Stopping bool              `json:"stopping,omitempty"` // it leads nothing if others can
	Now      int64             `json:"now,omitempty"`      // by the broker's own clock, ms since 1970
}

// near reports that a broker's copy of a shard has, but for a little, what was
// committed up to an index. A nil answer is that of a broker that gave none.
func (a *statusAnswer) near(shard, index uint64) bool {
	if a == nil {
		return false
	}
	applied, has := a.Applied[shard]
	return has && applied+closeEnough >= index
}

// good reports that a broker's copy of a shard was not found damaged.
func (a *statusAnswer) good(shard uint64) bool { return a != nil && !slices.Contains(a.Damaged, shard) }

// begun reports that a broker's copy of a shard has anything at all.
func (a *statusAnswer) begun(shard uint64) bool { return a != nil && a.Applied[shard] > 0 }

func (n *Node) serveStatus(_ context.Context, q *statusRequest) (*statusAnswer, error) {
	a := &statusAnswer{Applied: make(map[uint64]uint64), Lost: n.lost.has(q.Lost), Stopping: n.stopping.Load() || n.shortOfDisk(), Now: n.cfg.Test.Now().UnixMilli()}
	for _, shard := range q.Shards {
		if r := n.replica(shard); r != nil && !r.stopped.Load() {
			a.Applied[shard] = r.index.Load()
			if n.damages.has(r.id) {
				a.Damaged = append(a.Damaged, shard)
			}
		}
	}
	return a, nil
}

// PeerAddr is where other brokers reach this one.
func (n *Node) PeerAddr() string { return n.link.Self().Addr }

// DirectoryID names the broker's data directory.
func (n *Node) DirectoryID() string { return n.dir.Meta().DirectoryID.String() }
