package mq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/route"
)

// Consumer reads records of topics. Each partition's records come in the order
// of their offsets, each once, and only after they were committed by a majority.
//
// There are three ways to read, of which one may be in use at a time:
//
//   - Run calls a Handler for each record, for several at a time if wanted. A
//     record is finished when the handler returned nil, or when it is stored in
//     the dead-letter topic.
//   - Messages is an iterator. A record is finished when the next one is asked
//     for.
//   - Poll returns records in bulk. They are finished at the next Poll, Run or
//     Messages.
//
// Only finished records are committed, that is, their offsets are stored under
// GroupID. So after a crash, a failed handler or a break, what was not finished
// comes again: a record may be seen twice, and is never skipped. What is
// committed of a partition ends before the first record that is not finished.
// Commit finishes records explicitly.
//
// With a GroupID and without Partitions the consumer is a member of a group, whose
// members share the partitions. One that is to go to another member is given up
// when everything of it that was handed out is finished, and committed; the other
// ones go on meanwhile. See ConsumerConfig.OnAssigned.
//
// Brokers that restart, move leadership or are away are waited for. Reading
// fails only when waiting can't help; the error then holds a *PartitionError,
// and comes again with each attempt to read until a Seek or a Pause of that
// partition. Other partitions are not affected.
//
// Records belong to the caller. Those that were fetched together share memory,
// so a record that is kept for long should be copied.
//
// All methods are safe for concurrent use. After Close they return ErrClosed.
type Consumer struct {
	cfg     ConsumerConfig
	log     *slog.Logger
	router  *route.Router
	set     *fetch.Set
	nearest *nearness    // nil: everything is read from leaders
	offsets *offsetStore // of the group; nil without one
	dead    *deadLetters // nil without a topic for them
	member  *member      // nil unless the group's coordinator decides what is read

	life   context.Context // of all loops; ends with Close or the endpoint
	end    context.CancelFunc
	loops  sync.WaitGroup
	lost   chan struct{} // capacity 1: a partition waits for fresh metadata
	asking chan struct{} // capacity 1: a committed offset is to be asked for

	moved chan struct{} // capacity 1: other partitions than before are to be read

	partitions map[string]int // how many each topic had when the consumer started; written before beatLoop starts

	committing chan struct{} // capacity 1, held by the one commit under way
	reading    chan struct{} // capacity 1, held by the one Run, Messages or Poll
	polling    atomic.Bool   // it is Poll
	reader     reader        // guarded by reading

	closing sync.Once
	closed  error // what Close returns
}

// NewConsumer starts a consumer. It waits for nothing: the endpoint's brokers
// may be away, the topics need not exist. Errors: ErrInvalidConfig. The caller
// must Close it.
func NewConsumer(e Endpoint, cfg ConsumerConfig) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	c := &Consumer{
		cfg:     cfg,
		log:     cfg.Logger,
		router:  e.router(),
		set:     fetch.NewSet(cfg.fetch()),
		nearest: newNearness(e.router(), cfg),
		life:    life,
		end:     end,
		lost:    make(chan struct{}, 1),
		asking:  make(chan struct{}, 1),

		moved: make(chan struct{}, 1),

		partitions: make(map[string]int),

		committing: make(chan struct{}, 1),
		reading:    make(chan struct{}, 1),
	}
	c.reader.set = c.set
	if cfg.DeadLetterTopic != "" {
		var err error
		if c.dead, err = newDeadLetters(e, cfg); err != nil {
			end()
			return nil, err
		}
	}
	if cfg.GroupID != "" {
		c.offsets = newOffsetStore(c.router, cfg.GroupID)
	}
	if cfg.balanced() {
		c.member = newMember(c)
	}
	// Everything is there: the loops may begin.
	if c.offsets != nil {
		c.loops.Go(c.askLoop) // ends with life
		if cfg.commits() {
			c.loops.Go(c.commitLoop) // ends with life
		}
	}
	if c.member != nil {
		go c.member.settleLoop() // ends with life, and the hook that it is in
	}
	c.loops.Go(c.locateLoop) // ends with life; starts one fetchLoop per leader, and beatLoop
	return c, nil
}

// Close stops reading, commits what is finished, unless auto-commit is off,
// leaves the group, and waits for the consumer's goroutines. It does not wait for
// a handler, which may call it; Run's return does, and only then are partitions
// given up and the group left. The error is that of the commit, which
// CloseTimeout bounds. Close may be called more than once.
func (c *Consumer) Close() error {
	c.closing.Do(func() {
		c.end()
		c.loops.Wait()
		c.closed = c.goodbye()
		if c.dead != nil {
			c.dead.close()
		}
	})
	return c.closed
}

// goodbye is the end of what Close does. Who reads at that time, and calls the
// program meanwhile, may yet finish records; it leaves the group in its stead.
func (c *Consumer) goodbye() error {
	if c.member == nil {
		return c.commitAtEnd(context.Background())
	}
	if c.polling.Load() { // not for long any more
		c.reading <- struct{}{}
	} else {
		select {
		case c.reading <- struct{}{}:
		default:
			return c.commitAtEnd(context.Background())
		}
	}
	defer func() { <-c.reading }()
	return c.member.farewell()
}

// commitAtEnd commits what is finished within CloseTimeout, even if ctx ended.
func (c *Consumer) commitAtEnd(ctx context.Context) error {
	if !c.cfg.commits() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.CloseTimeout)
	defer cancel()
	return c.commitFinished(ctx)
}

// bind returns a ctx that ends with ctx or with the consumer, whichever is first.
func (c *Consumer) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	unbind := context.AfterFunc(c.life, cancel)
	if c.life.Err() != nil {
		cancel() // now, not when AfterFunc's goroutine comes to it
	}
	return ctx, func() { unbind(); cancel() }
}

// whyEnded says what a call that was bound to ctx and the consumer, and failed,
// returns: an error that holds ctx's cause or ErrClosed if one of them ended.
func (c *Consumer) whyEnded(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause != nil && !errors.Is(err, cause):
		return cause
	case cause != nil:
		return err
	case c.life.Err() != nil:
		return ErrClosed
	}
	return err
}

// Assignment lists the partitions that are read, by topic and number. It is
// empty until the brokers told which ones there are, and for a member of a group
// that got none.
func (c *Consumer) Assignment() []TopicPartition {
	ps := c.set.Progress()
	tps := make([]TopicPartition, len(ps))
	for i, p := range ps {
		tps[i] = TopicPartition{p.Topic, p.Partition}
	}
	return tps
}

// Pause stops reading partitions until Resume, and others go on. What was
// fetched of them and not handed out is dropped and will be fetched again.
// Partitions that are not assigned are ignored, and one that went to another
// member and comes back is not paused.
func (c *Consumer) Pause(tps ...TopicPartition) { c.set.Pause(keysOf(tps)) }

// Resume undoes Pause.
func (c *Consumer) Resume(tps ...TopicPartition) { c.set.Resume(keysOf(tps)) }

func keysOf(tps []TopicPartition) []fetch.Key {
	keys := make([]fetch.Key, len(tps))
	for i, tp := range tps {
		keys[i] = fetch.Key(tp)
	}
	return keys
}

// Lag tells how many records each assigned partition has that are committed by
// the brokers and not finished by this consumer. It waits until the brokers
// told, and where reading begins is known.
func (c *Consumer) Lag(ctx context.Context) (map[TopicPartition]int64, error) {
	bound, cancel := c.bind(ctx)
	defer cancel()
	ps, err := c.progress(bound, true)
	var ends []int64
	if err == nil {
		ends, err = c.offsetsAt(bound, partitionsOf(ps), api.LatestTimestamp)
	}
	if err != nil {
		return nil, fmt.Errorf("lag: %w", c.whyEnded(ctx, err))
	}
	lag := make(map[TopicPartition]int64, len(ps))
	for i, p := range ps {
		lag[TopicPartition{p.Topic, p.Partition}] = max(ends[i]-p.Finished, 0)
	}
	return lag, nil
}

// progress waits until partitions are assigned and, if located, until it is
// known where reading them begins.
func (c *Consumer) progress(ctx context.Context, located bool) ([]fetch.Progress, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		changed := c.set.Changed()
		if err := c.member.failure(); err != nil {
			return nil, err
		}
		ps := c.set.Progress()
		unknown := slices.ContainsFunc(ps, func(p fetch.Progress) bool { return p.Finished < 0 })
		known := len(ps) > 0 || c.member != nil && c.member.settled()
		if known && !(located && unknown) {
			return ps, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func partitionsOf(ps []fetch.Progress) []api.TopicPartition {
	tps := make([]api.TopicPartition, len(ps))
	for i, p := range ps {
		tps[i] = p.TopicPartition
	}
	return tps
}
