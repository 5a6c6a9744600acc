package mq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/raftmq/mq"
)

// numbers makes a broker in memory with a topic of so many records.
func numbers(n int) (ctx context.Context, broker *mq.Broker, stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	check(err)
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "events"})
	check(err)
	for i := range n {
		check(producer.Send(ctx, &mq.Record{Value: fmt.Append(nil, i)}))
	}
	check(producer.Close())
	return ctx, broker, func() {
		check(broker.Close())
		cancel()
	}
}

// A batch is sent as a whole, and each of its records has an outcome.
func ExampleProducer_SendBatch() {
	ctx, broker, stop := numbers(0)
	defer stop()
	// README
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "events"})
	check(err)
	defer producer.Close()
	records := []*mq.Record{
		{Key: []byte("a"), Value: []byte("fits")},
		{Key: []byte("b"), Value: make([]byte, 2<<20)}, // does not
	}
	err = producer.SendBatch(ctx, records...)
	var failed *mq.BatchError
	if errors.As(err, &failed) {
		for i, err := range failed.Errs { // one for each record, nil if it was stored
			fmt.Printf("%s: %v\n", records[i].Key, errors.Is(err, mq.ErrRecordTooLarge))
		}
	}
	// Output:
	// a: false
	// b: true
}

// A handler that fails stops Run, and gets the record again when the program
// wants to. (ConsumerConfig.Retry does that by itself.)
func ExampleConsumer_Run() {
	ctx, broker, stop := numbers(3)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := 0
	work := func(r *mq.Record) error {
		if string(r.Value) == "1" && failures == 0 {
			failures++
			return errors.New("not now")
		}
		fmt.Printf("did %s\n", r.Value)
		if string(r.Value) == "2" {
			cancel()
		}
		return nil
	}
	// README
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"events"}, GroupID: "workers"})
	check(err)
	defer consumer.Close()
	for {
		err := consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
			return work(r) // nil: the record is finished
		}))
		if err == nil {
			break // ctx ended, and what is finished is committed
		}
		fmt.Println("again:", err) // a real program waits a little, and gives up some day
	}
	// Output:
	// did 0
	// again: handler failed at events/0@1: not now
	// did 1
	// did 2
}

// A work queue: many jobs at a time, and what can't be done is kept for people.
func ExampleConsumerConfig() {
	ctx, broker, stop := numbers(0)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, name := range []string{"jobs", "jobs-failed"} {
		_, err := mq.NewAdmin(broker).CreateTopic(ctx, mq.TopicSpec{Name: name})
		check(err)
	}
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "jobs"})
	check(err)
	defer producer.Close()
	check(producer.SendBatch(ctx, &mq.Record{Value: []byte("print")}, &mq.Record{}, &mq.Record{Value: []byte("bind")}))
	done := make(chan bool, 1)
	work := func(r *mq.Record) error {
		if string(r.Value) == "print" {
			return errors.New("out of paper")
		}
		fmt.Printf("did %s\n", r.Value)
		done <- true
		return nil
	}
	go func() {
		defer cancel()
		<-done
		failed, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"jobs-failed"}})
		check(err)
		defer failed.Close()
		letters := 0
		for r, err := range failed.Messages(ctx) {
			check(err)
			fmt.Print("gave up:")
			for _, h := range r.Headers {
				if h.Key == mq.HeaderDeadLetterError || h.Key == mq.HeaderDeadLetterAttempts {
					fmt.Printf(" %s", h.Value)
				}
			}
			fmt.Println()
			if letters++; letters == 2 {
				break
			}
		}
	}()
	// README
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{
		Topics: []string{"jobs"}, GroupID: "workers",
		Concurrency:     16,
		Retry:           mq.RetryPolicy{MaxAttempts: 5, Backoff: time.Millisecond},
		DeadLetterTopic: "jobs-failed",
	})
	check(err)
	defer consumer.Close()
	check(consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
		if len(r.Value) == 0 {
			return mq.Permanent(errors.New("an empty job")) // no retry will cure it
		}
		return work(r)
	})))
	// Unordered output:
	// did bind
	// gave up: an empty job 1
	// gave up: out of paper 5
}

// The iterator suits programs that stop by themselves.
func ExampleConsumer_Messages() {
	ctx, broker, stop := numbers(3)
	defer stop()
	// README
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"events"}})
	check(err)
	defer consumer.Close()
	for r, err := range consumer.Messages(ctx) {
		check(err) // Retriable ones do not get here
		fmt.Printf("%s\n", r.Value)
		if string(r.Value) == "2" {
			break // this one is not finished: it comes again, unless Commit names it
		}
	}
	// Output:
	// 0
	// 1
	// 2
}

// Seek reads something again, or skips it.
func ExampleConsumer_Seek() {
	ctx, broker, stop := numbers(5)
	defer stop()
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"events"}})
	check(err)
	defer consumer.Close()
	// README
	check(consumer.Seek(ctx, mq.StartAt(3), mq.TopicPartition{Topic: "events", Partition: 0}))
	check(consumer.Seek(ctx, mq.StartAtTime(time.Now().Add(-time.Hour)))) // all partitions
	check(consumer.Seek(ctx, mq.StartLatest))
	lag, err := consumer.Lag(ctx)
	check(err)
	fmt.Println(lag)
	// Output: map[events/0:0]
}

// A broker as a part of a service: on disk, with the service's log, metrics and
// life.
func ExampleBroker() {
	ctx, cancel := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "mq-example-")
	check(err)
	defer os.RemoveAll(dir)
	mux := http.NewServeMux()
	serve := func() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		fmt.Println("metrics:", strings.Contains(w.Body.String(), "mq_storage_read_only 0"))
		cancel()
	}
	// README
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	check(err)
	mux.Handle("GET /metrics", broker.MetricsHandler())
	serve()
	select {
	case <-ctx.Done(): // the service stops
	case <-broker.Done(): // the broker can't go on, such as when its disk fails
		fmt.Println("broker:", broker.Err())
	}
	// Close producers and consumers first, the broker last.
	drain, done := context.WithTimeout(context.Background(), 30*time.Second)
	defer done()
	check(broker.Shutdown(drain))
	// Output: metrics: true
}

// In a test, where ctx is t.Context() and check is t.Fatal: nothing to install,
// no port, a few milliseconds.
func ExampleOpenBroker() {
	ctx := context.Background()
	// README
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{}) // in memory, no socket
	check(err)
	defer broker.Close()
	// Run what is to be tested on broker, and then look at what it sent:
	check(announce(ctx, broker, "o-1"))
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"orders"}})
	check(err)
	defer consumer.Close()
	got, err := consumer.Poll(ctx, 10) // waits until there is something
	check(err)
	fmt.Printf("%s\n", got[0].Value)
	// Output: o-1
}

// announce stands for a function of the program that is tested.
func announce(ctx context.Context, e mq.Endpoint, order string) error {
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "orders"})
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.Send(ctx, &mq.Record{Value: []byte(order)})
}
