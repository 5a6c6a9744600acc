package network

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
)

// TCP is the network between machines. The zero value is plain TCP.
//
// For TLS set both configurations. Certificates that change without a restart
// come from their callbacks (GetCertificate, GetClientCertificate,
// GetConfigForClient); so do authorities, see Connect. Brokers authenticate each
// other if the one for accepting has ClientAuth set. A certificate proves that its
// owner may be a broker, not which one.
type TCP struct {
	// Accept is the configuration of the side that listens. Nil is plain TCP.
	Accept *tls.Config

	// Connect is the configuration of the side that dials. Nil is plain TCP.
	// ServerName defaults to the host that is dialled. Its GetConfigForClient, which
	// crypto/tls asks only when it accepts, is asked before each connection as well,
	// with that host as ServerName: crypto/tls has no such thing for who dials.
	Connect *tls.Config
}

var _ Network = TCP{}

// keepAlive finds peers that are gone where nothing is sent for long; the
// pings of a Link are faster.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// Listen implements Network. An address is host:port; port 0 picks a free one.
func (n TCP) Listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		addr = ":0"
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: %s", mqerr.ErrAddrInUse, addr)
	case err != nil:
		return nil, err
	case n.Accept != nil:
		return tls.NewListener(l, n.Accept), nil
	}
	return l, nil
}

// Dial implements Network.
func (n TCP) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	if n.Connect == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	conf, err := DialConfig(n.Connect, addr)
	if err != nil {
		return nil, err
	}
	td := tls.Dialer{NetDialer: &d, Config: conf}
	return td.DialContext(ctx, "tcp", addr)
}

// DialConfig is the configuration for a connection to addr: what conf's
// GetConfigForClient says if it has one, else conf.
func DialConfig(conf *tls.Config, addr string) (*tls.Config, error) {
	if conf.GetConfigForClient == nil {
		return conf, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	now, err := conf.GetConfigForClient(&tls.ClientHelloInfo{ServerName: host})
	if now == nil {
		now = conf
	}
	return now, err
}
