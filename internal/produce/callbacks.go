package produce

import (
	"cmp"
	"slices"
	"sync"
)

// outcome is what a run of records is to be told. The result is that of the
// first; the offsets of the others follow.
type outcome struct {
	entries []entry
	result  Result
}

// callbacks settles promises, on one goroutine, in the order of push. What it
// holds is bounded by the budget, because only a settled record gives its room
// back.
type callbacks struct {
	engine *Engine
	wake   chan struct{} // capacity 1
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		pending []outcome
		stopped bool
	}
}

func (c *callbacks) start(e *Engine) {
	c.engine = e
	c.wake = make(chan struct{}, 1)
	c.wg.Go(c.run) // ends with stop
}

// stop waits until everything that was pushed is settled.
func (c *callbacks) stop() {
	c.mu.Lock()
	c.mu.stopped = true
	c.mu.Unlock()
	c.signal()
	c.wg.Wait()
}

func (c *callbacks) push(o outcome) {
	c.mu.Lock()
	c.mu.pending = append(c.mu.pending, o)
	c.mu.Unlock()
	c.signal()
}

func (c *callbacks) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *callbacks) run() {
	var work []outcome
	for {
		c.mu.Lock()
		work, c.mu.pending = c.mu.pending, work[:0]
		stopped := c.mu.stopped
		c.mu.Unlock()
		for i := range work {
			c.settle(&work[i])
			work[i] = outcome{}
		}
		if len(work) > 0 {
			continue
		}
		if stopped {
			return
		}
		<-c.wake
	}
}

func (c *callbacks) settle(o *outcome) {
	records, bytes := 0, 0
	result := o.result
	for i := range o.entries {
		en := &o.entries[i]
		if en.Promise == nil {
			continue // settled before
		}
		if o.result.Err == nil && o.result.Offset >= 0 {
			result.Offset = o.result.Offset + int64(i)
		}
		en.Promise.Settle(result)
		records++
		bytes += en.size
	}
	c.engine.settled(o, records, bytes)
}

// settled gives back what settled records held.
func (e *Engine) settled(o *outcome, records, bytes int) {
	if records == 0 {
		return
	}
	e.buffer.release(records, bytes)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range o.entries {
		if en := &o.entries[i]; en.Promise != nil && en.gen.settle(o.result.Err) {
			e.forgetLocked(en.gen)
		}
	}
}

func (e *Engine) forgetLocked(g *generation) {
	e.mu.earlier = slices.DeleteFunc(e.mu.earlier, func(other *generation) bool { return other == g })
}

// generation counts the records between two calls of Flush.
type generation struct {
	pending int
	ended   bool // no more are added
	err     error
	done    chan struct{} // closed when ended and nothing is pending
}

func newGeneration() *generation { return &generation{done: make(chan struct{})} }

func (g *generation) add(en *entry) {
	en.gen = g
	g.pending++
}

// end reports whether records are pending.
func (g *generation) end() bool {
	g.ended = true
	if g.pending == 0 {
		close(g.done)
	}
	return g.pending > 0
}

// settle takes off one record and reports whether it was the last.
func (g *generation) settle(err error) bool {
	g.pending--
	g.err = cmp.Or(g.err, err)
	if g.ended && g.pending == 0 {
		close(g.done)
		return true
	}
	return false
}
