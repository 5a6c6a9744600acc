package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/unpack"
)

// A request's body is
//
//	number  uvarint
//	timeout uvarint   microseconds that the caller waits; 0 if it doesn't say
//	method  string
//	payload           the rest
//
// and a cancel's the number alone.
const (
	maxMethod     = 256
	maxCallHeader = 64 << 10 // of a request or an answer, what is not payload
)

// call is a request or a chunk of this side that waits for its answer.
type call struct {
	state   atomic.Uint32 // callQueued, and then one of the others for good
	done    chan struct{} // closed when payload and err are set
	payload []byte
	err     error
}

const (
	callQueued    = iota
	callLeft      // being written: from now on its outcome may be unknown
	callWithdrawn // it was not written and will never be
)

// leave is the writer's question whether to write it.
func (p *call) leave() bool { return p.state.CompareAndSwap(callQueued, callLeft) }

// withdraw takes back what hasn't left, and reports whether it hasn't.
func (p *call) withdraw() bool {
	p.state.CompareAndSwap(callQueued, callWithdrawn)
	return p.state.Load() == callWithdrawn
}

// lost is the error of a call without an answer.
func (p *call) lost(cause error) error {
	if p.withdraw() {
		return fmt.Errorf("%w: not sent: %w", mqerr.ErrLeaderNotAvailable, cause)
	}
	return fmt.Errorf("%w: no answer: %w", mqerr.ErrTimeout, cause)
}

// asked holds the calls of this side on one connection.
type asked struct {
	limit int
	mu    struct {
		sync.Mutex
		last    uint64
		waiting map[uint64]*call
		ended   error
	}
}

func (a *asked) init(limit int) {
	a.limit = limit
	a.mu.waiting = make(map[uint64]*call)
}

func (a *asked) add(p *call) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.mu.ended != nil:
		return 0, p.lost(a.mu.ended)
	case len(a.mu.waiting) >= a.limit:
		return 0, fmt.Errorf("%w: %d calls in flight", mqerr.ErrBusy, a.limit)
	}
	a.mu.last++
	a.mu.waiting[a.mu.last] = p
	return a.mu.last, nil
}

// remove reports whether the call still waited.
func (a *asked) remove(number uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.mu.waiting[number]
	delete(a.mu.waiting, number)
	return ok
}

// answer handles an answer. One that nobody waits for any more is no mistake.
func (a *asked) answer(body []byte) error {
	f := fieldsOf(body)
	number := f.Uvarint()
	payload, outcome := f.outcome()
	if f.err() != nil {
		return f.err()
	}
	a.mu.Lock()
	p := a.mu.waiting[number]
	delete(a.mu.waiting, number)
	a.mu.Unlock()
	if p != nil {
		p.payload, p.err = payload, outcome
		close(p.done)
	}
	return nil
}

// fail ends all calls because the connection has ended.
func (a *asked) fail(cause error) {
	a.mu.Lock()
	waiting := a.mu.waiting
	a.mu.waiting = nil
	a.mu.ended = fmt.Errorf("%w: %w", errEnded, cause)
	a.mu.Unlock()
	for _, p := range waiting {
		p.err = p.lost(cause)
		close(p.done)
	}
}

// inFlight counts the calls that wait.
func (a *asked) inFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.mu.waiting)
}

// ask sends what encode makes of the call's number, waiting for room in the
// queue if it has to, and returns the answer. The answer is the caller's.
func (c *conn) ask(ctx context.Context, wait bool, encode func(number uint64) []byte) ([]byte, error) {
	p := &call{done: make(chan struct{})}
	number, err := c.asked.add(p)
	if err != nil {
		return nil, err
	}
	send := c.put
	if wait {
		send = func(o outgoing) error { return c.putWait(ctx, o) }
	}
	if err := send(outgoing{frame: encode(number), call: p}); err != nil {
		c.asked.remove(number)
		if errors.Is(err, errFull) {
			return nil, fmt.Errorf("%w: %w", mqerr.ErrBusy, err)
		}
		return nil, p.lost(err)
	}
	select {
	case <-p.done:
		return p.payload, p.err
	case <-ctx.Done():
	}
	if !c.asked.remove(number) {
		<-p.done // the answer came at the same time
		return p.payload, p.err
	}
	err = p.lost(context.Cause(ctx))
	if mqerr.OutcomeUnknown(err) && c.class == classCalls {
		_ = c.put(outgoing{frame: cancelFrame(number)}) // if there is no room the other side works in vain
	}
	return nil, err
}

// call makes a call on this connection.
func (c *conn) call(ctx context.Context, method string, payload []byte) ([]byte, error) {
	if len(method) > maxMethod || len(payload) > c.link.cfg.MaxCallBytes {
		return nil, fmt.Errorf("%w: call of %d bytes, at most %d are allowed", mqerr.ErrInvalidRequest,
			len(payload), c.link.cfg.MaxCallBytes)
	}
	var timeout time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Microsecond, deadline.Sub(c.link.cfg.Clock.Now()))
	}
	return c.ask(ctx, false, func(number uint64) []byte {
		return requestFrame(number, uint64(timeout.Microseconds()), method, payload)
	})
}

func requestFrame(number, timeout uint64, method string, payload []byte) []byte {
	b := newFrame(kindRequest, 3*binary.MaxVarintLen64+len(method)+len(payload))
	b = binary.AppendUvarint(b, number)
	b = binary.AppendUvarint(b, timeout)
	b = unpack.AppendString(b, method)
	return seal(append(b, payload...))
}

func cancelFrame(number uint64) []byte {
	return seal(binary.AppendUvarint(newFrame(kindCancel, binary.MaxVarintLen64), number))
}
