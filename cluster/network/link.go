package network

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/raftmq/mq/internal/mqerr"
)

// Link is a broker's place on a network. Safe for concurrent use.
type Link struct {
	cfg      Config
	log      *slog.Logger
	net      Network
	listener net.Listener
	self     atomic.Pointer[Identity]
	throttle throttle
	raft     atomic.Pointer[raftTransport] // nil while no NodeHost is started
	stats    counters

	mu struct {
		sync.Mutex
		closed   bool
		peers    map[string]*peer
		conns    map[*conn]struct{}
		accepted int             // of conns
		refused  map[string]bool // what the log knows
	}
	handshakes chan struct{}   // a token each
	ctx        context.Context // the link's lifetime
	stop       context.CancelFunc
	work       sync.WaitGroup // every goroutine of the link
	closing    struct {
		sync.Once
		err error
	}
}

// Attach gives a broker its place on a network and listens there. ctx bounds
// the call only. Close it when nobody uses it any more.
func Attach(ctx context.Context, n Network, cfg Config) (*Link, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	listener, err := n.Listen(ctx, cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for brokers: %w", err)
	}
	setDefault(&cfg.Self.Addr, listener.Addr().String())
	l := &Link{
		cfg: cfg, log: cfg.Logger, net: n, listener: listener,
		throttle:   throttle{clock: cfg.Clock},
		handshakes: make(chan struct{}, maxHandshakes),
	}
	l.throttle.setRate(cfg.SnapshotBytesPerSecond)
	l.self.Store(&cfg.Self)
	l.mu.peers = make(map[string]*peer)
	l.mu.conns = make(map[*conn]struct{})
	l.mu.refused = make(map[string]bool)
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.work.Go(l.accept)    // ends with the listener
	l.work.Go(l.keepAlive) // ends with ctx
	return l, nil
}

// Addr is the address at which the link listens.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Self is the broker's own identity.
func (l *Link) Self() Identity { return *l.self.Load() }

// SetCluster tells to which cluster the broker belongs when it has joined one.
// It can be set once.
func (l *Link) SetCluster(id string) error {
	self := l.Self()
	if id == "" || len(id) > maxName || self.ClusterID != "" && self.ClusterID != id {
		return fmt.Errorf("%w: broker of cluster %q can't join cluster %q", mqerr.ErrInvalidRequest, self.ClusterID, id)
	}
	self.ClusterID = id
	l.self.Store(&self)
	return nil
}

// SetSnapshotRate changes the bound on snapshot chunks sent, in bytes per
// second for all peers together; not positive means unlimited.
func (l *Link) SetSnapshotRate(bytesPerSecond int64) { l.throttle.setRate(bytesPerSecond) }

// Call asks the broker with a directory id and returns its answer, which is the
// caller's. The payload is the caller's again when it returns. Errors:
// mqerr.ErrLeaderNotAvailable if the call never left this broker,
// mqerr.ErrTimeout if it did and the outcome is unknown, with the cause of ctx
// if that has ended; mqerr.ErrBusy at a limit; mqerr.ErrInvalidRequest for one
// that is too large; mqerr.ErrClosed; and what the other broker answered.
func (l *Link) Call(ctx context.Context, to, method string, payload []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s of %s: %w: %w", method, to, mqerr.ErrLeaderNotAvailable, context.Cause(ctx))
	}
	c, err := l.peer(to).calls.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", method, to, err)
	}
	answer, err := c.call(ctx, method, payload)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", method, to, err)
	}
	return answer, nil
}

// CallAddr asks whichever broker listens at an address, over a connection of
// its own, and tells who it is. That broker may belong to no cluster, or this
// one may: it is how they find each other. Errors are those of Call.
func (l *Link) CallAddr(ctx context.Context, addr, method string, payload []byte) (Identity, []byte, error) {
	if l.ctx.Err() != nil {
		return Identity{}, nil, mqerr.ErrClosed
	}
	c, err := l.dial(ctx, addr, "", classCalls)
	if err != nil {
		return Identity{}, nil, fmt.Errorf("%w: %s at %s: %w", mqerr.ErrLeaderNotAvailable, method, addr, err)
	}
	defer c.bye()
	answer, err := c.call(ctx, method, payload)
	if err != nil {
		return c.peer, nil, fmt.Errorf("%s at %s: %w", method, addr, err)
	}
	return c.peer, answer, nil
}

// Close ends all connections and waits for everything that the link started.
// Calls in flight have an unknown outcome. It is idempotent.
func (l *Link) Close() error {
	l.closing.Do(func() {
		l.mu.Lock()
		l.mu.closed = true
		l.mu.Unlock()
		l.stop()
		l.closing.err = l.listener.Close()
		l.work.Wait()
	})
	return l.closing.err
}

// start runs fn on a goroutine that Close waits for, unless it is too late.
func (l *Link) start(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return false
	}
	l.work.Go(fn)
	return true
}

func (l *Link) peer(id string) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.mu.peers[id]
	if p == nil {
		p = newPeer(l, id)
		l.mu.peers[id] = p
	}
	return p
}

// keepAlive looks after all connections.
func (l *Link) keepAlive() {
	for l.cfg.Clock.Sleep(l.ctx, l.cfg.KeepAlive) == nil {
		for _, c := range l.conns() {
			c.look()
		}
	}
}

func (l *Link) conns() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.mu.conns))
}

// add takes a connection into the link's care, unless it is too late.
func (l *Link) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return false
	}
	l.mu.conns[c] = struct{}{}
	if !c.dialled {
		l.mu.accepted++
	}
	l.work.Go(func() {
		if c.of != nil {
			c.of.up(c)
		}
		c.run()
		l.cfg.Faults.ended(c)
		l.mu.Lock()
		delete(l.mu.conns, c)
		if !c.dialled {
			l.mu.accepted--
		}
		l.mu.Unlock()
		if c.of != nil {
			c.of.down(c) // before anything that may take time: somebody may have died
		}
		c.served.wait()
	})
	return true
}
