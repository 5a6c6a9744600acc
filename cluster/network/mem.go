package network

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/raftmq/mq/internal/mqerr"
)

// Mem is a network inside the process: brokers that were given the same one
// reach each other and nobody else. It opens no socket, and its connections
// buffer nothing. The zero value is ready.
type Mem struct {
	mu struct {
		sync.Mutex
		listeners map[string]*memListener
		names     int // given out so far
	}
}

var _ Network = (*Mem)(nil)

// Listen implements Network. An address is any name; an empty one is made up.
func (m *Mem) Listen(_ context.Context, addr string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.listeners == nil {
		m.mu.listeners = make(map[string]*memListener)
	}
	for addr == "" {
		m.mu.names++
		addr = fmt.Sprintf("mem:%d", m.mu.names) // as host and port
		if m.mu.listeners[addr] != nil {
			addr = ""
		}
	}
	if m.mu.listeners[addr] != nil {
		return nil, fmt.Errorf("%w: %s", mqerr.ErrAddrInUse, addr)
	}
	l := &memListener{mem: m, addr: memAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
	m.mu.listeners[addr] = l
	return l, nil
}

// Dial implements Network.
func (m *Mem) Dial(ctx context.Context, addr string) (net.Conn, error) {
	m.mu.Lock()
	l := m.mu.listeners[addr]
	m.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: nobody listens", addr)
	}
	near, far := net.Pipe()
	var err error
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("dial %s: %w", addr, err)
}

type memListener struct {
	mem    *Mem
	addr   memAddr
	conns  chan net.Conn // unbuffered: who dials waits until it is accepted
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memListener) Close() error {
	l.once.Do(func() {
		l.mem.mu.Lock()
		delete(l.mem.mu.listeners, string(l.addr))
		l.mem.mu.Unlock()
		close(l.closed)
	})
	return nil
}

// Addr implements net.Listener.
func (l *memListener) Addr() net.Addr { return l.addr }

type memAddr string

// Network implements net.Addr.
func (memAddr) Network() string { return "mem" }

// String implements net.Addr.
func (a memAddr) String() string { return string(a) }
