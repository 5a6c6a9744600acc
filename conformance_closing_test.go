package mq_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformClosing = []behaviour{
	{"a closed producer refuses", testClosedProducer},
	{"closing a producer brings in what it took", testProducerCloseDelivers},
	{"a closed consumer refuses", testClosedConsumer},
	{"closing a consumer ends whoever waits for it", testConsumerCloseWakes},
	{"no call goes on when its context has ended", testContextEnded},
	{"a context that ends stops whoever waits", testContextEnds},
	{"a handler that panics is an error of Run", testHandlerPanics},
}

// apiCall is one call of a method.
type apiCall struct {
	name string
	call func(context.Context) error
}

// everyProducerCall is every method of a producer but Close, which never fails
// because it was called before.
func everyProducerCall(p *mq.Producer) []apiCall {
	r := func() *mq.Record { return &mq.Record{Topic: "t", Value: []byte("v")} }
	return []apiCall{
		{"Send", func(ctx context.Context) error { return p.Send(ctx, r()) }},
		{"SendBatch", func(ctx context.Context) error { return p.SendBatch(ctx, r(), r()) }},
		{"SendAsync", func(ctx context.Context) error {
			done := make(chan error, 1)
			p.SendAsync(ctx, r(), func(_ *mq.Record, err error) { done <- err })
			return <-done
		}},
		{"TrySend", func(context.Context) error { return p.TrySend(r(), nil) }},
	}
}

// everyConsumerCall is every method of a consumer that can fail, but Close.
func everyConsumerCall(c *mq.Consumer) []apiCall {
	return []apiCall{
		{"Run", func(ctx context.Context) error { return c.Run(ctx, mq.HandlerFunc(nil)) }},
		{"Messages", func(ctx context.Context) error {
			for _, err := range c.Messages(ctx) {
				return err
			}
			return nil
		}},
		{"Poll", func(ctx context.Context) error { return second(c.Poll(ctx, 1)) }},
		{"Commit", func(ctx context.Context) error { return c.Commit(ctx) }},
		{"Seek", func(ctx context.Context) error { return c.Seek(ctx, mq.StartEarliest) }},
		{"Lag", func(ctx context.Context) error { return second(c.Lag(ctx)) }},
	}
}

// everyAdminCall is every method of an admin.
func everyAdminCall(a *mq.Admin) []apiCall {
	return []apiCall{
		{"CreateTopic", func(ctx context.Context) error { return second(a.CreateTopic(ctx, mq.TopicSpec{Name: "t"})) }},
		{"DeleteTopic", func(ctx context.Context) error { return a.DeleteTopic(ctx, "t") }},
		{"ListTopics", func(ctx context.Context) error { return second(a.ListTopics(ctx)) }},
		{"DescribeTopic", func(ctx context.Context) error { return second(a.DescribeTopic(ctx, "t")) }},
		{"AlterTopic", func(ctx context.Context) error { return second(a.AlterTopic(ctx, "t", nil)) }},
		{"AddPartitions", func(ctx context.Context) error { return second(a.AddPartitions(ctx, "t", 2)) }},
		{"TrimTopic", func(ctx context.Context) error { return second(a.TrimTopic(ctx, "t", mq.StartAt(0), 0)) }},
		{"ListOffsets", func(ctx context.Context) error { return second(a.ListOffsets(ctx, "t", mq.StartLatest, 0)) }},
		{"ListGroups", func(ctx context.Context) error { return second(a.ListGroups(ctx)) }},
		{"CommittedOffsets", func(ctx context.Context) error { return second(a.CommittedOffsets(ctx, "g")) }},
		{"DescribeGroup", func(ctx context.Context) error { return second(a.DescribeGroup(ctx, "g")) }},
		{"DeleteGroup", func(ctx context.Context) error { return a.DeleteGroup(ctx, "g") }},
		{"DeleteOffsets", func(ctx context.Context) error { return a.DeleteOffsets(ctx, "g", mq.TopicPartition{Topic: "t"}) }},
		{"PlanGroupSeek", func(ctx context.Context) error { return second(a.PlanGroupSeek(ctx, "g", mq.StartEarliest)) }},
		{"SeekGroup", func(ctx context.Context) error {
			return a.SeekGroup(ctx, "g", []mq.GroupSeek{{Topic: "t"}}, false)
		}},
		{"GroupLag", func(ctx context.Context) error { return second(a.GroupLag(ctx, "g")) }},
		{"DescribeCluster", func(ctx context.Context) error { return second(a.DescribeCluster(ctx)) }},
	}
}

func testClosedProducer(t *testing.T, s *site) {
	p := s.producer(t, mq.ProducerConfig{})
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range everyProducerCall(p) {
		if err := c.call(soon(t)); !errors.Is(err, mq.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", c.name, err)
		}
	}
	// Nothing is left to wait for.
	if err := errors.Join(p.Flush(soon(t)), p.Shutdown(soon(t))); err != nil {
		t.Errorf("Flush or Shutdown: %v", err)
	}
}

func testProducerCloseDelivers(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name, Linger: time.Hour, DeliveryTimeout: -1})
	told := 0
	for range 100 {
		p.SendAsync(soon(t), &mq.Record{Value: []byte("v")}, func(_ *mq.Record, err error) {
			if told++; err != nil {
				t.Error(err)
			}
		})
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if told != 100 {
		t.Errorf("%d of 100 callbacks came before Close returned", told)
	}
	take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 100)
}

func testClosedConsumer(t *testing.T, s *site) {
	name := tenRecords(t, s)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	take(t, c, 1)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, call := range everyConsumerCall(c) {
		if err := call.call(soon(t)); !errors.Is(err, mq.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", call.name, err)
		}
	}
	c.Pause(mq.TopicPartition{Topic: name})
	c.Resume(mq.TopicPartition{Topic: name})
	c.Assignment()
}

func testConsumerCloseWakes(t *testing.T, s *site) {
	topic := s.topic(t, 1)
	for i, name := range []string{"Run", "Messages", "Poll"} {
		t.Run(name, func(t *testing.T) {
			c := s.consumer(t, mq.ConsumerConfig{Topics: []string{topic}, MaxWait: time.Hour, Timeout: time.Hour})
			read := everyConsumerCall(c)[i]
			if _, err := c.Lag(soon(t)); err != nil { // it is at work
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- read.call(soon(t)) }()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			// An iterator that was under way just ends.
			if err := <-ended; !errors.Is(err, mq.ErrClosed) && !(err == nil && name == "Messages") {
				t.Errorf("it ended with %v, want ErrClosed", err)
			}
		})
	}
}

// What a context that has ended can't stop: reading by Run and Messages ends
// with it, which is no error, and TrySend has none.
var endsQuietly = []string{"Run", "Messages", "TrySend"}

func testContextEnded(t *testing.T, s *site) {
	name := tenRecords(t, s)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p := s.producer(t, mq.ProducerConfig{})
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	take(t, c, 2)
	take(t, c, 1) // something to commit
	calls := slices.Concat(everyProducerCall(p), everyConsumerCall(c), everyAdminCall(s.admin()))
	calls = append(calls, apiCall{"Dial", func(ctx context.Context) error {
		_, err := mq.Dial(ctx, mq.ClientConfig{Brokers: []string{"127.0.0.1:1"}})
		return err
	}}, apiCall{"OpenBroker", func(ctx context.Context) error {
		_, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
		return err
	}})
	for _, call := range calls {
		err := call.call(ended)
		if slices.Contains(endsQuietly, call.name) {
			if err != nil {
				t.Errorf("%s: %v, want nil", call.name, err)
			}
			continue
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", call.name, err)
		}
	}
}

// A context that ends while its call waits for something that does not come.
func testContextEnds(t *testing.T, s *site) {
	name := s.topic(t, 2)
	idle := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{1}})
	missing := s.consumer(t, mq.ConsumerConfig{Topics: []string{name + "-missing"}})
	stuck := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(0), Linger: time.Hour, MaxBufferedRecords: 1, DeliveryTimeout: -1})
	// The callback goroutine is the producer's only one: while it is busy the
	// buffer stays full and nothing is settled.
	release := make(chan struct{})
	defer close(release)
	held := make(chan struct{})
	stuck.SendAsync(soon(t), &mq.Record{}, func(*mq.Record, error) { close(held); <-release })
	go stuck.Flush(soon(t))
	<-held
	for _, call := range []apiCall{
		{"Poll", func(ctx context.Context) error { return second(idle.Poll(ctx, 1)) }},
		{"Lag", func(ctx context.Context) error { return second(missing.Lag(ctx)) }},
		{"Seek", func(ctx context.Context) error { return missing.Seek(ctx, mq.StartEarliest) }},
		{"Flush", stuck.Flush},
		{"Shutdown", stuck.Shutdown},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := call.call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want context.DeadlineExceeded", call.name, err)
		}
		cancel()
	}
}

func testHandlerPanics(t *testing.T, s *site) {
	name := tenRecords(t, s)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	cause := errors.New("cause")
	n := 0
	err := c.Run(soon(t), mq.HandlerFunc(func(context.Context, *mq.Record) error {
		if n++; n == 3 {
			panic(cause)
		}
		return nil
	}))
	wantError(t, err, mq.ErrHandlerPanicked, cause)
	var p *mq.PanicError
	if !errors.As(err, &p) || p.Value != cause || len(p.Stack) == 0 {
		t.Errorf("error is %+v, want a *PanicError with value and stack", p)
	}
	// The consumer lives, what was finished is committed, the record comes again.
	if got := takeOne(t, c); got != "2" {
		t.Errorf("after the panic got %q", got)
	}
	if got := takeOne(t, s.beside(t, name, name)); got != "2" {
		t.Errorf("a later consumer of the group got %q", got)
	}
}
