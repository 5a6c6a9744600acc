package cluster

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/backoff"
)

// Who leads what. Raft elects whoever is quickest; here leaders are spread evenly,
// handed over before a broker stops, and replaced early when its broker dies.

const (
	// balanceAfter is how long a broker leads a shard before it looks for the
	// one that should: there is no hurry, and no use in doing it twice.
	balanceAfter = 10 * time.Second
	// transfersAtOnce bounds the leaders that a broker gives away in one look.
	// Kafka: leader.imbalance.check.interval.seconds does all at once.
	transfersAtOnce = 8
	askPeers        = 500 * time.Millisecond
)

// leaders gives the replicas that may lead a shard in the order of preference.
// Shards are numbered in sequence, so each broker comes first equally often, unless
// somebody has chosen.
func (s shardRecord) leaders() []replicaRecord {
	may := slices.DeleteFunc(slices.Clone(s.Replicas), func(r replicaRecord) bool { return !r.settled() })
	slices.SortFunc(may, func(a, b replicaRecord) int { return cmp.Compare(a.Broker, b.Broker) })
	if len(may) == 0 {
		return nil
	}
	first := int(s.Shard % uint64(len(may)))
	if at := slices.IndexFunc(may, func(r replicaRecord) bool { return r.Replica == s.Preferred }); at >= 0 {
		first = at
	}
	return append(may[first:len(may):len(may)], may[:first]...)
}

// guess names a broker that has a copy of a shard of which this one has none: it
// leads the shard or knows who does. Another one each time, since it may be dead.
func (n *Node) guess(s shardRecord) int32 {
	may := s.leaders()
	if alive := slices.DeleteFunc(slices.Clone(may), func(r replicaRecord) bool {
		return n.lost.has(n.meta.state.Load().brokers[r.Broker].DirID)
	}); len(alive) > 0 {
		may = alive
	}
	if len(may) == 0 {
		return -1
	}
	return may[n.guesses.Add(1)%uint64(len(may))].Broker
}

// firstToLead reports that this replica should lead the shard if nobody does.
func (r *replica) firstToLead() bool {
	may := r.shard.Load().leaders()
	return len(may) > 0 && may[0].Replica == r.id.Replica
}

// askAll asks other brokers how far they are with shards and whether they have
// lost a broker. Those that do not answer soon are not in the answer.
func (n *Node) askAll(ctx context.Context, q statusRequest) map[int32]*statusAnswer {
	others := slices.DeleteFunc(n.others(), func(b brokerRecord) bool { return b.DirID == q.Lost })
	answers := make(map[int32]*statusAnswer)
	for id, a := range callAll[statusAnswer](ctx, n.link, others, askPeers, callStatus, q) {
		if a.err == nil {
			answers[id] = a.answer
		}
	}
	return answers
}

// led gives the replicas that lead their shard and could hand that over.
func (n *Node) led() (led []*replica) {
	n.eachReplica(func(r *replica) {
		if l := r.lead.Load(); l != nil && l.self && len(r.shard.Load().leaders()) > 1 {
			led = append(led, r)
		}
	})
	return led
}

// transfer hands shards over, each to the first broker that would take it: one
// that answers, has what is committed, and is good enough for choose. It returns
// those that raft was asked for.
func (n *Node) transfer(ctx context.Context, led []*replica, choose func(*replica, replicaRecord) bool) (asked []*replica) {
	if len(led) == 0 {
		return nil
	}
	q := statusRequest{}
	for _, r := range led {
		q.Shards = append(q.Shards, r.id.Shard)
	}
	answers := n.askAll(ctx, q)
	for _, r := range led {
		index := r.index.Load()
		for _, to := range r.shard.Load().leaders() {
			if to.Replica == r.id.Replica || !choose(r, to) {
				continue
			}
			if a := answers[to.Broker]; !a.near(r.id.Shard, index) || !a.good(r.id.Shard) || a.Stopping {
				continue
			}
			if n.host.RequestLeaderTransfer(r.id.Shard, to.Replica) == nil {
				asked = append(asked, r)
				break
			}
		}
	}
	return asked
}

// HandOver gives the leadership of everything away, so that nothing waits for an
// election when the broker is closed. It returns when nothing is led here that
// somebody else could lead, or ctx ends. The broker takes no leadership back on
// purpose; close it next.
func (n *Node) HandOver(ctx context.Context) error {
	n.stopping.Store(true)
	if n.metaRep.Load() == nil {
		return nil
	}
	for {
		asked := n.transfer(ctx, n.led(), func(*replica, replicaRecord) bool { return true })
		if len(asked) == 0 {
			return nil
		}
		// Raft gives a transfer up after that time, for instance when the message
		// about it was lost, and goes on leading.
		try, cancel := context.WithTimeout(ctx, electionRTT*tick)
		err := n.waitHandedOver(try, asked)
		cancel()
		if err != nil && (ctx.Err() != nil || n.Failure() != nil) {
			return err
		}
	}
}

// waitHandedOver waits until none of the replicas leads its shard.
func (n *Node) waitHandedOver(ctx context.Context, rs []*replica) error {
	return n.await(ctx, func() bool {
		return !slices.ContainsFunc(rs, func(r *replica) bool {
			l := r.lead.Load()
			return l != nil && l.self && !r.stopped.Load()
		})
	})
}

// giveAway hands the partitions led here to others: this broker can't take records.
func (n *Node) giveAway() {
	ctx, cancel := context.WithTimeout(n.closing, stepTimeout)
	defer cancel()
	led := slices.DeleteFunc(n.led(), func(r *replica) bool { return r.id.Shard < firstPartition })
	n.transfer(ctx, led, func(*replica, replicaRecord) bool { return true })
}

// balance hands shards to the brokers that come first for them.
func (n *Node) balance() {
	if n.stopping.Load() {
		return
	}
	if n.shortOfDisk() {
		n.giveAway()
		return
	}
	since := n.now().Add(-balanceAfter).UnixMilli()
	led := slices.DeleteFunc(n.led(), func(r *replica) bool {
		_, err := r.epochServed()
		return err != nil || r.firstToLead() || r.ledSince.Load() > since || !r.shard.Load().settled()
	})
	ctx, cancel := context.WithTimeout(n.closing, stepTimeout)
	defer cancel()
	asked := n.transfer(ctx, led[:min(len(led), transfersAtOnce)], func(r *replica, to replicaRecord) bool {
		return r.shard.Load().leaders()[0].Replica == to.Replica
	})
	for _, r := range asked { // if it comes to nothing, there is time
		r.ledSince.Store(n.now().UnixMilli())
	}
}

// lost notes which brokers this one has lost the connection with.
type lost struct {
	mu sync.Mutex
	at map[string]bool
}

func (l *lost) set(dirID string, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = make(map[string]bool)
	}
	if is {
		l.at[dirID] = true
	} else {
		delete(l.at, dirID)
	}
}

func (l *lost) has(dirID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[dirID]
}

// peerLost is told that the connection with a broker broke: it may have died. It
// must not block.
func (n *Node) peerLost(dirID string) {
	n.lost.set(dirID, true)
	select {
	case n.mourning <- dirID:
	default: // elections time out by themselves
	}
}

// mournLoop replaces the leaders on brokers that died, without waiting for
// elections to time out.
func (n *Node) mournLoop() {
	for {
		select {
		case <-n.closing.Done():
			return
		case dirID := <-n.mourning:
			n.succeed(dirID)
		}
	}
}

// succeed stands for election where the lost broker led and this one is next in
// line. A broken connection is no proof, and an election takes leadership from
// whoever has it: most brokers have to have lost it.
func (n *Node) succeed(dirID string) {
	s := n.meta.state.Load()
	dead, ok := s.byDir(dirID)
	if !ok || n.stopping.Load() {
		return
	}
	const looks = 5 // the others may hear of it a little later
	for look := range looks {
		agree := 1
		for _, a := range n.askAll(n.closing, statusRequest{Lost: dirID}) {
			if a.Lost {
				agree++
			}
		}
		if !n.lost.has(dirID) {
			return // it is back
		}
		if 2*agree > len(s.brokers) {
			break
		}
		if look == looks-1 || backoff.Sleep(n.closing, mournBackoff.Delay(look+1)) != nil {
			return
		}
	}
	n.standFor(dead.ID)
}

var mournBackoff = backoff.Policy{Base: 10 * time.Millisecond, Max: 200 * time.Millisecond}

// turn is how long one in line has to be elected before the next one stands. The
// first may lack a record that others have, and then loses.
const turn = 150 * time.Millisecond

// standFor makes replicas stand, each when it is its turn, for the shards that a
// dead broker led and nobody leads yet.
func (n *Node) standFor(dead int32) {
	type candidate struct {
		place int // in line
		after *leadership
	}
	open := make(map[*replica]candidate)
	n.eachReplica(func(r *replica) {
		after := r.lead.Load()
		if n.leaderOf(r) != dead {
			return
		}
		may := slices.DeleteFunc(r.shard.Load().leaders(), func(o replicaRecord) bool { return o.Broker == dead })
		if at := slices.IndexFunc(may, func(o replicaRecord) bool { return o.Replica == r.id.Replica }); at >= 0 {
			open[r] = candidate{at, after}
		}
	})
	for now := 0; len(open) > 0; now++ {
		for r, c := range open {
			if leader := n.leaderOf(r); leader >= 0 && leader != dead {
				delete(open, r)
			} else if c.place == now {
				n.succeedLeader(r.id.Shard, r.id.Replica, c.after)
				delete(open, r)
			}
		}
		if len(open) > 0 && backoff.Sleep(n.closing, turn) != nil {
			return
		}
	}
}
