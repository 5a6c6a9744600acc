package mqtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/raftmq/mq"
)

// Checker checks that records are neither lost nor stored twice nor reordered,
// whatever happens to the brokers meanwhile. Its producers send records that are
// told apart, "p1#0", "p1#1", …, and the Checker remembers what became of each:
// acknowledged, refused, or not known. Check reads everything back.
//
// The topics must be the Checker's alone. A Checker is safe for concurrent use.
type Checker struct {
	tb testing.TB
	mu struct {
		sync.Mutex
		sent      map[string]*sent
		topics    map[string]bool
		producers []*CheckedProducer
	}
}

// NewChecker makes a Checker that has seen nothing.
func NewChecker(tb testing.TB) *Checker {
	c := &Checker{tb: tb}
	c.mu.sent = make(map[string]*sent)
	c.mu.topics = make(map[string]bool)
	return c
}

// CheckedProducer sends records for a Checker. It is safe for concurrent use.
type CheckedProducer struct {
	checker *Checker
	name    string
	topic   string
	inner   *mq.Producer

	order sync.Mutex // of numbers is that of sending
	next  int
}

// Producer makes a producer of records of cfg.Topic, which is required. Acks must
// not be mq.AcksNone, which promises nothing. Check or the test's cleanup closes
// the producer.
func (c *Checker) Producer(e mq.Endpoint, cfg mq.ProducerConfig) *CheckedProducer {
	c.tb.Helper()
	if cfg.Topic == "" || cfg.Acks == mq.AcksNone {
		c.tb.Fatal("mqtest: a producer of a Checker needs Topic, and acknowledgements")
	}
	inner, err := mq.NewProducer(e, cfg)
	if err != nil {
		c.tb.Fatalf("mqtest: %v", err)
	}
	c.tb.Cleanup(func() { _ = inner.Close() }) // what failed is known record by record
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &CheckedProducer{checker: c, name: fmt.Sprintf("p%d", len(c.mu.producers)+1), topic: cfg.Topic, inner: inner}
	c.mu.producers = append(c.mu.producers, p)
	c.mu.topics[cfg.Topic] = true
	return p
}

// SendAsync sends the producer's next record, as mq.Producer.SendAsync does. done
// may be nil.
func (p *CheckedProducer) SendAsync(ctx context.Context, done func(*mq.Record, error)) {
	p.order.Lock()
	defer p.order.Unlock()
	s := &sent{producer: p.name, number: p.next, offset: -1}
	p.next++
	name := s.name()
	c := p.checker
	c.mu.Lock()
	c.mu.sent[name] = s
	c.mu.Unlock()
	p.inner.SendAsync(ctx, &mq.Record{Topic: p.topic, Key: []byte(name), Value: []byte(name)}, func(r *mq.Record, err error) {
		c.settled(s, r, err)
		if done != nil {
			done(r, err)
		}
	})
}

// Send sends the producer's next record and waits until it is settled.
func (p *CheckedProducer) Send(ctx context.Context) error {
	settled := make(chan error, 1)
	p.SendAsync(ctx, func(_ *mq.Record, err error) { settled <- err })
	return <-settled
}

func (c *Checker) settled(s *sent, r *mq.Record, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		s.outcome = acknowledged
		s.at, s.offset = mq.TopicPartition{Topic: r.Topic, Partition: r.Partition}, r.Offset
	case !mq.OutcomeUnknown(err):
		s.outcome = refused
	}
}

// Tally counts records.
type Tally struct {
	Acknowledged, Refused, Unknown int // of those that were sent
	Stored                         int // of those that were read
	Copies                         int // on all brokers together
}

// String is for the test's log.
func (t Tally) String() string {
	return fmt.Sprintf("%d records acknowledged, %d refused, %d unknown; %d stored, %d copies", t.Acknowledged, t.Refused, t.Unknown, t.Stored, t.Copies)
}

// maxFaults bounds what is reported.
const maxFaults = 30

// Check closes the Checker's producers, reads all records through e, and each
// broker's own copies, and reports as errors of the test, by the names of records:
//
//	lost          acknowledged and not there
//	duplicate     there twice
//	reordered     there behind a later one of the same producer
//	moved         not where its acknowledgement said
//	refused       there although it was refused
//	unknown       there although nobody sent it
//	offsets       read with an offset that is not above the one before
//	disagreement  a broker's copy is not that of another
//
// Records whose outcome is not known may be there or not. Brokers must be running
// and connected: Check waits for each to catch up.
func (c *Checker) Check(e mq.Endpoint, brokers ...*Broker) Tally {
	c.tb.Helper()
	c.mu.Lock()
	producers := c.mu.producers
	c.mu.Unlock()
	_ = together(producers, func(p *CheckedProducer) error { return p.inner.Close() })
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.tb.Context(), patience)
	defer cancel()
	h := &history{sent: c.mu.sent, read: make(map[mq.TopicPartition]copyOf), copies: make(map[mq.TopicPartition][]copyOf)}
	for topic := range c.mu.topics {
		if err := errors.Join(h.readTopic(ctx, e, topic), h.readCopies(ctx, topic, brokers)); err != nil {
			c.tb.Errorf("mqtest: read %s back: %v", topic, err)
			return h.tally()
		}
	}
	faults := h.faults()
	for i, f := range faults {
		if i == maxFaults {
			c.tb.Errorf("and %d more", len(faults)-i)
			break
		}
		c.tb.Error(f)
	}
	return h.tally()
}

func (h *history) tally() (t Tally) {
	for _, s := range h.sent {
		switch s.outcome {
		case acknowledged:
			t.Acknowledged++
		case refused:
			t.Refused++
		case unknown:
			t.Unknown++
		}
	}
	for _, c := range h.read {
		t.Stored += len(c.records)
	}
	for _, copies := range h.copies {
		for _, c := range copies {
			t.Copies += len(c.records)
		}
	}
	return t
}
