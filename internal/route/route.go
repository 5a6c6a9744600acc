// Package route finds the broker to talk to. A Router keeps what is known
// about the cluster and one connection to each broker; producers, consumers
// and admins of one endpoint share it.
//
// # Metadata
//
// The Router knows the topics that somebody asked for. One goroutine refreshes
// them, so concurrent requests coalesce: when Want or Failed says that
// something is missing or out of date, and at MaxAge, or before that while the
// brokers of the cluster change. Refreshes that the same
// topic wants in quick succession are spaced by an exponential back-off that
// starts at a few milliseconds, because an election may be that short, and ends
// at a second; so are refreshes that fail.
//
// Methods with a context wait for at most one refresh that began after the
// call and then return what is known, or why it is not: they are one attempt,
// and retrying is the caller's decision. Methods without a context never wait.
//
// # Connections
//
// A connection is made by Config.Dial when it is first needed and kept while
// its broker is part of the cluster; it must reconnect by itself. A local
// broker is called directly, without a connection.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
)

// Conn is a connection to a broker. It reconnects by itself when it breaks;
// calls fail meanwhile. Close fails calls that wait for an answer.
type Conn interface {
	api.Broker
	Close() error
}

// SeedID is passed to Config.Dial in place of a broker id for a seed address.
const SeedID int32 = -1

// Config says how a Router reaches the cluster: through Local, or else Seeds.
type Config struct {
	// Local is the broker in this process, nil when there is none, and LocalID
	// its id.
	Local   api.Broker
	LocalID int32

	// Seeds are the addresses to start from. Brokers that do not advertise an
	// address are reached through a seed.
	Seeds []string

	// Dial connects to a broker. It need not wait until the connection stands.
	// With Local, addr may be empty, for a broker known by its id only. Nil means
	// that there are no other brokers than Local.
	Dial func(ctx context.Context, id int32, addr string) (Conn, error)

	Timeout time.Duration // of one metadata request and one Dial. Default 10s
	MaxAge  time.Duration // of metadata, less while brokers come and go. Default 1m
	Logger  *slog.Logger  // nil means silent
}

const (
	defaultTimeout = 10 * time.Second
	defaultMaxAge  = time.Minute

	// Metadata of a cluster whose brokers have just become known or changed may be
	// this old, twice as old next time, and so on up to MaxAge: who knows one broker
	// of a cluster that is being started should soon know the others.
	youngest = 2 * time.Second

	// A topic that nobody asked for so long is forgotten.
	idleTopic = 15 * time.Minute
)

// Waits between refreshes in a row.
var spacing = backoff.Policy{Base: 5 * time.Millisecond, Max: time.Second}

// Router finds brokers. Make one with New. Safe for concurrent use.
type Router struct {
	cfg    Config
	cancel context.CancelFunc
	ctx    context.Context // ends with Close; the life of connections and refreshes
	wake   chan struct{}   // capacity 1: a refresh is wanted
	conns  *pool
	wg     sync.WaitGroup // the refresh loop

	mu struct {
		sync.RWMutex
		topics  map[string]*topic
		brokers map[int32]api.BrokerInfo
		good    string        // address that last answered; "" before
		suspect bool          // somebody got no answer there since
		asked   uint64        // tickets given to those who want a refresh
		served  uint64        // newest ticket that was given before the last refresh began
		fresh   uint64        // the same of the last refresh that succeeded
		err     error         // why the last refresh failed
		pace    pace          // of refreshes that fail
		age     time.Duration // after which to refresh
		cluster topic         // stands for those who want a refresh of no topic
		changed chan struct{} // closed after the next refresh
	}
}

// topic is a topic that somebody asked for.
type topic struct {
	known  bool // a refresh brought info
	info   api.TopicInfo
	first  uint64       // oldest ticket that is not served, if there is one
	wanted uint64       // newest ticket of somebody who found it missing or out of date
	create bool         // the next refresh may create it
	pace   pace         // of the refreshes that it wanted
	used   atomic.Int64 // last asked for, in ns since 1970
}

// New starts a Router. It makes no connection before one is needed.
func New(cfg Config) *Router {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = defaultMaxAge
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Router{cfg: cfg, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
	r.conns = newPool(ctx, cfg.Dial, cfg.Timeout)
	r.mu.topics = map[string]*topic{}
	r.mu.changed = make(chan struct{})
	r.mu.pace.last = time.Now()
	r.mu.age = cfg.MaxAge
	r.wg.Go(r.run) // ends with ctx
	return r
}

// Close closes all connections and ends the Router's goroutines. Methods return
// ErrClosed from then on.
func (r *Router) Close() error {
	r.cancel()
	r.wg.Wait()
	return r.conns.close()
}

// Done is closed by Close.
func (r *Router) Done() <-chan struct{} { return r.ctx.Done() }

// Leader is where a partition is led, as the Router knew it when asked.
type Leader struct {
	Broker  api.Broker
	ID      int32 // of the broker
	Epoch   int32 // of the leadership
	TopicID uuid.UUID
	tp      api.TopicPartition
}

// Leader returns the leader of a partition. Errors: ErrUnknownTopicOrPartition,
// ErrLeaderNotAvailable, ErrInvalidTopic, ErrClosed, what Dial returned, or
// ctx's. Pass errors of calls to the leader to Failed.
func (r *Router) Leader(ctx context.Context, name string, partition int32) (Leader, error) {
	info, err := r.await(ctx, name, false, func(info api.TopicInfo) error {
		_, err := partitionOf(info, partition)
		return err
	})
	if err != nil {
		return Leader{}, err
	}
	p, err := partitionOf(info, partition)
	if err != nil {
		return Leader{}, err
	}
	b, err := r.Broker(ctx, p.Leader)
	if err != nil {
		return Leader{}, fmt.Errorf("leader of %s/%d: %w", name, partition, err)
	}
	return Leader{
		Broker: b, ID: p.Leader, Epoch: p.LeaderEpoch, TopicID: info.ID,
		tp: api.TopicPartition{Topic: name, Partition: partition},
	}, nil
}

// partitionOf returns a partition that has a leader, or why there is none.
func partitionOf(info api.TopicInfo, partition int32) (api.PartitionInfo, error) {
	switch {
	case info.Err != nil:
		return api.PartitionInfo{}, fmt.Errorf("topic %q: %w", info.Name, info.Err)
	case partition < 0 || int(partition) >= len(info.Partitions):
		return api.PartitionInfo{}, fmt.Errorf("topic %q has no partition %d (partitions: %d): %w",
			info.Name, partition, len(info.Partitions), mqerr.ErrUnknownTopicOrPartition)
	}
	p := info.Partitions[partition]
	if p.Leader < 0 {
		err := p.Err
		if err == nil {
			err = mqerr.ErrLeaderNotAvailable
		}
		return p, fmt.Errorf("%s/%d: %w", info.Name, partition, err)
	}
	return p, nil
}

// Failed tells that a call to a leader failed, so that the Router can learn
// from it: a hint to the new leader is taken over, and otherwise errors that
// call for it (class M, or a broken connection) cause a refresh, unless there
// was one since.
func (r *Router) Failed(l Leader, err error) {
	r.FailedAt(l.tp.Topic, l.tp.Partition, l.ID, l.Epoch, err)
}

// FailedAt is Failed for callers that keep leader and epoch themselves.
func (r *Router) FailedAt(name string, partition, leader, epoch int32, err error) {
	if e := mqerr.Of(err); e != nil && e.Class() != mqerr.Refresh && e.Class() != mqerr.Unknown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.mu.topics[name]
	if t == nil || !t.known || int(partition) >= len(t.info.Partitions) {
		return
	}
	if p := t.info.Partitions[partition]; p.Leader != leader || p.LeaderEpoch != epoch {
		return // known better meanwhile
	}
	var d *mqerr.Detail
	if errors.As(err, &d) && errors.Is(err, mqerr.ErrNotLeader) && d.Leader >= 0 && d.LeaderEpoch > epoch && r.reachableLocked(d) {
		t.info.Partitions = append([]api.PartitionInfo(nil), t.info.Partitions...) // handed out: copy on write
		t.info.Partitions[partition].Leader = d.Leader
		t.info.Partitions[partition].LeaderEpoch = d.LeaderEpoch
		r.announceLocked()
		return
	}
	r.wantLocked(t)
}

func (r *Router) reachableLocked(d *mqerr.Detail) bool {
	_, ok := r.mu.brokers[d.Leader]
	return ok
}

// Topic returns what is known about a topic. With create, a topic that does not
// exist is created if the brokers allow. Errors are those of Leader.
func (r *Router) Topic(ctx context.Context, name string, create bool) (api.TopicInfo, error) {
	return r.await(ctx, name, create, func(info api.TopicInfo) error {
		if info.Err != nil {
			return fmt.Errorf("topic %q: %w", name, info.Err)
		}
		return nil
	})
}

// await returns a topic that passes check, after one refresh if need be.
func (r *Router) await(ctx context.Context, name string, create bool, check func(api.TopicInfo) error) (api.TopicInfo, error) {
	r.mu.Lock()
	t := r.useLocked(name)
	if t.known && t.wanted <= r.mu.fresh && check(t.info) == nil {
		defer r.mu.Unlock()
		return t.info, nil
	}
	t.create = t.create || create
	ticket := r.wantLocked(t)
	r.mu.Unlock()

	if err := r.wait(ctx, ticket); err != nil {
		return api.TopicInfo{}, err
	}
	info, ok := r.Cached(name)
	if !ok {
		return api.TopicInfo{}, fmt.Errorf("topic %q: %w", name, mqerr.ErrUnknownTopicOrPartition)
	}
	return info, check(info)
}

// Cached returns a topic as the last refresh found it; ok is false when none
// did. The slices of the answer are shared and must not be changed.
func (r *Router) Cached(name string) (info api.TopicInfo, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.mu.topics[name]
	if t == nil || !t.known {
		return api.TopicInfo{}, false
	}
	t.used.Store(time.Now().UnixNano())
	return t.info, true
}

// Want asks for a refresh of a topic, which create may bring into being, and
// keeps the topic among those that are refreshed. See Changed, and Answered for
// the ticket.
func (r *Router) Want(name string, create bool) (ticket uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.useLocked(name)
	t.create = t.create || create
	return r.wantLocked(t)
}

// Answered reports whether what Want asked for has been done, with success.
func (r *Router) Answered(ticket uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.fresh >= ticket
}

// Local returns the id of the broker in this process, if there is one.
func (r *Router) Local() (id int32, ok bool) { return r.cfg.LocalID, r.cfg.Local != nil }

// Rack returns the rack of a broker as far as metadata has it, "" for none.
func (r *Router) Rack(id int32) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.brokers[id].Rack
}

// Changed returns a channel that is closed after the next refresh, also a
// failed one, and when Failed learnt a leader.
func (r *Router) Changed() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.changed
}

// Err returns why the last refresh failed, nil when it did not.
func (r *Router) Err() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.err
}

// Refresh refreshes everything that is known and waits for it.
func (r *Router) Refresh(ctx context.Context) error {
	r.mu.Lock()
	ticket := r.wantLocked(nil)
	r.mu.Unlock()
	return r.wait(ctx, ticket)
}

// Brokers returns the brokers of the cluster, by id.
func (r *Router) Brokers(ctx context.Context) ([]api.BrokerInfo, error) {
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sortedBrokers(r.mu.brokers), nil
}

// Broker returns the broker with an id, as last refreshed. Errors:
// ErrLeaderNotAvailable for a broker that is not in the cluster, ErrClosed,
// what Dial returned, or ctx's.
func (r *Router) Broker(ctx context.Context, id int32) (api.Broker, error) {
	if r.ctx.Err() != nil {
		return nil, mqerr.ErrClosed
	}
	if r.cfg.Local != nil && id == r.cfg.LocalID {
		return r.cfg.Local, nil
	}
	r.mu.RLock()
	info, ok := r.mu.brokers[id]
	addr := info.Addr
	if addr == "" && r.cfg.Local == nil {
		addr = r.mu.good
	}
	r.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("broker %d is not in the cluster: %w", id, mqerr.ErrLeaderNotAvailable)
	}
	return r.conns.get(ctx, id, addr)
}

// Any returns a broker for requests that every broker answers: the local one,
// or one that answered the last refresh. When that failed, or the one it gave
// did, see AnyFailed, it tries again and returns why it fails.
func (r *Router) Any(ctx context.Context) (api.Broker, error) {
	if r.ctx.Err() != nil {
		return nil, mqerr.ErrClosed
	}
	if r.cfg.Local != nil {
		return r.cfg.Local, nil
	}
	r.mu.RLock()
	good, fails := r.mu.good, r.mu.suspect || r.mu.err != nil
	r.mu.RUnlock()
	if good == "" || fails {
		if err := r.Refresh(ctx); err != nil {
			return nil, err
		}
		r.mu.RLock()
		good = r.mu.good
		r.mu.RUnlock()
	}
	return r.conns.get(ctx, SeedID, good)
}

// AnyFailed tells that the broker that Any gave did not answer.
func (r *Router) AnyFailed(err error) {
	if e := mqerr.Of(err); e != nil && e.Class() != mqerr.Refresh && e.Class() != mqerr.Unknown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.suspect = true
}
