package produce

import (
	"context"
	"fmt"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// sender sends the batches of the partitions that one broker leads. The hand-over
// may block when the broker is slow, which is why each leader has its own.
type sender struct {
	engine  *Engine
	leader  int32
	wake    chan struct{} // capacity 1: something was listed
	ready   []*partition  // with a batch to send, in the order of listing; guarded by Engine.mu
	builder record.Builder
}

// flight is one attempt to send a batch.
type flight struct {
	p       *partition
	b       *batch
	attempt int
	epoch   int32 // of the leader
	err     error
}

// senderLocked returns the sender of a leader and starts it if need be.
func (e *Engine) senderLocked(leader int32) *sender {
	s := e.mu.senders[leader]
	if s == nil {
		s = &sender{engine: e, leader: leader, wake: make(chan struct{}, 1)}
		e.mu.senders[leader] = s
		e.busy.Go(s.run) // ends with the engine's context
	}
	return s
}

// list says that a partition has something to send. The Engine's lock is held.
func (s *sender) list(p *partition) {
	p.listed = true
	s.ready = append(s.ready, p)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) run() {
	idFailures := 0
	for {
		flights, needID := s.collect()
		switch {
		case s.engine.ctx.Err() != nil:
			return
		case needID:
			if err := s.engine.obtainID(); err != nil {
				idFailures++
				s.blame(err)
				_ = backoff.Sleep(s.engine.ctx, retryPolicy.Delay(idFailures)) // the context is looked at above
			} else {
				idFailures = 0
			}
		case len(flights) > 0:
			s.send(flights)
		default:
			select {
			case <-s.wake:
			case <-s.engine.ctx.Done():
			}
		}
	}
}

// collect takes the batches of the next request: at most one of each partition.
// A batch that failed before travels alone, so that a partition in trouble does
// not delay others. needID says that a producer id has to be there first.
func (s *sender) collect() (flights []flight, needID bool) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	bytes := 0
	for range len(s.ready) {
		p := s.ready[0]
		b := p.next(&e.rules, now)
		if b != nil && b.attempts == 0 {
			e.settleEndedLocked(p, b)
			b = p.next(&e.rules, now)
		}
		if b == nil || p.leader != s.leader {
			s.unlist(p, now)
			continue
		}
		if len(flights) > 0 && (b.attempts > 0 || bytes+b.wireSize() > requestBytes) {
			break
		}
		if !e.identifyLocked(p) {
			return flights, len(flights) == 0
		}
		p.begin(&e.rules, b, now)
		bytes += b.wireSize()
		flights = append(flights, flight{p: p, b: b, attempt: b.attempts, epoch: p.leaderEpoch})
		s.unlist(p, now)
		if b.attempts > 1 {
			break
		}
	}
	return flights, false
}

// unlist takes the first partition off the list. It comes back at the end if it
// has more to send.
func (s *sender) unlist(p *partition, now time.Time) {
	s.ready[0] = nil
	s.ready = s.ready[1:]
	p.listed = false
	s.engine.advanceLocked(p, now)
}

// identifyLocked makes sure that the partition has an identity; false when there
// is no producer id.
func (e *Engine) identifyLocked(p *partition) bool {
	if !e.rules.idempotent || p.id != noIdentity {
		return true
	}
	if e.mu.id == p.spent {
		e.mu.id = record.NoProducerID
	}
	if e.mu.id == record.NoProducerID {
		return false
	}
	p.id = identity{id: e.mu.id}
	return true
}

// obtainID asks any broker for a producer id, unless another sender just did.
func (e *Engine) obtainID() error {
	e.idLock.Lock()
	defer e.idLock.Unlock()
	e.mu.Lock()
	known := e.mu.id != record.NoProducerID
	e.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Timeout)
	defer cancel()
	broker, err := e.cfg.Router.Any(ctx)
	if err != nil {
		return err
	}
	answer, err := broker.InitProducer(ctx, &api.InitProducerRequest{})
	if err != nil {
		e.cfg.Router.AnyFailed(err)
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.id = answer.ProducerID
	return nil
}

// blame notes why listed partitions make no progress.
func (s *sender) blame(err error) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	for _, p := range s.ready {
		if b := p.oldest(); b != nil {
			b.lastErr = fmt.Errorf("no producer id: %w", err)
		}
	}
}

// send encodes the batches and hands them over.
func (s *sender) send(flights []flight) {
	e := s.engine
	for i := range flights {
		f := &flights[i]
		f.err = f.b.build(&s.builder, e.cfg.Codec)
	}
	flights, req := s.built(flights)
	if len(flights) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Timeout)
	defer cancel()
	broker, err := e.cfg.Router.Broker(ctx, s.leader)
	if err != nil { // nothing was sent
		s.answered(flights, nil, fmt.Errorf("%w: %w", mqerr.ErrLeaderNotAvailable, err))
		return
	}
	broker.Produce(ctx, req, func(answer *api.ProduceResponse, err error) { s.answered(flights, answer, err) })
}

// built ends the time in which the batches are the sender's own, and makes the
// request of those that were encoded.
func (s *sender) built(flights []flight) ([]flight, *api.ProduceRequest) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	req := &api.ProduceRequest{Acks: e.cfg.Acks, Timeout: e.cfg.Timeout}
	good := flights[:0]
	for _, f := range flights {
		f.b.building = false
		if f.err == nil && f.p.leader != s.leader { // meanwhile
			f.err = fmt.Errorf("%w: broker %d", mqerr.ErrNotLeader, s.leader)
		}
		if f.err != nil {
			f.p.failed(&e.rules, f.b, f.attempt, f.err, now)
			e.advanceLocked(f.p, now)
			continue
		}
		e.settleEndedLocked(f.p, f.b) // contexts that ended meanwhile
		e.advanceLocked(f.p, now)     // so that the loop sees to it that an answer comes
		good = append(good, f)
		req.Partitions = append(req.Partitions, api.ProducePartition{
			TopicPartition: api.TopicPartition{Topic: f.p.topic.name, TopicID: f.b.sentTo, Partition: f.p.index},
			Batch:          f.b.bytes,
		})
	}
	return good, req
}

// answered takes the broker's answer, or why there is none.
func (s *sender) answered(flights []flight, answer *api.ProduceResponse, err error) {
	if err == nil && len(answer.Partitions) != len(flights) {
		err = fmt.Errorf("answer has %d results for %d batches", len(answer.Partitions), len(flights))
	}
	e := s.engine
	e.mu.Lock()
	if e.mu.ended {
		e.mu.Unlock()
		return
	}
	now := time.Now()
	for i := range flights {
		f := &flights[i]
		f.err = err
		if err == nil {
			f.err = answer.Partitions[i].Err
		}
		if f.err != nil {
			f.p.failed(&e.rules, f.b, f.attempt, f.err, now)
		} else {
			r := answer.Partitions[i]
			f.p.acknowledged(f.b, Result{
				Partition: f.p.index, LeaderEpoch: r.LeaderEpoch, Offset: r.BaseOffset, AppendTime: r.AppendTime,
			})
		}
		e.advanceLocked(f.p, now)
	}
	e.mu.Unlock()

	for _, f := range flights {
		if f.err != nil {
			e.cfg.Logger.Debug("batch failed", "topic", f.p.topic.name, "partition", f.p.index,
				"broker", s.leader, "attempt", f.attempt, "err", f.err)
			e.cfg.Router.FailedAt(f.p.topic.name, f.p.index, s.leader, f.epoch, f.err)
		}
	}
}
