package main

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// Members that handle 16 records at a time, which take longer or shorter, are
// killed at random. Each record is handled, and those of a key in order: none is
// begun before the one before it was done, by whomever, and a member never has
// two of a key under way.
func TestKilledMembersKeepTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	deadline, kills := time.Minute, 4
	if os.Getenv("MQ_TEST_LONG") != "" {
		deadline, kills = 5*time.Minute, 1_000_000
	}
	g := startJournalGroup(t, 60)
	join := func() {
		g.join("-concurrency", "16", "-work", "20ms", "-session", "5s")
	}
	for range 3 {
		join()
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	produced := make(chan struct{})
	go func() { // ends with ctx
		defer close(produced)
		g.produce(ctx, 1<<30)
	}()

	g.until("members that handle records", func(all []journalEntry) bool { return handledOf(all) > 300 })
	for end := time.Now().Add(deadline); kills > 0 && time.Now().Before(end); kills-- {
		i := rand.IntN(len(g.live))
		_ = g.live[i].Process.Kill()
		_ = g.live[i].Wait()
		g.live = slices.Delete(g.live, i, i+1)
		join()
		g.progress(100 + rand.IntN(300))
	}
	stop()
	<-produced
	g.committedAll()
	g.leave(g.live...)

	c := g.check()
	if c.most < 2 || c.most > 16 {
		t.Errorf("a member had up to %d records under way, want 2 to 16", c.most)
	}
	t.Logf("%d records, %d members, %d handled twice or more, up to %d at a time", c.done, g.joined, c.again, c.most)
}

// keyCheck reads a journal.
type keyCheck struct {
	next   []int                              // by key: how many of it are done
	under  map[string]map[[2]int]journalEntry // by member: what it has under way, by key and number
	faults []string
	done   int
	again  int
	most   int // under way at a time in one member
}

func newKeyCheck(keys int) *keyCheck {
	return &keyCheck{next: make([]int, keys), under: make(map[string]map[[2]int]journalEntry)}
}

func (c *keyCheck) add(e journalEntry) {
	under := c.under[e.member]
	if under == nil {
		under = make(map[[2]int]journalEntry)
		c.under[e.member] = under
	}
	this := [2]int{e.key, e.n}
	switch e.what {
	case begins:
		if e.n > c.next[e.key] {
			c.faults = append(c.faults, e.String()+" before the one before was done")
		}
		under[this] = e
		c.most = max(c.most, len(under))
	case abandons:
		delete(under, this)
	case ends:
		delete(under, this)
		for other := range under {
			if other[0] == e.key {
				c.faults = append(c.faults, e.String()+" while it has another one of the key under way")
			}
		}
		if e.n == c.next[e.key] {
			c.next[e.key]++
			c.done++
		} else {
			c.again++
		}
	}
}

// check wants every record handled, those of a key in order.
func (g *journalGroup) check() *keyCheck {
	g.Helper()
	c := newKeyCheck(len(g.sent))
	for _, e := range g.entries() {
		c.add(e)
	}
	for key, n := range g.sent {
		if c.next[key] != n {
			g.Errorf("key %d: %d records were sent, and all up to number %d were handled", key, n, c.next[key])
		}
	}
	for _, fault := range c.faults[:min(len(c.faults), 20)] {
		g.Error(fault)
	}
	return c
}
