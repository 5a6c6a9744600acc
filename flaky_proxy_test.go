package mq_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/raftmq/mq"
)

// proxy stands between clients and a broker and is not to be relied on.
type proxy struct {
	lis    net.Listener
	wg     sync.WaitGroup
	cuts   atomic.Int64
	opened atomic.Int64

	mu struct {
		sync.Mutex
		target string
		rand   *rand.Rand // nil while connections are left alone
		left   int        // how many are still to be cut
		mute   bool       // connections are accepted, and nothing is ever answered
		conns  map[net.Conn]struct{}
		closed bool
	}
}

// newProxy opens a proxy that ends with the test. It forwards to nowhere at
// first, which looks like a broker that just died.
func newProxy(t testing.TB) *proxy {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{lis: lis}
	p.mu.conns = map[net.Conn]struct{}{}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.mu.closed = true
		p.mu.Unlock()
		lis.Close()
		p.cutAll()
		p.wg.Wait()
	})
	return p
}

// openBehind opens a broker that tells clients the proxy's address, and a client.
func (p *proxy) openBehind(t testing.TB, d door) *site {
	t.Helper()
	s := &site{door: d, cfg: mq.BrokerConfig{Listen: "127.0.0.1:0", Advertise: p.addr(), MinFreeBytes: -1}}
	if d.disk {
		s.cfg.DataDir = t.TempDir()
	}
	s.start(t)
	t.Cleanup(func() { s.broker.Close() })
	p.forward(s.broker.Addr())
	s.client = dialBroker(t, p.addr())
	return s
}

func (p *proxy) addr() string { return p.lis.Addr().String() }

// forward makes new connections go to an address.
func (p *proxy) forward(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.target, p.mu.mute = target, false
}

// mute swallows what comes and answers nothing, on old and new connections.
func (p *proxy) mute() {
	p.mu.Lock()
	p.mu.mute = true
	p.mu.Unlock()
	p.cutAll()
}

// cutAtRandom gives each of the next n connections a random number of bytes
// that it may bring back from the broker before it is cut.
func (p *proxy) cutAtRandom(r *rand.Rand, n int) {
	p.mu.Lock()
	p.mu.rand, p.mu.left = rand.New(rand.NewPCG(r.Uint64(), r.Uint64())), n // r is the caller's
	p.mu.Unlock()
	p.cutAll()
}

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.mu.conns {
		c.Close()
	}
}

func (p *proxy) accept() {
	for {
		c, err := p.lis.Accept()
		if err != nil {
			return
		}
		p.opened.Add(1)
		p.wg.Go(func() { p.serve(c) })
	}
}

// track keeps a connection to be cut; false when it is too late for that.
func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		c.Close()
		return false
	}
	p.mu.conns[c] = struct{}{}
	return true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.track(client) {
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.mu.conns, client)
		p.mu.Unlock()
	}()
	p.mu.Lock()
	target, mute, budget := p.mu.target, p.mu.mute, int64(-1)
	if p.mu.left > 0 {
		p.mu.left--
		// From a few answers to some hundred.
		budget = 1 << (9 + p.mu.rand.IntN(6))
	}
	p.mu.Unlock()
	if mute {
		_, _ = io.Copy(io.Discard, client)
		return
	}
	broker, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer broker.Close()
	p.wg.Go(func() {
		_, _ = io.Copy(broker, client)
		broker.Close()
	})
	if budget < 0 {
		_, _ = io.Copy(client, broker)
		return
	}
	// What the broker answered behind this is lost, though it did what it was
	// asked to.
	if n, _ := io.CopyN(client, broker, budget); n == budget {
		p.cuts.Add(1)
	}
	if tcp, ok := client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
