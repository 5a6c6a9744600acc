package cluster

// plan gives the commands by which shards come to have the replicas that they
// should, a few at a time. A shard first gains a replica on a broker that stays
// and then gives up the one on a broker that leaves; a broker without shards gives
// up the metadata, and is forgotten.
func (s *metaState) plan() (cmds []*metaCommand) {
	load, moving := s.load(), 0
	busy := make(map[int32]bool) // brokers with a replica of anything but the metadata
	s.eachShard(func(shard shardRecord, t *topicRecord) {
		for _, r := range shard.Replicas {
			busy[r.Broker] = busy[r.Broker] || shard.Shard != metaShard
		}
		if c := s.giveUp(shard, t); c != nil {
			cmds = append(cmds, &metaCommand{ChangeReplica: c})
		} else if !shard.settled() {
			moving++
		} else if shard.Shard != metaShard && moving+len(cmds) < movesAtOnce {
			if c := s.planShard(shard, t, load); c != nil {
				cmds = append(cmds, &metaCommand{ChangeReplica: c})
			}
		}
	})
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

// giveUp ends the joining of a replica on a broker that leaves: if it is dead it
// would never catch up.
func (s *metaState) giveUp(shard shardRecord, t *topicRecord) *changeReplica {
	for _, r := range shard.Replicas {
		if r.Joining && !r.Leaving && s.brokers[r.Broker].Leaving && shard.Shard != metaShard {
			c := changeOf(shard, t)
			c.Change, c.Replica = leaveReplica, r.Replica
			return c
		}
	}
	return nil
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

// planShard gives the next change of a settled shard, nil if all is well. It is
// not for the metadata: a broker gets its replica of that when it joins.
func (s *metaState) planShard(shard shardRecord, t *topicRecord, load map[int32]int) *changeReplica {
	c := changeOf(shard, t)
	good := 0 // replicas on brokers that stay
	for _, r := range shard.Replicas {
		if s.brokers[r.Broker].Leaving {
			c.Change, c.Replica = leaveReplica, r.Replica
		} else {
			good++
		}
	}
	if good < votersWanted(shard, t, len(load)) {
		for _, b := range byLoad(load) {
			if _, has := shard.on(b); !has {
				load[b]++
				c.Change, c.Broker, c.Replica = addReplica, b, 0
				return c
			}
		}
	}
	if c.Change == leaveReplica && good > 0 {
		return c
	}
	return nil
}
