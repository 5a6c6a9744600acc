package transport

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/raftmq/mq/transport/internal/mqpb"
)

// ServerStats is a snapshot of what a Server does.
type ServerStats struct {
	Connections int            // open now
	Accepted    int64          // connections since the start
	InFlight    map[string]int // requests being served now, by method of api.Broker
}

// meter counts for ServerStats and tells the observer.
type meter struct {
	observe     func(method string, took time.Duration, err error) // may be nil
	connections atomic.Int64
	accepted    atomic.Int64
	inFlight    map[string]*atomic.Int64 // by method; the map never changes
}

func newMeter(observe func(string, time.Duration, error)) *meter {
	m := &meter{observe: observe, inFlight: map[string]*atomic.Int64{}}
	for _, d := range mqpb.Broker_ServiceDesc.Methods {
		m.inFlight[d.MethodName] = new(atomic.Int64)
	}
	for _, d := range mqpb.Broker_ServiceDesc.Streams {
		m.inFlight[d.StreamName] = new(atomic.Int64)
	}
	return m
}

// begin notes that a request came; the function returned, that it was answered.
func (m *meter) begin(method string) (end func(error)) {
	inFlight := m.inFlight[method]
	inFlight.Add(1)
	start := time.Now()
	return func(err error) {
		inFlight.Add(-1)
		if m.observe != nil {
			m.observe(method, time.Since(start), err)
		}
	}
}

func (m *meter) snapshot() ServerStats {
	s := ServerStats{
		Connections: int(m.connections.Load()),
		Accepted:    m.accepted.Load(),
		InFlight:    make(map[string]int, len(m.inFlight)),
	}
	for method, n := range m.inFlight {
		s.InFlight[method] = int(n.Load())
	}
	return s
}

// The rest makes meter a stats.Handler, for the connections.

// HandleConn implements stats.Handler.
func (m *meter) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		m.connections.Add(1)
		m.accepted.Add(1)
	case *stats.ConnEnd:
		m.connections.Add(-1)
	}
}

// TagConn implements stats.Handler.
func (*meter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC implements stats.Handler.
func (*meter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (*meter) HandleRPC(context.Context, stats.RPCStats) {}
