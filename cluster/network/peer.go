package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
)

// retry is how attempts to connect follow each other: never more than a second
// apart.
var retry = backoff.Policy{Base: 20 * time.Millisecond, Max: 800 * time.Millisecond}

// outage is how far apart connections may break and still tell of one event.
const outage = time.Second

// peer is what is known of another broker. It is kept for good: there are as
// many as there ever were brokers.
type peer struct {
	link      *Link
	id        string // its directory id
	calls     *route
	snapshots *route
	seen      atomic.Uint64 // grows when the peer connects: then it can be reached too
	mu        struct {
		sync.Mutex
		broken  bool      // OnBroken was told, and there was no new connection since
		told    time.Time // when
		trouble string    // what was logged last, "" when all is well
	}
}

func newPeer(l *Link, id string) *peer {
	p := &peer{link: l, id: id}
	p.calls, p.snapshots = p.newRoute(classCalls), p.newRoute(classSnapshot)
	return p
}

// up is told of every connection with the peer.
func (p *peer) up(c *conn) {
	if !c.dialled {
		p.seen.Add(1)
	}
	p.mu.Lock()
	p.mu.broken = false
	trouble := p.mu.trouble
	p.mu.trouble = ""
	p.mu.Unlock()
	if trouble != "" {
		p.link.log.Info("broker can be reached again", "peer", p.id, "address", c.peer.Addr)
	}
}

// down is told when a connection with the peer has ended.
func (p *peer) down(c *conn) {
	cause := context.Cause(c.ctx)
	if errors.Is(cause, errBye) || p.link.ctx.Err() != nil {
		return
	}
	p.link.stats.broken.Add(1)
	now := p.link.cfg.Clock.Now()
	p.mu.Lock()
	known := p.mu.broken && now.Sub(p.mu.told) < outage
	if !known {
		p.mu.broken, p.mu.told = true, now
	}
	p.mu.Unlock()
	if known {
		return
	}
	p.link.log.Info("connection with a broker broke", "peer", p.id, "for", c.class, "error", cause)
	if h := p.link.cfg.Handlers.OnBroken; h != nil {
		h(p.id)
	}
}

// failed is told of every failed attempt to connect. The log gets the first of
// its kind.
func (p *peer) failed(err error) {
	level, text, trouble := slog.LevelInfo, "broker can't be reached", "unreachable"
	var refused *RefusedError
	if errors.As(err, &refused) {
		level, text, trouble = slog.LevelWarn, "broker refuses this one", refused.Text
	}
	if errors.Is(err, ErrNoCluster) { // it is being let in
		level, refused = slog.LevelInfo, nil
	}
	p.mu.Lock()
	same := p.mu.trouble == trouble
	p.mu.trouble = trouble
	p.mu.Unlock()
	if same {
		return
	}
	p.link.log.Log(p.link.ctx, level, text, "peer", p.id, "error", err)
	if h := p.link.cfg.Handlers.OnRefused; h != nil && refused != nil {
		h(p.id, refused)
	}
}

// route is a way to a peer for one class of traffic: a connection when there is
// one, and otherwise when the next attempt may be.
type route struct {
	peer  *peer
	class class
	mu    struct {
		sync.Mutex
		conn     *conn
		attempt  *attempt // under way, nil if there is none
		failures int      // in a row
		err      error    // of the last attempt
		seen     uint64   // peer.seen before it
		next     time.Time
		closed   bool
	}
}

// attempt is an attempt to connect that several may wait for.
type attempt struct {
	done chan struct{} // closed when conn and err are set
	conn *conn
	err  error
}

func (p *peer) newRoute(cl class) *route { return &route{peer: p, class: cl} }

// get returns a connection. It waits for an attempt to make one, but while the
// next attempt has to wait it fails with the error of the last one. Errors are
// mqerr.ErrLeaderNotAvailable, or ErrClosed if the link is.
func (r *route) get(ctx context.Context) (*conn, error) {
	a, c, err := r.current()
	if a == nil {
		return c, err
	}
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: connecting: %w", mqerr.ErrLeaderNotAvailable, context.Cause(ctx))
	}
}

func (r *route) current() (*attempt, *conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.peer.link
	if c := r.mu.conn; c != nil {
		if !c.ended() {
			return nil, c, nil
		}
		r.mu.conn = nil
		if lived := l.cfg.Clock.Now().Sub(c.born); lived >= retry.Max {
			r.mu.failures = 0
		} else {
			r.mu.seen = r.peer.seen.Load()
			r.failedLocked(fmt.Errorf("%w: %w: %w", mqerr.ErrLeaderNotAvailable, errEnded, context.Cause(c.ctx)))
		}
	}
	switch {
	case r.mu.closed || l.ctx.Err() != nil:
		return nil, nil, mqerr.ErrClosed
	case r.mu.attempt != nil:
		return r.mu.attempt, nil, nil
	case r.mu.failures > 0 && r.mu.seen == r.peer.seen.Load() && l.cfg.Clock.Now().Before(r.mu.next):
		return nil, nil, r.mu.err
	}
	a := &attempt{done: make(chan struct{})}
	if !l.start(func() { r.connect(a) }) {
		return nil, nil, mqerr.ErrClosed
	}
	r.mu.attempt = a
	return a, nil, nil
}

// connect makes one attempt.
func (r *route) connect(a *attempt) {
	p := r.peer
	seen := p.seen.Load()
	addr, err := p.link.cfg.Resolve(p.id)
	if err == nil {
		a.conn, err = p.link.dial(p.link.ctx, addr, p.id, r.class)
	}
	if err != nil {
		a.err = fmt.Errorf("%w: %w", mqerr.ErrLeaderNotAvailable, err)
	}
	r.mu.Lock()
	r.mu.attempt = nil
	r.mu.conn = a.conn
	if err != nil {
		r.mu.seen = seen
		r.failedLocked(a.err)
	}
	closed := r.mu.closed
	r.mu.Unlock()
	if closed && a.conn != nil {
		a.conn.bye()
	}
	if err != nil && p.link.ctx.Err() == nil {
		p.failed(err)
	}
	close(a.done)
}

func (r *route) failedLocked(err error) {
	r.mu.failures++
	r.mu.err = err
	r.mu.next = r.peer.link.cfg.Clock.Now().Add(retry.Delay(r.mu.failures))
}

// close ends the route and says farewell to its connection.
func (r *route) close() {
	r.mu.Lock()
	r.mu.closed = true
	c := r.mu.conn
	r.mu.Unlock()
	if c != nil {
		c.bye()
	}
}
