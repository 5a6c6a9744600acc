package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
)

func topicID(i int) uuid.UUID { return uuid.UUID{0: 7, 15: byte(i)} }

// topicsOf makes topics t0, t1, ... with so many partitions.
func topicsOf(partitions ...int32) *Topics {
	var out []Topic
	for i, n := range partitions {
		out = append(out, Topic{fmt.Sprint("t", i), topicID(i), n})
	}
	return NewTopics(out)
}

// subscribers makes consumers that all read all of the topics.
func subscribers(topics *Topics, n int) []consumer {
	out := make([]consumer, n)
	for i := range out {
		out[i].id = fmt.Sprint("c", i)
		for t := range topics.all {
			out[i].topics = append(out[i].topics, t)
		}
	}
	return out
}

// randomConsumers read the same or different topics, and have some partitions,
// maybe such as are gone or not theirs to read any more.
func randomConsumers(r *rand.Rand, topics *Topics, n int, alike bool) []consumer {
	out := subscribers(topics, n)
	for i := range out {
		if !alike {
			out[i].topics = slices.DeleteFunc(out[i].topics, func(int) bool { return r.IntN(3) == 0 })
		}
	}
	skew := 1 + r.IntN(n)
	for t, topic := range topics.all {
		for p := range topic.Partitions + int32(r.IntN(2)) {
			if c := r.IntN(skew + r.IntN(2)); c < n {
				out[c].had = append(out[c].had, Partition{topicID(t), p})
			}
		}
	}
	return out
}

// check fails unless every partition that somebody reads has one owner, who
// reads it. It gives the loads and how many partitions went from one to another.
func check(tb testing.TB, topics *Topics, consumers []consumer, got [][]Partition) (loads []int, moved int) {
	tb.Helper()
	owner := map[Partition]int{}
	for c, ps := range got {
		for _, p := range ps {
			if o, ok := owner[p]; ok {
				tb.Fatalf("%v belongs to %d and %d", p, o, c)
			}
			owner[p] = c
			if i, ok := topics.byID[p.Topic]; !ok || p.Number >= topics.all[i].Partitions || !slices.Contains(consumers[c].topics, i) {
				tb.Fatalf("%v does not belong to what %d reads", p, c)
			}
		}
		loads = append(loads, len(ps))
	}
	for t, rs := range readers(topics, consumers) {
		for p := range topics.all[t].Partitions {
			if _, ok := owner[Partition{topicID(t), p}]; !ok && len(rs) > 0 {
				tb.Fatalf("nobody reads %d of %d", p, t)
			}
		}
	}
	for c := range consumers {
		for _, p := range consumers[c].had {
			if i, ok := topics.byID[p.Topic]; ok && p.Number < topics.all[i].Partitions && slices.Contains(consumers[c].topics, i) && owner[p] != c {
				moved++
			}
		}
	}
	return loads, moved
}

func squares(loads []int) (sum int) {
	for _, l := range loads {
		sum += l * l
	}
	return sum
}

// bruteForce tries every assignment. It gives the smallest sum of the squares of
// the loads, and the fewest moves with which that is possible.
func bruteForce(topics *Topics, consumers []consumer) (best, moves int) {
	type part struct {
		readers []int
		had     int
	}
	var parts []part
	for t, rs := range readers(topics, consumers) {
		for p := range topics.all[t].Partitions {
			had := nobody
			for _, c := range rs {
				if slices.Contains(consumers[c].had, Partition{topicID(t), p}) {
					had = c
				}
			}
			if len(rs) > 0 {
				parts = append(parts, part{rs, had})
			}
		}
	}
	best, moves = 1<<30, 1<<30
	loads := make([]int, len(consumers))
	var try func(i, moved int)
	try = func(i, moved int) {
		if i == len(parts) {
			if s := squares(loads); s < best || s == best && moved < moves {
				best, moves = s, moved
			}
			return
		}
		for _, c := range parts[i].readers {
			more := 0
			if parts[i].had != nobody && parts[i].had != c {
				more = 1
			}
			loads[c]++
			try(i+1, moved+more)
			loads[c]--
		}
	}
	try(0, 0)
	return best, moves
}

func TestUniformIsBalancedWithTheFewestMoves(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		topics := topicsOf(r.Int32N(4), r.Int32N(4))
		alike := seed%2 == 0
		consumers := randomConsumers(r, topics, 1+r.IntN(4), alike)
		got := uniform(topics, consumers)
		loads, moved := check(t, topics, consumers, got)
		best, moves := bruteForce(topics, consumers)
		if squares(loads) != best {
			t.Fatalf("seed %d: loads %v could be more even, %d instead of %d: %+v", seed, loads, best, squares(loads), consumers)
		}
		if alike && moved != moves {
			t.Fatalf("seed %d: %d moved, %d would do: %+v", seed, moved, moves, consumers)
		}
		if alike && slices.Max(loads)-slices.Min(loads) > 1 {
			t.Fatalf("seed %d: loads %v", seed, loads)
		}
		for i := range consumers {
			consumers[i].had = got[i]
		}
		if _, moved := check(t, topics, consumers, uniform(topics, consumers)); moved != 0 {
			t.Fatalf("seed %d: %d moved although nothing has changed", seed, moved)
		}
	}
}

func TestUniformSpreadsEachTopic(t *testing.T) {
	t.Parallel()
	topics := topicsOf(6, 6, 6)
	consumers := subscribers(topics, 1)
	consumers[0].had = uniform(topics, consumers)[0]
	consumers = append(consumers, subscribers(topics, 2)[1], subscribers(topics, 3)[2])
	for c, ps := range uniform(topics, consumers) {
		per := map[uuid.UUID]int{}
		for _, p := range ps {
			per[p.Topic]++
		}
		if got := slices.Sorted(maps.Values(per)); !slices.Equal(got, []int{2, 2, 2}) {
			t.Errorf("consumer %d has %v of the topics", c, got)
		}
	}
}

func TestEveryAssignorGivesEachPartitionToOneReader(t *testing.T) {
	t.Parallel()
	for name, assign := range assignors {
		for seed := range uint64(500) {
			r := rand.New(rand.NewPCG(seed, 2))
			topics := topicsOf(r.Int32N(20), r.Int32N(5), 0, 1+r.Int32N(9))
			consumers := randomConsumers(r, topics, 1+r.IntN(12), r.IntN(2) == 0)
			got := assign(topics, consumers)
			check(t, topics, consumers, got)
			for c := range got {
				if again := assign(topics, consumers)[c]; !slices.Equal(got[c], again) {
					t.Fatalf("%s: seed %d: the same gave %v and %v", name, seed, got[c], again)
				}
			}
		}
		if got := assign(topicsOf(3), nil); len(got) != 0 {
			t.Errorf("%s: nobody was given %v", name, got)
		}
	}
}

func TestRangeKeepsEqualNumbersTogether(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		n := 1 + r.Int32N(20)
		topics := topicsOf(n, n, n)
		consumers := subscribers(topics, 1+r.IntN(6))
		for range 3 { // members come and go
			got := ranges(topics, consumers)
			loads, _ := check(t, topics, consumers, got)
			owner := map[Partition]int{}
			for c, ps := range got {
				consumers[c].had = ps
				for _, p := range ps {
					owner[p] = c
				}
			}
			for p := range n {
				if a, b, c := owner[Partition{topicID(0), p}], owner[Partition{topicID(1), p}], owner[Partition{topicID(2), p}]; a != b || b != c {
					t.Fatalf("seed %d: number %d is with %d, %d and %d", seed, p, a, b, c)
				}
			}
			if slices.Max(loads)-slices.Min(loads) > 3 {
				t.Fatalf("seed %d: loads %v", seed, loads)
			}
			if _, moved := check(t, topics, consumers, ranges(topics, consumers)); moved != 0 {
				t.Fatalf("seed %d: %d moved although nothing has changed", seed, moved)
			}
			at := r.IntN(len(consumers) + 1)
			consumers = slices.Insert(consumers, at, consumer{id: "new", topics: consumers[0].topics})
			if len(consumers) > 2 {
				gone := r.IntN(len(consumers))
				consumers = slices.Delete(consumers, gone, gone+1)
			}
		}
	}
}

func TestMostMembersChooseTheAssignor(t *testing.T) {
	t.Parallel()
	s := &State{Members: map[string]*Member{}}
	vote := func(id, assignor string) { s.Members[id] = &Member{Subscription: Subscription{Assignor: assignor}} }
	for i, step := range []struct{ assignor, want string }{
		{"", Uniform}, {Range, Uniform}, {Range, Range}, {Uniform, Uniform}, {"none", Uniform}, {Range, Range},
	} {
		vote(fmt.Sprint(i), step.assignor)
		if got := s.Assignor(); got != step.want {
			t.Errorf("after vote %d for %q: %s", i, step.assignor, got)
		}
	}
}

// BenchmarkTarget is the work of one change: 1,000 partitions of 10 topics, of
// which the hundredth member gets its share.
func BenchmarkTarget(b *testing.B) {
	topics := topicsOf(slices.Repeat([]int32{100}, 10)...)
	for name, assign := range assignors {
		consumers := subscribers(topics, 99)
		for c, ps := range assign(topics, consumers) {
			consumers[c].had = ps
		}
		consumers = append(consumers, consumer{id: "last", topics: consumers[0].topics})
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				assign(topics, consumers)
			}
		})
	}
}
