package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/unpack"
)

// An answer's body is
//
//	number uvarint
//	status uint8     0: the rest is the payload
//	                 1: an error: reason and text, strings
//	                 2: the same, and then the facts of a mqerr.Detail: leader
//	                    varint, its address string, its epoch, log start and
//	                    high watermark varints
const (
	statusOK = iota
	statusError
	statusFacts

	maxErrorText = 4 << 10
)

// maxTimeout is how long a call may take that doesn't say how long it waits.
const maxTimeout = 24 * time.Hour

// served holds the calls of the other side on one connection. It allows twice
// what the other side allows itself: that one forgets a call as soon as it has
// the answer or no longer wants it, this one when its handler is done.
type served struct {
	maxCalls, maxBytes int
	handlers           sync.WaitGroup
	mu                 struct {
		sync.Mutex
		running map[uint64]context.CancelFunc
		bytes   int
	}
}

func (s *served) init(maxCalls, maxBytes int) {
	s.maxCalls, s.maxBytes = 2*maxCalls, 2*maxBytes
	s.mu.running = make(map[uint64]context.CancelFunc)
}

// wait returns when no handler runs any more.
func (s *served) wait() { s.handlers.Wait() }

func (s *served) begin(number uint64, size int, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.running[number] != nil {
		return fmt.Errorf("%w: call %d twice", errMalformed, number)
	}
	if n := len(s.mu.running); n >= s.maxCalls || n > 0 && s.mu.bytes+size > s.maxBytes {
		return fmt.Errorf("%w: %d calls of one broker are being answered", mqerr.ErrBusy, n)
	}
	s.mu.running[number] = cancel
	s.mu.bytes += size
	return nil
}

func (s *served) finish(number uint64, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.running, number)
	s.mu.bytes -= size
}

// cancel handles a cancel frame. The call may have been answered meanwhile.
func (s *served) cancel(body []byte) error {
	f := fieldsOf(body)
	number := f.Uvarint()
	s.mu.Lock()
	cancel := s.mu.running[number]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	return f.err()
}

// serve answers a call with what fn returns, on a goroutine of its own.
func (c *conn) serve(number uint64, size int, timeout time.Duration, fn func(context.Context) ([]byte, error)) error {
	if timeout == 0 {
		timeout = maxTimeout
	}
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	if err := c.served.begin(number, size, cancel); err != nil {
		cancel()
		if errors.Is(err, errMalformed) {
			return err
		}
		// Who asks for more than is allowed and takes no answers is cut off.
		return c.put(outgoing{frame: answerFrame(number, nil, err)})
	}
	c.served.handlers.Go(func() {
		defer cancel()
		answer, err := fn(ctx)
		if len(answer) > c.link.cfg.MaxCallBytes {
			answer, err = nil, fmt.Errorf("%w: answer of %d bytes, at most %d are allowed", mqerr.ErrInternal,
				len(answer), c.link.cfg.MaxCallBytes)
		}
		_ = c.putWait(c.ctx, outgoing{frame: answerFrame(number, answer, err)}) // fails if nobody waits for it
		c.served.finish(number, size)
	})
	return nil
}

// serveRequest handles a request frame. body stays with the handler.
func (c *conn) serveRequest(body []byte) error {
	f := fieldsOf(body)
	number := f.Uvarint()
	timeout := time.Duration(min(f.Uvarint(), uint64(maxTimeout/time.Microsecond))) * time.Microsecond
	method := f.Text()
	if f.err() != nil {
		return f.err()
	}
	return c.serve(number, len(body), timeout, func(ctx context.Context) ([]byte, error) {
		if h := c.link.cfg.Handlers.Call; h != nil {
			return h(ctx, c.peer, method, f.Rest)
		}
		return nil, fmt.Errorf("%w: nobody answers calls", mqerr.ErrLeaderNotAvailable)
	})
}

// answerFrame makes an answer.
func answerFrame(number uint64, payload []byte, err error) []byte {
	b := newFrame(kindAnswer, binary.MaxVarintLen64+1+len(payload))
	b = binary.AppendUvarint(b, number)
	if err == nil {
		return seal(append(append(b, statusOK), payload...))
	}
	var d *mqerr.Detail
	status := byte(statusError)
	if errors.As(err, &d) {
		status = statusFacts
	}
	b = append(b, status)
	b = unpack.AppendString(b, sentinel(err).Reason())
	text := err.Error()
	b = unpack.AppendString(b, strings.ToValidUTF8(text[:min(len(text), maxErrorText)], ""))
	if d != nil {
		b = binary.AppendVarint(b, int64(d.Leader))
		b = unpack.AppendString(b, d.LeaderAddr)
		b = binary.AppendVarint(b, int64(d.LeaderEpoch))
		b = binary.AppendVarint(b, d.LogStart)
		b = binary.AppendVarint(b, d.HighWatermark)
	}
	return seal(b)
}

// outcome is the inverse of answerFrame, after the number. The payload is not
// copied.
func (f *fields) outcome() ([]byte, error) {
	status := f.Byte()
	if status == statusOK {
		return f.Rest, nil
	}
	e := &remoteError{reason: f.Text(), text: f.Text()}
	switch status {
	case statusError:
		return nil, e
	case statusFacts:
		return nil, &mqerr.Detail{
			Err:    e,
			Leader: int32(f.Varint()), LeaderAddr: f.Text(), LeaderEpoch: int32(f.Varint()),
			LogStart: f.Varint(), HighWatermark: f.Varint(),
		}
	}
	f.Fail()
	return nil, nil
}

// remoteError is an error of the broker that was called.
type remoteError struct{ reason, text string }

// Error implements error.
func (e *remoteError) Error() string { return e.text }

// Unwrap gives the sentinel.
func (e *remoteError) Unwrap() error { return mqerr.ByReason(e.reason) }

// sentinel finds the row of the error table that tells err to another broker.
func sentinel(err error) *mqerr.Error {
	s := mqerr.Of(err)
	switch {
	case s == mqerr.ErrClosed: // the broker is stopping
		return mqerr.ErrLeaderNotAvailable
	case s != nil && s.Reason() != "":
		return s
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return mqerr.ErrTimeout
	}
	return mqerr.ErrInternal
}
