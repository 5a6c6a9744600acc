package mq

import (
	"context"
	"errors"

	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/fetch"
)

// maxAhead is how many records of a partition may be handed out beginning with
// the first one that is not finished, unless Concurrency needs more.
const maxAhead = 1000

// errHandlerExited is what a handler fails with that ended its goroutine.
var errHandlerExited = errors.New("the handler called runtime.Goexit")

// workers is a Run that calls its handler for several records at a time, or
// again for a record that failed. The goroutine of Run owns all of it. It reads
// records and starts a goroutine for whatever takes time about one: a call of
// the handler, a back-off, a dead letter. Each of these reports once and ends,
// and Run waits for all of them.
//
//	read ─► lane ─► ready ─► handling ─► finished
//	                  ▲        │  │         ▲
//	                  └waiting◄┘  └►burying─┘
type workers struct {
	c    *Consumer
	h    Handler
	ctx  context.Context // of handlers
	side context.Context // of back-offs and dead letters; ends with stop, too
	halt context.CancelFunc

	lanes   map[lane][]*task // in order; the first of each lane is under way
	ready   []*task          // may be handled now
	held    []*task          // may be handled when their partition is resumed
	bytes   int              // of records in lanes
	running int              // calls of the handler
	alive   int              // goroutines
	reports chan *task
	stopped bool // nothing is begun any more
	errs    []error
}

// lane is what records have in common that are handled one after the other.
type lane struct {
	p   *fetch.Partition
	key string
	at  int64 // offset of a record without a key, which is alone; else -1
}

// task is a record that is not finished.
type task struct {
	record   Record
	lease    fetch.Lease
	lane     lane
	attempts int
	stage    stage
	err      error // how the stage ended
}

// stage is what a task's goroutine does.
type stage uint8

const (
	handling stage = iota
	waiting        // for the next attempt
	burying        // sends a dead letter
)

func (t *task) size() int { return len(t.record.Key) + len(t.record.Value) }

// work is handleAll for more than one record at a time, or with an error policy.
func (c *Consumer) work(ctx context.Context, h Handler) error {
	c.reader.ahead = max(maxAhead, 4*c.cfg.Concurrency)
	defer func() { c.reader.ahead = 0 }()
	side, halt := context.WithCancel(ctx)
	defer halt()
	w := &workers{
		c: c, h: h, ctx: ctx, side: side, halt: halt,
		lanes: make(map[lane][]*task), reports: make(chan *task),
	}
	w.run()
	for _, queue := range w.lanes {
		for _, t := range queue {
			c.set.Return(t.lease)
		}
	}
	if len(w.errs) == 0 {
		return context.Cause(ctx)
	}
	return errors.Join(w.errs...)
}

// run works until it was stopped and all goroutines have reported.
func (w *workers) run() {
	ended := w.ctx.Done()
	for {
		w.begin()
		if w.stopped && w.alive == 0 {
			return
		}
		select {
		case t := <-w.reports:
			w.report(t)
		case <-w.c.set.News():
			w.ready, w.held = append(w.ready, w.held...), nil
		case <-ended:
			ended = nil
			w.stop()
		}
	}
}

// begin calls the handler for as many records as there are and may be.
func (w *workers) begin() {
	for w.running < w.c.cfg.Concurrency && !w.stopped && w.ctx.Err() == nil && w.c.life.Err() == nil {
		t := w.next()
		if t == nil {
			return
		}
		w.running++
		t.attempts++
		w.start(t, handling, func() error {
			r := t.record // the handler's own: the record may be needed again
			ctx, end := owned(w.ctx, t.lane.p)
			defer end()
			return callHandler(ctx, w.h, &r)
		})
	}
}

// start does what takes time in a goroutine, which ends with the report of it.
func (w *workers) start(t *task, s stage, do func() error) {
	t.stage, t.err = s, errHandlerExited
	w.alive++
	go func() {
		defer func() { w.reports <- t }()
		t.err = do()
	}()
}

// next returns a record that may be handled now; nil when there is none.
func (w *workers) next() *task {
	for {
		if len(w.ready) == 0 && !w.read() {
			return nil
		}
		for len(w.ready) > 0 {
			t := w.ready[0]
			w.ready = w.ready[1:]
			switch w.c.set.Begin(t.lease) {
			case fetch.Good:
				return t
			case fetch.Held:
				w.held = append(w.held, t)
			case fetch.Void:
				w.leave(t)
			}
		}
	}
}

// read takes the next record into its lane. It returns false when there is none,
// or no room.
func (w *workers) read() bool {
	if w.bytes >= w.c.cfg.MaxBufferedBytes {
		return false
	}
	got, ok, err := w.c.nextNow(1)
	if err != nil {
		w.fail(err)
	}
	if !ok {
		return false
	}
	t := &task{record: got.records[0], lease: got.lease}
	t.lane = lane{got.lease.P, string(t.record.Key), -1}
	switch {
	case w.c.cfg.Concurrency == 1:
		t.lane.key = "" // the whole partition is in order
	case t.record.Key == nil:
		t.lane.at = t.record.Offset
	}
	w.bytes += t.size()
	if w.lanes[t.lane] = append(w.lanes[t.lane], t); len(w.lanes[t.lane]) == 1 {
		w.ready = append(w.ready, t)
	}
	return true
}

// leave takes the first record out of its lane: it is the next one's turn.
func (w *workers) leave(t *task) {
	w.bytes -= t.size()
	queue := w.lanes[t.lane][1:]
	if len(queue) == 0 {
		delete(w.lanes, t.lane)
		return
	}
	w.lanes[t.lane] = queue
	w.ready = append(w.ready, queue[0])
}

// report decides what comes after a stage.
func (w *workers) report(t *task) {
	w.alive--
	if t.stage == handling {
		w.running--
	}
	switch {
	case t.err == nil && t.stage == waiting:
		w.ready = append(w.ready, t)
	case t.err == nil:
		w.c.set.Finish(t.lease)
		w.leave(t)
	case t.stage == handling:
		w.failed(t)
	case w.side.Err() == nil:
		w.fail(t.err)
	}
}

// failed decides what comes after a failure of the handler.
func (w *workers) failed(t *task) {
	err, again := t.err, w.c.cfg.Retry.allows(t.attempts, t.err)
	switch {
	case w.ctx.Err() != nil && (errors.Is(err, w.ctx.Err()) || errors.Is(err, context.Cause(w.ctx))):
		// It was told to end.
	case t.lane.p.Context().Err() != nil:
		w.c.log.Debug("a handler failed after its partition was taken away", "err", err)
		w.leave(t)
	case w.stopped, w.ctx.Err() != nil, !again && w.c.dead == nil:
		w.fail(handlerError(&t.record, err))
	case w.c.set.Begin(t.lease) == fetch.Void:
		w.leave(t) // nobody wants it any more
	case again:
		delay := backoff.Policy{Base: w.c.cfg.Retry.Backoff, Max: w.c.cfg.Retry.MaxBackoff}.Delay(t.attempts)
		w.c.log.Debug("handler failed", "topic", t.record.Topic, "partition", t.record.Partition, "offset", t.record.Offset,
			"attempts", t.attempts, "again_in", delay, "err", err)
		w.start(t, waiting, func() error { return backoff.Sleep(w.side, delay) })
	default:
		w.start(t, burying, func() error { return w.c.dead.send(w.side, &t.record, t.attempts, err) })
	}
}

// fail stops because of an error. Calls under way end by themselves.
func (w *workers) fail(err error) {
	w.errs = append(w.errs, err)
	w.stop()
}

// stop begins nothing more and ends back-offs and dead letters.
func (w *workers) stop() {
	w.stopped = true
	w.halt()
}
