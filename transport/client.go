package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// ClientConfig configures Dial. The zero value is fine.
type ClientConfig struct {
	// TLS, when set, makes the connection a TLS one; an address with https://
	// does so too, with the system's roots.
	TLS *tls.Config

	// MaxInFlight and MaxInFlightBytes bound the produce requests that were
	// handed over and are not answered. When one is reached Produce waits. A
	// request above MaxInFlightBytes is sent alone. Default 1024, and 32 MiB.
	MaxInFlight      int
	MaxInFlightBytes int

	// AdminTimeout bounds a call that changes topics when its ctx has no
	// deadline. Default 30s; negative means no bound. Other calls get none.
	AdminTimeout time.Duration

	// DialContext replaces the network, in tests. The address is host:port.
	DialContext func(ctx context.Context, addr string) (net.Conn, error)
}

// A broker that comes back is found within the longest back-off.
const (
	minBackoff  = 50 * time.Millisecond
	maxBackoff  = time.Second
	dialTimeout = 5 * time.Second
)

func (c ClientConfig) withDefaults() ClientConfig {
	setDefault(&c.MaxInFlight, 1024)
	setDefault(&c.MaxInFlightBytes, 32<<20)
	setDefault(&c.AdminTimeout, 30*time.Second)
	if c.DialContext == nil {
		c.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	return c
}

func (c ClientConfig) validate() error {
	return errors.Join(notNegative("MaxInFlight", c.MaxInFlight), notNegative("MaxInFlightBytes", c.MaxInFlightBytes))
}

// Client is an api.Broker on the other side of one connection. The connection
// is made when it is first needed and made again when it was lost. All methods
// are safe for concurrent use.
type Client struct {
	addr    string
	cfg     ClientConfig
	conn    *grpc.ClientConn
	rpc     mqpb.BrokerClient
	produce *producePipe
	closed  chan struct{}
	close   func() error // once

	dialFault atomic.Pointer[error] // of the last attempt to connect; nil: it worked
}

var _ api.Broker = (*Client)(nil)

// Dial makes a Client of the broker at addr: host:port, with http:// before it
// or, for TLS, https://. It does not wait for the broker, which need not be up;
// WaitConnected does. ctx is for the making only and may end afterwards.
func Dial(ctx context.Context, addr string, cfg ClientConfig) (*Client, error) {
	if err := errors.Join(ctx.Err(), cfg.validate()); err != nil {
		return nil, err
	}
	hostPort, creds, err := parseAddr(addr, cfg.TLS)
	if err != nil {
		return nil, err
	}
	c := &Client{addr: hostPort, cfg: cfg.withDefaults(), closed: make(chan struct{})}
	// "passthrough": every attempt resolves the name anew.
	c.conn, err = grpc.NewClient("passthrough:///"+hostPort, c.options(creds)...)
	if err != nil {
		return nil, fmt.Errorf("%w: address %q: %w", mqerr.ErrInvalidConfig, addr, err)
	}
	c.rpc = mqpb.NewBrokerClient(c.conn)
	c.produce = newProducePipe(c)
	c.close = sync.OnceValue(func() error {
		close(c.closed)
		c.produce.close()
		return c.conn.Close()
	})
	return c, nil
}

func (c *Client) options(creds credentials.TransportCredentials) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(c.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: pingTimeout}),
		grpc.WithInitialWindowSize(windowBytes),
		grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithStatsHandler(departures{}),
		// A client trusts its broker: an answer must never be too large to be
		// received, or a consumer would be stuck at it for good.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	}
}

// dial connects, and keeps the fault: grpc gives it back as words only.
func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.cfg.DialContext(ctx, addr)
	if err != nil {
		c.dialFault.Store(&err)
		return nil, err
	}
	c.dialFault.Store(nil)
	return conn, nil
}

// fault is what is wrong with the connection, st being what grpc says.
func (c *Client) fault(st *status.Status) error {
	if err := c.dialFault.Load(); err != nil {
		return *err
	}
	text := st.Message()
	if strings.Contains(text, "server preface") && strings.Contains(text, net.ErrClosed.Error()) { // by us, after a while
		text = "takes connections and says nothing"
	}
	return fmt.Errorf("broker %s: %s", c.addr, text)
}

// parseAddr splits the scheme, which decides about TLS, from host:port.
func parseAddr(addr string, conf *tls.Config) (string, credentials.TransportCredentials, error) {
	hostPort, plain := strings.CutPrefix(addr, "http://")
	hostPort, secure := strings.CutPrefix(hostPort, "https://")
	hostPort = strings.TrimSuffix(hostPort, "/")
	_, port, err := net.SplitHostPort(hostPort)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 {
		return "", nil, fmt.Errorf("%w: broker address %q is not host:port", mqerr.ErrInvalidConfig, addr)
	}
	switch {
	case plain && (secure || conf != nil):
		return "", nil, fmt.Errorf("%w: broker address %q says http, but TLS is configured", mqerr.ErrInvalidConfig, addr)
	case secure || conf != nil:
		return hostPort, newClientTLS(conf), nil
	}
	return hostPort, insecure.NewCredentials(), nil
}

// Addr is the host:port dialled.
func (c *Client) Addr() string { return c.addr }

// WaitConnected waits until the broker answers, whether it calls itself ready
// or not. When ctx ends first, the error holds ctx's, ErrLeaderNotAvailable,
// and what kept the connection from being made.
func (c *Client) WaitConnected(ctx context.Context) error {
	check := grpc_health_v1.NewHealthClient(c.conn)
	for {
		_, err := check.Check(withVersion(ctx), &grpc_health_v1.HealthCheckRequest{Service: serviceName}, grpc.WaitForReady(true))
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w: %w", mqerr.ErrLeaderNotAvailable, ctx.Err(), c.fault(status.Convert(err)))
		case status.Code(err) == codes.NotFound:
			return fmt.Errorf("%w: %s is not an mq broker", mqerr.ErrUnsupportedVersion, c.addr)
		case status.Code(err) != codes.Unavailable:
			return c.callError(ctx, err, false)
		}
		select { // it was there and went
		case <-time.After(minBackoff):
		case <-ctx.Done():
		}
	}
}

// Close breaks the connection and waits for every goroutine of the Client. A
// produce request without an answer is done with ErrTimeout if it had left,
// else, like every later call, with ErrClosed. Close may be called more than
// once, but not by a callback of Produce.
func (c *Client) Close() error { return c.close() }
