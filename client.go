package mq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/transport"
)

// Endpoint is what producers, consumers and admins work on: a *Broker, which
// they call directly, without a socket, or a *Client. It can't be implemented
// outside this package.
//
// Close what was made from an endpoint before the endpoint. After its Close
// everything made from it fails with ErrClosed.
type Endpoint interface {
	// router returns the one Router of the endpoint.
	router() *route.Router
}

// ClientConfig says how to reach brokers. Brokers is required.
type ClientConfig struct {
	// Brokers are addresses, host:port, of one or more brokers of the cluster;
	// the others are learnt from them. A leading http:// is ignored, https://
	// turns on TLS.
	Brokers []string `yaml:"brokers"`

	// Timeout bounds one attempt to connect and one request for metadata.
	// Default 30s.
	Timeout time.Duration `yaml:"timeout"`

	// MaxRetries is how often Dial tries again when no broker answers. Default
	// 3; NoRetries means never, any other negative number until its ctx ends. A
	// connection that breaks later is always made again.
	MaxRetries int `yaml:"max_retries"`

	// TLS encrypts connections. Default nil, plain text.
	TLS *tls.Config `yaml:"-"`

	// Logger gets the client's log. Default nil, silent.
	Logger *slog.Logger `yaml:"-"`
}

// NoRetries as ClientConfig.MaxRetries makes Dial try once.
const NoRetries = math.MinInt

const (
	defaultClientTimeout = 30 * time.Second
	defaultDialRetries   = 3
)

var dialBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 5 * time.Second}

// withDefaults returns a copy in which every field has its value.
func (c ClientConfig) withDefaults() ClientConfig {
	brokers := make([]string, len(c.Brokers))
	for i, addr := range c.Brokers {
		rest, secure := strings.CutPrefix(addr, "https://")
		if secure && c.TLS == nil {
			c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		brokers[i] = strings.TrimSuffix(strings.TrimPrefix(rest, "http://"), "/")
	}
	c.Brokers = brokers
	if c.Timeout == 0 {
		c.Timeout = defaultClientTimeout
	}
	if c.MaxRetries == 0 {
		c.MaxRetries = defaultDialRetries
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c ClientConfig) validate() error {
	var faults []error
	if len(c.Brokers) == 0 {
		faults = append(faults, errors.New("brokers: at least one address is required"))
	}
	for _, addr := range c.Brokers {
		err := addrFault(addr)
		host, port, _ := net.SplitHostPort(addr)
		if _, named := strconv.Atoi(port); err == nil && (host == "" || named != nil) {
			err = fmt.Errorf("%q is not host:port", addr)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("brokers: %w", err))
		}
	}
	if c.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout: %v is negative", c.Timeout))
	}
	return invalidConfig("client", faults)
}

// addrFault says what is wrong with an address, nil if nothing is. A port may
// have a name.
func addrFault(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if n, err := strconv.Atoi(port); errors.Is(err, strconv.ErrRange) || n < 0 || n > math.MaxUint16 {
		return fmt.Errorf("%q: a port is at most %d", addr, math.MaxUint16)
	}
	return nil
}

// invalidConfig joins the faults of a config, nil when there are none.
func invalidConfig(what string, faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w of the %s: %w", mqerr.ErrInvalidConfig, what, errors.Join(faults...))
}

// Client is a connection to a cluster: an Endpoint for brokers elsewhere. It
// finds the leaders of partitions, follows them, and connects again by itself
// when brokers restart. Safe for concurrent use.
type Client struct {
	route *route.Router
}

// Dial connects to a cluster. It returns when one of cfg.Brokers answered; when
// none did after cfg.MaxRetries further rounds, or ctx ended, the error holds
// ErrLeaderNotAvailable or ctx's, and names every address and what is wrong
// with it. ctx bounds only the connecting.
func Dial(ctx context.Context, cfg ClientConfig) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{route: route.New(route.Config{
		Seeds:   cfg.Brokers,
		Dial:    cfg.dial,
		Timeout: cfg.Timeout,
		Logger:  cfg.Logger,
	})}
	if err := c.connect(ctx, cfg); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Client) connect(ctx context.Context, cfg ClientConfig) error {
	retries := cfg.MaxRetries
	var before error // why the round before failed
	for failures := 1; ; failures++ {
		err := c.route.Refresh(ctx)
		switch {
		case ctx.Err() != nil && err != nil && before != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), before)
		case ctx.Err() != nil && err != nil:
			return fmt.Errorf("no answer from %s: %w", strings.Join(cfg.Brokers, ", "), err)
		case err == nil, retries >= 0 && failures > retries, retries == NoRetries:
			return err
		}
		if ended := backoff.Sleep(ctx, dialBackoff.Delay(failures)); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
		before = err
	}
}

// Close closes the connections. What was made from the client fails from then
// on. Close may be called more than once.
func (c *Client) Close() error { return c.route.Close() }

func (c *Client) router() *route.Router { return c.route }

// dial connects to one broker. Any of them tells the addresses of all, so the
// id does not matter here.
func (c ClientConfig) dial(ctx context.Context, _ int32, addr string) (route.Conn, error) {
	return transport.Dial(ctx, addr, transport.ClientConfig{TLS: c.TLS})
}
