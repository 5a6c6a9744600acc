package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/mqerr"
)

const (
	// maxMessages bounds a batch of raft messages on the wire. The library
	// makes them up to 64 MiB, and a single message may be somewhat larger.
	maxMessages = 128 << 20

	// maxChunk bounds a snapshot chunk on the wire; the library's hold 2 MiB of
	// data.
	maxChunk = 16 << 20

	// snapshotQueue is how much of snapshots waits to be written to a peer.
	snapshotQueue = 8 << 20
)

// Raft returns what to set as NodeHostConfig.Expert.TransportFactory. The
// NodeHost's RaftAddress must be the directory id, and so must be every target
// of a replica. The link serves one NodeHost at a time; that one may be closed
// before or after the link.
//
// To raft a peer that can't be reached is one that loses messages: sending never
// fails while the link is open. If it did, the library would send nothing at
// all to that broker for up to a second, however quickly it came back. Only
// snapshots fail, and then the library does just that. OnBroken tells of
// connections.
func (l *Link) Raft() config.TransportFactory { return raftFactory{l} }

// Deliver hands messages to this broker's own raft as if another replica had
// sent them. It reports whether there is a NodeHost to take them.
func (l *Link) Deliver(ms ...raftpb.Message) bool {
	t := l.raft.Load()
	return t != nil && t.deliver(raftpb.MessageBatch{
		DeploymentId: t.deployment,
		BinVer:       raftio.TransportBinVersion,
		Requests:     ms,
	})
}

type raftFactory struct{ link *Link }

var _ config.TransportFactory = raftFactory{}

// Create implements config.TransportFactory.
func (f raftFactory) Create(cfg config.NodeHostConfig, m raftio.MessageHandler, c raftio.ChunkHandler) raftio.ITransport {
	return &raftTransport{link: f.link, deployment: cfg.GetDeploymentID(), messages: m, chunks: c}
}

// Validate implements config.TransportFactory: addresses are directory ids.
func (f raftFactory) Validate(addr string) bool { return addr != "" && len(addr) <= maxName }

// raftTransport is the link as one NodeHost sees it.
type raftTransport struct {
	link       *Link
	deployment uint64
	messages   raftio.MessageHandler
	chunks     raftio.ChunkHandler

	handling sync.RWMutex // held for reading while a handler runs: none may once Close is through
	closed   bool         // guarded by handling
}

var _ raftio.ITransport = (*raftTransport)(nil)

// Name implements raftio.ITransport.
func (t *raftTransport) Name() string { return "mq-network" }

// Start implements raftio.ITransport: from now on messages come in.
func (t *raftTransport) Start() error {
	if !t.link.raft.CompareAndSwap(nil, t) {
		return fmt.Errorf("%w: the network serves another NodeHost", mqerr.ErrInternal)
	}
	return nil
}

// Close implements raftio.ITransport.
func (t *raftTransport) Close() error {
	t.handling.Lock()
	t.closed = true
	t.handling.Unlock()
	t.link.raft.CompareAndSwap(t, nil)
	return nil
}

func (t *raftTransport) deliver(b raftpb.MessageBatch) bool {
	t.handling.RLock()
	defer t.handling.RUnlock()
	if t.closed {
		return false
	}
	t.messages(b)
	return true
}

func (t *raftTransport) deliverChunk(c raftpb.Chunk) bool {
	t.handling.RLock()
	defer t.handling.RUnlock()
	return !t.closed && t.chunks(c)
}

// GetConnection implements raftio.ITransport. The library wants one per target
// and shard%4; each is a connection of its own.
func (t *raftTransport) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	n := &lane{transport: t, route: t.link.peer(target).newRoute(classRaft)}
	n.ctx, n.cancel = context.WithCancel(ctx)
	return n, nil
}

// lane carries the raft messages of some shards to one peer. What can't be sent
// now is dropped.
type lane struct {
	transport *raftTransport
	route     *route
	ctx       context.Context
	cancel    context.CancelFunc
}

// Close implements raftio.IConnection.
func (n *lane) Close() {
	n.cancel()
	n.route.close()
}

// SendMessageBatch implements raftio.IConnection. It waits for a connection
// that is being made, not for one that has to wait for its next attempt. The
// batch is the caller's again when it returns.
func (n *lane) SendMessageBatch(b raftpb.MessageBatch) error {
	c, err := n.route.get(n.ctx)
	if n.ctx.Err() != nil || errors.Is(err, mqerr.ErrClosed) {
		return mqerr.ErrClosed
	}
	stats := &n.transport.link.stats
	if err != nil {
		stats.batchesDropped.Add(1)
		return nil //nolint:nilerr // a lost message; see Raft
	}
	frame, err := encodeMessages(b)
	if err == nil {
		err = c.put(outgoing{frame: frame})
	}
	if err != nil {
		stats.batchesDropped.Add(1)
		return nil //nolint:nilerr // a lost message; see Raft
	}
	stats.batchesSent.Add(1)
	return nil
}

func encodeMessages(b raftpb.MessageBatch) ([]byte, error) {
	size := b.SizeUpperLimit()
	if size > maxMessages {
		return nil, fmt.Errorf("%w: raft messages of %d bytes", errFrameSize, size)
	}
	frame := newFrame(kindMessages, size)[:headerBytes+size]
	n, err := b.MarshalTo(frame[headerBytes:])
	if err != nil {
		return nil, err
	}
	return seal(frame[:headerBytes+n]), nil
}

// decodeMessages copies what it keeps. The library's decoder panics on bytes
// that its encoder doesn't make.
func decodeMessages(body []byte) (b raftpb.MessageBatch, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: raft messages: %v", errMalformed, r)
		}
	}()
	return b, b.Unmarshal(body)
}

// checkMessages refuses what would make the library panic: messages that a
// replica only sends to itself, to nobody, or for another broker.
func checkMessages(b raftpb.MessageBatch, from string) error {
	if b.SourceAddress != from {
		return fmt.Errorf("%w: raft messages of %q", errMalformed, b.SourceAddress)
	}
	for i := range b.Requests {
		switch m := &b.Requests[i]; m.Type {
		case raftpb.LocalTick, raftpb.Election, raftpb.LeaderHeartbeat, raftpb.ConfigChangeEvent, raftpb.SnapshotStatus,
			raftpb.Unreachable, raftpb.CheckQuorum, raftpb.BatchedReadIndex, raftpb.InstallSnapshot:
			return fmt.Errorf("%w: raft message %v", errMalformed, m.Type)
		default:
			if m.To == 0 {
				return fmt.Errorf("%w: raft message %v to nobody", errMalformed, m.Type)
			}
		}
	}
	return nil
}

// takeMessages handles a frame of raft messages. Without a NodeHost they are
// lost.
func (l *Link) takeMessages(c *conn, body []byte) error {
	b, err := decodeMessages(body)
	if err == nil {
		err = checkMessages(b, c.peer.DirectoryID)
	}
	if err != nil {
		return err
	}
	if keep := l.cfg.Handlers.Keep; keep != nil {
		b.Requests = slices.DeleteFunc(b.Requests, func(m raftpb.Message) bool { return !keep(&m) })
	}
	if t := l.raft.Load(); t != nil && t.deliver(b) {
		l.stats.batchesReceived.Add(1)
	}
	return nil
}
