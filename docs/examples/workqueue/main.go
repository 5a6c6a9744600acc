// Command workqueue shows a work queue: jobs wait in a topic, and each is done
// by one of several workers.
//
//	go run ./docs/examples/workqueue
//
// Workers share the jobs by partition: they are members of one group. When one
// comes or goes, the others take over its partitions where it left them.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq"
)

const (
	workers         = 3
	jobsPerCustomer = 10
)

var customers = []string{"ada", "brian", "dennis", "grace", "ken", "linus"}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	// There can be as many workers at a time as there are partitions.
	admin := mq.NewAdmin(broker)
	for topic, partitions := range map[string]int{"jobs": workers, "jobs-failed": 1} {
		if _, err := admin.CreateTopic(ctx, mq.TopicSpec{Name: topic, Partitions: partitions}); err != nil {
			return err
		}
	}
	if err := enqueue(ctx, broker); err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var left atomic.Int64
	left.Store(int64(len(customers) * jobsPerCustomer))
	settled := func() {
		if left.Add(-1) == 0 {
			stop() // real workers go on and wait for the next job
		}
	}
	var team sync.WaitGroup
	errs := make([]error, workers+1)
	for i := range workers {
		team.Go(func() { errs[i] = work(ctx, broker, settled) })
	}
	team.Go(func() { errs[workers] = review(ctx, broker, settled) })
	team.Wait()
	fmt.Printf("%d jobs left\n", left.Load())
	return errors.Join(errs...)
}

// enqueue sends the jobs. The key keeps those of a customer in order; without
// one they are spread over the partitions.
func enqueue(ctx context.Context, e mq.Endpoint) error {
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "jobs"})
	if err != nil {
		return err
	}
	defer producer.Close()
	var jobs []*mq.Record
	for n := range jobsPerCustomer {
		for _, customer := range customers {
			jobs = append(jobs, &mq.Record{Key: []byte(customer), Value: []byte(strconv.Itoa(n))})
		}
	}
	return producer.SendBatch(ctx, jobs...)
}

// work does the jobs of some partitions until ctx ends, several at a time, those
// of a customer one after the other. A job that fails is tried again, and holds
// up only its customer meanwhile; one that can't be done goes to a topic of its
// own. A job whose worker died before it was stored as done is done again.
func work(ctx context.Context, e mq.Endpoint, done func()) error {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{
		Topics: []string{"jobs"}, GroupID: "workers",
		Concurrency:     4,
		Retry:           mq.RetryPolicy{MaxAttempts: 3, Backoff: time.Millisecond}, // longer in real life
		DeadLetterTopic: "jobs-failed",
	})
	if err != nil {
		return err
	}
	defer consumer.Close()
	return consumer.Run(ctx, mq.HandlerFunc(func(_ context.Context, job *mq.Record) error {
		if err := do(job); err != nil {
			return err
		}
		done()
		return nil
	}))
}

// do is the work. One job of one customer can't be done.
func do(job *mq.Record) error {
	if string(job.Key) == "ken" && string(job.Value) == "7" {
		return errors.New("out of paper")
	}
	return nil
}

// review looks at the jobs that were given up.
func review(ctx context.Context, e mq.Endpoint, done func()) error {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"jobs-failed"}, GroupID: "reviewers"})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for job, err := range consumer.Messages(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("job %s of %s is given up: %s\n", job.Value, job.Key, header(job, mq.HeaderDeadLetterError))
		done()
	}
	return nil
}

func header(r *mq.Record, key string) []byte {
	for _, h := range r.Headers {
		if h.Key == key {
			return h.Value
		}
	}
	return nil
}
