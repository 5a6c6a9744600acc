package mqtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/raftmq/mq"
)

// outcome is what a producer knows of a record.
type outcome int

const (
	unknown outcome = iota // also while it is under way
	acknowledged
	refused
)

// sent is a record that was sent.
type sent struct {
	producer string
	number   int // in the order of the calls
	outcome
	at     mq.TopicPartition // and offset, of one that was acknowledged
	offset int64             // -1 when the broker does not tell
}

// name is how a record is called in the reports; it is also its value.
func (s *sent) name() string { return fmt.Sprintf("%s#%d", s.producer, s.number) }

// position is a record that was read.
type position struct {
	offset int64
	name   string
}

// copyOf is a partition as somebody has it.
type copyOf struct {
	who     string
	start   int64 // what is before was trimmed
	records []position
}

// history is what was sent and what is there.
type history struct {
	sent   map[string]*sent
	read   map[mq.TopicPartition]copyOf   // what consumers get
	copies map[mq.TopicPartition][]copyOf // what brokers have
}

// place is where a record was read.
type place struct {
	mq.TopicPartition
	offset int64
}

func (p place) String() string { return fmt.Sprintf("%v@%d", p.TopicPartition, p.offset) }

// faults says what is wrong, by kind of fault and in the order of the log.
func (h *history) faults() []string {
	var out []string
	fault := func(kind, format string, args ...any) {
		out = append(out, kind+": "+fmt.Sprintf(format, args...))
	}
	at := make(map[string][]place)
	for _, tp := range sortedPartitions(h.read) {
		h.checkOrder(tp, h.read[tp], at, fault)
	}
	for _, s := range slices.SortedFunc(maps.Values(h.sent), bySending) {
		places := at[s.name()]
		there := places
		if s.outcome == acknowledged && s.offset >= 0 {
			there = slices.DeleteFunc(slices.Clone(places), func(p place) bool { return p != place{s.at, s.offset} })
		}
		switch {
		case len(places) > 1:
			fault("duplicate", "%s is at %s", s.name(), join(places))
		case s.outcome == refused && len(places) > 0:
			fault("refused", "%s was refused and is at %s", s.name(), join(places))
		case s.outcome != acknowledged || len(there) > 0:
		case len(places) > 0:
			fault("moved", "%s was acknowledged at %v and is at %s", s.name(), place{s.at, s.offset}, join(places))
		case s.offset < 0:
			fault("lost", "%s was acknowledged and is not there", s.name())
		case s.offset >= h.read[s.at].start:
			fault("lost", "%s was acknowledged at %v and is not there", s.name(), place{s.at, s.offset})
		}
	}
	for _, tp := range sortedPartitions(h.copies) {
		disagreements(tp, h.copies[tp], fault)
	}
	return out
}

// checkOrder checks a partition by itself and notes where its records are.
func (h *history) checkOrder(tp mq.TopicPartition, c copyOf, at map[string][]place, fault func(kind, format string, args ...any)) {
	last := make(map[string]*sent) // of each producer
	end := int64(-1)
	for _, r := range c.records {
		here := place{tp, r.offset}
		if r.offset <= end {
			fault("offsets", "%v was read after %v", here, place{tp, end})
		}
		end = max(end, r.offset)
		s := h.sent[r.name]
		if s == nil {
			fault("unknown", "%q is at %v and nobody sent it", r.name, here)
			continue
		}
		at[r.name] = append(at[r.name], here)
		if before := last[s.producer]; before != nil && before.number > s.number {
			fault("reordered", "%s is at %v, behind %s", s.name(), here, before.name())
		}
		if before := last[s.producer]; before == nil || before.number < s.number {
			last[s.producer] = s
		}
	}
}

// disagreements compares copies of a partition with the first of them.
func disagreements(tp mq.TopicPartition, copies []copyOf, fault func(kind, format string, args ...any)) {
	if len(copies) == 0 {
		return
	}
	first := copies[0]
	for _, other := range copies[1:] {
		start := max(first.start, other.start)
		a, b := first.from(start), other.from(start)
		for _, offset := range slices.Sorted(maps.Keys(union(a, b))) {
			if a[offset] != b[offset] {
				fault("disagreement", "at %v %s has %s and %s has %s", place{tp, offset}, first.who, orNothing(a[offset]), other.who, orNothing(b[offset]))
			}
		}
	}
}

func (c copyOf) from(start int64) map[int64]string {
	m := make(map[int64]string, len(c.records))
	for _, r := range c.records {
		if r.offset >= start {
			m[r.offset] = r.name
		}
	}
	return m
}

func union(a, b map[int64]string) map[int64]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func orNothing(name string) string { return cmp.Or(name, "nothing") }

func join(places []place) string {
	words := make([]string, len(places))
	for i, p := range places {
		words[i] = p.String()
	}
	return strings.Join(words, " and ")
}

func bySending(a, b *sent) int {
	return cmp.Or(cmp.Compare(a.producer, b.producer), cmp.Compare(a.number, b.number))
}

func sortedPartitions[T any](m map[mq.TopicPartition]T) []mq.TopicPartition {
	return slices.SortedFunc(maps.Keys(m), func(a, b mq.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
