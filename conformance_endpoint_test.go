package mq_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// closeEndpoint closes what programs hold: the broker in process, else the client.
func (s *site) closeEndpoint(t *testing.T) {
	t.Helper()
	end := s.broker.Close
	if s.remote {
		end = s.client.Close
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// Whoever waits for an endpoint when it is closed is told, at once.
func TestEverythingEndsWithItsEndpoint(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 1)
		send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "v")
		var wg sync.WaitGroup
		for _, reading := range []string{"Run", "Messages", "Poll", "Lag"} {
			topic := name
			if reading == "Lag" {
				topic = name + "-missing" // which Lag waits for
			}
			c := s.consumer(t, mq.ConsumerConfig{Topics: []string{topic}, MaxWait: time.Hour, Timeout: time.Hour})
			if topic == name {
				take(t, c, 1) // it is at work, and will wait for the next record
			}
			calls := everyConsumerCall(c)
			call := calls[slices.IndexFunc(calls, func(a apiCall) bool { return a.name == reading })]
			wg.Go(func() {
				err := call.call(soon(t))
				if !errors.Is(err, mq.ErrClosed) && !(reading == "Messages" && err == nil) {
					t.Errorf("%s ended with %v", reading, err)
				}
			})
		}
		lingering := s.producer(t, mq.ProducerConfig{Topic: name, Linger: time.Hour, DeliveryTimeout: -1})
		results := make(chan error, 2)
		lingering.SendAsync(soon(t), &mq.Record{}, func(_ *mq.Record, err error) { results <- err })
		s.closeEndpoint(t)
		wg.Wait()
		// A record that never left is lost, and its producer knows.
		wantError(t, <-results, mq.ErrClosed)
		if err := lingering.TrySend(&mq.Record{}, func(_ *mq.Record, err error) { results <- err }); err != nil {
			results <- err
		}
		wantError(t, <-results, mq.ErrClosed)
		wantError(t, lingering.Close(), mq.ErrClosed)
	})
}

func TestClosedEndpointMakesNothingThatWorks(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		s.closeEndpoint(t)
		p := s.producer(t, mq.ProducerConfig{Topic: "t"})
		wantError(t, p.Send(soon(t), &mq.Record{}), mq.ErrClosed)
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})
		_, err := c.Poll(soon(t), 1)
		wantError(t, err, mq.ErrClosed)
		_, err = s.admin().ListTopics(soon(t))
		wantError(t, err, mq.ErrClosed)
		if !d.remote {
			scrape(t, s.broker) // which goes on to say that there is nothing
		}
	})
}
