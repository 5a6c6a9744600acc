package cluster

import (
	"sync"

	"github.com/lni/dragonboat/v4/raftio"
)

// nudger wakes one loop; nudges that come before it looks count once.
type nudger struct{ c chan struct{} }

func (n *nudger) init() { n.c = make(chan struct{}, 1) }

func (n *nudger) nudge() {
	select {
	case n.c <- struct{}{}:
	default:
	}
}

// leaderQueue is raft's event listener. Its callbacks run on a worker that must
// never block or call back, so they only note the newest event of each shard.
type leaderQueue struct {
	nudger
	mu struct {
		sync.Mutex
		newest map[uint64]raftio.LeaderInfo
	}
}

var _ raftio.IRaftEventListener = (*leaderQueue)(nil)

// LeaderUpdated implements raftio.IRaftEventListener.
func (q *leaderQueue) LeaderUpdated(info raftio.LeaderInfo) {
	q.mu.Lock()
	if q.mu.newest == nil {
		q.mu.newest = make(map[uint64]raftio.LeaderInfo)
	}
	if old, ok := q.mu.newest[info.ShardID]; !ok || info.Term >= old.Term {
		q.mu.newest[info.ShardID] = info
	}
	q.mu.Unlock()
	q.nudge()
}

func (q *leaderQueue) take() map[uint64]raftio.LeaderInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.mu.newest
	q.mu.newest = nil
	return out
}

// leaderLoop gives leader events to the replicas.
func (n *Node) leaderLoop() {
	for {
		select {
		case <-n.closing.Done():
			return
		case <-n.leaders.c:
		}
		for shard, info := range n.leaders.take() {
			if r := n.replica(shard); r != nil && r.id.Replica == info.ReplicaID {
				r.leaderUpdated(info.LeaderID, info.Term)
			}
		}
	}
}
