package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
)

const (
	statePatience = time.Second // of one question to another broker
	// secondLook is when a broker that was behind is asked again: a follower is
	// told with the next heartbeat what was committed.
	secondLook = 2 * heartbeat * tick
	maxNames   = 100 // of shards in an answer
)

// stateRequest asks a broker how it is.
type stateRequest struct{}

// stateAnswer is how a broker is.
type stateAnswer struct {
	Applied map[uint64]uint64 `json:"applied"` // index, by shard
	Leads   []uint64          `json:"leads"`   // shards, and serves them
	Waiting string            `json:"waiting,omitempty"`
	Fenced  string            `json:"fenced,omitempty"`
	Damaged []string          `json:"damaged,omitempty"` // replicas, and why
	Differ  []string          `json:"differ,omitempty"`  // replicas that do not hold what its own do, which lead
}

func (n *Node) serveState(context.Context, *stateRequest) (*stateAnswer, error) {
	a := &stateAnswer{Applied: make(map[uint64]uint64), Waiting: text(n.missing()), Fenced: text(n.fenced())}
	for _, d := range n.damages.list() {
		if len(a.Damaged) < maxNames {
			a.Damaged = append(a.Damaged, fmt.Sprintf("%s: %v", d.name, d.err))
		}
	}
	a.Differ = slices.Sorted(maps.Values(n.diverged()))
	a.Differ = a.Differ[:min(len(a.Differ), maxNames)]
	n.eachReplica(func(r *replica) {
		a.Applied[r.id.Shard] = r.index.Load()
		if _, err := r.epochServed(); err == nil {
			a.Leads = append(a.Leads, r.id.Shard)
		}
	})
	return a, nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// askStates asks brokers how they are, this one included.
func (n *Node) askStates(ctx context.Context, brokers []brokerRecord) map[int32]answered[stateAnswer] {
	mine := func(b brokerRecord) bool { return b.ID == n.cfg.BrokerID }
	out := callAll[stateAnswer](ctx, n.link, slices.DeleteFunc(slices.Clone(brokers), mine), statePatience, callState, &stateRequest{})
	if slices.ContainsFunc(brokers, mine) {
		a, err := n.serveState(ctx, nil)
		out[n.cfg.BrokerID] = answered[stateAnswer]{a, err}
	}
	for id, a := range out {
		if a.answer == nil { // what only it could tell is zero
			out[id] = answered[stateAnswer]{&stateAnswer{}, a.err}
		}
	}
	return out
}

// DescribeCluster implements api.Broker.
func (n *Node) DescribeCluster(ctx context.Context, _ *api.DescribeClusterRequest) (*api.DescribeClusterResponse, error) {
	meta := n.metaRep.Load()
	if meta == nil {
		return nil, errNotJoined
	}
	s := n.meta.state.Load()
	heard := n.askStates(ctx, slices.Collect(maps.Values(s.brokers)))
	targets := make(map[uint64]uint64) // what the leader of each shard had applied
	for _, h := range heard {
		for _, shard := range h.answer.Leads {
			targets[shard] = max(targets[shard], h.answer.Applied[shard])
		}
	}
	behind := s.behind(heard, targets)
	if again := s.among(behind); len(again) > 0 && backoff.Sleep(ctx, secondLook) == nil {
		maps.Copy(behind, s.behind(n.askStates(ctx, again), targets))
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrTimeout, context.Cause(ctx))
	}
	resp := &api.DescribeClusterResponse{ClusterID: s.clusterID, Controller: n.leaderOf(meta), FeatureLevel: int32(s.feature)}
	resp.Leaderless, resp.UnderReplicated = s.lacking(targets)
	for _, h := range heard {
		resp.Diverged = append(resp.Diverged, h.answer.Differ...)
	}
	slices.Sort(resp.Diverged)
	load := s.load()
	for _, id := range slices.Sorted(maps.Keys(s.brokers)) {
		b, h, err := s.brokers[id], heard[id].answer, heard[id].err
		resp.Brokers = append(resp.Brokers, api.BrokerState{
			BrokerInfo: api.BrokerInfo{ID: id, Addr: b.Addr, Rack: b.Rack}, PeerAddr: b.PeerAddr, DirectoryID: b.DirID,
			MetadataVoter: s.meta.votes(id), Replicas: int32(load[id]), Leaders: int32(len(h.Leads)), Behind: behind[id],
			Waiting: h.Waiting, Fenced: h.Fenced, Damaged: h.Damaged, Leaving: b.Leaving, FeatureLevel: int32(max(b.Feature, oldestFeature)), Err: err,
		})
	}
	return resp, nil
}

// behind counts, for each broker that answered, the replicas that are not close
// to what the shard's leader had applied.
func (s *metaState) behind(heard map[int32]answered[stateAnswer], targets map[uint64]uint64) map[int32]int32 {
	out := make(map[int32]int32)
	s.eachShard(func(shard shardRecord, _ *topicRecord) {
		target, led := targets[shard.Shard]
		for _, r := range shard.Replicas {
			h, asked := heard[r.Broker]
			if !asked || h.err != nil || !led || r.Leaving {
				continue
			}
			if applied, has := h.answer.Applied[shard.Shard]; !has || applied+closeEnough < target {
				out[r.Broker]++
			} else {
				out[r.Broker] += 0
			}
		}
	})
	return out
}

// among gives the brokers that have something left to do.
func (s *metaState) among(behind map[int32]int32) (out []brokerRecord) {
	for id, count := range behind {
		if b, ok := s.brokers[id]; ok && count > 0 {
			out = append(out, b)
		}
	}
	return out
}

// lacking names the shards that nobody leads, and those with too few replicas
// that vote.
func (s *metaState) lacking(led map[uint64]uint64) (leaderless, under []string) {
	names, brokers := s.shardNames(), len(s.staying())
	s.eachShard(func(shard shardRecord, t *topicRecord) {
		if _, ok := led[shard.Shard]; !ok && len(leaderless) < maxNames {
			leaderless = append(leaderless, names[shard.Shard])
		}
		if shard.voters() < votersWanted(shard, t, brokers) && len(under) < maxNames {
			under = append(under, names[shard.Shard])
		}
	})
	return leaderless, under
}

// shardNames gives each shard the name that it has in logs and errors.
func (s *metaState) shardNames() map[uint64]string {
	names := map[uint64]string{metaShard: "metadata"}
	for _, g := range s.groups {
		names[g.Shard] = fmt.Sprintf("groups/%d", g.Slot)
	}
	for _, t := range s.topics {
		for i, shard := range t.Partitions {
			names[shard.Shard] = fmt.Sprintf("%s/%d", t.Name, i)
		}
	}
	return names
}

// votes reports whether a broker has a replica that votes.
func (s shardRecord) votes(broker int32) bool {
	return slices.ContainsFunc(s.Replicas, func(r replicaRecord) bool { return r.Broker == broker && !r.Joining })
}

// learners gives the brokers whose replica does not vote yet.
func (s shardRecord) learners() (out []int32) {
	for _, r := range s.Replicas {
		if r.Joining {
			out = append(out, r.Broker)
		}
	}
	return out
}

// followedLog describes a log that this broker has and does not lead, if find
// said so by err.
func (n *Node) followedLog(t *topicRecord, l *api.LogInfo, err error) {
	r := n.replica(t.Partitions[l.Partition].Shard)
	if r == nil || !errors.Is(err, mqerr.ErrNotLeader) {
		l.Err = err
		return
	}
	st := r.machine.app.(*partition).log.State()
	l.LogStart, l.HighWatermark, l.SizeBytes, l.LeaderEpoch = st.Start, st.End, st.Bytes, st.Epoch
}
