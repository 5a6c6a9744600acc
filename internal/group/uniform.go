package group

import (
	"slices"
)

// uniform gives members that read the same topics as many partitions, or one
// more, and moves no more partitions than that takes. Where members read
// different topics the loads are as even as the subscriptions allow: no chain of
// moves would make them more even.
func uniform(topics *Topics, consumers []consumer) [][]Partition {
	u := newSpread(topics, consumers)
	u.keep()
	u.place()
	u.level()
	return u.result()
}

const nobody = -1

// spread is an assignment in the making.
type spread struct {
	topics    *Topics
	consumers []consumer
	readers   [][]int // consumers by topic
	owner     [][]int // consumer by topic and partition
	had       [][]int // the same before, where the partition is read already
	load      []int   // partitions by consumer
	count     [][]int // partitions by consumer and topic, in the order of what it reads
}

func newSpread(topics *Topics, consumers []consumer) *spread {
	u := &spread{
		topics: topics, consumers: consumers, readers: readers(topics, consumers),
		owner: make([][]int, len(topics.all)), had: make([][]int, len(topics.all)),
		load: make([]int, len(consumers)), count: make([][]int, len(consumers)),
	}
	for t, topic := range topics.all {
		if len(u.readers[t]) > 0 {
			u.owner[t] = slices.Repeat([]int{nobody}, int(topic.Partitions))
			u.had[t] = slices.Clone(u.owner[t])
		}
	}
	for c := range consumers {
		u.count[c] = make([]int, len(consumers[c].topics))
	}
	return u
}

// of gives the count of a consumer and topic; ok is false if it does not read it.
func (u *spread) of(c, t int) (count *int, ok bool) {
	i, ok := slices.BinarySearch(u.consumers[c].topics, t)
	if !ok {
		return nil, false
	}
	return &u.count[c][i], true
}

// has tells how many partitions of a topic a reader of it has.
func (u *spread) has(c, t int) int {
	count, _ := u.of(c, t)
	return *count
}

// give makes c the owner of a partition.
func (u *spread) give(t, p, c int) {
	if from := u.owner[t][p]; from != nobody {
		count, _ := u.of(from, t)
		*count--
		u.load[from]--
	}
	count, _ := u.of(c, t)
	*count++
	u.load[c]++
	u.owner[t][p] = c
}

// keep lets everyone keep what it has and still reads.
func (u *spread) keep() {
	for c := range u.consumers {
		for _, p := range u.consumers[c].had {
			t, ok := u.topics.byID[p.Topic]
			if !ok {
				continue
			}
			if _, reads := u.of(c, t); reads && int(p.Number) < len(u.owner[t]) && u.owner[t][p.Number] == nobody {
				u.give(t, int(p.Number), c)
				if !u.consumers[c].lacks[p] {
					u.had[t][p.Number] = c
				}
			}
		}
	}
}

// place gives what nobody has to the reader with the lowest load; of several
// with the same, to the one that has least of the topic.
func (u *spread) place() {
	for t := range u.owner {
		for p, c := range u.owner[t] {
			if c != nobody {
				continue
			}
			to := slices.MinFunc(u.readers[t], func(a, b int) int {
				if d := u.load[a] - u.load[b]; d != 0 {
					return d
				}
				return u.has(a, t) - u.has(b, t)
			})
			u.give(t, p, to)
		}
	}
}

// level moves partitions while a chain of moves ends at a member with at least
// two less than the one it begins at. With none left the loads are as even as
// they can be (Harvey et al., Semi-Matchings for Bipartite Graphs, 2003). Each
// chain makes the sum of the squares of the loads smaller.
func (u *spread) level() {
	for moved := true; moved; {
		moved = false
		order := make([]int, len(u.consumers))
		for c := range order {
			order[c] = c
		}
		slices.SortStableFunc(order, func(a, b int) int { return u.load[b] - u.load[a] })
		// What can be reached from one without a chain can't be the beginning of
		// one either: it has no more to give, and reaches no further.
		seen := newSearch(u)
		for _, c := range order {
			if chain := seen.chain(c); chain != nil {
				for i := len(chain) - 1; i > 0; i-- {
					u.move(chain[i-1], chain[i])
				}
				moved = true
				break
			}
		}
	}
}

// move moves a partition, of the topic of which from has most more than to, so
// that topics stay spread; and one that from does not read yet, if it can be.
func (u *spread) move(from, to int) {
	best, most := nobody, 0
	for i, t := range u.consumers[from].topics {
		theirs, reads := u.of(to, t)
		if !reads || u.count[from][i] == 0 {
			continue
		}
		if more := u.count[from][i] - *theirs; best == nobody || more > most {
			best, most = t, more
		}
	}
	moving := nobody
	for p, c := range u.owner[best] {
		if c == from && (moving == nobody || u.had[best][p] != from || u.had[best][moving] == from) {
			moving = p
		}
	}
	u.give(best, moving, to)
}

func (u *spread) result() [][]Partition {
	out := make([][]Partition, len(u.consumers))
	for t := range u.owner {
		for p, c := range u.owner[t] {
			out[c] = append(out[c], Partition{u.topics.all[t].ID, int32(p)})
		}
	}
	return out
}

// search looks for chains of moves, breadth first.
type search struct {
	u        *spread
	consumer []bool // reached
	topic    []bool // its readers were
	by       []int  // from which consumer
}

func newSearch(u *spread) *search {
	return &search{u: u, consumer: make([]bool, len(u.consumers)), topic: make([]bool, len(u.topics.all)), by: make([]int, len(u.consumers))}
}

// chain gives the shortest chain from a consumer to one with at least two less,
// or the least among those as near; nil when there is none.
func (s *search) chain(from int) []int {
	if s.consumer[from] {
		return nil
	}
	s.consumer[from], s.by[from] = true, nobody
	for layer := []int{from}; len(layer) > 0; {
		var next []int
		best := nobody
		for _, c := range layer {
			for i, t := range s.u.consumers[c].topics {
				if s.topic[t] || s.u.count[c][i] == 0 {
					continue
				}
				s.topic[t] = true
				for _, to := range s.u.readers[t] {
					if s.consumer[to] {
						continue
					}
					s.consumer[to], s.by[to] = true, c
					next = append(next, to)
					if best == nobody || s.u.load[to] < s.u.load[best] {
						best = to
					}
				}
			}
		}
		if best != nobody && s.u.load[best] <= s.u.load[from]-2 {
			var chain []int
			for c := best; c != nobody; c = s.by[c] {
				chain = append(chain, c)
			}
			slices.Reverse(chain)
			return chain
		}
		layer = next
	}
	return nil
}
