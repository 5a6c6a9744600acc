package produce

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// run is the timer loop: it ends lingering, attempts and deliveries in time, and
// follows the metadata. It ends with the engine's context or the Router.
func (e *Engine) run() {
	defer e.finish()
	timer := time.NewTimer(0)
	defer timer.Stop()
	changed, news := e.cfg.Router.Changed(), false
	for {
		wants, arrived, wakeAt := e.tick(news)
		for _, w := range wants {
			e.cfg.Router.Want(w.topic, w.create)
		}
		for _, t := range arrived {
			e.moveParked(t)
		}
		timer.Reset(time.Until(wakeAt))
		news = false
		select {
		case <-timer.C:
		case <-e.nudge:
		case <-changed:
			changed, news = e.cfg.Router.Changed(), true // the next one before looking
		case <-e.cfg.Router.Done():
			return
		case <-e.ctx.Done():
			return
		}
	}
}

// want is a topic of which newer metadata is needed.
type want struct {
	topic  string
	create bool
}

// tick does everything that is due. It returns topics to refresh, topics that
// became known while records wait for them, and when to be called again.
func (e *Engine) tick(news bool) (wants []want, arrived []*topicState, wakeAt time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.mu.wakeAt = time.Time{}
	if news || e.mu.look {
		e.mu.look = false
		for _, t := range e.mu.topics {
			if w, ok := e.lookLocked(t, now); ok {
				wants = append(wants, w)
			}
			if t.count > 0 && len(t.parked.queue) > 0 {
				arrived = append(arrived, t)
			}
		}
	}
	wakeAt = now.Add(time.Hour) // somebody nudges before, if there is anything to do
	for p := range e.mu.active {
		if p.expire(&e.rules, now) {
			wants = append(wants, want{topic: p.topic.name}) // another may lead by now
		}
		e.advanceLocked(p, now)
		if at := p.wakeAt(&e.rules, now); !at.IsZero() && at.Before(wakeAt) {
			wakeAt = at
		}
	}
	e.mu.wakeAt = wakeAt
	return wants, arrived, wakeAt
}

// lookLocked takes over what the Router knows about a topic, and says whether
// more is needed.
func (e *Engine) lookLocked(t *topicState, now time.Time) (want, bool) {
	info, ok := e.cfg.Router.Cached(t.name)
	var lost []*partition // have no place in the topic
	switch {
	case !ok:
	case info.Err == nil:
		t.learn(&e.rules, info, e.cfg.BatchBytes, now)
		lost = t.partitions[t.count:]
	case errors.Is(info.Err, mqerr.ErrUnknownTopicOrPartition):
		t.learn(&e.rules, api.TopicInfo{}, e.cfg.BatchBytes, now)
		lost = append(t.partitions[:len(t.partitions):len(t.partitions)], t.parked)
	case !mqerr.Retriable(info.Err) && !mqerr.OutcomeUnknown(info.Err): // the latter is that of creating it
		t.parked.fail(info.Err)
		for _, p := range t.partitions {
			p.fail(info.Err)
		}
	}

	if !waits(lost) {
		t.missing = time.Time{}
	} else if t.missing.IsZero() {
		t.missing = now
		t.wish = e.cfg.Router.Want(t.name, t.count == 0) // until that is answered nobody has refused it
	} else if now.Sub(t.missing) >= missingGrace && e.cfg.Router.Answered(t.wish) && e.cfg.Router.Err() == nil {
		for _, p := range lost {
			p.fail(mqerr.ErrUnknownTopicOrPartition)
		}
		t.missing = time.Time{}
	}
	need := t.count == 0 && len(t.parked.queue) > 0
	t.parked.trouble = trouble(cmp.Or(e.cfg.Router.Err(), info.Err))
	for _, p := range t.partitions {
		need = need || p.leader < 0 && len(p.queue) > 0
		p.trouble = t.parked.trouble
	}
	return want{topic: t.name, create: t.count == 0}, need
}

// trouble is an error of metadata as one of a batch that was not sent, which is
// never of class U.
func trouble(err error) error {
	if mqerr.OutcomeUnknown(err) {
		return fmt.Errorf("%w: %s", mqerr.ErrLeaderNotAvailable, err.Error())
	}
	return err
}

func waits(partitions []*partition) bool {
	for _, p := range partitions {
		if len(p.queue) > 0 {
			return true
		}
	}
	return false
}

// moveParked gives the records that waited for a topic to its partitions.
func (e *Engine) moveParked(t *topicState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(t.parked.queue) > 0 {
		t.moving = true
		batches := t.takeParked()
		e.mu.Unlock()
		for _, b := range batches {
			e.move(t, b)
		}
		e.mu.Lock()
	}
	t.moving = false
	delete(e.mu.active, t.parked)
}

// move gives the records of one parked batch to partitions. Only the loop
// changes the number of partitions, so it stays what it is here.
func (e *Engine) move(t *topicState, b *batch) {
	since := time.Now()
	if !b.expires.IsZero() {
		since = b.expires.Add(-e.rules.delivery)
	}
	for i := range b.entries {
		en := b.entries[i]
		index, err := e.choose(t.name, en.Promise, t.count)

		e.mu.Lock()
		if err != nil {
			e.told.push(outcome{entries: b.entries[i : i+1], result: Result{Partition: -1, Err: err}})
		} else {
			now := time.Now()
			e.appendLocked(e.placeLocked(t, index, en.size, now), en, b.due.IsZero(), since, now)
		}
		e.mu.Unlock()
	}
}

// finish fails what is left when the loop ends.
func (e *Engine) finish() {
	e.refuse()
	e.mu.Lock()
	e.mu.ended = true
	e.mu.Unlock()
	e.cancel()
	e.busy.Wait()

	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.mu.active {
		for _, b := range p.queue {
			if b.flying {
				p.land(b)
				b.unknown, b.doubtful, b.building = true, b.sentTo, false
			}
		}
		p.fail(mqerr.ErrClosed)
		for _, b := range p.resolve() {
			e.tellLocked(b)
		}
	}
}
