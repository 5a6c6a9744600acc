package cluster

import "slices"

// plan gives the commands by which shards come to have the replicas that they
// should, a few at a time. A shard first gains a replica on a broker that stays
// and then gives up the one on a broker that leaves; a broker without shards gives
// up the metadata, and is forgotten.
func (s *metaState) plan() (cmds []*metaCommand) {
	load, moving := s.load(), 0
	busy := make(map[int32]bool) // brokers with a replica of anything but the metadata
	s.eachShard(func(shard shardRecord, t *topicRecord) {
		if shard.Shard == metaShard {
			return // a broker gets its replica of that when it joins
		}
		for _, r := range shard.Replicas {
			busy[r.Broker] = true
		}
		if shard.settled() && moving >= movesAtOnce {
			return
		}
		changes := s.planShard(shard, t, load)
		if !shard.settled() || len(changes) > 0 {
			moving++
		}
		for _, c := range changes {
			cmds = append(cmds, &metaCommand{ChangeReplica: c})
		}
	})
	if known := s.knownByAll(); known > s.feature {
		cmds = append(cmds, &metaCommand{RaiseFeature: &raiseFeature{Level: known}})
	}
	for id, b := range s.brokers {
		if !b.Leaving || busy[id] {
			continue
		}
		switch mine, ok := s.meta.on(id); {
		case !ok:
			cmds = append(cmds, &metaCommand{ForgetBroker: &leaveBroker{Broker: id}})
		case !s.meta.Replicas[s.meta.replica(mine)].Leaving:
			cmds = append(cmds, &metaCommand{ChangeReplica: &changeReplica{Shard: metaShard, Change: leaveReplica, Replica: mine}})
		}
	}
	return cmds
}

// changeOf begins a change of a shard of a topic, nil for one of none.
func changeOf(shard shardRecord, t *topicRecord) *changeReplica {
	c := &changeReplica{Shard: shard.Shard}
	if t != nil {
		c.TopicID = &t.ID
	}
	return c
}

// votersWanted is how many replicas of a shard should vote where so many brokers
// stay; t is its topic.
func votersWanted(shard shardRecord, t *topicRecord, brokers int) int {
	switch {
	case shard.Shard == metaShard:
		return metaVoters(brokers)
	case t != nil && t.Factor > 0:
		return min(int(t.Factor), brokers)
	}
	return min(defaultReplicas, brokers)
}

// planShard gives the next changes of a shard, none if all is well or under way.
// All replicas that it lacks come at once: see promote. One that is coming to a
// broker that leaves is given up: if the broker is dead it would never catch up.
func (s *metaState) planShard(shard shardRecord, t *topicRecord, load map[int32]int) (changes []*changeReplica) {
	var have []int32 // brokers that stay and have a replica, or will
	replaced := make(map[uint64]bool)
	for _, r := range shard.Replicas {
		replaced[r.Replaces] = replaced[r.Replaces] || !r.Leaving
	}
	var leaves *changeReplica
	for _, r := range shard.Replicas {
		c := changeOf(shard, t)
		c.Change, c.Replica = leaveReplica, r.Replica
		switch {
		case r.Leaving:
		case !s.brokers[r.Broker].Leaving && !replaced[r.Replica]:
			have = append(have, r.Broker)
		case r.Joining:
			return []*changeReplica{c}
		default:
			leaves = c
		}
	}
	for wanted := votersWanted(shard, t, len(load)); len(have) < wanted; {
		b, ok := s.nextBroker(load, shard)
		if !ok {
			break
		}
		c := changeOf(shard, t)
		c.Change, c.Broker = addReplica, b
		changes = append(changes, c)
		load[b]++
		have = append(have, b)
		shard.Replicas = append(slices.Clip(shard.Replicas), replicaRecord{Broker: b})
	}
	if len(changes) == 0 && leaves != nil && len(have) > 0 && shard.settled() {
		return []*changeReplica{leaves}
	}
	return changes
}
