package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"syscall"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

const (
	// pollRecords is how many records are printed between two flushes of stdout.
	pollRecords = 4096
	// commitTime bounds the last commit, unless the config says otherwise.
	commitTime = 5 * time.Second
)

// Why a ctx ended.
var (
	errTimeUp  = errors.New("time is up") // --timeout
	errSilence = errors.New("no answer")
)

// consume prints records until all that was asked for is printed or ctx ends,
// which is a clean end of what follows, or when nobody reads any more.
func (p *program) consume(ctx context.Context, client mq.ClientConfig, opt consumeOptions) (err error) {
	if opt.commits() && leadsNowhere(p.out) {
		return errors.New("stdout is closed, or a null device that can be read: what nobody gets must not be stored as read (to throw it away, say >/dev/null)")
	}
	ctx, cancel := untilReaderGone(ctx, p.out)
	defer cancel()
	if opt.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, opt.time, errTimeUp)
		defer cancel()
	}
	c, err := p.dial(ctx, client)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTimeUp):
		return &exitError{exitConnect, err}
	case err != nil:
		return err
	}
	defer closing(c, &err)
	run := &consumption{
		p: p, admin: mq.NewAdmin(c), brokers: client.Brokers, opt: opt,
		out: &recordWriter{w: impatient{p.out, ctx.Done()}, format: opt.format}, verb: "printed",
	}
	return run.run(ctx, c)
}

// sink is where records go.
type sink interface {
	begin()            // a new Poll: what was handled is finished
	skip(r *mq.Record) // not wanted
	add(r *mq.Record) error
	flush() error
	handled() []*mq.Record // since begin: what went out or was skipped
	count() int            // of all that went out
}

// consumption reads what its options say into a sink.
type consumption struct {
	p        *program
	admin    *mq.Admin
	brokers  []string
	opt      consumeOptions
	consumer *mq.Consumer
	out      sink
	verb     string // what out does to records
	failed   bool   // out did

	spans map[mq.TopicPartition]span // what to print of each; nil: everything
	open  map[mq.TopicPartition]bool // those that are not at their end

	away    bool            // it was said that nothing can be read
	missing map[string]bool // topics of which it was said that they don't exist
}

// run reads, and commits what went out.
func (c *consumption) run(ctx context.Context, e mq.Endpoint) error {
	c.missing = map[string]bool{}
	spans, err := c.plan(ctx)
	if err != nil || c.done() {
		return c.ended(ctx, err)
	}
	cfg := c.opt.cfg
	within := cfg.CloseTimeout
	if within == 0 {
		within = commitTime
	}
	cfg.CloseTimeout = time.Millisecond // by then all is committed, or can't be
	if cfg.GroupID != "" && len(cfg.Partitions) == 0 {
		cfg.CloseTimeout = time.Second // for leaving the group
	}
	if c.consumer, err = mq.NewConsumer(e, cfg); err != nil {
		return err
	}
	if err = c.place(ctx, spans); err == nil {
		err = c.print(ctx)
	}
	err = errors.Join(c.ended(ctx, err), c.commit(ctx, within))
	if closeErr := c.consumer.Close(); err == nil {
		err = closeErr
	}
	return err
}

// ended says what the end of ctx, or of who reads the output, means for the
// command. Any other error stays.
func (c *consumption) ended(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return nil // a reader that went away has all it wanted
	case errors.Is(err, errStalled):
		code, why := exitInterrupted, "interrupted"
		if errors.Is(cause, errTimeUp) {
			code, why = exitTimeout, "time is up"
		}
		return &exitError{code, fmt.Errorf("%s: %w, and may end within a record", why, err)}
	case c.failed, cause == nil:
		return err
	case errors.Is(cause, syscall.EPIPE), c.opt.follows():
		return nil // it had to end some day
	case errors.Is(cause, errTimeUp) && c.opt.limit > 0:
		return &exitError{exitTimeout, fmt.Errorf("time is up: %d of %s came in %v", c.out.count(), count(c.opt.limit, "record"), c.opt.time)}
	case errors.Is(cause, errTimeUp):
		return &exitError{exitTimeout, fmt.Errorf("time is up: not all that was asked for came in %v", c.opt.time)}
	}
	return &exitError{exitInterrupted, fmt.Errorf("interrupted: not all that was asked for is %s", c.verb)}
}

// done reports whether the range has an end and every partition is there.
func (c *consumption) done() bool { return c.opt.bounded() && len(c.open) == 0 }

// plan finds out what to print of each partition, and changes the config
// accordingly. Without spans the consumer alone can tell.
func (c *consumption) plan(ctx context.Context) ([]span, error) {
	cfg := &c.opt.cfg
	r := offsets.Range{To: offsets.Point{Kind: offsets.End}, HasTo: true} // of --exit alone
	if c.opt.span != nil {
		r = *c.opt.span
	}
	// An offset that is not in the log would be left to the reset policy.
	start, simple := startOf(r.From)
	simple = simple && r.From.Kind != offsets.Offset
	if c.opt.span != nil && simple {
		cfg.Start = start
	}
	if !c.opt.bounded() && (c.opt.span == nil || simple) { // the topics need not exist yet
		c.sayMissing(ctx)
		return nil, nil
	}
	var spans []span
	for _, topic := range cfg.Topics {
		found, err := resolve(ctx, c.admin, topic, cfg.Partitions, r)
		if err != nil {
			return nil, err
		}
		spans = append(spans, found...)
	}
	if text := outside(spans); text != "" && c.opt.span != nil {
		c.p.say("%s", text)
	}
	c.spans, c.open = map[mq.TopicPartition]span{}, map[mq.TopicPartition]bool{}
	var partitions []int32
	for _, s := range spans {
		c.spans[s.tp] = s
		if !s.empty() {
			c.open[s.tp] = true
			partitions = append(partitions, s.tp.Partition)
		}
	}
	if len(cfg.Topics) == 1 && (c.opt.bounded() || cfg.GroupID != "") { // of a group, too, a range is read by this consumer alone
		cfg.Partitions = partitions
	}
	return spans, nil
}

// place brings the consumer to where the spans begin.
func (c *consumption) place(ctx context.Context, spans []span) error {
	if c.opt.span == nil && c.opt.exit { // it begins where the group left off, which may be the end
		ctx, cancel := context.WithTimeout(ctx, silence)
		defer cancel()
		_ = c.closeRead(ctx) // if this fails, so will reading
		return nil
	}
	for _, s := range spans {
		if c.open[s.tp] {
			if err := c.consumer.Seek(ctx, mq.StartAt(s.seek), s.tp); err != nil {
				return err
			}
		}
	}
	for _, s := range spans { // now that they are assigned
		if !c.open[s.tp] {
			c.consumer.Pause(s.tp)
		}
	}
	return nil
}

// closeRead notes the partitions of which there is nothing more to read.
func (c *consumption) closeRead(ctx context.Context) error {
	lag, err := c.consumer.Lag(ctx)
	maps.DeleteFunc(c.open, func(tp mq.TopicPartition, _ bool) bool {
		n, known := lag[tp]
		return known && n == 0
	})
	return err
}

// print hands records out until ctx ends, the limit is reached, or everything
// that has an end is there.
func (c *consumption) print(ctx context.Context) error {
	for !c.done() {
		left := math.MaxInt
		if c.opt.limit > 0 {
			left = c.opt.limit - c.out.count()
		}
		if left == 0 {
			return nil
		}
		limit := pollRecords
		if len(c.opt.filter) == 0 {
			limit = min(limit, left)
		}
		waiting, cancel := context.WithTimeoutCause(ctx, silence, errSilence)
		records, err := c.consumer.Poll(waiting, limit)
		cancel()
		if ctx.Err() == nil && errors.Is(err, errSilence) {
			err = c.lookAround(ctx)
		}
		if err != nil {
			return err
		}
		if len(records) > 0 {
			c.sayBack()
			if err := c.printAll(ctx, records, left); err != nil {
				return err
			}
		}
	}
	return nil
}

// printAll writes what is wanted of the records, up to a number, and stops
// reading partitions that are at their end.
func (c *consumption) printAll(ctx context.Context, records []*mq.Record, left int) error {
	c.out.begin()
	var ended []mq.TopicPartition
	beyond := map[mq.TopicPartition]int64{} // first offsets that are not wanted any more
	for _, r := range records {
		tp := mq.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		s, planned := c.spans[tp]
		isOpen := c.open[tp] || !c.opt.bounded() // not so of a partition that is newer than the command
		switch {
		case !isOpen || planned && r.Offset >= s.to:
			if _, known := beyond[tp]; !known {
				beyond[tp] = r.Offset
			}
		case planned && r.Offset < s.from || !c.opt.filter.match(r):
			c.out.skip(r)
		default:
			if err := c.out.add(r); err != nil {
				c.failed = true
				return err
			}
			left--
		}
		if left == 0 {
			break
		}
		if isOpen && planned && r.Offset >= s.to-1 {
			delete(c.open, tp)
			ended = append(ended, tp)
		}
	}
	if err := c.out.flush(); err != nil {
		c.failed = true
		return err
	}
	for tp, offset := range beyond { // the next Poll would finish these
		if err := c.consumer.Seek(ctx, mq.StartAt(offset), tp); err != nil {
			return err
		}
		ended = append(ended, tp)
	}
	c.consumer.Pause(ended...)
	return nil
}

// commit stores offsets behind what was written of the last Poll; what was
// polled before is finished. It does nothing if commits are off.
func (c *consumption) commit(ctx context.Context, within time.Duration) error {
	if !c.opt.commits() {
		return nil
	}
	defer c.p.explainEnd(ctx, func() string { return fmt.Sprintf("waiting up to %v for offsets to be stored", within) })()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	if err := c.consumer.Commit(ctx, c.out.handled()...); err != nil {
		return fmt.Errorf("the last offsets are not stored: %w", err)
	}
	return nil
}
