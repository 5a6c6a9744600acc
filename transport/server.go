package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

// ServerConfig configures Serve. Either Addr or Listener is required.
type ServerConfig struct {
	// Addr is the host:port to listen on; port 0 picks one.
	Addr string
	// Listener is used instead of Addr. The Server closes it.
	Listener net.Listener
	// TLS, when set, is demanded of every connection.
	TLS *tls.Config

	// MaxBatchBytes is the largest record batch that any topic may allow.
	// Default 1 MiB. Messages are accepted up to 1 MiB more than this, and up
	// to 32 MiB in any case, since one request may hold several batches.
	MaxBatchBytes int
	// MaxFetchBytes is the most that one fetch may ask for, but for the first
	// batch, which always fits; a higher FetchRequest.MaxBytes is lowered to
	// it. Default 64 MiB.
	MaxFetchBytes int

	// MaxInFlight and MaxInFlightBytes bound the produce requests of one stream
	// that the broker has taken and not answered. When one is reached the
	// stream is not read on, and flow control holds the client back; beside
	// them one message that was read already may be held, and 4 MiB that were
	// received. A request counts with its whole message, and 1 KiB more for each
	// of its partitions. One above MaxInFlightBytes is served alone. Default
	// 1024, and 16 MiB.
	MaxInFlight      int
	MaxInFlightBytes int

	// Observe, when set, is told of every request of api.Broker answered: its
	// method, how long it took, and the error that it failed with as a whole.
	// It is called concurrently, also on the broker's goroutines, and must not
	// block.
	Observe func(method string, took time.Duration, err error)
}

const (
	minMaxMessage  = 32 << 20
	windowBytes    = 4 << 20 // HTTP/2 flow control, of a stream and of a connection
	maxCalls       = 4096    // open calls of one connection; above it, clients wait
	serverPing     = 30 * time.Second
	clientPing     = 10 * time.Second // the least that grpc allows
	pingTimeout    = 10 * time.Second
	minPingByPeers = 5 * time.Second
)

func (c ServerConfig) withDefaults() ServerConfig {
	setDefault(&c.MaxBatchBytes, 1<<20)
	setDefault(&c.MaxFetchBytes, 64<<20)
	setDefault(&c.MaxInFlight, 1024)
	setDefault(&c.MaxInFlightBytes, 16<<20)
	return c
}

func (c ServerConfig) validate() error {
	var errs []error
	if (c.Addr == "") == (c.Listener == nil) {
		errs = append(errs, fmt.Errorf("%w: one of Addr and Listener is required", mqerr.ErrInvalidConfig))
	}
	errs = append(errs,
		notNegative("MaxBatchBytes", c.MaxBatchBytes),
		notNegative("MaxFetchBytes", c.MaxFetchBytes),
		notNegative("MaxInFlight", c.MaxInFlight),
		notNegative("MaxInFlightBytes", c.MaxInFlightBytes),
	)
	return errors.Join(errs...)
}

func (c ServerConfig) maxMessageBytes() int { return max(c.MaxBatchBytes+1<<20, minMaxMessage) }

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func notNegative[T int | time.Duration](name string, v T) error {
	if v < 0 {
		return fmt.Errorf("%w: %s must not be negative", mqerr.ErrInvalidConfig, name)
	}
	return nil
}

// Server serves an api.Broker over gRPC, with the standard health and
// reflection services. All methods are safe for concurrent use.
type Server struct {
	cfg    ServerConfig
	meter  *meter
	health *health.Server
	grpc   *grpc.Server
	lis    net.Listener

	draining context.Context // ends when Shutdown begins
	drain    context.CancelFunc

	// serving ends with the accept loop, which ends when grpc stops; err is
	// set before.
	serving chan struct{}
	err     error
	// receivers are the readers of produce streams; each ends with its stream.
	receivers sync.WaitGroup
}

// Listen opens a TCP listener for Serve. A port that is taken gives
// ErrAddrInUse with the address.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: %s", mqerr.ErrAddrInUse, addr)
	case err != nil:
		return nil, fmt.Errorf("transport: listen: %w", err)
	}
	return lis, nil
}

// Serve starts to serve b. It returns ErrAddrInUse when the port is taken. The
// caller stops the Server with Shutdown or Close before it closes b.
func Serve(b api.Broker, cfg ServerConfig) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), lis: cfg.Listener, health: health.NewServer(), serving: make(chan struct{})}
	if s.lis == nil {
		lis, err := Listen(context.Background(), cfg.Addr)
		if err != nil {
			return nil, err
		}
		s.lis = lis
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.meter = newMeter(s.cfg.Observe)

	s.grpc = grpc.NewServer(s.options()...)
	mqpb.RegisterBrokerServer(s.grpc, &service{server: s, broker: b})
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.SetServing(true)

	go func() {
		defer close(s.serving)
		if err := s.grpc.Serve(s.lis); !errors.Is(err, grpc.ErrServerStopped) {
			s.err = err
		}
	}()
	return s, nil
}

func (s *Server) options() []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(serverCodec{encoding.GetCodecV2(proto.Name)}),
		grpc.MaxRecvMsgSize(s.cfg.maxMessageBytes()),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(windowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPing, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingByPeers, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.call),
		grpc.StreamInterceptor(s.stream),
		grpc.StatsHandler(s.meter),
		grpc.WaitForHandlers(true),
		grpc.ConnectionTimeout(dialTimeout), // Shutdown waits for those who connect and say nothing
	}
	if s.cfg.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.cfg.TLS)))
	}
	return opts
}

// Addr is the address listened on.
func (s *Server) Addr() net.Addr { return s.lis.Addr() }

// Stats returns a snapshot of the counters.
func (s *Server) Stats() ServerStats { return s.meter.snapshot() }

// SetServing says what the health service answers; true at first. It has no
// effect on calls, nor on a Server that is shutting down.
func (s *Server) SetServing(serving bool) {
	st := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		st = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", st)
	s.health.SetServingStatus(serviceName, st)
}

// Done is closed when the Server accepts no more connections: after Shutdown
// or Close, or because the listener failed.
func (s *Server) Done() <-chan struct{} { return s.serving }

// Err says why the Server stopped by itself. It is nil before Done is closed
// and when it was stopped.
func (s *Server) Err() error {
	select {
	case <-s.serving:
		return s.err
	default:
		return nil
	}
}

// Shutdown answers what the broker has taken, refuses the rest, and stops.
// Health checks see NOT_SERVING, long polls end at once, produce streams when
// their requests are answered. When ctx ends first, Shutdown breaks the
// connections and returns ctx's error. It waits for every goroutine of the
// Server in either case and may be called again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown()
	s.drain()
	var err error
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		err = fmt.Errorf("transport: shutdown cut short: %w", ctx.Err())
		s.grpc.Stop()
		<-graceful
	}
	<-s.serving
	s.receivers.Wait()
	return err
}

// Close breaks the connections and waits for every goroutine of the Server.
// Clients don't know then what became of their unanswered requests.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(ctx) // all it can say is that ctx ended
	return nil
}

// errStopping is what a stopping broker answers to what it has not taken.
var errStopping = fmt.Errorf("%w: broker is stopping", mqerr.ErrLeaderNotAvailable)

// call wraps every unary call: version, counters, errors.
func (s *Server) call(ctx context.Context, q any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.greet(ctx); err != nil {
		return nil, err
	}
	method, ours := strings.CutPrefix(info.FullMethod, "/"+serviceName+"/")
	if !ours {
		return next(ctx, q)
	}
	end := s.meter.begin(method)
	a, err := next(ctx, q)
	end(err)
	return a, wire.EncodeStatus(ctx, err)
}

// stream wraps every stream: version, and an end when the Server drains.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := s.greet(stream.Context()); err != nil {
		return err
	}
	if info.FullMethod == mqpb.Broker_Produce_FullMethodName {
		return next(srv, stream) // knows how to end in order
	}
	ctx, cancel := s.untilDraining(stream.Context())
	defer cancel()
	return next(srv, &endingStream{ServerStream: stream, ctx: ctx}) // such as a health watch
}

// greet refuses a call of another protocol version and tells ours.
func (s *Server) greet(ctx context.Context) error {
	if err := checkVersion(ctx); err != nil {
		return wire.EncodeStatus(ctx, err)
	}
	return grpc.SetHeader(ctx, answerHeader(s.cfg.maxMessageBytes()))
}

// untilDraining makes a context that also ends, with errStopping as its cause,
// when the Server begins to shut down.
func (s *Server) untilDraining(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.draining, func() { cancel(errStopping) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// endingStream is a stream with another context.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *endingStream) Context() context.Context { return s.ctx }
