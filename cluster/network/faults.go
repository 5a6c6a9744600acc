package network

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"
)

// Rule is what goes wrong with what one broker sends to another. The zero
// value is nothing.
type Rule struct {
	// Cut loses everything in silence, as an unplugged cable does. Connections
	// are given up after a while (Config.KeepAlive) and those the sender tries
	// to make don't come about.
	Cut bool

	// Broken ends the connections that the sender made, and its attempts to
	// make new ones fail at once.
	Broken bool

	// HoldSnapshots makes snapshot chunks wait until the rule is gone.
	HoldSnapshots bool

	// Delay is how long each thing sent is on its way. The order stays.
	Delay time.Duration

	// Drop is the chance that a batch of raft messages, a call or its answer is
	// lost.
	Drop float64

	// Duplicate is the chance that a batch of raft messages arrives twice.
	Duplicate float64
}

// Faults holds the rules between the brokers of a test, named by their
// directory ids, and may change them at any time. What is sent while a rule
// loses it never arrives, and from the moment that a Cut is set nothing is handed
// over any more. A nil *Faults has no rules. Safe for concurrent use.
type Faults struct {
	seed uint64
	mu   struct {
		sync.Mutex
		rules    map[pair]Rule
		isolated map[string]bool
		chance   map[pair]uint64 // state of its SplitMix64
		made     map[*conn]pair  // connections by who made them and to whom
		changed  chan struct{}   // closed by the next change
	}
}

// pair is a direction.
type pair struct{ from, to string }

// errFault is how a rule that breaks connections does it.
var errFault = errors.New("broken by a fault rule")

// NewFaults returns Faults without rules. The seed decides what Drop and
// Duplicate hit: for each direction it is the same sequence of decisions.
func NewFaults(seed uint64) *Faults {
	f := &Faults{seed: seed}
	f.mu.rules = make(map[pair]Rule)
	f.mu.isolated = make(map[string]bool)
	f.mu.chance = make(map[pair]uint64)
	f.mu.made = make(map[*conn]pair)
	f.mu.changed = make(chan struct{})
	return f
}

// Set sets the rule for what from sends to to, instead of the one before.
func (f *Faults) Set(from, to string, r Rule) {
	f.change(func() { f.mu.rules[pair{from, to}] = r })
}

// SetBoth sets the rule for both directions.
func (f *Faults) SetBoth(a, b string, r Rule) {
	f.change(func() { f.mu.rules[pair{a, b}], f.mu.rules[pair{b, a}] = r, r })
}

// Isolate cuts a broker off from all others in both directions.
func (f *Faults) Isolate(id string) {
	f.change(func() { f.mu.isolated[id] = true })
}

// Split cuts every broker of one side off from every broker of the other.
func (f *Faults) Split(one, other []string) {
	f.change(func() {
		for _, a := range one {
			for _, b := range other {
				f.mu.rules[pair{a, b}], f.mu.rules[pair{b, a}] = Rule{Cut: true}, Rule{Cut: true}
			}
		}
	})
}

// Heal takes back everything that concerns a broker.
func (f *Faults) Heal(id string) {
	f.change(func() {
		delete(f.mu.isolated, id)
		for p := range f.mu.rules {
			if p.from == id || p.to == id {
				delete(f.mu.rules, p)
			}
		}
	})
}

// HealAll takes back everything.
func (f *Faults) HealAll() {
	f.change(func() {
		clear(f.mu.isolated)
		clear(f.mu.rules)
	})
}

// change changes rules, wakes who waits for that and breaks what is to break.
func (f *Faults) change(fn func()) {
	f.mu.Lock()
	fn()
	close(f.mu.changed)
	f.mu.changed = make(chan struct{})
	var broken []*conn
	for c, p := range f.mu.made {
		if f.mu.rules[p].Broken {
			broken = append(broken, c)
		}
	}
	f.mu.Unlock()
	for _, c := range broken {
		c.end(errFault)
	}
}

func (f *Faults) rule(p pair) Rule {
	if f == nil {
		return Rule{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ruleLocked(p)
}

func (f *Faults) ruleLocked(p pair) Rule {
	r := f.mu.rules[p]
	r.Cut = r.Cut || f.mu.isolated[p.from] || f.mu.isolated[p.to]
	return r
}

// dial decides whether a connection can be made. Where the cable is cut that
// takes until it is whole again or ctx ends.
func (f *Faults) dial(ctx context.Context, p pair) error {
	for f != nil {
		f.mu.Lock()
		r, changed := f.ruleLocked(p), f.mu.changed
		f.mu.Unlock()
		switch {
		case r.Broken:
			return errFault
		case !r.Cut:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
	return nil
}

// made is told of a connection that was made. It may not live to see it.
func (f *Faults) made(c *conn, p pair) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.rules[p].Broken {
		return errFault
	}
	f.mu.made[c] = p
	return nil
}

func (f *Faults) ended(c *conn) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mu.made, c)
}

// holdSnapshot waits until a chunk may be sent.
func (f *Faults) holdSnapshot(ctx context.Context, p pair) error {
	for f != nil {
		f.mu.Lock()
		held, changed := f.mu.rules[p].HoldSnapshots, f.mu.changed
		f.mu.Unlock()
		if !held {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
	return ctx.Err()
}

// leaves decides how often a frame that is sent leaves.
func (f *Faults) leaves(p pair, on class, k kind) (times int) {
	if f == nil {
		return 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r := f.ruleLocked(p); {
	case r.Cut:
		return 0
	case on == classSnapshot || k == kindPing || k == kindBye:
		return 1
	case f.happensLocked(p, r.Drop):
		return 0
	case k == kindMessages && f.happensLocked(p, r.Duplicate):
		return 2
	}
	return 1
}

func (f *Faults) happensLocked(p pair, chance float64) bool {
	if chance <= 0 {
		return false
	}
	state, ok := f.mu.chance[p]
	if !ok {
		h := fnv.New64a()
		h.Write([]byte(p.from + "\x00" + p.to))
		state = f.seed ^ h.Sum64()
	}
	state += 0x9e3779b97f4a7c15
	f.mu.chance[p] = state
	return float64(mix(state)>>11)/(1<<53) < chance
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
