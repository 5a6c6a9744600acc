package group

import (
	"cmp"
	"math"
	"slices"
)

// ranges gives each reader of a topic a run of its partitions. Members stand in
// the same order for all topics, so that of topics with as many partitions and
// the same readers, equal numbers go to the same member: records with equal keys
// can be joined there. The order is that of what they have, newcomers last, which
// keeps most of what they have where it is.
func ranges(topics *Topics, consumers []consumer) [][]Partition {
	first := make([]int32, len(consumers)) // lowest number that each has
	order := make([]int, len(consumers))
	for c := range consumers {
		order[c], first[c] = c, math.MaxInt32
		for _, p := range consumers[c].had {
			first[c] = min(first[c], p.Number)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(first[a], first[b]) })
	place := make([]int, len(consumers))
	for i, c := range order {
		place[c] = i
	}
	out := make([][]Partition, len(consumers))
	for t, rs := range readers(topics, consumers) {
		slices.SortFunc(rs, func(a, b int) int { return cmp.Compare(place[a], place[b]) })
		number := int32(0)
		for i, c := range rs {
			n := topics.all[t].Partitions / int32(len(rs))
			if int32(i) < topics.all[t].Partitions%int32(len(rs)) { // the first have one more
				n++
			}
			for range n {
				out[c] = append(out[c], Partition{topics.all[t].ID, number})
				number++
			}
		}
	}
	return out
}
