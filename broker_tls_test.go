package mq_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/pemtls"
	"github.com/raftmq/mq/internal/pemtls/certtest"
)

// lockedLog is a log that is read while brokers write to it.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lockedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// issued is the configuration of a certificate that is made here, to follow its
// files in dir.
func issued(t *testing.T, trust, by *certtest.CA, dir, name string, auth tls.ClientAuthType) *tls.Config {
	t.Helper()
	cert, key := by.Issue(t, dir, name, time.Now().Add(time.Hour))
	conf, err := pemtls.Load(pemtls.Files{Cert: cert, Key: key, CA: trust.File}, auth, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestBrokersWithMutualTLSFormAClusterAndRefuseStrangers(t *testing.T) {
	t.Parallel()
	ca, other := certtest.NewCA(t), certtest.NewCA(t)
	var seeds []string
	config := func(id int32) mq.BrokerConfig {
		return mq.BrokerConfig{
			ID: id, DataDir: t.TempDir(), MinFreeBytes: -1, Listen: "127.0.0.1:0", TLS: issued(t, ca, ca, t.TempDir(), "broker", tls.RequireAndVerifyClientCert),
			Cluster: mq.ClusterConfig{Listen: "127.0.0.1:0", Seeds: seeds, TLS: issued(t, ca, ca, t.TempDir(), "broker", tls.NoClientCert)},
		}
	}
	open := func(ctx context.Context, cfg mq.BrokerConfig) *mq.Broker {
		t.Helper()
		b, err := mq.OpenBroker(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	var brokers []*mq.Broker
	for id := int32(1); id <= 3; id++ {
		b := open(ctx, config(id))
		brokers = append(brokers, b)
		seeds = append(seeds, b.PeerAddr())
	}
	for _, b := range brokers {
		if err := b.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mq.NewAdmin(brokers[1]).CreateTopic(ctx, mq.TopicSpec{Name: "t", Partitions: 6, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	// Through any broker: its own clients reach the leaders elsewhere.
	for _, b := range brokers {
		p := newProducer(t, b, mq.ProducerConfig{Topic: "t", Linger: -1})
		for range 12 {
			send(t, p, "v")
		}
		take(t, newConsumer(t, b, mq.ConsumerConfig{Topics: []string{"t"}, Start: mq.StartEarliest}), 12)
	}

	for name, conf := range map[string]*tls.Config{
		"plain text":        nil,
		"another authority": issued(t, ca, other, t.TempDir(), "stranger", tls.NoClientCert),
	} {
		cfg := config(4)
		cfg.Cluster.TLS = conf
		b := open(ctx, cfg)
		patience, cancel := context.WithTimeout(ctx, 500*time.Millisecond) // what is refused never gets ready
		if err := b.WaitReady(patience); err == nil {
			t.Errorf("%s was let in", name)
		}
		cancel()
	}
	info, err := mq.NewAdmin(brokers[0]).DescribeCluster(ctx)
	if err != nil || len(info.Brokers) != 3 {
		t.Errorf("the cluster has %v, %v", info.Brokers, err)
	}
	// What speaks to the port itself does not even get a greeting.
	for name, conf := range map[string]*tls.Config{
		"no certificate":    {RootCAs: ca.Pool(), MinVersion: tls.VersionTLS13},
		"another authority": issued(t, ca, other, t.TempDir(), "stranger", tls.NoClientCert),
	} {
		conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", seeds[0])
		if err != nil {
			t.Fatal(err) // the refusal comes after the client's part of the handshake
		}
		var refused *net.OpError
		if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: want a refusal, got %v", name, err)
		}
		_ = conn.Close()
	}
}

func TestClientsWithoutACertificateAreRefused(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{Listen: "127.0.0.1:0", TLS: issued(t, ca, ca, t.TempDir(), "broker", tls.RequireAndVerifyClientCert)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	dial := func(conf *tls.Config) error {
		c, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{b.Addr()}, TLS: conf, MaxRetries: mq.NoRetries})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := dial(issued(t, ca, ca, t.TempDir(), "client", tls.NoClientCert)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	wantError(t, dial(&tls.Config{RootCAs: ca.Pool()}), mq.ErrLeaderNotAvailable)
	wantError(t, dial(issued(t, ca, certtest.NewCA(t), t.TempDir(), "stranger", tls.NoClientCert)), mq.ErrLeaderNotAvailable)
}

func TestANewCertificateIsServedToTheNextConnection(t *testing.T) {
	t.Parallel()
	ca, dir := certtest.NewCA(t), t.TempDir()
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{Listen: "127.0.0.1:0", TLS: issued(t, ca, ca, dir, "first", tls.NoClientCert)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	served := func() string {
		conf := &tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"h2"}}
		conn, err := (&tls.Dialer{Config: conf}).DialContext(soon(t), "tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if name := served(); name != "first" {
		t.Fatalf("%q is served", name)
	}
	ca.Issue(t, dir, "second", time.Now().Add(time.Hour))
	for ctx := soon(t); served() != "second"; {
		if ctx.Err() != nil {
			t.Fatal("the new certificate is not served")
		}
	}
}

func TestPlainTextIsWarnedOfWhereOthersReachIt(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	conf := issued(t, ca, ca, t.TempDir(), "broker", tls.NoClientCert)
	for _, c := range []struct {
		cfg  mq.BrokerConfig
		want []string
	}{
		{mq.BrokerConfig{Listen: "127.0.0.1:0", Cluster: mq.ClusterConfig{Listen: "localhost:0"}}, nil},
		{mq.BrokerConfig{Listen: "0.0.0.0:0"}, []string{"clients are served in PLAIN TEXT"}},
		{mq.BrokerConfig{Listen: "127.0.0.1:0", Cluster: mq.ClusterConfig{Listen: ":0"}}, []string{"brokers talk in PLAIN TEXT"}},
		{mq.BrokerConfig{Listen: "0.0.0.0:0", TLS: conf, Cluster: mq.ClusterConfig{Listen: "0.0.0.0:0"}}, []string{"brokers talk in PLAIN TEXT"}},
		{mq.BrokerConfig{Listen: "0.0.0.0:0", TLS: conf, Cluster: mq.ClusterConfig{Listen: "0.0.0.0:0", TLS: conf}}, nil},
		{mq.BrokerConfig{Cluster: mq.ClusterConfig{Listen: "anywhere", Network: mq.NewNetwork()}}, nil},
	} {
		var log lockedLog
		c.cfg.Logger = log.logger()
		b, err := mq.OpenBroker(soon(t), c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		text := log.String()
		if n := strings.Count(text, "PLAIN TEXT"); n != len(c.want) {
			t.Errorf("%q, %q: %d warnings, want %d", c.cfg.Listen, c.cfg.Cluster.Listen, n, len(c.want))
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q, %q: no warning %q", c.cfg.Listen, c.cfg.Cluster.Listen, want)
			}
		}
	}
}

func TestTLSBetweenBrokersMustBeMutual(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	good := issued(t, ca, ca, t.TempDir(), "broker", tls.NoClientCert)
	noRoots, noCheck := good.Clone(), good.Clone()
	noRoots.RootCAs, noCheck.InsecureSkipVerify = nil, true
	for name, cfg := range map[string]mq.ClusterConfig{
		"no certificate": {Listen: "127.0.0.1:0", TLS: &tls.Config{RootCAs: ca.Pool()}},
		"no roots":       {Listen: "127.0.0.1:0", TLS: noRoots},
		"no check":       {Listen: "127.0.0.1:0", TLS: noCheck},
		"no socket":      {TLS: good},
		"inside":         {Listen: "b", TLS: good, Network: mq.NewNetwork()},
	} {
		_, err := mq.BrokerConfig{Cluster: cfg}.Complete()
		wantError(t, err, mq.ErrInvalidConfig)
		if err != nil && !strings.Contains(err.Error(), "cluster: TLS: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	complete, err := mq.BrokerConfig{Cluster: mq.ClusterConfig{Listen: "127.0.0.1:0", TLS: good}}.Complete()
	if err == nil {
		_, err = complete.Complete()
	}
	if err != nil {
		t.Error(err)
	}
}
