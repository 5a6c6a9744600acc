package mq_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

func TestZeroBrokerIsInMemoryAndAlone(t *testing.T) {
	t.Parallel()
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if b.Addr() != "" || b.Durable() {
		t.Errorf("it listens on %q and is durable: %v", b.Addr(), b.Durable())
	}
	if err := b.WaitReady(soon(t)); err != nil {
		t.Errorf("not ready: %v", err)
	}
	select {
	case <-b.Done():
		t.Error("it is done")
	default:
	}
	if err := b.Err(); err != nil {
		t.Errorf("while it works its error is %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	<-b.Done()
	wantError(t, b.Err(), mq.ErrClosed)
}

func TestDurableWithADataDir(t *testing.T) {
	t.Parallel()
	s := door{disk: true}.open(t, mq.BrokerConfig{DataDir: filepath.Join(t.TempDir(), "made", "if", "missing")})
	if !s.broker.Durable() {
		t.Error("a broker with a data directory is not durable")
	}
}

func TestAllFaultsOfABrokerConfigAreTold(t *testing.T) {
	t.Parallel()
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{
		ID: -1, Listen: "no port", Advertise: "nor here", DefaultPartitions: 10_001, MaxMemory: 1, MaxInFlightBytes: -1,
		RetentionInterval: -1, MaxGroupMembers: -1, CloseTimeout: -1,
	})
	if b != nil {
		t.Error("there is a broker nevertheless")
	}
	wantError(t, err, mq.ErrInvalidConfig)
	for _, key := range []string{
		"id:", "listen:", "advertise:", "default_partitions:", "max_memory:", "max_in_flight_bytes:", "retention_interval:", "max_group_members:", "close_timeout:",
	} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
	for _, cfg := range []mq.BrokerConfig{{Advertise: "a:1"}, {TLS: &tls.Config{}}} { // make no sense without Listen
		_, err := mq.OpenBroker(soon(t), cfg)
		wantError(t, err, mq.ErrInvalidConfig)
	}
}

func TestBrokersInOneProcessAreApart(t *testing.T) {
	t.Parallel()
	a, b := door{}.open(t, mq.BrokerConfig{}), door{remote: true}.open(t, mq.BrokerConfig{})
	for s, value := range map[*site]string{a: "a", b: "b"} {
		send(t, s.producer(t, mq.ProducerConfig{Topic: "t"}), value)
	}
	for s, value := range map[*site]string{a: "a", b: "b"} {
		if got := takeOne(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})); got != value {
			t.Errorf("the topic of broker %s holds %q", value, got)
		}
	}
}

// Close, Shutdown, Stats and a scrape at any time, by anybody.
func TestBrokerClosesOnceWhoeverAsks(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 3)
		p := s.producer(t, mq.ProducerConfig{Topic: name, DeliveryTimeout: 5 * time.Second, CloseTimeout: time.Millisecond})
		s.consumer(t, mq.ConsumerConfig{Topics: []string{name}})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for s.broker.Err() == nil {
					_ = p.TrySend(&mq.Record{Value: []byte("v")}, nil)
					s.broker.Stats()
					s.broker.MetricsHandler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
					_ = s.broker.WaitReady(soon(t))
				}
			})
		}
		eventually(t, "records arrive", func() bool {
			var n int64
			for _, p := range s.broker.Stats().Partitions {
				n += p.RecordsIn
			}
			return n > 100
		})
		for i := range 4 {
			wg.Go(func() {
				end := s.broker.Close
				if i%2 == 0 {
					end = func() error { return s.broker.Shutdown(soon(t)) }
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestShutdownCutShortStillCloses(t *testing.T) {
	t.Parallel()
	s := door{remote: true, disk: true}.open(t, mq.BrokerConfig{})
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	send(t, p, "v")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.broker.Shutdown(ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cut short: %v", err)
	}
	select {
	case <-s.broker.Done():
	default:
		t.Fatal("it is not closed")
	}
	s.start(t)
	if got := takeOne(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}})); got != "v" {
		t.Errorf("after it there is %q", got)
	}
}

// A record that was on its way when the broker shut down has been acknowledged
// and is there, or it failed.
func TestShutdownKeepsWhatItAcknowledges(t *testing.T) {
	eachDoor(t, onDisk, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 1)
		p := s.producer(t, mq.ProducerConfig{Topic: name, BatchSize: 10, DeliveryTimeout: time.Minute})
		var mu sync.Mutex
		acked := map[int64]string{}
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
		for i := range 5000 {
			value := string(rune('a'+i%26)) + "-record"
			p.SendAsync(t.Context(), &mq.Record{Value: []byte(value)}, func(r *mq.Record, err error) {
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				acked[r.Offset] = value
			})
		}
		eventually(t, "some are acknowledged", func() bool { return count() > 100 })
		s.stop(t, true)
		s.start(t)
		if d.remote {
			if err := p.Flush(soon(t)); err != nil { // with the broker back, all get through
				t.Error(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for i, r := range take(t, newConsumer(t, s.broker, mq.ConsumerConfig{Topics: []string{name}}), len(acked)) {
			if want, ok := acked[r.Offset]; ok && want != string(r.Value) || r.Offset != int64(i) {
				t.Fatalf("record %d, at %d, is %q, acknowledged %q", i, r.Offset, r.Value, want)
			}
		}
	})
}

func TestBrokerInMemorySaysSo(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "memory") {
		t.Errorf("the log of a broker in memory is %q", &log)
	}
}

// In a process of its own: what is kept for good is kept of the first broker.
func TestClosedBrokerIsForgotten(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"=forget")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPrintsNothing(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"=quiet")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("a program with brokers of every kind ended with %v and printed:\n%s", err, out)
	}
}

// sockets lists the sockets of this process.
func sockets(t *testing.T) map[string]bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no list of open files on this system: %v", err)
	}
	found := map[string]bool{}
	for _, fd := range fds {
		if what, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(what, "socket:") {
			found[what] = true
		}
	}
	return found
}

// Not parallel: other tests open sockets.
func TestInProcessUseOpensNoSocket(t *testing.T) {
	for _, d := range doors {
		if d.remote {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			before := sockets(t)
			s := d.open(t, mq.BrokerConfig{})
			name := s.topic(t, 3)
			p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.RoundRobin()})
			c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
			for range 100 {
				send(t, p, "v")
			}
			if err := c.Commit(soon(t), take(t, c, 100)...); err != nil {
				t.Fatal(err)
			}
			for socket := range sockets(t) {
				if !before[socket] {
					t.Errorf("%s was opened", socket)
				}
			}
		})
	}
	// The count does see what it looks for.
	before := sockets(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	if after := sockets(t); len(after) != len(before)+1 {
		t.Errorf("%d sockets became %d by opening one", len(before), len(after))
	}
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

func TestTLSIsDemanded(t *testing.T) {
	t.Parallel()
	server, client := selfSigned(t)
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{Listen: "127.0.0.1:0", TLS: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	for _, addr := range []string{b.Addr(), "https://" + b.Addr()} {
		c, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{addr}, TLS: client})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		send(t, newProducer(t, c, mq.ProducerConfig{Topic: "t"}), "v")
		take(t, newConsumer(t, c, mq.ConsumerConfig{Topics: []string{"t"}}), 1)
	}
	for name, cfg := range map[string]mq.ClientConfig{
		"plain text":             {Brokers: []string{b.Addr()}},
		"a certificate not ours": {Brokers: []string{"https://" + b.Addr()}},
	} {
		cfg.Timeout, cfg.MaxRetries = time.Second, 1
		c, err := mq.Dial(soon(t), cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s was let in", name)
		}
		wantError(t, err, mq.ErrLeaderNotAvailable)
	}
}

func TestAddressesMayHaveAScheme(t *testing.T) {
	t.Parallel()
	s := door{remote: true}.open(t, mq.BrokerConfig{})
	c := dialBroker(t, "http://"+s.broker.Addr()+"/")
	send(t, newProducer(t, c, mq.ProducerConfig{Topic: "t"}), "v")
	for _, bad := range []string{"", "localhost", ":", "localhost:", ":50051", "http://", "a:b:c"} {
		_, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{bad}})
		wantError(t, err, mq.ErrInvalidConfig)
	}
	_, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{"a:1"}, Timeout: -1})
	wantError(t, err, mq.ErrInvalidConfig)
}

func TestVersionIsTold(t *testing.T) {
	t.Parallel()
	if mq.Version() == "" {
		t.Error("no version")
	}
}
