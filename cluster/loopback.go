package cluster

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

var errNoPeer = errors.New("this broker has no peers")

// loopback is the raft network of a broker without peers: it opens no socket
// and reaches nobody but itself.
type loopback struct {
	deployment uint64
	handler    atomic.Pointer[raftio.MessageHandler]
}

var (
	_ config.TransportFactory = (*loopback)(nil)
	_ raftio.ITransport       = (*loopback)(nil)
)

// Create implements config.TransportFactory.
func (l *loopback) Create(_ config.NodeHostConfig, h raftio.MessageHandler, _ raftio.ChunkHandler) raftio.ITransport {
	l.handler.Store(&h)
	return l
}

// Validate implements config.TransportFactory: addresses are directory ids.
func (l *loopback) Validate(addr string) bool { return addr != "" }

// Name implements raftio.ITransport.
func (l *loopback) Name() string { return "mq-loopback" }

// Start implements raftio.ITransport.
func (l *loopback) Start() error { return nil }

// Close implements raftio.ITransport.
func (l *loopback) Close() error { return nil }

// GetConnection implements raftio.ITransport.
func (l *loopback) GetConnection(context.Context, string) (raftio.IConnection, error) {
	return nil, errNoPeer
}

// GetSnapshotConnection implements raftio.ITransport.
func (l *loopback) GetSnapshotConnection(context.Context, string) (raftio.ISnapshotConnection, error) {
	return nil, errNoPeer
}

// campaign makes a replica of this broker stand for election now instead of
// after a randomised election timeout: the message a leader sends to the one it
// hands leadership to (raft thesis 3.10), sent by the replica to itself. Only a
// lone voter may use it; among several it would disturb a healthy leader.
func (l *loopback) campaign(shard, replica uint64) {
	h := l.handler.Load()
	if h == nil {
		return
	}
	(*h)(raftpb.MessageBatch{
		DeploymentId: l.deployment,
		BinVer:       raftio.TransportBinVersion,
		Requests: []raftpb.Message{{
			Type: raftpb.TimeoutNow, ShardID: shard, To: replica, From: replica,
		}},
	})
}
