package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Why a connection ended, when it was neither the network nor the peer.
var (
	errEnded  = errors.New("connection has ended")
	errBye    = errors.New("closed on purpose")
	errSilent = errors.New("peer is silent")
	errStuck  = errors.New("peer takes nothing")
)

const (
	ioBuffer   = 64 << 10
	writePiece = 256 << 10 // a write that takes long shows its progress in these
	keepBuffer = 1 << 20   // larger buffers for reading are not kept

	// patience is how many keep-alive intervals a peer may show no life.
	patience = 3
)

// conn is one connection between two brokers that have greeted each other. It
// is made for one class of traffic. Requests and raft messages go from the one
// who dialled to the other, answers the other way.
type conn struct {
	link    *Link
	nc      net.Conn
	class   class
	peer    Identity
	dialled bool      // by this side
	of      *peer     // whose outages it tells of; nil for those of strangers
	born    time.Time // by the clock

	sends, receives pair // directions, for fault rules

	ctx  context.Context // ends with the connection; its cause says why
	stop context.CancelCauseFunc
	out  *queue

	leaving atomic.Bool // the farewell is being written

	asked  asked  // calls of this side
	served served // calls of the other side

	// How the keep-alive knows life: these move when bytes do.
	in, gone  atomic.Uint64
	handling  atomic.Bool // the reader works on something and reads nothing
	writing   atomic.Bool
	last      struct{ in, gone uint64 } // at the last look, the keep-alive's own
	silentFor int
	stuckFor  int
}

func newConn(l *Link, nc net.Conn, cl class, other Identity, dialled bool) *conn {
	limit := l.cfg.CallQueueBytes
	switch cl {
	case classRaft:
		limit = l.cfg.RaftQueueBytes
	case classSnapshot:
		limit = snapshotQueue
	case classCalls:
	}
	c := &conn{
		link: l, nc: nc, class: cl, peer: other, dialled: dialled,
		born: l.cfg.Clock.Now(), out: newQueue(limit),
	}
	c.sends = pair{l.Self().DirectoryID, other.DirectoryID}
	c.receives = pair{c.sends.to, c.sends.from}
	c.ctx, c.stop = context.WithCancelCause(l.ctx)
	c.asked.init(l.cfg.MaxCalls)
	c.served.init(l.cfg.MaxCalls, l.cfg.CallQueueBytes)
	return c
}

// run works until the connection has ended. Handlers of the other side's calls
// may still run then; their ctx has ended.
func (c *conn) run() {
	release := closeWith(c.ctx, c.nc)
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	if c.leaving.Load() { // the peer was the first to close after the farewell
		err = errBye
	}
	c.end(err)
	writer.Wait()
	release()
	c.asked.fail(context.Cause(c.ctx))
}

// end ends the connection; the first cause counts.
func (c *conn) end(cause error) {
	c.stop(cause)
	c.out.close()
}

// closeWith closes a connection when ctx ends, unless it is released before,
// which reports whether it was.
func closeWith(ctx context.Context, nc net.Conn) (release func() bool) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		hangUp(nc)
		close(closed)
	})
	return func() bool {
		if stop() {
			return true
		}
		<-closed
		return false
	}
}

// hangUp closes a connection without a farewell, for which TLS might have to
// wait: frames tell themselves whether they are complete.
func hangUp(nc net.Conn) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // there is nobody to tell
}

// ended reports whether the connection is no use any more.
func (c *conn) ended() bool { return c.ctx.Err() != nil }

// bye closes the connection after what is already in its queue.
func (c *conn) bye() {
	if c.link.cfg.Faults.rule(c.sends).Cut || c.put(outgoing{frame: seal(newFrame(kindBye, 0))}) != nil {
		c.end(errBye)
	}
}

// put sends a frame; it does not wait. It fails with errFull or errEnded.
func (c *conn) put(o outgoing) error { return c.send(o, c.out.put) }

// putWait sends a frame when there is room in the queue.
func (c *conn) putWait(ctx context.Context, o outgoing) error {
	return c.send(o, func(o outgoing) error { return c.out.putWait(ctx, o) })
}

// send puts a frame into the queue as often as fault rules want it to leave.
func (c *conn) send(o outgoing, put func(outgoing) error) error {
	faults := c.link.cfg.Faults
	times := faults.leaves(c.sends, c.class, kindOf(o.frame))
	if times == 0 && o.call != nil {
		o.call.leave()
	}
	if d := faults.rule(c.sends).Delay; d > 0 {
		o.due = c.link.cfg.Clock.Now().Add(d)
	}
	for range times {
		if err := put(o); err != nil {
			return err
		}
	}
	return nil
}

// write is the writer. Small frames that wait together leave together.
func (c *conn) write() {
	w := bufio.NewWriterSize(pieces{c}, ioBuffer)
	var taken []outgoing
	for !c.ended() {
		if taken = c.out.take(taken); len(taken) == 0 {
			if err := w.Flush(); err != nil {
				c.end(err)
				return
			}
			select {
			case <-c.out.more:
			case <-c.ctx.Done():
			}
			continue
		}
		for i, o := range taken {
			taken[i] = outgoing{}
			if err := c.writeOne(w, o); err != nil {
				c.end(err)
				return
			}
		}
	}
}

func (c *conn) writeOne(w *bufio.Writer, o outgoing) error {
	defer c.out.done(o)
	if wait := o.due.Sub(c.link.cfg.Clock.Now()); !o.due.IsZero() && wait > 0 {
		if err := w.Flush(); err != nil {
			return err
		}
		if err := c.link.cfg.Clock.Sleep(c.ctx, wait); err != nil {
			return err
		}
	}
	if o.call != nil && !o.call.leave() {
		return nil // nobody waits for it any more
	}
	bye := kindOf(o.frame) == kindBye
	if bye {
		c.leaving.Store(true)
	}
	if _, err := w.Write(o.frame); err != nil || !bye {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return errBye
}

// read is the reader. It returns why there is nothing more to read.
func (c *conn) read() error {
	r := bufio.NewReaderSize(pieces{c}, ioBuffer)
	limit := c.link.cfg.MaxCallBytes + maxCallHeader
	switch c.class {
	case classRaft:
		limit = maxMessages
	case classSnapshot:
		limit = maxChunk
	case classCalls:
	}
	var keep []byte // raft copies what it keeps
	for {
		k, body, err := readFrame(r, limit, keep)
		if err != nil {
			return err
		}
		if c.class == classRaft && cap(body) <= keepBuffer {
			keep = body
		}
		if c.link.cfg.Faults.rule(c.receives).Cut {
			continue // it was on its way
		}
		c.handling.Store(true)
		err = c.handle(k, body)
		c.handling.Store(false)
		if err != nil {
			return err
		}
	}
}

// handle handles one frame. An error ends the connection.
func (c *conn) handle(k kind, body []byte) error {
	switch {
	case k == kindPing:
		return nil
	case k == kindBye:
		return errBye
	case c.dialled && c.class != classRaft && k == kindAnswer:
		return c.asked.answer(body)
	case !c.dialled && c.class == classRaft && k == kindMessages:
		return c.link.takeMessages(c, body)
	case !c.dialled && c.class == classSnapshot && k == kindChunk:
		return c.serveChunk(body)
	case !c.dialled && c.class == classCalls && k == kindRequest:
		return c.serveRequest(body)
	case !c.dialled && c.class == classCalls && k == kindCancel:
		return c.served.cancel(body)
	}
	return fmt.Errorf("%w: %v on a connection for %v", errMalformed, k, c.class)
}

// look is the keep-alive's: once per interval it pings an idle peer and gives up
// one that shows no life.
func (c *conn) look() {
	in, gone := c.in.Load(), c.gone.Load()
	c.silentFor++
	if in != c.last.in || c.handling.Load() {
		c.silentFor = 0
	}
	c.stuckFor++
	if gone != c.last.gone || !c.writing.Load() {
		c.stuckFor = 0
	}
	idle := gone == c.last.gone && !c.writing.Load()
	c.last.in, c.last.gone = in, gone
	switch {
	case c.silentFor > patience:
		c.end(errSilent)
	case c.stuckFor > patience:
		c.end(errStuck)
	case idle:
		_ = c.put(outgoing{frame: seal(newFrame(kindPing, 0))}) // a full queue is no idle one
	}
}

// pieces reads and writes a connection such that the keep-alive sees progress.
type pieces struct{ c *conn }

// Read implements io.Reader.
func (p pieces) Read(b []byte) (int, error) {
	n, err := p.c.nc.Read(b)
	if n > 0 {
		p.c.in.Add(1)
	}
	return n, err
}

// Write implements io.Writer.
func (p pieces) Write(b []byte) (n int, err error) {
	p.c.writing.Store(true)
	defer p.c.writing.Store(false)
	for n < len(b) && err == nil {
		var m int
		m, err = p.c.nc.Write(b[n:min(len(b), n+writePiece)])
		n += m
		p.c.gone.Add(1)
	}
	return n, err
}
