package mqtest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/testhook"
)

// outside is where clients are that belong to no broker.
const outside int32 = 0

// pair is a line between brokers, the lower id first.
type pair struct{ a, b int32 }

func between(a, b int32) pair { return pair{min(a, b), max(a, b)} }

// Partition cuts the lines between a broker and others, in both directions, until
// Heal. Nothing sent arrives, and nobody is told.
func (c *Cluster) Partition(a int32, others ...int32) {
	c.tb.Helper()
	for _, b := range others {
		if c.seats[a] == nil || c.seats[b] == nil || a == b {
			c.tb.Fatalf("mqtest: no line between %d and %d", a, b)
		}
		c.parted[between(a, b)] = true
	}
	c.wire()
}

// Isolate cuts a broker off from all others and from all clients but its own,
// until Heal.
func (c *Cluster) Isolate(id int32) {
	c.tb.Helper()
	if c.seats[id] == nil {
		c.tb.Fatalf("mqtest: there is no broker %d", id)
	}
	c.parted[between(outside, id)] = true
	for other := range c.seats {
		if other != id {
			c.parted[between(id, other)] = true
		}
	}
	c.wire()
}

// Heal takes back every Partition and Isolate.
func (c *Cluster) Heal() {
	clear(c.parted)
	c.wire()
}

// Pause makes a broker stand still until Resume, as SIGSTOP does as far as that is
// possible inside a process: nothing it sends arrives, nothing arrives at it, and
// its disk syncs nothing, so it can't acknowledge anything. But its clock runs, and
// it notices that others are silent.
func (c *Cluster) Pause(id int32) {
	c.tb.Helper()
	s := c.running(id)
	if s.resume != nil {
		c.tb.Fatalf("mqtest: broker %d is paused already", id)
	}
	s.state = silent
	c.wire()
	s.resume = s.disk.Pause()
}

// SlowDisk makes each sync of a broker's raft log take longer by so much, until it
// is called with 0 or the broker is restarted.
func (c *Cluster) SlowDisk(id int32, by time.Duration) {
	c.tb.Helper()
	c.running(id).disk.Slow(by)
}

// Resume lets a paused broker go on.
func (c *Cluster) Resume(id int32) {
	c.tb.Helper()
	s := c.running(id)
	if s.resume == nil {
		c.tb.Fatalf("mqtest: broker %d is not paused", id)
	}
	s.wake()
	s.state = up
	c.wire()
}

// wake lets the disk of a paused broker go on.
func (s *seat) wake() {
	if s.resume != nil {
		s.resume()
		s.resume = nil
	}
}

// wire makes the network what it should be.
func (c *Cluster) wire() {
	cut := make(map[pair]bool)
	for _, a := range c.seats {
		if a.state == silent || c.parted[between(outside, a.id)] {
			cut[between(outside, a.id)] = true
		}
		for _, b := range c.seats {
			if a.id >= b.id {
				continue
			}
			line := between(a.id, b.id)
			r := network.Rule{Cut: c.parted[line] || a.state != up || b.state != up, Broken: a.state == dead || b.state == dead}
			c.faults.SetBoth(a.dirID, b.dirID, r)
			cut[line] = r.Cut && !r.Broken
		}
	}
	c.lines.set(cut)
}

// lines are the connections of clients. What network.Faults do to those between
// brokers is done to them here.
type lines struct {
	mu      sync.Mutex
	cut     map[pair]bool
	changed chan struct{} // closed by the next set
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

func (l *lines) set(cut map[pair]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait waits while a line is cut.
func (l *lines) wait(p pair, done <-chan struct{}) error {
	for {
		l.mu.Lock()
		cut, changed := l.cut[p], l.changed
		l.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-done:
			return net.ErrClosed
		}
	}
}

// dialFrom is how clients at a broker, or outside, connect.
func (c *Cluster) dialFrom(from int32) testhook.Dial {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		var to int32
		if _, err := fmt.Sscanf(addr, clientAddrFormat, &to); err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		line := between(from, to)
		if err := c.lines.wait(line, ctx.Done()); err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, context.Cause(ctx))
		}
		conn, err := c.net.Dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &clientConn{Conn: conn, lines: c.lines, line: line, closed: make(chan struct{})}, nil
	}
}

// clientConn is a connection through which nothing comes while its line is cut.
type clientConn struct {
	net.Conn
	lines  *lines
	line   pair
	once   sync.Once
	closed chan struct{}
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if cut := c.lines.wait(c.line, c.closed); cut != nil {
		return 0, cut
	}
	return n, err
}

// Write implements net.Conn.
func (c *clientConn) Write(p []byte) (int, error) {
	if err := c.lines.wait(c.line, c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
