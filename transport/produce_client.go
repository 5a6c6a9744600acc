package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

// Produce implements api.Broker. Requests travel on one stream in the order of
// the calls. Produce waits while MaxInFlight or MaxInFlightBytes is reached,
// until ctx ends.
//
// When the stream breaks, what had left is done with ErrTimeout, the rest of
// what was handed over with ErrLeaderNotAvailable, in the order of the calls;
// the next call opens a new stream. A request above the broker's limit for
// messages is done with ErrRecordTooLarge.
//
// done runs on the goroutine that reads the stream or, with an error, on the
// one that writes it or the caller's. It must not block, nor call Produce.
func (c *Client) Produce(ctx context.Context, req *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
	r := &produceCall{message: wire.Produce.EncodeRequest(req), done: done}
	for _, p := range req.Partitions {
		if !utf8.ValidString(p.Topic) {
			done(nil, fmt.Errorf("%w: not UTF-8", mqerr.ErrInvalidTopic))
			return
		}
		r.bytes += len(p.Batch)
	}
	if err := c.produce.enqueue(ctx, r); err != nil {
		done(nil, err)
	}
}

// producePipe is the client's end of the produce stream:
//
//	callers ──turn, budget──► queue ──send──► stream ──► broker
//	done ◄──────────────── producing.read ◄── stream ◄──
//
// One goroutine, send, runs until close. It opens a stream when there is
// something to send and starts its reader; it is also the one that fails
// requests, so that their order is kept.
type producePipe struct {
	client *Client
	budget *budget
	turn   chan struct{}     // capacity 1: held by who hands over; close keeps it
	queue  chan *produceCall // has room for the whole budget; closed by close
	ctx    context.Context   // of every stream
	cancel context.CancelFunc
	sender sync.WaitGroup
}

// produceCall is a request that was handed over.
type produceCall struct {
	message *mqpb.ProduceRequest
	bytes   int
	done    func(*api.ProduceResponse, error)
}

func newProducePipe(c *Client) *producePipe {
	p := &producePipe{
		client: c,
		budget: newBudget(c.cfg.MaxInFlight, c.cfg.MaxInFlightBytes),
		turn:   make(chan struct{}, 1),
		queue:  make(chan *produceCall, c.cfg.MaxInFlight),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.sender.Go(p.send)
	return p
}

// close fails what is under way and waits for sender and reader.
func (p *producePipe) close() {
	p.cancel()
	p.turn <- struct{}{} // nobody hands over from here on
	close(p.queue)
	p.sender.Wait()
}

// enqueue waits for the caller's turn and for room, and hands r over.
func (p *producePipe) enqueue(ctx context.Context, r *produceCall) error {
	if err := ctx.Err(); err != nil {
		return p.refused(err)
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return p.refused(ctx.Err())
	case <-p.ctx.Done():
		return p.refused(mqerr.ErrClosed)
	}
	switch err := p.budget.acquire(ctx, p.ctx.Done(), r.bytes); {
	case errors.Is(err, errStopped):
		return p.refused(mqerr.ErrClosed)
	case err != nil:
		return p.refused(err)
	}
	p.queue <- r
	return nil
}

func (p *producePipe) refused(cause error) error {
	return fmt.Errorf("transport: produce to %s: not sent: %w", p.client.addr, cause)
}

// finish ends a request that was handed over.
func (p *producePipe) finish(r *produceCall, res *api.ProduceResponse, err error) {
	p.budget.release(r.bytes)
	r.done(res, err)
}

// send is the sender goroutine; close ends it.
func (p *producePipe) send() {
	for r := range p.queue {
		s, err := p.open()
		if err != nil {
			p.fail(r, err)
			continue
		}
		unsent, err := s.feed(r)
		p.fail(unsent, err)
	}
}

// fail ends r, if there is one, and what is queued behind it: none of it left.
func (p *producePipe) fail(r *produceCall, err error) {
	if r != nil {
		p.finish(r, nil, err)
	}
	for range len(p.queue) {
		p.finish(<-p.queue, nil, err)
	}
}

// open makes a stream and waits until the broker has greeted.
func (p *producePipe) open() (*producing, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	stream, err := p.client.rpc.Produce(withVersion(ctx))
	if err == nil {
		header, _ := stream.Header()
		if header != nil {
			s := &producing{pipe: p, stream: stream, cancel: cancel, maxMessage: maxMessage(header), ended: make(chan struct{})}
			s.mu.unanswered = map[uint64]*produceCall{}
			go s.read()
			return s, nil
		}
		_, err = stream.Recv()
	}
	cancel()
	return nil, p.client.callError(context.Background(), err, false)
}

// producing is one stream, from its opening until it breaks.
type producing struct {
	pipe       *producePipe
	stream     grpc.BidiStreamingClient[mqpb.ProduceRequest, mqpb.ProduceResponse]
	cancel     context.CancelFunc
	maxMessage int    // 0: unknown
	lastID     uint64 // correlation id, of the sender

	// ended is closed by the reader, which is the stream's end; err is set before.
	ended chan struct{}
	err   error

	mu struct {
		sync.Mutex
		unanswered map[uint64]*produceCall
	}
}

// feed sends r and what follows until the stream breaks. It then ends, in
// order, what had left, and returns what had not, with an error for all such.
func (s *producing) feed(r *produceCall) (unsent *produceCall, err error) {
	unsent = s.sendAll(r)
	<-s.ended

	client := s.pipe.client
	outcome := wire.DecodeStatus(s.err) // the broker ended it in order, the rest was not taken
	if outcome == nil {
		outcome = fmt.Errorf("%w: broker %s: %s", mqerr.ErrTimeout, client.addr, status.Convert(s.err).Message())
	}
	for _, id := range slices.Sorted(maps.Keys(s.mu.unanswered)) { // the reader is gone
		s.pipe.finish(s.mu.unanswered[id], nil, outcome)
	}
	return unsent, client.callError(context.Background(), s.err, false)
}

// sendAll returns when the stream has ended or is about to; with a request if
// that one could not be sent.
func (s *producing) sendAll(r *produceCall) (unsent *produceCall) {
	for open := true; open; {
		if n := proto.Size(r.message); s.maxMessage > 0 && n > s.maxMessage {
			s.pipe.finish(r, nil, fmt.Errorf("%w: request of %d bytes, broker %s takes %d",
				mqerr.ErrRecordTooLarge, n, s.pipe.client.addr, s.maxMessage))
		} else if !s.send(r) {
			return r
		}
		select {
		case r, open = <-s.pipe.queue:
		case <-s.ended:
			return nil
		}
	}
	return nil
}

// send reports whether r is the reader's now.
func (s *producing) send(r *produceCall) bool {
	s.lastID++
	id := s.lastID
	r.message.CorrelationId = id
	s.mu.Lock()
	s.mu.unanswered[id] = r
	s.mu.Unlock()
	if s.stream.Send(r.message) == nil {
		return true
	}
	return s.take(id) == nil
}

// take claims an unanswered request; nil if there is none of that id.
func (s *producing) take(id uint64) *produceCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.mu.unanswered[id]
	delete(s.mu.unanswered, id)
	return r
}

// read is the reader goroutine; the stream's end ends it.
func (s *producing) read() {
	defer close(s.ended)
	defer s.cancel()
	for {
		m, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the broker ended the stream")
		}
		if err != nil {
			s.err = err
			return
		}
		r := s.take(m.GetCorrelationId())
		if r == nil {
			s.err = status.Error(codes.Internal, "the broker answered what was not asked")
			return
		}
		if err := wire.DecodeError(m.GetError()); err != nil {
			s.pipe.finish(r, nil, err)
			continue
		}
		res, err := wire.Produce.DecodeAnswer(m)
		s.pipe.finish(r, res, err)
	}
}
