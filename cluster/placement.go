package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/raftmq/mq/internal/mqerr"
)

// defaultReplicas is how many replicas a shard gets that does not say, if there
// are as many brokers. Kafka: default.replication.factor.
const defaultReplicas = 3

// load counts the replicas on each broker that stays.
func (s *metaState) load() map[int32]int {
	load := make(map[int32]int, len(s.brokers))
	for id := range s.staying() {
		load[id] = 0
	}
	s.eachShard(func(shard shardRecord, _ *topicRecord) {
		for _, r := range shard.Replicas {
			if _, ok := load[r.Broker]; ok && !r.Leaving {
				load[r.Broker]++
			}
		}
	})
	return load
}

// byLoad gives the brokers, those with the fewest replicas first.
func byLoad(load map[int32]int) []int32 {
	return slices.SortedFunc(maps.Keys(load), func(a, b int32) int {
		return cmp.Or(cmp.Compare(load[a], load[b]), cmp.Compare(a, b))
	})
}

// nextBroker picks the broker for one more replica of a shard: in the rack with
// the fewest of them, and there the one with the least load. It is false when all
// have one.
func (s *metaState) nextBroker(load map[int32]int, shard shardRecord) (int32, bool) {
	inRack := make(map[string]int)
	for _, r := range shard.Replicas {
		if !r.Leaving {
			inRack[s.brokers[r.Broker].Rack]++
		}
	}
	may := slices.DeleteFunc(byLoad(load), func(b int32) bool { _, has := shard.on(b); return has })
	if len(may) == 0 {
		return 0, false
	}
	return slices.MinFunc(may, func(a, b int32) int {
		return cmp.Compare(inRack[s.brokers[a].Rack], inRack[s.brokers[b].Rack])
	}), true
}

// place spreads the replicas of count new partitions over racks and brokers, each
// on the least loaded ones. Who comes first alternates, as Kafka users expect of
// such lists; who should lead is said by leaders.
func (n *Node) place(s *metaState, count int, factor int16) ([][]int32, error) {
	load := s.load()
	want := min(defaultReplicas, len(load))
	if factor != 0 {
		want = int(factor)
	}
	if want < 1 || want > len(load) {
		return nil, fmt.Errorf("%w: %d, there are %d brokers", mqerr.ErrInvalidReplicationFactor, factor, len(load))
	}
	first := make(map[int32]int) // how often a broker comes first
	out := make([][]int32, count)
	for i := range out {
		var shard shardRecord
		for range want {
			b, _ := s.nextBroker(load, shard)
			shard.Replicas = append(shard.Replicas, replicaRecord{Broker: b})
			load[b]++
			out[i] = append(out[i], b)
		}
		slices.SortStableFunc(out[i], func(a, b int32) int { return cmp.Compare(first[a], first[b]) })
		first[out[i][0]]++
	}
	return out, nil
}
