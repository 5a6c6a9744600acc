package transport

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

// produceStream is one client's stream of produce requests. Two goroutines
// serve it:
//
//	receive: stream ──► budget ──► broker.Produce      (in order)
//	answer:  broker's done ──► answers ──► stream      (as they complete)
//
// The broker's callbacks never block: a request that was taken holds a place
// in the budget until its answer is sent, and answers has room for all.
type produceStream struct {
	server  *Server
	broker  api.Broker
	stream  grpc.BidiStreamingServer[mqpb.ProduceRequest, mqpb.ProduceResponse]
	budget  *budget
	answers chan produceAnswer

	mu struct {
		sync.Mutex
		unanswered int  // taken, answer not sent
		closed     bool // no more are taken
	}
}

// partitionBytes is what a partition of a request takes in memory beside the
// bytes of its message, until it is answered.
const partitionBytes = 1 << 10

type produceAnswer struct {
	id    uint64
	bytes int // that the request holds of the budget
	res   *api.ProduceResponse
	err   error
}

// Produce implements mqpb.BrokerServer.
func (s *service) Produce(stream grpc.BidiStreamingServer[mqpb.ProduceRequest, mqpb.ProduceResponse]) error {
	if err := stream.SendHeader(nil); err != nil { // the client waits for them
		return err
	}
	cfg := &s.server.cfg
	p := &produceStream{
		server:  s.server,
		broker:  s.broker,
		stream:  stream,
		budget:  newBudget(cfg.MaxInFlight, cfg.MaxInFlightBytes),
		answers: make(chan produceAnswer, cfg.MaxInFlight),
	}
	received := make(chan error, 1)
	s.server.receivers.Go(func() { received <- p.receive() })
	return wire.EncodeStatus(stream.Context(), p.answer(received))
}

// receive hands requests to the broker until the stream ends or no more are
// taken. It returns nil when what was taken is still to be answered.
func (p *produceStream) receive() error {
	ctx := p.stream.Context()
	for {
		m, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		bytes := proto.Size(m) + len(m.GetPartitions())*partitionBytes
		if err := p.budget.acquire(ctx, p.server.draining.Done(), bytes); err != nil || !p.take() {
			return ctx.Err()
		}
		p.hand(ctx, m, bytes)
	}
}

func (p *produceStream) hand(ctx context.Context, m *mqpb.ProduceRequest, bytes int) {
	end := p.server.meter.begin("Produce")
	done := func(res *api.ProduceResponse, err error) {
		end(err)
		p.answers <- produceAnswer{id: m.GetCorrelationId(), bytes: bytes, res: res, err: err}
	}
	q, err := wire.Produce.DecodeRequest(m)
	if err != nil {
		done(nil, err)
		return
	}
	p.broker.Produce(ctx, q, done)
}

// answer sends answers until none can come any more, and returns why the
// stream ends. An error of receiving ends it at once: grpc has told the client.
func (p *produceStream) answer(received <-chan error) error {
	gone, draining := p.stream.Context().Done(), p.server.draining.Done()
	for {
		var ended bool
		select {
		case <-gone:
			return p.stream.Context().Err()
		case a := <-p.answers:
			err := p.stream.Send(encodeAnswer(a))
			p.budget.release(a.bytes)
			if err != nil {
				return err
			}
			ended = p.sent()
		case <-draining:
			draining = nil
			ended = p.close()
		case err := <-received:
			if err != nil {
				return err
			}
			ended = p.close()
		}
		if ended && p.server.draining.Err() != nil {
			return errStopping
		}
		if ended {
			return nil
		}
	}
}

func encodeAnswer(a produceAnswer) *mqpb.ProduceResponse {
	if a.err != nil {
		return &mqpb.ProduceResponse{CorrelationId: a.id, Error: wire.EncodeError(a.err)}
	}
	m := wire.Produce.EncodeAnswer(a.res)
	m.CorrelationId = a.id
	return m
}

// take claims one more request, unless the stream takes no more.
func (p *produceStream) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return false
	}
	p.mu.unanswered++
	return true
}

// sent notes an answer sent and reports whether it was the last.
func (p *produceStream) sent() (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.unanswered--
	return p.mu.closed && p.mu.unanswered == 0
}

// close takes no more requests and reports whether all are answered.
func (p *produceStream) close() (idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	return p.mu.unanswered == 0
}
