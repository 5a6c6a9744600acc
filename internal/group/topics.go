package group

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
)

// Topic is a topic as groups see it.
type Topic struct {
	Name       string
	ID         uuid.UUID
	Partitions int32
}

// Topics are all topics there are at one time. It is immutable.
type Topics struct {
	all    []Topic // by name
	byName map[string]int
	byID   map[uuid.UUID]int
}

// NewTopics keeps topics.
func NewTopics(topics []Topic) *Topics {
	t := &Topics{all: slices.Clone(topics), byName: make(map[string]int), byID: make(map[uuid.UUID]int)}
	slices.SortFunc(t.all, func(a, b Topic) int { return cmp.Compare(a.Name, b.Name) })
	for i, topic := range t.all {
		t.byName[topic.Name], t.byID[topic.ID] = i, i
	}
	return t
}

// Topic finds a topic by its id.
func (t *Topics) Topic(id uuid.UUID) (Topic, bool) {
	i, ok := t.byID[id]
	if !ok {
		return Topic{}, false
	}
	return t.all[i], true
}

// compile checks a pattern, which has to match whole names.
func compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", mqerr.ErrInvalidPattern, len(pattern), maxPattern)
	}
	// By itself first: what is put around it must not make it whole.
	_, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrInvalidPattern, err)
	}
	return regexp.Compile("^(?:" + pattern + ")$")
}

// reading resolves what members subscribe to. Many of them have the same pattern.
type reading struct {
	topics   *Topics
	patterns map[string][]int
}

// of gives the topics that a subscription covers now, as indices, ascending.
func (r *reading) of(s Subscription) []int {
	var out []int
	for _, name := range s.Topics {
		if i, ok := r.topics.byName[name]; ok {
			out = append(out, i)
		}
	}
	if s.Pattern != "" {
		out = append(out, r.matching(s.Pattern)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *reading) matching(pattern string) []int {
	out, ok := r.patterns[pattern]
	if ok {
		return out
	}
	if re, err := compile(pattern); err == nil { // it was checked when the member came
		for i, topic := range r.topics.all {
			if re.MatchString(topic.Name) {
				out = append(out, i)
			}
		}
	}
	if r.patterns == nil {
		r.patterns = make(map[string][]int)
	}
	r.patterns[pattern] = out
	return out
}

// Covers reports whether a subscription covers a topic.
func (s Subscription) Covers(topic string) bool {
	if slices.Contains(s.Topics, topic) {
		return true
	}
	if s.Pattern == "" {
		return false
	}
	re, err := compile(s.Pattern)
	return err == nil && re.MatchString(topic)
}

// hash tells whether what any member reads is still the same.
func (t *Topics) hash(members map[string]*Member) uint64 {
	if len(members) == 0 {
		return 0
	}
	r := reading{topics: t}
	read := make([]bool, len(t.all))
	for _, m := range members {
		for _, i := range r.of(m.Subscription) {
			read[i] = true
		}
	}
	h := fnv.New64a()
	for i, topic := range t.all {
		if read[i] {
			_, _ = h.Write(binary.BigEndian.AppendUint32(topic.ID[:], uint32(topic.Partitions)))
		}
	}
	return h.Sum64()
}
