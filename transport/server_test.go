package transport_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/transporttest"
)

// connect makes a plain grpc connection, as a client of another language has.
func connect(t testing.TB, s *transport.Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// holding is a backend that answers produce requests when told to.
type holding struct {
	transporttest.Backend
	taken chan heldRequest
}

type heldRequest struct {
	n      int
	answer func()
}

func newHolding() *holding {
	h := &holding{taken: make(chan heldRequest, 10_000)}
	h.ProduceFunc = func(_ context.Context, q *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
		h.taken <- heldRequest{transporttest.Number(q), func() { done(transporttest.Answered(q), nil) }}
	}
	return h
}

func TestTakenPortIsNamed(t *testing.T) {
	t.Parallel()
	addr := serve(t, &transporttest.Backend{}, transport.ServerConfig{}).Addr().String()
	_, err := transport.Serve(&transporttest.Backend{}, transport.ServerConfig{Addr: addr})
	if !errors.Is(err, mqerr.ErrAddrInUse) || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}

func TestServerConfigIsChecked(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	for _, cfg := range []transport.ServerConfig{
		{},
		{Addr: "127.0.0.1:0", Listener: lis},
		{Addr: "127.0.0.1:0", MaxBatchBytes: -1},
		{Addr: "127.0.0.1:0", MaxInFlight: -1},
	} {
		if _, err := transport.Serve(&transporttest.Backend{}, cfg); !errors.Is(err, mqerr.ErrInvalidConfig) {
			t.Errorf("%+v: got %v", cfg, err)
		}
	}
	if _, err := transport.Serve(&transporttest.Backend{}, transport.ServerConfig{Addr: "nowhere"}); err == nil {
		t.Error("an address without a port was accepted")
	}
}

func TestHealthSaysWhetherToSendTraffic(t *testing.T) {
	t.Parallel()
	s := serve(t, &transporttest.Backend{}, transport.ServerConfig{})
	client := grpc_health_v1.NewHealthClient(connect(t, s))
	expect := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "mq.v1.Broker"} {
			got, err := client.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil || got.GetStatus() != want {
				t.Errorf("service %q: got %v, %v, want %v", service, got.GetStatus(), err, want)
			}
		}
	}
	expect(grpc_health_v1.HealthCheckResponse_SERVING)
	s.SetServing(false)
	expect(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	s.SetServing(true)

	watch, err := client.Watch(within(t), &grpc_health_v1.HealthCheckRequest{Service: "mq.v1.Broker"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("watch: got %v, %v", got, err)
	}
	// A watch never ends by itself and must not hold up the shutdown.
	if err := s.Shutdown(within(t)); err != nil {
		t.Error(err)
	}
	for {
		if _, err := watch.Recv(); err != nil {
			break
		}
	}
}

func TestReflectionListsTheService(t *testing.T) {
	t.Parallel()
	s := serve(t, &transporttest.Backend{}, transport.ServerConfig{})
	stream, err := reflectionpb.NewServerReflectionClient(connect(t, s)).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || !strings.Contains(answer.String(), "mq.v1.Broker") {
		t.Errorf("got %v, %v", answer, err)
	}
	_ = stream.CloseSend()
}

func TestShutdownAnswersWhatWasTakenAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	broker := newHolding()
	s := serve(t, broker, transport.ServerConfig{MaxInFlight: 3})
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	var outcomes []<-chan transporttest.Outcome
	for n := range 10 {
		outcomes = append(outcomes, transporttest.Produce(t.Context(), t, c, transporttest.Numbered(n, nil)))
	}
	var held []heldRequest
	for range 3 {
		held = append(held, transporttest.Await(t, broker.taken))
	}

	down := make(chan error)
	go func() { down <- s.Shutdown(within(t)) }()
	conn := connect(t, s)
	for { // until the shutdown shows
		_, err := grpc_health_v1.NewHealthClient(conn).Check(within(t), &grpc_health_v1.HealthCheckRequest{})
		if status.Code(err) == codes.Unavailable {
			break
		}
	}
	for _, r := range held {
		r.answer()
	}
	if err := transporttest.Await(t, down); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	for n, c := range outcomes {
		o := transporttest.Await(t, c)
		if n < 3 && o.Err != nil {
			t.Errorf("request %d was taken, but done with %v", n, o.Err)
		}
		if n >= 3 && !errors.Is(o.Err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("request %d was not taken, but done with %+v, %v", n, o.Answer, o.Err)
		}
	}
	if len(broker.taken) != 0 {
		t.Error("the broker was handed a request after the shutdown began")
	}
	if err := s.Shutdown(within(t)); err != nil {
		t.Errorf("a second Shutdown: %v", err)
	}
}

func TestShutdownEndsLongPolls(t *testing.T) {
	t.Parallel()
	polling := make(chan struct{})
	s := serve(t, &transporttest.Backend{FetchFunc: func(ctx context.Context, _ *api.FetchRequest) (*api.FetchResponse, error) {
		close(polling)
		<-ctx.Done()
		return nil, ctx.Err()
	}}, transport.ServerConfig{})
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	fetched := make(chan error, 1)
	go func() {
		_, err := c.Fetch(within(t), &api.FetchRequest{MaxWait: time.Hour})
		fetched <- err
	}()
	transporttest.Await(t, polling)
	if err := s.Shutdown(within(t)); err != nil {
		t.Error(err)
	}
	if err := transporttest.Await(t, fetched); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("the fetch ended with %v", err)
	}
}

// Port scanners and load balancers do that.
func TestShutdownIsNotHeldUpByConnectionsThatSayNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, &transporttest.Backend{}, transport.ServerConfig{})
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The listener takes connections in order: when this one is served, so was the other.
	if _, err := grpc_health_v1.NewHealthClient(connect(t, s)).Check(within(t), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(within(t)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownIsCutShortByItsContext(t *testing.T) {
	t.Parallel()
	broker := newHolding()
	s := serve(t, broker, transport.ServerConfig{})
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	outcome := transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))
	held := transporttest.Await(t, broker.taken)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.Shutdown(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if o := transporttest.Await(t, outcome); !errors.Is(o.Err, mqerr.ErrTimeout) {
		t.Errorf("what was taken and not answered is done with %v", o.Err)
	}
	held.answer() // comes too late and must find nobody, but harm nobody
	if err := s.Err(); err != nil {
		t.Errorf("Err of a stopped Server: %v", err)
	}
	transporttest.Await(t, s.Done())
}

func TestStoppedListenerIsReported(t *testing.T) {
	t.Parallel()
	lis, err := transport.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, &transporttest.Backend{}, transport.ServerConfig{Listener: lis})
	if err := s.Err(); err != nil {
		t.Errorf("Err while serving: %v", err)
	}
	_ = lis.Close()
	transporttest.Await(t, s.Done())
	if s.Err() == nil {
		t.Error("no error after the listener was closed behind the Server's back")
	}
}

func TestProduceOfOneStreamIsBounded(t *testing.T) {
	t.Parallel()
	const requests, large = 200, 20_000
	for _, c := range []struct {
		name         string
		cfg          transport.ServerConfig
		batch, topic int // bytes
		want         int
	}{
		{"by requests", transport.ServerConfig{MaxInFlight: 7}, large, 1, 7},
		{"by bytes of batches", transport.ServerConfig{MaxInFlightBytes: 5*large + large/2}, large, 1, 5},
		{"by bytes of the rest of the message", transport.ServerConfig{MaxInFlightBytes: 5*large + large/2}, 0, large, 5},
		{"by partitions", transport.ServerConfig{MaxInFlightBytes: 5<<10 + 512}, 0, 1, 5},
		{"alone when above the bound", transport.ServerConfig{MaxInFlightBytes: 1}, 0, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker := newHolding()
			client := dial(t, serve(t, broker, c.cfg).Addr().String(), transport.ClientConfig{})
			var outcomes []<-chan transporttest.Outcome
			for n := range requests {
				q := transporttest.Numbered(n, make([]byte, c.batch))
				q.Partitions[0].Topic = strings.Repeat("t", c.topic)
				outcomes = append(outcomes, transporttest.Produce(t.Context(), t, client, q))
			}
			var held []heldRequest
			for range requests {
				held = append(held, transporttest.Await(t, broker.taken))
				if inFlight := len(held) + len(broker.taken); inFlight > c.want {
					t.Fatalf("%d requests in flight, bound %d", inFlight, c.want)
				}
				if len(held) == c.want {
					held[0].answer()
					held = held[1:]
				}
			}
			for _, r := range held {
				r.answer()
			}
			for _, c := range outcomes {
				if o := transporttest.Await(t, c); o.Err != nil {
					t.Fatal(o.Err)
				}
			}
		})
	}
}

func TestStatsAndObserverSeeEveryRequest(t *testing.T) {
	t.Parallel()
	type seen struct {
		method string
		err    error
	}
	observed := make(chan seen, 10)
	broker := newHolding()
	broker.MetadataFunc = func(context.Context, *api.MetadataRequest) (*api.MetadataResponse, error) {
		return nil, mqerr.ErrBusy
	}
	s := serve(t, broker, transport.ServerConfig{Observe: func(method string, took time.Duration, err error) {
		if took < 0 {
			t.Errorf("%s took %v", method, took)
		}
		observed <- seen{method, err}
	}})
	c := dial(t, s.Addr().String(), transport.ClientConfig{})
	outcome := transporttest.Produce(t.Context(), t, c, transporttest.Numbered(1, nil))
	held := transporttest.Await(t, broker.taken)
	if got := s.Stats(); got.InFlight["Produce"] != 1 || got.InFlight["Fetch"] != 0 || got.Connections != 1 || got.Accepted != 1 {
		t.Errorf("while a request is served: %+v", got)
	}
	held.answer()
	if o := transporttest.Await(t, outcome); o.Err != nil {
		t.Fatal(o.Err)
	}
	if got := transporttest.Await(t, observed); got.method != "Produce" || got.err != nil {
		t.Errorf("observed %+v", got)
	}
	_, _ = c.Metadata(within(t), &api.MetadataRequest{})
	if got := transporttest.Await(t, observed); got.method != "Metadata" || !errors.Is(got.err, mqerr.ErrBusy) {
		t.Errorf("observed %+v", got)
	}
	if got := s.Stats(); got.InFlight["Produce"] != 0 || got.InFlight["Metadata"] != 0 {
		t.Errorf("when idle: %+v", got)
	}
	_ = c.Close()
	_ = s.Close()
	if got := s.Stats(); got.Connections != 0 || got.Accepted != 1 {
		t.Errorf("after the end: %+v", got)
	}
}

func TestCloseIsSafeAnyTimeAndTwice(t *testing.T) {
	t.Parallel()
	s := serve(t, &transporttest.Backend{}, transport.ServerConfig{})
	var closers sync.WaitGroup
	for range 4 {
		closers.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closers.Wait()
}
