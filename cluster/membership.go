package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/raftmq/mq/internal/mqerr"
)

// Where a shard is to be stands in the metadata; who takes part in its raft group
// stands in the group's own log. The broker that leads the group moves the second
// towards the first, one step at a time, and tells the metadata what is done.
// Every step can be repeated, so any of them may be cut off by a crash.
//
//	metadata             raft group
//	add: joining     →   learner
//	                     learner that has caught up → voter
//	joined           ←
//	leave: leaving   →   (led by another) dropped
//	left             ←

const (
	membershipEvery = time.Second
	stepTimeout     = 5 * time.Second
	// closeEnough is how many commands a learner may lack to be made a voter. It
	// counts for the quorum from then on, so it must not be far behind.
	closeEnough = 64
	// movesAtOnce bounds the shards that gain or lose a replica at a time.
	movesAtOnce = 16
)

// membershipLoop settles the shards that this broker leads and, where it leads
// the metadata, sees to it that shards have as many replicas as they should.
func (n *Node) membershipLoop() {
	every := time.NewTicker(membershipEvery)
	defer every.Stop()
	for {
		select {
		case <-n.closing.Done():
			return
		case <-n.membership.c:
		case <-every.C:
		}
		if !n.registered.Load() || n.Failure() != nil {
			continue
		}
		n.replaceDamaged()
		n.eachReplica(n.settle)
		n.replenish()
		n.balance()
		n.compareNowAndThen()
		n.checkRemoved()
	}
}

// settle takes the next step for each replica that comes or goes, if this broker
// leads the shard.
func (n *Node) settle(r *replica) {
	s := r.shard.Load()
	if _, err := r.epochServed(); err != nil || s.settled() {
		return
	}
	ctx, cancel := context.WithTimeout(n.closing, stepTimeout)
	defer cancel()
	tell := func(err error, attrs ...any) {
		if err != nil && n.closing.Err() == nil {
			n.log.Info("a replica could not be moved, will try again", append([]any{"replica", r.name, "error", err}, attrs...)...)
		}
	}
	step := func(rec replicaRecord) {
		tell(n.settleStep(ctx, r, *s, rec), "broker", rec.Broker)
	}
	for _, rec := range s.Replicas { // those that come first: there should rather be one more than one less
		if rec.Joining && !rec.Leaving {
			step(rec)
		}
	}
	tell(n.promote(ctx, r, *s))
	for _, rec := range s.Replicas {
		if rec.Leaving {
			step(rec)
		}
	}
}

func (n *Node) settleStep(ctx context.Context, r *replica, s shardRecord, rec replicaRecord) error {
	m, err := n.host.SyncGetShardMembership(ctx, s.Shard)
	if err != nil {
		return raftError(r, err)
	}
	broker, ok := n.meta.state.Load().brokers[rec.Broker]
	if !ok {
		return fmt.Errorf("%s: %w: broker %d is gone", r.name, mqerr.ErrInternal, rec.Broker)
	}
	_, votes := m.Nodes[rec.Replica]
	_, learns := m.NonVotings[rec.Replica]
	switch {
	case rec.Leaving && votes && rec.Replica == r.id.Replica:
		return n.handOver(ctx, r)
	case rec.Leaving && (votes || learns):
		if votes {
			if err := n.mayDrop(ctx, r, s, m, rec); err != nil {
				return err
			}
		}
		err = n.host.SyncRequestDeleteReplica(ctx, s.Shard, rec.Replica, m.ConfigChangeID)
	case rec.Leaving:
		return n.proposeChange(ctx, r, &changeReplica{Shard: s.Shard, Change: replicaLeft, Replica: rec.Replica})
	case votes:
		return n.proposeChange(ctx, r, &changeReplica{Shard: s.Shard, Change: replicaJoined, Replica: rec.Replica})
	case !learns:
		err = n.host.SyncRequestAddNonVoting(ctx, s.Shard, rec.Replica, broker.DirID, m.ConfigChangeID)
	}
	return raftError(r, err)
}

// promote makes voters of learners that have caught up, one directly after the
// other. Of two voters both have to be there for anything to be appended, so a
// group that is to have three gets the second only when the third is ready too.
func (n *Node) promote(ctx context.Context, r *replica, s shardRecord) error {
	m, err := n.host.SyncGetShardMembership(ctx, s.Shard)
	if err != nil {
		return raftError(r, err)
	}
	var learners []replicaRecord
	voters, wanted := stayingVoters(s, m), n.votersToBe(r, s)
	for _, rec := range s.Replicas {
		if _, learns := m.NonVotings[rec.Replica]; learns && !rec.Leaving {
			learners = append(learners, rec)
		}
	}
	if voters >= wanted || len(learners) == 0 {
		return nil
	}
	index := r.index.Load()
	answers := n.askAll(ctx, statusRequest{Shards: []uint64{s.Shard}})
	learners = slices.DeleteFunc(learners, func(rec replicaRecord) bool {
		a := answers[rec.Broker]
		return !a.near(s.Shard, index) || !a.begun(s.Shard)
	})
	brokers := n.meta.state.Load().brokers
	for _, rec := range learners[:promotable(voters, len(m.Nodes), len(learners), wanted)] {
		if m, err = n.host.SyncGetShardMembership(ctx, s.Shard); err == nil {
			err = n.host.SyncRequestAddReplica(ctx, s.Shard, rec.Replica, brokers[rec.Broker].DirID, m.ConfigChangeID)
		}
		if err != nil {
			return raftError(r, err)
		}
		n.membership.nudge() // to tell the metadata
	}
	return nil
}

// promotable is how many of the learners that are ready become voters now: as
// many as are wanted, but not so that the group comes to rest at an even number on
// the way. Of those that vote now only some may be there to stay; one more where
// they are even is no worse.
func promotable(stay, now, ready, wanted int) int {
	count := min(ready, wanted-stay)
	if after := stay + count; after%2 == 0 && (now+count)%2 == 0 && after != wanted && count > 0 {
		count--
	}
	return count
}

// votersToBe is how many voters a shard has once all that is planned is done.
func (n *Node) votersToBe(r *replica, s shardRecord) int {
	meta := n.meta.state.Load()
	var t *topicRecord
	if p, ok := r.machine.app.(*partition); ok {
		t = meta.byID[p.tp.TopicID]
	}
	wanted := votersWanted(s, t, len(meta.staying()))
	if s.Shard == metaShard {
		return wanted // the others go on as learners
	}
	return max(wanted, s.staying())
}

// stayingVoters counts the voters of a raft group that are there to stay.
func stayingVoters(s shardRecord, m *dragonboat.Membership) (count int) {
	for _, rec := range s.Replicas {
		if _, votes := m.Nodes[rec.Replica]; votes && !rec.Leaving {
			count++
		}
	}
	return count
}

func raftError(r *replica, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: raft: %w", r.name, mqerr.ErrLeaderNotAvailable, err)
}

// metaVoters is how many brokers of a cluster vote on the metadata: an odd
// number, so that one more broker never makes it less available.
func metaVoters(brokers int) int {
	switch {
	case brokers < 3:
		return 1
	case brokers < 5:
		return 3
	}
	return 5
}

// mayDrop refuses to drop a voter unless most of those that remain are alive and
// have what is committed: the group could never change again, nor append. Of the
// metadata, a learner that can takes the place first. Where several leave at once
// others come before the last of them go.
func (n *Node) mayDrop(ctx context.Context, r *replica, s shardRecord, m *dragonboat.Membership, drop replicaRecord) error {
	index := r.index.Load()
	answers := n.askAll(ctx, statusRequest{Shards: []uint64{s.Shard}})
	remain, well, good := 0, 0, 0
	for _, rec := range s.Replicas {
		a := answers[rec.Broker]
		alive := rec.Replica == r.id.Replica || a.near(s.Shard, index) && a.begun(s.Shard)
		_, votes := m.Nodes[rec.Replica]
		switch {
		case rec.Replica == drop.Replica:
		case votes:
			remain++
			if alive {
				well++
			}
			if alive && (rec.Replica == r.id.Replica && !n.damages.has(r.id) || a.good(s.Shard)) {
				good++
			}
		case s.Shard == metaShard && alive && !rec.Leaving && stayingVoters(s, m) < n.votersToBe(r, s):
			return fmt.Errorf("%s: %w: broker %d has to vote first", r.name, mqerr.ErrBusy, rec.Broker)
		}
	}
	if good == 0 {
		return fmt.Errorf("%s: %w: without broker %d there would be no good copy", r.name, mqerr.ErrNoQuorum, drop.Broker)
	}
	if wanted := n.votersToBe(r, s); remain < (wanted+1)/2 {
		return fmt.Errorf("%s: %w: without broker %d there would be %d of %d replicas: another one has to come first", r.name, mqerr.ErrBusy, drop.Broker, remain, wanted)
	}
	if 2*well <= remain {
		return fmt.Errorf("%s: %w: without broker %d only %d of %d replicas would be alive and up to date", r.name, mqerr.ErrNoQuorum, drop.Broker, well, remain)
	}
	return nil
}

// handOver asks raft to make another voter the leader.
func (n *Node) handOver(ctx context.Context, r *replica) error {
	if len(n.transfer(ctx, []*replica{r}, func(*replica, replicaRecord) bool { return true })) == 0 {
		return fmt.Errorf("%s: %w: nobody to hand leadership to", r.name, mqerr.ErrNoQuorum)
	}
	return nil
}

func (n *Node) proposeChange(ctx context.Context, r *replica, c *changeReplica) error {
	if p, ok := r.machine.app.(*partition); ok {
		c.TopicID = &p.tp.TopicID
	}
	return n.proposeMeta(ctx, &metaCommand{ChangeReplica: c}, nil)
}

// replenish decides, where this broker leads the metadata, which replicas have to
// come or go: after brokers joined, or while one leaves.
func (n *Node) replenish() {
	if _, err := n.metaRep.Load().epochServed(); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.closing, stepTimeout)
	defer cancel()
	for _, cmd := range n.meta.state.Load().plan() {
		if err := n.proposeMeta(ctx, cmd, nil); err != nil {
			if n.closing.Err() == nil && !errors.Is(err, mqerr.ErrNotLeader) {
				n.log.Info("replicas could not be moved, will try again", "error", err)
			}
			return
		}
	}
}
