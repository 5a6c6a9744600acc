package produce

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// partition is the batches of one partition and the rules by which they are
// sent. It knows neither locks nor goroutines; the Engine's lock guards it. The
// invariants are in the package comment.
type partition struct {
	topic *topicState
	index int32

	leader      int32 // broker id, -1 when there is none
	leaderEpoch int32
	trouble     error // why no leader is known, if the brokers are to blame
	listed      bool  // waits in the list of its leader's sender

	usual    int      // records in the last batch: a guess at those in the next
	queue    []*batch // not resolved, oldest first; only the last one may be open
	flying   int      // how many of them wait for an answer
	failures int      // rounds of failures in a row
	retryAt  time.Time
	asked    time.Time // when it was last asked whether another leads, because this one is silent

	id       identity // of the next batch that is sent for the first time; noIdentity before
	spent    int64    // producer id whose epochs are used up, or NoProducerID
	sequence int32    // of the same batch
}

// rules are the settings that partitions need.
type rules struct {
	idempotent bool
	maxFlying  int
	maxRecords int // of a batch
	linger     time.Duration
	delivery   time.Duration // 0 for no deadline
	attempt    time.Duration // how long to wait for an answer
}

// silence is how long a leader may leave a batch without an answer before it is
// asked whether another one leads, and how long before it is asked again. A machine
// without power breaks no connection.
const silence = time.Second

// A batch is open for an eighth of the delivery timeout at most, so that its
// youngest record does not lose more than that of its time.
const openShare = 8

// add puts a record into the open batch, or a new one of up to limit bytes.
func (p *partition) add(r *rules, en entry, limit int, now time.Time) *batch {
	b := p.open(r, en.size, now)
	if b == nil {
		b = newBatch(r, max(limit, record.HeaderSize+en.size), now)
		b.entries = make([]entry, 0, min(p.usual, 1000))
		if n := len(p.queue); n > 0 {
			p.queue[n-1].closed = true
		}
		p.queue = append(p.queue, b)
	}
	b.add(en)
	if !b.takes(1, r.maxRecords) {
		b.closed = true
	}
	return b
}

// open returns the batch that a record of this size may join, nil for none.
func (p *partition) open(r *rules, size int, now time.Time) *batch {
	if len(p.queue) == 0 {
		return nil
	}
	b := p.queue[len(p.queue)-1]
	if !b.takes(size, r.maxRecords) || r.delivery > 0 && b.expires.Sub(now) < r.delivery-r.delivery/openShare {
		return nil
	}
	return b
}

func newBatch(r *rules, limit int, now time.Time) *batch {
	b := &batch{size: record.HeaderSize, limit: limit, due: now.Add(r.linger)}
	if r.delivery > 0 {
		b.expires = now.Add(r.delivery)
	}
	return b
}

// hurry ends the linger of the open batch.
func (p *partition) hurry() {
	if n := len(p.queue); n > 0 {
		p.queue[n-1].due = time.Time{}
	}
}

// next returns the batch to send now, nil for none: the oldest that is not in
// flight. Everything that was sent and is not resolved is among the first
// maxFlying batches, which the broker's window of remembered sequences covers.
func (p *partition) next(r *rules, now time.Time) *batch {
	if now.Before(p.retryAt) {
		return nil
	}
	for _, b := range p.queue[:min(len(p.queue), r.maxFlying)] {
		switch {
		case b.gap:
			return nil
		case b.done || b.flying:
			continue
		case !b.sent && !b.closed && now.Before(b.due):
			return nil
		}
		return b
	}
	return nil
}

// begin starts an attempt to send b, which next returned.
func (p *partition) begin(r *rules, b *batch, now time.Time) {
	b.closed = true
	p.usual = len(b.entries)
	if !b.sent {
		b.sent = true
		b.id, b.sequence = p.id, p.sequence
		p.sequence = record.AddSequence(p.sequence, int32(len(b.entries)))
	}
	b.attempts++
	b.sentTo = p.topic.id
	b.flying, b.building = true, true
	b.oldest = p.oldest() == b
	b.answerBy = now.Add(r.attempt)
	p.flying++
}

// oldest returns the first batch whose outcome is open, nil for none.
func (p *partition) oldest() *batch {
	for _, b := range p.queue {
		if !b.done {
			return b
		}
	}
	return nil
}

// acknowledged ends b with the broker's answer. The answer may be that of an
// earlier attempt: all carry the same bytes and sequence.
func (p *partition) acknowledged(b *batch, result Result) {
	if b.done {
		return
	}
	p.land(b)
	b.done, b.result = true, result
	p.failures, p.retryAt = 0, time.Time{}
}

// failed ends an attempt to send b with an error.
func (p *partition) failed(r *rules, b *batch, attempt int, err error, now time.Time) {
	if b.done || !b.flying || b.attempts != attempt {
		return // the outcome is known, or a newer attempt decides
	}
	p.land(b)
	b.lastErr = err
	switch verdictOf(err) {
	case unknown:
		b.unknown, b.doubtful = true, b.sentTo
		if r.idempotent {
			p.retry(now)
		} else {
			p.finish(b, p.outcome(b, err))
		}
	case again:
		p.retry(now)
	case early:
		// Ahead of a batch that is yet to come, or, with nothing before it, of
		// what the broker remembers.
		if b.oldest {
			b.gap = true
		} else {
			p.retry(now)
		}
	case fatal:
		p.finish(b, p.outcome(b, err))
	}
}

func (p *partition) land(b *batch) {
	if b.flying {
		b.flying = false
		p.flying--
	}
}

// retry delays the partition's next attempt. Batches in flight that fail
// together count as one failure.
func (p *partition) retry(now time.Time) {
	if now.Before(p.retryAt) {
		return
	}
	p.failures++
	p.retryAt = now.Add(retryPolicy.Delay(p.failures))
}

// finish ends b with an error.
func (p *partition) finish(b *batch, err error) {
	b.done, b.gap = true, b.sent
	b.result = Result{Partition: p.index, Err: err}
}

// doubts says whether a copy of b may be in the partition's log. One in the log of a
// topic of this name that was deleted does not count once there is another.
func (p *partition) doubts(b *batch) bool {
	return b.unknown && (b.doubtful == p.topic.id || p.topic.id == uuid.Nil)
}

// abandon ends the attempts at a leader that is not the leader any more and sends
// the batches again. What the old one does with them shows in the answers of the new
// one, which knows a repetition; so without an identity they are left to their answer,
// and so is what is in flight to an older topic of the name, whose leader will refuse it.
func (p *partition) abandon(r *rules, now time.Time) {
	if !r.idempotent {
		return
	}
	for _, b := range p.queue {
		if b.flying && !b.building && b.sentTo == p.topic.id {
			p.failed(r, b, b.attempts, fmt.Errorf("%w: no answer from broker %d, which does not lead any more", mqerr.ErrTimeout, p.leader), now)
		}
	}
}

// silentFrom is when an attempt at b has been without an answer for long.
func (p *partition) silentFrom(r *rules, b *batch) time.Time {
	from := b.answerBy.Add(silence - r.attempt)
	if again := p.asked.Add(silence); again.After(from) {
		return again
	}
	return from
}

// expire ends attempts that got no answer in time, and batches whose deadline
// has passed. A batch in flight is left to its answer. silent says that it is time
// to ask whether another one leads.
func (p *partition) expire(r *rules, now time.Time) (silent bool) {
	for i, b := range p.queue {
		if b.flying && !b.building && !now.Before(p.silentFrom(r, b)) {
			p.asked, silent = now, true
		}
		if b.flying && !b.building && !now.Before(b.answerBy) {
			p.failed(r, b, b.attempts, fmt.Errorf("%w: no answer within %v", mqerr.ErrTimeout, r.attempt), now)
			silent = true
		}
		switch {
		case b.done || b.flying:
		case !b.expires.IsZero() && !now.Before(b.expires):
			p.finish(b, p.outcome(b, fmt.Errorf("not acknowledged within %v: %w", r.delivery, p.why(b))))
		case i >= r.maxFlying:
			return silent // what follows is younger and was not sent
		}
	}
	return silent
}

// remove takes out a batch that was never sent.
func (p *partition) remove(b *batch) {
	p.queue = slices.DeleteFunc(p.queue, func(other *batch) bool { return other == b })
}

// fail ends all batches that are not in flight with an error.
func (p *partition) fail(err error) {
	for _, b := range p.queue {
		if !b.done && !b.flying {
			p.finish(b, p.outcome(b, err))
		}
	}
}

// resolve takes what is resolved off the queue, in order, and returns batches
// whose records are to be told. Where a gap has come to the front and nothing
// is in flight, it starts a new identity.
func (p *partition) resolve() (tell []*batch) {
	for len(p.queue) > 0 {
		b := p.queue[0]
		if b.done && !b.told {
			b.told = true
			tell = append(tell, b)
		}
		if b.gap {
			if p.flying > 0 {
				return tell
			}
			p.renew()
			continue
		}
		if !b.done {
			return tell
		}
		p.queue[0] = nil
		p.queue = p.queue[1:]
	}
	p.queue = nil
	return tell
}

// renew starts a new identity; nothing is in flight.
func (p *partition) renew() {
	for _, b := range p.queue {
		b.gap = false
		switch {
		case b.done || !b.sent:
		case p.doubts(b):
			p.finish(b, p.outcome(b, b.lastErr))
			b.gap = false
		default:
			b.sent, b.restamp = false, true
		}
	}
	p.sequence = 0
	switch {
	case p.id == noIdentity:
	case p.id.epoch == math.MaxInt16:
		p.spent, p.id = p.id.id, noIdentity
	default:
		p.id.epoch++
	}
}

// wakeAt returns when time alone changes what there is to do; zero for never.
func (p *partition) wakeAt(r *rules, now time.Time) (at time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	waiting := false // seen a batch that is not in flight
	for i, b := range p.queue {
		switch {
		case b.done:
		case b.flying && !b.building:
			sooner(b.answerBy)
			sooner(p.silentFrom(r, b))
		case b.flying || waiting: // a batch behind another comes later in every respect
		default:
			waiting = true
			sooner(b.expires)
			switch {
			case i >= r.maxFlying: // an answer comes first
			case now.Before(p.retryAt):
				sooner(p.retryAt)
			case !b.closed && now.Before(b.due):
				sooner(b.due)
			}
		}
		if waiting && i >= r.maxFlying {
			break
		}
	}
	return at
}

// why returns what kept b from being acknowledged. Of a batch that was not sent
// it is never of class U.
func (p *partition) why(b *batch) error {
	first := p.oldest()
	switch {
	case b.lastErr != nil:
		return b.lastErr
	case first != nil && first.lastErr != nil:
		return fmt.Errorf("%w: what stood before it: %s", mqerr.ErrLeaderNotAvailable, first.lastErr.Error())
	case p.leader < 0:
		return cmp.Or(p.trouble, error(mqerr.ErrLeaderNotAvailable))
	default:
		return mqerr.ErrBusy
	}
}

// outcome is the error that ends b, made from its cause. It is of class U if a
// copy of b may be in the log or on its way there.
func (p *partition) outcome(b *batch, cause error) error {
	if p.doubts(b) && !mqerr.OutcomeUnknown(cause) {
		cause = fmt.Errorf("%w: %w", mqerr.ErrTimeout, cause)
	}
	if p.index < 0 {
		return fmt.Errorf("topic %q: %w", p.topic.name, cause)
	}
	return fmt.Errorf("%s/%d: %w", p.topic.name, p.index, cause)
}

// verdict is what an answer means for a batch.
type verdict uint8

const (
	again   verdict = iota // refused; sending it again may help
	unknown                // no answer: it may be in the log or on its way
	early                  // refused because its sequence is ahead
	fatal                  // refused for good
)

// verdictOf treats what no broker answered, such as a broken connection, as an
// unknown outcome.
func verdictOf(err error) verdict {
	e := mqerr.Of(err)
	switch {
	case e == nil || e == mqerr.ErrClosed || e.Class() == mqerr.Unknown:
		return unknown
	case e == mqerr.ErrOutOfOrderSequence:
		return early
	case mqerr.Retriable(e):
		return again
	default:
		return fatal
	}
}
