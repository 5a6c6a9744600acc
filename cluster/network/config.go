package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
)

// Network carries byte streams between addresses. Mem and TCP are networks;
// everything above the streams is the same on both.
type Network interface {
	// Listen takes connections at addr, which may leave the choice to the
	// network; the listener's Addr is what others dial. An address that is
	// taken is mqerr.ErrAddrInUse. ctx bounds the call only.
	Listen(ctx context.Context, addr string) (net.Listener, error)

	// Dial connects to a listener. ctx bounds the call only.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// Identity says who a broker is. It is told in every handshake.
type Identity struct {
	// ClusterID names the cluster; empty as long as the broker belongs to none.
	// Such a broker can only make and answer calls.
	ClusterID string

	// BrokerID is the number under which the cluster knows the broker.
	BrokerID int32

	// DirectoryID names the broker's data directory and, on this network, the
	// broker: it is what raft calls its address. It never changes, and a broker
	// that comes back without its data has another one. Required.
	DirectoryID string

	// Addr is where others dial this broker. It may change whenever the broker
	// starts. Default the listener's address, which is of use to others only if
	// it names an interface.
	Addr string

	// Feature is the highest feature level that the broker supports. It is
	// carried to whoever asks and not judged here.
	Feature uint32
}

// String names the broker for people.
func (i Identity) String() string {
	return fmt.Sprintf("broker %d (directory %s, address %s)", i.BrokerID, i.DirectoryID, i.Addr)
}

// Handlers is what a broker does with what others want of it. Every one may be
// nil. They are called concurrently, on goroutines that Close waits for, so
// they must not call Close.
type Handlers struct {
	// Call answers a call of another broker. The payload is the handler's to
	// keep, the answer stays the handler's. ctx ends with the caller's ctx and
	// with the connection. The caller gets the sentinel, facts and text of an
	// error. Without a handler calls are answered mqerr.ErrLeaderNotAvailable.
	Call func(ctx context.Context, from Identity, method string, payload []byte) ([]byte, error)

	// Admit may refuse a broker that connects, for instance because its id is
	// registered with another directory. It is where a peer's new address
	// becomes known. The other side gets the error's text in a RefusedError.
	// Called for every connection, so it must be quick.
	Admit func(peer Identity) error

	// Keep and KeepChunk may drop raft messages and snapshot chunks that come
	// in, as if the network had lost them; nil keeps all. A broker short of disk
	// drops what would fill it.
	Keep      func(*raftpb.Message) bool
	KeepChunk func(*raftpb.Chunk) bool

	// OnBroken is told that a connection with a peer ended and nobody meant it
	// to: the peer may have died. It is a hint, and one per outage: the next
	// comes only after a new connection or a second. A peer whose Link is closed
	// is broken too. It must not block.
	OnBroken func(directoryID string)

	// OnRefused is told that a peer refuses this broker, with a RefusedError
	// that says why. Told once until the reason changes. It must not block.
	OnRefused func(directoryID string, err error)
}

// Config configures a Link. Self.DirectoryID and Resolve are required.
type Config struct {
	Self Identity

	// Listen is the address for other brokers. The network decides what an
	// empty one means: Mem picks a name, TCP a free port on all interfaces.
	Listen string

	// Resolve tells where the broker with a directory id is now. It is asked
	// before each attempt to connect and must not block.
	Resolve func(directoryID string) (addr string, err error)

	Handlers Handlers

	// KeepAlive is how long a connection may be idle before a ping is sent; one
	// that is silent or stuck for more than three times as long is given up.
	// Default 2s.
	KeepAlive time.Duration

	// DialTimeout bounds one attempt to connect, handshake included. Default 2s.
	DialTimeout time.Duration

	// SnapshotBytesPerSecond bounds the snapshot chunks sent to all peers
	// together. Default 64 MiB; negative means unlimited. See SetSnapshotRate.
	SnapshotBytesPerSecond int64

	// MaxCalls bounds the calls in flight to one peer, and those of one peer
	// that are being answered. More fail with mqerr.ErrBusy. Default 1024.
	MaxCalls int

	// MaxCallBytes bounds the payload of one call and of one answer. Default
	// 32 MiB, at most 1 GiB.
	MaxCallBytes int

	// CallQueueBytes bounds the calls to one peer that wait to be written and,
	// separately, those of one peer that are being answered. More fail with
	// mqerr.ErrBusy. One call always fits. Default 64 MiB.
	CallQueueBytes int

	// RaftQueueBytes bounds the raft messages on one connection that wait to be
	// written. More are dropped; raft sends them again. One batch always fits.
	// Default 32 MiB.
	RaftQueueBytes int

	// Faults are what goes wrong on purpose, for tests. Nil is nothing. All
	// brokers of a test share one.
	Faults *Faults

	// Clock times keep-alive, back-off, the snapshot rate and fault rules.
	// Default the machine's.
	Clock clock.Clock

	// Logger gets what happens to connections. Default silent.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	setDefault(&c.KeepAlive, 2*time.Second)
	setDefault(&c.DialTimeout, 2*time.Second)
	setDefault(&c.SnapshotBytesPerSecond, 64<<20)
	setDefault(&c.MaxCalls, 1024)
	setDefault(&c.MaxCallBytes, 32<<20)
	setDefault(&c.CallQueueBytes, 64<<20)
	setDefault(&c.RaftQueueBytes, 32<<20)
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: network: %s", mqerr.ErrInvalidConfig, text))
		}
	}
	check(c.Self.DirectoryID != "", "no directory id")
	for _, s := range []string{c.Self.DirectoryID, c.Self.ClusterID, c.Self.Addr} {
		check(len(s) <= maxName, "an identity is too long")
	}
	check(c.Resolve != nil, "no way to resolve addresses")
	check(c.KeepAlive > 0, "keep-alive is negative")
	check(c.DialTimeout > 0, "dial timeout is negative")
	check(c.MaxCalls > 0, "limit of calls is negative")
	check(c.MaxCallBytes > 0 && c.MaxCallBytes <= 1<<30, "largest call is out of range")
	check(c.CallQueueBytes > 0, "limit of call bytes is negative")
	check(c.RaftQueueBytes > 0, "limit of raft bytes is negative")
	return errors.Join(errs...)
}
