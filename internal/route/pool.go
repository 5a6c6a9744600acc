package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// pool holds one connection per address, or per broker where there is none.
type pool struct {
	ctx     context.Context // the Router's
	dial    func(ctx context.Context, id int32, addr string) (Conn, error)
	timeout time.Duration
	wg      sync.WaitGroup // dials under way

	mu struct {
		sync.Mutex
		closed bool
		conns  map[string]*dialed // by connKey
	}
}

// dialed is a connection or the attempt to make it.
type dialed struct {
	done chan struct{} // closed when conn or err is there
	conn Conn
	err  error
}

func connKey(id int32, addr string) string {
	if addr == "" {
		return fmt.Sprintf("broker %d", id)
	}
	return addr
}

func newPool(ctx context.Context, dial func(ctx context.Context, id int32, addr string) (Conn, error), timeout time.Duration) *pool {
	p := &pool{ctx: ctx, dial: dial, timeout: timeout}
	p.mu.conns = map[string]*dialed{}
	return p
}

// get returns the connection to a broker and makes it if need be. An attempt
// is shared by all who wait for it; one who leaves does not end it.
func (p *pool) get(ctx context.Context, id int32, addr string) (api.Broker, error) {
	if p.dial == nil {
		return nil, fmt.Errorf("broker %d: no way to reach it: %w", id, mqerr.ErrLeaderNotAvailable)
	}
	p.mu.Lock()
	if p.mu.closed {
		p.mu.Unlock()
		return nil, mqerr.ErrClosed
	}
	key := connKey(id, addr)
	d := p.mu.conns[key]
	if d == nil {
		d = &dialed{done: make(chan struct{})}
		p.mu.conns[key] = d
		p.wg.Go(func() { p.connect(d, key, id, addr) }) // ends at the timeout or with the Router
	}
	p.mu.Unlock()

	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pool) connect(d *dialed, key string, id int32, addr string) {
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	d.conn, d.err = p.dial(ctx, id, addr)
	if d.err != nil {
		p.mu.Lock()
		if p.mu.conns[key] == d {
			delete(p.mu.conns, key) // the next get tries again
		}
		p.mu.Unlock()
	}
	close(d.done)
}

// keep closes connections that are not in use any more.
func (p *pool) keep(inUse map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, d := range p.mu.conns {
		if inUse[key] {
			continue
		}
		select {
		case <-d.done:
			delete(p.mu.conns, key)
			p.wg.Go(func() { _ = d.conn.Close() }) // not under the lock; nothing is lost if it fails
		default: // still being made: the next refresh closes it
		}
	}
}

// close closes everything; the Router's context has ended.
func (p *pool) close() error {
	p.mu.Lock()
	conns := p.mu.conns
	p.mu.conns, p.mu.closed = map[string]*dialed{}, true
	p.mu.Unlock()
	p.wg.Wait()
	var errs []error
	for _, d := range conns {
		<-d.done
		if d.err == nil {
			errs = append(errs, d.conn.Close())
		}
	}
	return errors.Join(errs...)
}
