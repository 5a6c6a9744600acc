package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/transporttest"
)

// freeAddr is an address that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), transport.ServerConfig{})
	addr := s.Addr().String()
	for _, a := range []string{addr, "http://" + addr, "http://" + addr + "/"} {
		c := dial(t, a, transport.ClientConfig{})
		if _, err := c.Metadata(within(t), &api.MetadataRequest{}); err != nil || c.Addr() != addr {
			t.Errorf("%s: dialled %s, %v", a, c.Addr(), err)
		}
	}
	for _, a := range []string{"", "host", "http://host", ":", "http://", "http://https://h:1", "ftp://h:1", "h:1/path"} {
		if c, err := transport.Dial(t.Context(), a, transport.ClientConfig{}); !errors.Is(err, mqerr.ErrInvalidConfig) {
			t.Errorf("%q: got %v, %v", a, c, err)
		}
	}
	if _, err := transport.Dial(t.Context(), "http://"+addr, transport.ClientConfig{TLS: &tls.Config{}}); !errors.Is(err, mqerr.ErrInvalidConfig) {
		t.Errorf("http with TLS: got %v", err)
	}
	if _, err := transport.Dial(t.Context(), addr, transport.ClientConfig{MaxInFlight: -1}); !errors.Is(err, mqerr.ErrInvalidConfig) {
		t.Errorf("negative bound: got %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := transport.Dial(ended, addr, transport.ClientConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
}

// A client that runs for long learns of another authority with its next connection.
func TestClientTrustsWhatItsConfigurationSaysNow(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	s := serve(t, answering(), transport.ServerConfig{TLS: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	var now atomic.Pointer[x509.CertPool]
	now.Store(x509.NewCertPool())
	conf := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{RootCAs: now.Load(), MinVersion: tls.VersionTLS12}, nil
	}
	c, err := transport.Dial(t.Context(), s.Addr().String(), transport.ClientConfig{TLS: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Metadata(within(t), &api.MetadataRequest{}); err == nil {
		t.Fatal("a stranger's certificate is trusted")
	}
	now.Store(trusted)
	for ctx := within(t); ; { // it connects again after a while
		_, err := c.Metadata(ctx, &api.MetadataRequest{})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	s := serve(t, answering(), transport.ServerConfig{TLS: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}})

	trusting := transport.ClientConfig{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	for _, addr := range []string{s.Addr().String(), "https://" + s.Addr().String()} {
		if _, err := dial(t, addr, trusting).Metadata(within(t), &api.MetadataRequest{}); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	_, err := dial(t, "https://"+s.Addr().String(), transport.ClientConfig{}).Metadata(within(t), &api.MetadataRequest{})
	if !errors.Is(err, mqerr.ErrLeaderNotAvailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of unknown origin: got %v", err)
	}
	if _, err := dial(t, s.Addr().String(), transport.ClientConfig{}).Metadata(within(t), &api.MetadataRequest{}); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("without TLS: got %v", err)
	}
}

func TestAbsentBrokerMeansThatNothingHappened(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	c := dial(t, addr, transport.ClientConfig{})
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, mqerr.ErrLeaderNotAvailable) || mqerr.OutcomeUnknown(err) ||
			!strings.Contains(err.Error(), addr) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	_, err := c.Metadata(within(t), &api.MetadataRequest{})
	check("Metadata", err)
	_, err = c.CreateTopic(within(t), &api.CreateTopicRequest{})
	check("CreateTopic", err)
	check("Produce", transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))).Err)
}

func TestWaitConnectedTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	c := dial(t, addr, transport.ClientConfig{})
	if _, err := c.Metadata(within(t), &api.MetadataRequest{}); err == nil { // it has tried
		t.Fatal("somebody answered")
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := c.WaitConnected(short)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, mqerr.ErrLeaderNotAvailable) ||
		!strings.Contains(err.Error(), addr) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody there: got %v", err)
	}

	connected := make(chan error)
	go func() { connected <- c.WaitConnected(within(t)) }()
	serve(t, answering(), transport.ServerConfig{Addr: addr}).SetServing(false)
	if err := transporttest.Await(t, connected); err != nil {
		t.Errorf("a broker that is there but not ready: got %v", err)
	}

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := grpc.NewServer()
	served := make(chan error, 1)
	go func() { served <- other.Serve(lis) }()
	defer func() {
		other.Stop()
		<-served
	}()
	if err := dial(t, lis.Addr().String(), transport.ClientConfig{}).WaitConnected(within(t)); !errors.Is(err, mqerr.ErrUnsupportedVersion) {
		t.Errorf("another kind of server: got %v", err)
	}
}

func TestRestartedBrokerIsFoundAgain(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), transport.ServerConfig{})
	addr := s.Addr().String()
	c := dial(t, addr, transport.ClientConfig{})
	for range 3 {
		if err := c.WaitConnected(within(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Metadata(within(t), &api.MetadataRequest{}); err != nil {
			t.Fatal(err)
		}
		if o := transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))); o.Err != nil {
			t.Fatal(o.Err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for { // until the client has noticed
			o := transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(2, nil)))
			if !errors.Is(o.Err, mqerr.ErrLeaderNotAvailable) && !errors.Is(o.Err, mqerr.ErrTimeout) {
				t.Fatalf("while the broker is away: %v", o.Err)
			}
			if errors.Is(o.Err, mqerr.ErrLeaderNotAvailable) {
				break
			}
		}
		s = serve(t, answering(), transport.ServerConfig{Addr: addr})
	}
}

// What the connection's loss means is decided by whether the request had left.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 2)
	s := serve(t, &transporttest.Backend{
		MetadataFunc: func(ctx context.Context, _ *api.MetadataRequest) (*api.MetadataResponse, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
		CreateTopicFunc: func(ctx context.Context, _ *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}, transport.ServerConfig{})
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	read, write := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Metadata(within(t), &api.MetadataRequest{})
		read <- err
	}()
	go func() {
		_, err := c.CreateTopic(within(t), &api.CreateTopicRequest{})
		write <- err
	}()
	transporttest.Await(t, entered)
	transporttest.Await(t, entered)
	_ = s.Close()
	if err := transporttest.Await(t, read); !errors.Is(err, mqerr.ErrLeaderNotAvailable) || !mqerr.Retriable(err) {
		t.Errorf("a call that changes nothing: got %v", err)
	}
	if err := transporttest.Await(t, write); !errors.Is(err, mqerr.ErrTimeout) || !mqerr.OutcomeUnknown(err) {
		t.Errorf("a call that changes something: got %v", err)
	}
}

func TestEndedContextOfAWriteLeavesItsOutcomeUnknown(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 1)
	s := serve(t, &transporttest.Backend{DeleteTopicFunc: func(ctx context.Context, _ *api.DeleteTopicRequest) (*api.DeleteTopicResponse, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}, transport.ServerConfig{})
	c := dial(t, s.Addr().String(), transport.ClientConfig{AdminTimeout: -1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if _, err := c.DeleteTopic(ctx, &api.DeleteTopicRequest{}); !errors.Is(err, context.Canceled) || !mqerr.OutcomeUnknown(err) {
		t.Errorf("got %v", err)
	}
	if _, err := c.DeleteTopic(ctx, &api.DeleteTopicRequest{}); !errors.Is(err, context.Canceled) || mqerr.OutcomeUnknown(err) {
		t.Errorf("one that never left: got %v", err)
	}
}

func TestAdminCallsGetADeadline(t *testing.T) {
	t.Parallel()
	deadlines := make(chan bool, 1)
	tell := func(ctx context.Context) {
		_, ok := ctx.Deadline()
		deadlines <- ok
	}
	s := serve(t, &transporttest.Backend{
		CreateTopicFunc: func(ctx context.Context, _ *api.CreateTopicRequest) (*api.CreateTopicResponse, error) {
			tell(ctx)
			return &api.CreateTopicResponse{}, nil
		},
		FetchFunc: func(ctx context.Context, _ *api.FetchRequest) (*api.FetchResponse, error) {
			tell(ctx)
			return &api.FetchResponse{}, nil
		},
	}, transport.ServerConfig{})
	for _, c := range []struct {
		timeout time.Duration
		want    bool
	}{{0, true}, {time.Hour, true}, {-1, false}} {
		client := dial(t, s.Addr().String(), transport.ClientConfig{AdminTimeout: c.timeout})
		if _, err := client.CreateTopic(t.Context(), &api.CreateTopicRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := <-deadlines; got != c.want {
			t.Errorf("AdminTimeout %v: the call has a deadline: %v", c.timeout, got)
		}
		if _, err := client.Fetch(t.Context(), &api.FetchRequest{}); err != nil {
			t.Fatal(err)
		}
		if <-deadlines {
			t.Errorf("AdminTimeout %v: a fetch got a deadline", c.timeout)
		}
	}
}

func TestTextThatIsNotUTF8IsRefusedHere(t *testing.T) {
	t.Parallel()
	c := dial(t, serve(t, answering(), transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
	bad := transporttest.Numbered(1, nil)
	bad.Partitions[0].Topic = "\xff"
	if o := transporttest.Await(t, transporttest.Produce(t.Context(), t, c, bad)); !errors.Is(o.Err, mqerr.ErrInvalidTopic) {
		t.Errorf("Produce: got %v", o.Err)
	}
	if _, err := c.Metadata(within(t), &api.MetadataRequest{Topics: []string{"\xff"}}); !errors.Is(err, mqerr.ErrInvalidRequest) {
		t.Errorf("Metadata: got %v", err)
	}
	if o := transporttest.Await(t, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))); o.Err != nil {
		t.Errorf("afterwards: %v", o.Err)
	}
}

func TestFetchMayAskForNoMoreThanTheServerAllows(t *testing.T) {
	t.Parallel()
	asked := make(chan int, 1)
	s := serve(t, &transporttest.Backend{FetchFunc: func(_ context.Context, q *api.FetchRequest) (*api.FetchResponse, error) {
		asked <- q.MaxBytes
		// The first batch always fits, however large.
		return &api.FetchResponse{Partitions: []api.FetchResult{{Batches: make([]byte, 70<<20)}}}, nil
	}}, transport.ServerConfig{MaxFetchBytes: 1000})
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	a, err := c.Fetch(within(t), &api.FetchRequest{MaxBytes: 1 << 40})
	if err != nil || len(a.Partitions[0].Batches) != 70<<20 {
		t.Fatalf("got %v", err)
	}
	if got := <-asked; got != 1000 {
		t.Errorf("the broker was asked for %d bytes", got)
	}
}
