package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/mqerr"
)

// chunkTimeout is how long a peer may take to accept a chunk, which ends with a
// sync of its disk.
const chunkTimeout = time.Minute

// GetSnapshotConnection implements raftio.ITransport. All streams to a peer
// share a connection on which nothing else travels.
func (t *raftTransport) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	s := &stream{transport: t, to: target}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if _, err := t.link.peer(target).snapshots.get(s.ctx); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// stream sends one snapshot.
type stream struct {
	transport *raftTransport
	to        string
	ctx       context.Context
	cancel    context.CancelFunc
}

// Close implements raftio.ISnapshotConnection.
func (s *stream) Close() { s.cancel() }

// SendChunk implements raftio.ISnapshotConnection. It returns when the peer has
// accepted the chunk, so that a stream that reports success is there.
func (s *stream) SendChunk(chunk raftpb.Chunk) error {
	l := s.transport.link
	if err := l.cfg.Faults.holdSnapshot(s.ctx, pair{l.Self().DirectoryID, s.to}); err != nil {
		return err
	}
	if err := l.throttle.wait(s.ctx, len(chunk.Data)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, chunkTimeout)
	defer cancel()
	c, err := l.peer(s.to).snapshots.get(ctx)
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, true, func(number uint64) []byte { return chunkFrame(number, chunk) })
	if err != nil {
		return fmt.Errorf("chunk %d: %w", chunk.ChunkId, err)
	}
	l.stats.snapshotBytes.Add(uint64(len(chunk.Data)))
	return nil
}

func chunkFrame(number uint64, chunk raftpb.Chunk) []byte {
	size := chunk.Size()
	b := binary.AppendUvarint(newFrame(kindChunk, binary.MaxVarintLen64+size), number)
	n, err := chunk.MarshalTo(b[len(b) : len(b)+size])
	if err != nil {
		n = 0 // it doesn't fail; the peer would refuse the rest
	}
	return seal(b[:len(b)+n])
}

func decodeChunk(body []byte) (c raftpb.Chunk, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: snapshot chunk: %v", errMalformed, r)
		}
	}()
	return c, c.Unmarshal(body)
}

// serveChunk handles a frame with a chunk.
func (c *conn) serveChunk(body []byte) error {
	f := fieldsOf(body)
	number := f.Uvarint()
	if f.err() != nil {
		return f.err()
	}
	chunk, err := decodeChunk(f.Rest)
	if err != nil {
		return err
	}
	return c.serve(number, len(body), chunkTimeout, func(context.Context) ([]byte, error) {
		keep := c.link.cfg.Handlers.KeepChunk
		if t := c.link.raft.Load(); t != nil && (keep == nil || keep(&chunk)) && t.deliverChunk(chunk) {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: snapshot not wanted", mqerr.ErrLeaderNotAvailable)
	})
}
