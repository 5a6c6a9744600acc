package network_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/cluster/network"
)

// carriers are the networks that the suite runs on.
var carriers = []struct {
	name   string
	listen string
	make   func(testing.TB) network.Network
}{
	{"mem", "", func(testing.TB) network.Network { return &network.Mem{} }},
	{"tcp", "127.0.0.1:0", func(testing.TB) network.Network { return network.TCP{} }},
	{"tls", "127.0.0.1:0", func(tb testing.TB) network.Network {
		accept, connect := mutualTLS(tb)
		return network.TCP{Accept: accept, Connect: connect}
	}},
}

// onAll runs a test on every carrier.
func onAll(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, c := range carriers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, c.make(t), c.listen))
		})
	}
}

// world is the brokers of a test.
type world struct {
	tb     testing.TB
	net    network.Network
	listen string
	faults *network.Faults
	mu     sync.Mutex
	addrs  map[string]string // by directory id
}

func newWorld(tb testing.TB, n network.Network, listen string) *world {
	return &world{tb: tb, net: n, listen: listen, faults: network.NewFaults(1), addrs: make(map[string]string)}
}

// inMemory is a world for tests in a synctest bubble.
func inMemory(tb testing.TB) *world { return newWorld(tb, &network.Mem{}, "") }

const clusterID = "0d8a-cluster"

// attach starts a broker, which is closed when the test ends.
func (w *world) attach(id string, edit ...func(*network.Config)) *network.Link {
	w.tb.Helper()
	cfg := network.Config{
		Self:    network.Identity{ClusterID: clusterID, DirectoryID: id, BrokerID: int32(id[0])},
		Listen:  w.listen,
		Faults:  w.faults,
		Resolve: w.resolve,
	}
	for _, e := range edit {
		e(&cfg)
	}
	l, err := network.Attach(context.Background(), w.net, cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			w.tb.Error(err)
		}
	})
	w.lives(id, l.Addr())
	return l
}

func (w *world) lives(id, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs[id] = addr
}

func (w *world) resolve(id string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if addr := w.addrs[id]; addr != "" {
		return addr, nil
	}
	return "", errors.New("unknown broker")
}

// answering makes a broker answer calls.
func answering(h func(ctx context.Context, from network.Identity, method string, payload []byte) ([]byte, error)) func(*network.Config) {
	return func(c *network.Config) { c.Handlers.Call = h }
}

// echo answers with what it got.
func echo(_ context.Context, _ network.Identity, _ string, payload []byte) ([]byte, error) {
	return payload, nil
}

// raftEnd is what a link takes for a NodeHost.
type raftEnd struct {
	tb      testing.TB
	trans   raftio.ITransport
	batches chan raftpb.MessageBatch
	chunks  chan raftpb.Chunk
}

const deployment = 42

// raftOn starts one, closed when the test ends. It takes up to 10,000 batches
// and refuses chunks of shard 13.
func raftOn(tb testing.TB, l *network.Link) *raftEnd {
	tb.Helper()
	e := &raftEnd{tb: tb, batches: make(chan raftpb.MessageBatch, 10_000), chunks: make(chan raftpb.Chunk, 100)}
	e.trans = l.Raft().Create(config.NodeHostConfig{DeploymentID: deployment, RaftAddress: l.Self().DirectoryID},
		func(b raftpb.MessageBatch) { e.batches <- b },
		func(c raftpb.Chunk) bool {
			e.chunks <- c
			return c.ShardID != 13
		})
	if err := e.trans.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.trans.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// lane is a connection for raft messages, closed when the test ends.
func (e *raftEnd) lane(to string) raftio.IConnection {
	e.tb.Helper()
	c, err := e.trans.GetConnection(e.tb.Context(), to)
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(c.Close)
	return c
}

// batch is a batch that a broker could send.
func batch(from string, number uint64, size int) raftpb.MessageBatch {
	return raftpb.MessageBatch{
		SourceAddress: from, DeploymentId: deployment, BinVer: raftio.TransportBinVersion,
		Requests: []raftpb.Message{{
			Type: raftpb.Replicate, ShardID: 7, From: 1, To: 2, Term: 3, LogIndex: number,
			Entries: []raftpb.Entry{{Term: 3, Index: number + 1, Cmd: pattern(number, size)}},
		}},
	}
}

// pattern is bytes that only this number has.
func pattern(number uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(number*31 + uint64(i)*7)
	}
	return b
}

// toNobody is a batch that no broker would send.
func toNobody(from string) raftpb.MessageBatch {
	b := batch(from, 1, 1)
	b.Requests[0].To = 0
	return b
}

func marshal(tb testing.TB, b raftpb.MessageBatch) []byte {
	tb.Helper()
	out := make([]byte, b.SizeUpperLimit())
	n, err := b.MarshalTo(out)
	if err != nil {
		tb.Fatal(err)
	}
	return out[:n]
}

func number(b raftpb.MessageBatch) uint64 { return b.Requests[0].LogIndex }

// chunk is a snapshot chunk.
func chunk(shard, id uint64, size int) raftpb.Chunk {
	return raftpb.Chunk{
		ShardID: shard, ReplicaID: 2, From: 1, ChunkId: id, ChunkSize: uint64(size), ChunkCount: 100, Data: pattern(id, size),
		Index: 9, Term: 3, DeploymentId: deployment, BinVer: raftio.TransportBinVersion, Filepath: "snapshot", FileChunkCount: 100,
		Membership: raftpb.Membership{Addresses: map[uint64]string{1: "a", 2: "b"}},
	}
}

// receive takes the next value, for which it waits as long as a test may take.
func receive[T any](tb testing.TB, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(2 * time.Minute):
		tb.Fatal("nothing came")
		panic("unreachable")
	}
}

// marker is the number of batches that only show that they arrive.
const marker = 1 << 40

// next takes the next batch that is no marker.
func (e *raftEnd) next() raftpb.MessageBatch {
	e.tb.Helper()
	for {
		if b := receive(e.tb, e.batches); number(b) != marker {
			return b
		}
	}
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not in time: %s", what)
		}
	}
}

// arrives sends a batch until it arrives: raft messages may be lost while
// brokers connect. Batches before it are skipped.
func arrives(tb testing.TB, from string, lane raftio.IConnection, to *raftEnd) {
	tb.Helper()
	eventually(tb, "a raft message arrives", func() bool {
		if err := lane.SendMessageBatch(batch(from, marker, 1)); err != nil {
			tb.Fatal(err)
		}
		for {
			select {
			case b := <-to.batches:
				if number(b) == marker {
					return true
				}
			case <-time.After(10 * time.Millisecond):
				return false
			}
		}
	})
}

// mutualTLS makes a certificate authority, and a certificate with which brokers
// know each other.
func mutualTLS(tb testing.TB) (accept, connect *tls.Config) {
	tb.Helper()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		return k
	}
	sign := func(template, parent *x509.Certificate, key *ecdsa.PrivateKey, by *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			tb.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		return cert
	}
	template := func(serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("test ", serial)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	caKey, key := newKey(), newKey()
	ca := template(1)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	ca = sign(ca, ca, caKey, caKey)
	leaf := template(2)
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leaf = sign(leaf, ca, key, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	cert := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	accept = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	connect = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13}
	return accept, connect
}
