package cluster

import (
	"cmp"
	"slices"
)

// GroupStats is a group that this broker coordinates.
type GroupStats struct {
	Group      string
	Members    int
	Rebalances int64 // times that the target was computed anew, since there is the group
	Partitions []GroupPartitionStats
}

// GroupPartitionStats is what a group has committed for a partition. Lag is how
// many records it has not, -1 when this broker has no copy of the partition.
type GroupPartitionStats struct {
	Topic     string
	Partition int32
	Committed int64
	Lag       int64
}

// groupStats tells of the groups that this broker coordinates, by name. Of one
// that can't be read there is nothing.
func (n *Node) groupStats(s *metaState) (out []GroupStats) {
	groups := make(map[string]*GroupStats)
	of := func(name string) *GroupStats {
		g := groups[name]
		if g == nil {
			g = &GroupStats{Group: name}
			groups[name] = g
		}
		return g
	}
	n.eachReplica(func(r *replica) {
		store, ok := r.machine.app.(*groupStore)
		if !ok {
			return
		}
		if _, err := r.epochServed(); err != nil {
			return
		}
		states, err := store.states([]byte{preGroupState})
		if err != nil {
			return
		}
		for name, state := range states {
			g := of(name)
			g.Members, g.Rebalances = len(state.Members), int64(state.Epoch)
		}
		_ = store.kv.Scan([]byte{preOffset}, func(key, value []byte) error {
			name, topicID, partition, ok := splitOffsetKey(key)
			o, err := decodeOffset(value)
			t := s.byID[topicID]
			if !ok || err != nil || t == nil || int(partition) >= len(t.Partitions) {
				return err
			}
			p := GroupPartitionStats{Topic: t.Name, Partition: partition, Committed: o.offset, Lag: -1}
			if end, here := n.localEnd(t, partition); here {
				p.Lag = max(end-o.offset, 0)
			}
			g := of(name)
			g.Partitions = append(g.Partitions, p)
			return nil
		})
	})
	for _, g := range groups {
		slices.SortFunc(g.Partitions, func(a, b GroupPartitionStats) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b GroupStats) int { return cmp.Compare(a.Group, b.Group) })
	return out
}

// localEnd is the end of the copy that this broker has of a partition.
func (n *Node) localEnd(t *topicRecord, number int32) (end int64, here bool) {
	r := n.replica(t.Partitions[number].Shard)
	if r == nil {
		return 0, false
	}
	return r.machine.app.(*partition).log.State().End, true
}
