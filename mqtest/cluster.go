package mqtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/testhook"
)

// Broker is a broker inside a test. It is an mq.Endpoint.
type Broker struct {
	*mq.Broker
	id int32
}

// ID is the broker's number.
func (b *Broker) ID() int32 { return b.id }

// NewBroker opens a broker. It serves when NewBroker returns, and the test's cleanup
// closes it.
func NewBroker(tb testing.TB, opts ...Option) *Broker {
	tb.Helper()
	return NewCluster(tb, 1, opts...).Broker(1)
}

// Cluster is a cluster of brokers inside a test. Its methods are not safe for
// concurrent use, except while others use the brokers.
type Cluster struct {
	tb     testing.TB
	opts   options
	out    *output
	rng    *rand.Rand
	net    mq.Network
	faults *network.Faults // of the lines between brokers
	lines  *lines          // of those of clients
	parted map[pair]bool
	client *mq.Client
	seats  map[int32]*seat

	unsynced []int // percent of the unsynced that a power cut may leave
}

// seat is the place of a broker, whether it runs or not.
type seat struct {
	id     int32
	broker *Broker // nil while down
	state  state
	dirID  string
	disk   testhook.Disk
	resume func() // nil unless paused
}

// state is what the network has of a broker.
type state int

const (
	up state = iota
	silent
	dead // connections break
)

// NewCluster opens brokers with the ids from 1 to n. When it returns they are one
// cluster in which everything that should be replicated is. The test's cleanup
// closes it.
func NewCluster(tb testing.TB, n int, opts ...Option) *Cluster {
	tb.Helper()
	if n < 1 {
		tb.Fatalf("mqtest: a cluster of %d brokers", n)
	}
	o := newOptions(opts)
	c := &Cluster{
		tb: tb, opts: o, out: &output{tb: tb}, rng: rand.New(rand.NewPCG(o.seed, 0)),
		net: mq.NewNetwork(), faults: network.NewFaults(o.seed), lines: newLines(),
		parted: make(map[pair]bool), seats: make(map[int32]*seat), unsynced: []int{0, 50, 100},
	}
	c.out.mu.live = o.log
	tb.Cleanup(c.close)
	var seeds []string // also of brokers to come, when the first ones may be gone
	for id := range int32(n + 6) {
		seeds = append(seeds, clientAddr(id+1))
	}
	c.client = testhook.NewClient(seeds, c.dialFrom(outside)).(*mq.Client)
	for range n {
		c.add()
	}
	c.settle()
	for _, t := range o.topics {
		eventually(tb, "create topic "+t.Name, func(ctx context.Context) error {
			_, err := mq.NewAdmin(c.client).CreateTopic(ctx, t)
			if errors.Is(err, mq.ErrTopicExists) {
				return nil
			}
			return err
		})
	}
	c.WaitReady()
	return c
}

// Names on the network inside the process.
const clientAddrFormat = "broker:%d"

func clientAddr(id int32) string { return fmt.Sprintf(clientAddrFormat, id) }

func peerAddr(id int32) string { return fmt.Sprintf("peer:%d", id) }

// Endpoint is a client outside of all brokers, which lives as long as the cluster.
func (c *Cluster) Endpoint() *mq.Client { return c.client }

// Broker returns a broker, which must be running. After Restart it is another.
func (c *Cluster) Broker(id int32) *Broker {
	c.tb.Helper()
	return c.running(id).broker
}

// Brokers returns the brokers that are running, by id.
func (c *Cluster) Brokers() []*Broker {
	var out []*Broker
	for _, id := range c.ids() {
		if b := c.seats[id].broker; b != nil {
			out = append(out, b)
		}
	}
	return out
}

// Grow adds a broker and returns when it has taken its part of everything.
func (c *Cluster) Grow() *Broker {
	c.tb.Helper()
	b := c.add()
	c.settle()
	return b
}

// WaitReady waits until every running broker knows a leader for each partition it
// has. A running broker that is paused or cut off from a majority never does.
func (c *Cluster) WaitReady() {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), patience)
	defer cancel()
	for _, b := range c.Brokers() {
		if err := b.WaitReady(ctx); err != nil {
			c.tb.Fatalf("mqtest: broker %d: %v", b.id, err)
		}
	}
}

// Leader returns the id of the broker that leads a partition. It waits until there
// is one.
func (c *Cluster) Leader(topic string, partition int32) (leader int32) {
	c.tb.Helper()
	eventually(c.tb, fmt.Sprintf("leader of %s/%d", topic, partition), func(ctx context.Context) error {
		info, err := mq.NewAdmin(c.client).DescribeTopic(ctx, topic)
		switch {
		case err != nil:
			return err
		case int(partition) >= len(info.Partitions) || partition < 0:
			c.tb.Fatalf("mqtest: topic %s has no partition %d", topic, partition)
		}
		p := info.Partitions[partition]
		if p.HighWatermark < 0 { // no broker said that it leads
			return mq.ErrLeaderNotAvailable
		}
		leader = p.Leader
		return nil
	})
	return leader
}

func (c *Cluster) ids() []int32 { return slices.Sorted(maps.Keys(c.seats)) }

func (c *Cluster) running(id int32) *seat {
	c.tb.Helper()
	s := c.seats[id]
	if s == nil || s.broker == nil {
		c.tb.Fatalf("mqtest: broker %d is not running", id)
	}
	return s
}

func (c *Cluster) add() *Broker {
	c.tb.Helper()
	s := &seat{id: int32(len(c.seats) + 1), disk: testhook.NewDisk()}
	if err := c.open(s); err != nil {
		c.tb.Fatal(err)
	}
	c.seats[s.id] = s
	c.wire()
	return s.broker
}

func (c *Cluster) open(s *seat) error {
	cfg := mq.BrokerConfig{ID: s.id, Logger: c.out.logger(s.id)}
	c.opts.config(&cfg)
	cfg.ID, cfg.DataDir, cfg.Listen, cfg.Advertise, cfg.MinFreeBytes = s.id, "/data", "", "", -1
	cfg.Cluster = mq.ClusterConfig{Listen: peerAddr(s.id), Network: c.net, Faults: c.faults}
	for _, id := range c.ids() {
		if id != s.id {
			cfg.Cluster.Seeds = append(cfg.Cluster.Seeds, peerAddr(id))
		}
	}
	ctx, cancel := context.WithTimeout(c.tb.Context(), patience)
	defer cancel()
	b, err := testhook.OpenBroker(ctx, cfg, testhook.Machine{Disk: s.disk, Now: c.clock(s.id), ClientAddr: clientAddr(s.id), Dial: c.dialFrom(s.id)})
	if err != nil {
		return fmt.Errorf("mqtest: broker %d: %w", s.id, err)
	}
	s.broker = &Broker{b.(*mq.Broker), s.id}
	s.dirID = s.broker.DirectoryID()
	return nil
}

func (c *Cluster) clock(id int32) func() time.Time {
	return func() time.Time { return time.Now().Add(c.opts.clocks[id]) }
}

// settle waits until everything is where it should be.
func (c *Cluster) settle() {
	c.tb.Helper()
	eventually(c.tb, "form a cluster", func(context.Context) error {
		for _, b := range c.Brokers() {
			if err := testhook.Look(b.Broker).Settled(len(c.seats)); err != nil {
				return fmt.Errorf("broker %d: %w", b.id, err)
			}
		}
		return nil
	})
}

// close is the test's cleanup.
func (c *Cluster) close() {
	for _, s := range c.seats {
		s.wake()
	}
	c.faults.HealAll()
	c.lines.set(nil)
	errs := together(c.Brokers(), func(b *Broker) error { return b.Close() })
	if err := errors.Join(append(errs, c.client.Close())...); err != nil {
		c.tb.Errorf("mqtest: close: %v", err)
	}
	c.out.end(c.opts.seed)
}

// together calls fn for all at once and waits.
func together[T any](all []T, fn func(T) error) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, v := range all {
		wg.Go(func() { errs[i] = fn(v) })
	}
	wg.Wait()
	return errs
}

var _ mq.Endpoint = (*Broker)(nil)
