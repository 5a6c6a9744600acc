package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/raftmq/mq/internal/mqerr"
)

// Names of assignors.
const (
	Uniform = "uniform"
	Range   = "range"
)

// consumer is a member as an assignor sees it.
type consumer struct {
	id     string
	topics []int       // what it reads: indices of the topics, ascending
	had    []Partition // its target so far

	lacks map[Partition]bool // what of that it did not get yet
}

// assignor decides who reads what: for each consumer its partitions, in any
// order. Every partition that somebody reads is given to one of its readers. The
// same input gives the same output.
type assignor func(topics *Topics, consumers []consumer) [][]Partition

var assignors = map[string]assignor{Uniform: uniform, Range: ranges}

// checkAssignor refuses one that is not there. Empty is the default.
func checkAssignor(name string) error {
	if _, ok := assignors[name]; !ok && name != "" {
		return fmt.Errorf("%w: %q, there are %q", mqerr.ErrUnsupportedAssignor, name, slices.Sorted(maps.Keys(assignors)))
	}
	return nil
}

// Assignor is the one that most members ask for.
func (s *State) Assignor() string {
	votes := map[string]int{Uniform: 0}
	for _, m := range s.Members {
		votes[cmp.Or(m.Assignor, Uniform)]++
	}
	// Of several that have as many, always the same one; Uniform sorts last.
	best := ""
	for _, name := range slices.Sorted(maps.Keys(votes)) {
		if best == "" || votes[name] >= votes[best] {
			best = name
		}
	}
	return best
}

// target computes who should read what.
func (s *State) target(topics *Topics) map[string][]Partition {
	r := reading{topics: topics}
	consumers := make([]consumer, 0, len(s.Members))
	for _, id := range s.ids() {
		m := s.Members[id]
		c := consumer{id: id, topics: r.of(m.Subscription), had: m.Target}
		for _, p := range m.Target {
			if !m.has(p) {
				if c.lacks == nil {
					c.lacks = make(map[Partition]bool)
				}
				c.lacks[p] = true
			}
		}
		consumers = append(consumers, c)
	}
	assign, ok := assignors[s.Assignor()]
	if !ok {
		assign = uniform // of a newer version
	}
	out := make(map[string][]Partition)
	for i, ps := range assign(topics, consumers) {
		slices.SortFunc(ps, comparePartitions)
		out[consumers[i].id] = ps
	}
	return out
}

// readers lists for each topic the consumers that read it.
func readers(topics *Topics, consumers []consumer) [][]int {
	out := make([][]int, len(topics.all))
	for c := range consumers {
		for _, t := range consumers[c].topics {
			out[t] = append(out[t], c)
		}
	}
	return out
}
