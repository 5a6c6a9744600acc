package mq

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/transport"
)

// ClusterConfig says how a broker finds the others of its cluster. The zero value
// is a broker that stays alone.
//
// The first broker of a cluster has no Seeds, or Bootstrap. Others name some
// broker that is there, and are let in when they are opened for the first time;
// which one does not matter. A broker that was alone, with data, becomes the first
// of several by being opened with Listen or Network.
type ClusterConfig struct {
	// Listen is the host:port at which other brokers reach this one; port 0 picks
	// one. Default "", none. Kafka: the listener of inter.broker.listener.name.
	Listen string `yaml:"listen"`

	// Advertise is the host:port that other brokers are told to use. Default the
	// address listened on, which must then name a host that they reach. It may
	// change whenever the broker is opened.
	Advertise string `yaml:"advertise"`

	// Seeds are where brokers of the cluster listen for brokers, one or more. They
	// are needed until the broker belongs to a cluster, and later on if the others
	// may have moved meanwhile. Kafka:
	// controller.quorum.bootstrap.servers.
	Seeds []string `yaml:"seeds"`

	// Bootstrap makes a new broker form a cluster although it has Seeds, so that
	// all brokers can have the same list. Exactly one may have it. It is refused
	// when a seed belongs to a cluster already, and means nothing later on.
	Bootstrap bool `yaml:"bootstrap"`

	// CatchUpBytesPerSecond bounds the copies of partitions that this broker sends to
	// new ones, and to those that were away for long, all together, so that producers
	// hardly notice. Default 64 MiB; negative means no bound. Kafka:
	// leader.replication.throttled.rate.
	CatchUpBytesPerSecond int64 `yaml:"catch_up_bytes_per_second"`

	// TLS, when set, is how brokers prove to each other that they belong together:
	// each shows its certificate, to those it reaches and to those that reach it, and
	// takes only those that RootCAs signed. It needs both, and TLS 1.3. What its
	// GetConfigForClient returns, if it has one, counts for each connection in either
	// direction, so certificates and authorities can change without a restart.
	// Default nil, plain text.
	TLS *tls.Config `yaml:"-"`

	// Network connects the brokers. Default TCP with TLS, or nothing if Listen is
	// empty. NewNetwork makes one inside the process, on which Listen and Seeds are
	// names of the caller's choice.
	Network Network `yaml:"-"`

	// Faults are what goes wrong on purpose on a Network, for tests.
	Faults *network.Faults `yaml:"-"`
}

// Network connects the brokers of a cluster: one that NewNetwork makes, or
// network.TCP with certificates.
type Network = network.Network

// NewNetwork makes a network inside the process, for brokers that are opened with
// it. It opens no socket.
func NewNetwork() Network { return &network.Mem{} }

func (c ClusterConfig) withDefaults() ClusterConfig {
	if c.Network == nil && c.Listen != "" {
		c.Network = peerNetwork(c.TLS)
	}
	if c.CatchUpBytesPerSecond == 0 {
		c.CatchUpBytesPerSecond = 64 << 20
	}
	return c
}

func (c ClusterConfig) faults() (faults []error) {
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf("cluster: "+format, args...))
		}
	}
	if err := c.tlsFault(); err != nil {
		add(true, "TLS: %w", err)
	}
	add(len(c.Seeds) > 0 && c.Network == nil, "seeds: need listen")
	add(c.Advertise != "" && c.Network == nil, "advertise: needs listen")
	add(c.Bootstrap && c.Network == nil, "bootstrap: needs listen")
	if _, tcp := c.Network.(network.TCP); tcp {
		for _, addr := range append([]string{c.Listen, c.Advertise}, c.Seeds...) {
			if addr != "" {
				err := addrFault(addr)
				add(err != nil, "%w", err)
			}
		}
	}
	return faults
}

// listen opens what clients connect to: a socket if one is asked for, or a place
// on the network inside the process, where the others' own clients come.
func (b *Broker) listen(ctx context.Context) (net.Listener, error) {
	switch _, inside := b.cfg.Cluster.Network.(*network.Mem); {
	case b.cfg.Listen != "":
		return transport.Listen(ctx, b.cfg.Listen)
	case b.machine != nil:
		return b.cfg.Cluster.Network.Listen(ctx, b.machine.ClientAddr)
	case inside:
		return b.cfg.Cluster.Network.Listen(ctx, "")
	}
	return nil, nil
}

// dial connects this broker's own clients with another broker.
func (b *Broker) dial(ctx context.Context, id int32, addr string) (route.Conn, error) {
	if addr == "" {
		return nil, fmt.Errorf("%w: broker %d has no address for clients: it needs Listen", ErrLeaderNotAvailable, id)
	}
	secure, err := b.cfg.dialTLS(addr)
	if err != nil {
		return nil, err
	}
	cfg := transport.ClientConfig{TLS: secure}
	switch {
	case b.machine != nil:
		cfg.DialContext = b.machine.Dial
	case strings.HasPrefix(addr, "mem:"):
		cfg.DialContext = b.cfg.Cluster.Network.Dial
	}
	return transport.Dial(ctx, addr, cfg)
}
