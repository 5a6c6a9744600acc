package produce

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
)

// Config has no defaults: every field must be set.
type Config struct {
	Router *route.Router

	// Partition chooses among n partitions for the record of a promise; negative
	// leaves it to the engine. It is called without locks.
	Partition func(p Promise, n int) int

	Acks            int16
	Codec           record.Codec
	BatchRecords    int
	BatchBytes      int
	MaxRecordBytes  int
	Linger          time.Duration // 0 sends at once
	MaxInFlight     int           // batches of a partition
	BufferRecords   int
	BufferBytes     int
	Timeout         time.Duration // of one attempt
	DeliveryTimeout time.Duration // 0 for none
	Logger          *slog.Logger
}

const (
	// A broker that does not know a topic may be behind; so much later its word
	// is final.
	missingGrace = 2 * time.Second

	// An answer may come that much later than the time the broker has for it.
	answerGrace = 2 * time.Second

	// A request carries batches of several partitions up to this size.
	requestBytes = 1 << 20
)

// Between attempts of a partition, and between those to get a producer id.
var retryPolicy = backoff.Policy{Base: 20 * time.Millisecond, Max: time.Second}

// Engine sends records. Make one with New; stop it with Shutdown or Close.
type Engine struct {
	cfg    Config
	rules  rules
	buffer budget

	ctx    context.Context // the life of the goroutines
	cancel context.CancelFunc
	nudge  chan struct{}  // capacity 1: the loop has something to look at
	loop   sync.WaitGroup // the timer loop
	busy   sync.WaitGroup // senders
	told   callbacks

	idLock sync.Mutex // held while a producer id is asked for; before mu

	// Where mu is held, the locks of the Router, the budget, the callbacks and
	// of contexts may be taken.
	mu struct {
		sync.Mutex
		closing bool // nothing is accepted any more
		ended   bool // and what is left is being failed
		topics  map[string]*topicState
		active  map[*partition]struct{} // those with batches
		senders map[int32]*sender
		look    bool      // the loop is to look at the metadata
		wakeAt  time.Time // when the loop wakes by itself; zero while it works
		id      int64     // producer id, or NoProducerID
		current *generation
		earlier []*generation // with records that are not settled
	}
}

// New starts an engine.
func New(cfg Config) *Engine {
	e := &Engine{
		cfg: cfg,
		rules: rules{
			idempotent: cfg.Acks != api.AcksNone,
			maxFlying:  cfg.MaxInFlight,
			maxRecords: cfg.BatchRecords,
			linger:     cfg.Linger,
			delivery:   cfg.DeliveryTimeout,
			attempt:    cfg.Timeout + answerGrace,
		},
		buffer: budget{maxRecords: cfg.BufferRecords, maxBytes: cfg.BufferBytes},
		nudge:  make(chan struct{}, 1),
	}
	if !e.rules.idempotent {
		e.rules.maxFlying = 1 // nothing else would keep the order
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.mu.topics = map[string]*topicState{}
	e.mu.active = map[*partition]struct{}{}
	e.mu.senders = map[int32]*sender{}
	e.mu.id = record.NoProducerID
	e.mu.current = newGeneration()
	e.told.start(e)
	e.loop.Go(e.run) // ends with ctx or the Router
	return e
}

// Add takes a record for a topic. It waits for room in the buffer until ctx
// ends. With urgent the record does not linger. When Add returns nil the
// record's Promise will be settled, else never: ErrRecordTooLarge, ErrClosed,
// ErrUnknownTopicOrPartition for a partition that does not exist, or ctx's
// error. A ctx that ends later drops the record if it was not sent, and settles
// it with an unknown outcome if it was.
func (e *Engine) Add(ctx context.Context, topic string, rec Record, urgent bool) error {
	if err := e.checkSize(&rec); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return dropped(ctx)
	}
	size := rec.size()
	if err := e.buffer.acquire(ctx, size, e.Hurry); err != nil {
		if ctx.Err() != nil {
			return dropped(ctx)
		}
		return err
	}
	return e.put(topic, entry{Record: rec, ctx: ctx, size: size}, urgent)
}

// TryAdd is Add that fails with ErrBufferFull instead of waiting.
func (e *Engine) TryAdd(topic string, rec Record) error {
	if err := e.checkSize(&rec); err != nil {
		return err
	}
	size := rec.size()
	if err := e.buffer.tryAcquire(size); err != nil {
		return err
	}
	return e.put(topic, entry{Record: rec, ctx: context.Background(), size: size}, false)
}

func (e *Engine) checkSize(rec *Record) error {
	if n := rec.aloneSize(); n > e.cfg.MaxRecordBytes {
		return fmt.Errorf("%w: %d bytes with overhead, the limit is %d", mqerr.ErrRecordTooLarge, n, e.cfg.MaxRecordBytes)
	}
	return nil
}

// put gives an entry that has room in the buffer to its partition.
func (e *Engine) put(name string, en entry, urgent bool) (err error) {
	defer func() {
		if err != nil {
			e.buffer.release(1, en.size)
		}
	}()
	index, chosenAmong := -1, 0
	for {
		e.mu.Lock()
		if e.mu.closing {
			e.mu.Unlock()
			return mqerr.ErrClosed
		}
		t := e.topicLocked(name)
		n := t.ready()
		if n == 0 || n == chosenAmong {
			now := time.Now()
			p := t.parked
			if n > 0 {
				p = e.placeLocked(t, index, en.size, now)
			}
			e.mu.current.add(&en)
			e.appendLocked(p, en, urgent, now, now)
			e.mu.Unlock()
			return nil
		}
		e.mu.Unlock()

		if index, err = e.choose(name, en.Promise, n); err != nil {
			return err
		}
		chosenAmong = n
	}
}

// choose asks for the partition of a record, without the lock.
func (e *Engine) choose(name string, p Promise, n int) (int, error) {
	index := e.cfg.Partition(p, n)
	if index >= n {
		e.cfg.Router.Want(name, false) // it may have grown
		return 0, fmt.Errorf("%w: %q has no partition %d (partitions: %d)", mqerr.ErrUnknownTopicOrPartition, name, index, n)
	}
	return index, nil
}

func (e *Engine) placeLocked(t *topicState, index, size int, now time.Time) *partition {
	if index < 0 {
		return t.stick(&e.rules, size, now)
	}
	return t.partitions[index]
}

// appendLocked adds an entry that came in at since to a partition.
func (e *Engine) appendLocked(p *partition, en entry, urgent bool, since, now time.Time) {
	b := p.add(&e.rules, en, p.topic.limit, since)
	if b.unwatched(en.ctx) {
		b.watch(en.ctx, func() { e.ctxEnded(p, b) })
	}
	// Who waits for room ends all lingering when it begins to wait; a batch that
	// is opened later must not linger either.
	if urgent || len(b.entries) == 1 && e.buffer.crowded() {
		b.due = time.Time{}
	}
	// Somebody has to ask for newer metadata where the leader is not known; the
	// loop goes on asking as long as records wait.
	if p.leader < 0 && len(p.queue) == 1 && len(b.entries) == 1 {
		e.mu.look = true
		e.wake()
	}
	e.advanceLocked(p, now)
}

func (e *Engine) topicLocked(name string) *topicState {
	t := e.mu.topics[name]
	if t == nil {
		t = newTopicState(name, e.cfg.BatchBytes)
		e.mu.topics[name] = t
	}
	return t
}

// advanceLocked does what became possible in a partition: it passes on results,
// lists the partition with its sender if there is something to send, and makes
// sure that the loop wakes in time.
func (e *Engine) advanceLocked(p *partition, now time.Time) {
	for _, b := range p.resolve() {
		e.tellLocked(b)
	}
	if len(p.queue) == 0 {
		delete(e.mu.active, p)
		return
	}
	e.mu.active[p] = struct{}{}
	if p.leader >= 0 && !p.listed && !e.mu.ended && p.next(&e.rules, now) != nil {
		e.senderLocked(p.leader).list(p)
	}
	if at := p.wakeAt(&e.rules, now); !at.IsZero() && at.Before(e.mu.wakeAt) {
		e.mu.wakeAt = at
		e.wake()
	}
}

func (e *Engine) wake() {
	select {
	case e.nudge <- struct{}{}:
	default: // it was nudged already
	}
}

// tellLocked passes the outcome of a batch to its records.
func (e *Engine) tellLocked(b *batch) {
	b.stopWatching()
	e.told.push(outcome{entries: b.entries, result: b.result})
	b.entries = nil
}

// ctxEnded settles the records of a batch whose ctx has ended.
func (e *Engine) ctxEnded(p *partition, b *batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settleEndedLocked(p, b)
	e.advanceLocked(p, time.Now())
}

func (e *Engine) settleEndedLocked(p *partition, b *batch) {
	switch {
	case b.done || b.building: // too late, or the sender looks when it is done
	case b.attempts == 0:
		removed := b.removeEnded()
		for i := range removed {
			e.told.push(outcome{entries: removed[i : i+1], result: Result{Partition: p.index, Err: dropped(removed[i].ctx)}})
		}
		if len(b.entries) == 0 {
			b.stopWatching()
			p.remove(b)
		}
	default:
		ended := b.takeEnded()
		for i := range ended {
			err := fmt.Errorf("%w: %w", mqerr.ErrTimeout, context.Cause(ended[i].ctx))
			e.told.push(outcome{entries: ended[i : i+1], result: Result{Partition: p.index, Err: err}})
		}
	}
}

func dropped(ctx context.Context) error {
	return fmt.Errorf("record dropped before it was sent: %w", context.Cause(ctx))
}

// Hurry ends all lingering.
func (e *Engine) Hurry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for p := range e.mu.active {
		p.hurry()
		e.advanceLocked(p, now)
	}
}

// Flush ends all lingering and waits until every record that was added before is
// settled. It returns the first error of these, and of those settled since the
// last Flush, or ctx's.
func (e *Engine) Flush(ctx context.Context) error {
	first, err := e.drain(ctx)
	if err != nil {
		return err
	}
	return first
}

// drain is Flush with the records' error apart from ctx's.
func (e *Engine) drain(ctx context.Context) (first, ctxErr error) {
	e.mu.Lock()
	waitFor := append(slices.Clone(e.mu.earlier), e.mu.current)
	if e.mu.current.end() {
		e.mu.earlier = append(e.mu.earlier, e.mu.current)
	}
	e.mu.current = newGeneration()
	e.mu.Unlock()
	e.Hurry()

	for _, g := range waitFor {
		select {
		case <-g.done:
			first = cmp.Or(first, g.err)
		case <-ctx.Done():
			return first, context.Cause(ctx)
		}
	}
	return first, nil
}

// Shutdown refuses further records, waits until all are settled, and ends the
// engine. Its error is that of Flush. If ctx ends first, the engine goes on
// with what it has, and Shutdown may be called again.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.refuse()
	first, err := e.drain(ctx)
	if err != nil {
		records, _ := e.buffer.inUse()
		return fmt.Errorf("%d records not settled: %w", records, err)
	}
	e.Close()
	return first
}

// Close ends the engine now. Records that were not sent fail with ErrClosed,
// those without an answer with an unknown outcome. It may be called more than
// once.
func (e *Engine) Close() {
	e.refuse()
	e.cancel()
	e.loop.Wait()
	e.told.stop()
}

// refuse accepts nothing any more.
func (e *Engine) refuse() {
	e.mu.Lock()
	e.mu.closing = true
	e.mu.Unlock()
	e.buffer.close()
}
