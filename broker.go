package mq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftmq/mq/cluster"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/internal/testhook"
	"github.com/raftmq/mq/internal/topic"
	"github.com/raftmq/mq/transport"
)

// Broker stores records and serves them, to this program directly and, with
// BrokerConfig.Listen, to others over gRPC. It is an Endpoint. Safe for
// concurrent use.
//
// It is a guest in the process: it installs no signal handler, prints nothing
// and never exits. When its disk fails it stops acknowledging, closes, and tells
// by Done and Err. One thing it can't do for its host: when the store can't
// write at all, as on a disk that is entirely full, the raft engine panics rather
// than go on without what it promised. MinFreeBytes stops before that.
type Broker struct {
	cfg     BrokerConfig
	metrics *metrics
	machine *testhook.Machine // of a test, else nil

	// Opened in this order, closed in the other.
	listener net.Listener
	node     *cluster.Node
	route    *route.Router
	server   *transport.Server // nil without Listen

	done     chan struct{}
	watched  chan struct{} // closed when watch has ended
	stopping sync.Mutex    // held by a Shutdown; a second one waits
	state    struct {
		sync.Mutex
		closed bool
		err    error
	}
}

// OpenBroker starts a broker. It returns when the broker's local parts are up;
// a lone broker then serves, one of several may still wait for the others, see
// WaitReady. ctx bounds the start only.
//
// Errors: ErrInvalidConfig, ErrDirInUse, ErrForeignDir, ErrNewerFormat,
// ErrCorruptLog (it names the file), ErrAddrInUse, and ctx's.
func OpenBroker(ctx context.Context, cfg BrokerConfig) (*Broker, error) {
	return openBroker(ctx, cfg, nil)
}

func openBroker(ctx context.Context, cfg BrokerConfig, machine *testhook.Machine) (_ *Broker, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, machine: machine, done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("mq: open broker: %w", err), b.Close())
		}
	}()
	if b.listener, err = b.listen(ctx); err != nil {
		return nil, err
	}
	b.metrics = newMetrics()
	node := onMachine(cfg.cluster(b.advertised()), machine)
	node.Observe = b.metrics.observer()
	if b.node, err = cluster.Open(ctx, node); err != nil {
		return nil, err
	}
	if !b.Durable() {
		cfg.Logger.Warn("broker keeps everything in memory: records are lost when it closes")
	}
	cfg.warnOfPlainText(b.listener)
	b.metrics.watch(b)
	b.route = route.New(route.Config{Local: b.node, LocalID: cfg.ID, Dial: b.dial, Logger: cfg.Logger})
	if b.listener != nil {
		if b.server, err = transport.Serve(b.node, transport.ServerConfig{
			Listener: b.listener, TLS: cfg.TLS,
			MaxBatchBytes: topic.MaxBatchBytes, Observe: b.metrics.observe,
		}); err != nil {
			return nil, err
		}
	}
	b.watched = make(chan struct{})
	go b.watch() //nolint:gosec // G118: it lives as long as the broker, not as ctx
	return b, nil
}

func (c BrokerConfig) cluster(addr string) cluster.Config {
	return cluster.Config{
		BrokerID: c.ID, Dir: c.DataDir, Addr: addr, Rack: c.Rack, Logger: c.Logger,
		DisableAutoCreate: c.DisableAutoCreate, DefaultPartitions: int32(c.DefaultPartitions),
		MaxMemory: c.MaxMemory, InFlightBytes: c.MaxInFlightBytes, MinFreeBytes: c.MinFreeBytes,
		RetentionInterval: c.RetentionInterval, OffsetsRetention: c.OffsetsRetention, MaxGroupMembers: c.MaxGroupMembers,
		Network: c.Cluster.Network, Faults: c.Cluster.Faults,
		PeerListen: c.Cluster.Listen, PeerAddr: c.Cluster.Advertise, Seeds: c.Cluster.Seeds, Bootstrap: c.Cluster.Bootstrap,
		CatchUpBytes: c.Cluster.CatchUpBytesPerSecond,
	}
}

// advertised is the address that clients elsewhere are told.
func (b *Broker) advertised() string {
	if b.cfg.Advertise != "" || b.listener == nil {
		return b.cfg.Advertise
	}
	return b.listener.Addr().String()
}

// WaitReady waits until every partition on this broker has a leader. The error
// says what is missing, or why the broker failed.
func (b *Broker) WaitReady(ctx context.Context) error {
	if b.isClosed() {
		return cmp.Or(b.closeError(), error(mqerr.ErrClosed))
	}
	return b.node.WaitReady(ctx)
}

// Addr is the address that gRPC is served on, "" without Listen.
func (b *Broker) Addr() string {
	if b.cfg.Listen == "" || b.listener == nil {
		return ""
	}
	return b.listener.Addr().String()
}

// PeerAddr is the address at which other brokers reach this one.
func (b *Broker) PeerAddr() string { return b.node.PeerAddr() }

// DirectoryID names the broker's data for good: one that comes back without its
// data has another. Rules of network.Faults go by it.
func (b *Broker) DirectoryID() string { return b.node.DirectoryID() }

// Durable reports whether an acknowledged record survives a power cut: true
// with a DataDir.
func (b *Broker) Durable() bool { return b.cfg.DataDir != "" }

// MetricsHandler serves the broker's metrics in the Prometheus text format. The
// caller mounts it. Metrics are in a registry of their own: several brokers in
// one process do not clash. A program with a registry of its own puts both
// together: prometheus.Gatherers{its own, b.MetricsGatherer()}.
func (b *Broker) MetricsHandler() http.Handler { return b.metrics.handler() }

// MetricsGatherer is what MetricsHandler serves.
func (b *Broker) MetricsGatherer() prometheus.Gatherer { return b.metrics.registry }

// Shutdown lets requests under way finish, answers no new ones, makes everything
// durable and closes the broker. When ctx ends first it closes at once what is
// left, and the error says so; nothing acknowledged is lost either way.
func (b *Broker) Shutdown(ctx context.Context) error {
	err := b.shutdown(ctx)
	if b.watched != nil {
		<-b.watched
	}
	return err
}

// watch closes the broker when it can't go on. It ends with the broker.
func (b *Broker) watch() {
	defer close(b.watched)
	select {
	case <-b.done:
	case <-b.node.Failed():
		ctx, cancel := context.WithTimeout(context.Background(), b.cfg.CloseTimeout)
		defer cancel()
		_ = b.shutdown(ctx) // told by Err
	}
}

// handOverTime bounds what a broker that is closed waits for others to lead.
const handOverTime = 2 * time.Second

func (b *Broker) shutdown(ctx context.Context) error {
	b.stopping.Lock()
	defer b.stopping.Unlock()
	if b.isClosed() {
		return b.closeError()
	}
	var errs []error
	if b.node != nil {
		give, cancel := context.WithTimeout(ctx, handOverTime)
		_ = b.node.HandOver(give) // if it can't, the others elect somebody
		cancel()
	}
	if b.server != nil {
		errs = append(errs, b.server.Shutdown(ctx))
	} else if b.listener != nil {
		errs = append(errs, b.listener.Close())
	}
	if b.route != nil {
		errs = append(errs, b.route.Close())
	}
	if b.node != nil {
		errs = append(errs, b.node.Failure(), b.node.Close())
	}
	err := errors.Join(errs...)
	b.state.Lock()
	b.state.closed, b.state.err = true, err
	b.state.Unlock()
	close(b.done)
	return err
}

// Close is Shutdown within CloseTimeout. It may be called more than once and
// then returns what the first call did.
func (b *Broker) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.CloseTimeout)
	defer cancel()
	return b.Shutdown(ctx)
}

// Done is closed when the broker has closed.
func (b *Broker) Done() <-chan struct{} { return b.done }

// Err is nil until Done is closed, then why the broker failed or what closing
// gave, or ErrClosed.
func (b *Broker) Err() error {
	select {
	case <-b.done:
	default:
		return nil
	}
	if err := b.closeError(); err != nil {
		return err
	}
	return mqerr.ErrClosed
}

func (b *Broker) isClosed() bool {
	b.state.Lock()
	defer b.state.Unlock()
	return b.state.closed
}

func (b *Broker) closeError() error {
	b.state.Lock()
	defer b.state.Unlock()
	return b.state.err
}

func (b *Broker) router() *route.Router { return b.route }
