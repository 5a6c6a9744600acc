// Command workqueue shows a work queue: jobs wait in a topic, and each is done
// by one of several workers.
//
//	go run ./docs/examples/workqueue
//
// Workers share the jobs by partition. A group that shares partitions among its
// members by itself is not there yet, so each worker is told its partition, as a
// program would be by a flag. All store how far they got under one group, so
// that another worker can take over a partition where the last one left it.
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
	tries           = 3
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
	if _, err := mq.NewAdmin(broker).CreateTopic(ctx, mq.TopicSpec{Name: "jobs", Partitions: workers}); err != nil {
		return err
	}
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "jobs"})
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := enqueue(ctx, producer); err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var left atomic.Int64
	left.Store(int64(len(customers) * jobsPerCustomer))
	var team sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		team.Go(func() {
			errs[i] = work(ctx, broker, int32(i), func(ctx context.Context, job *mq.Record) error {
				err := attempt(ctx, producer, job)
				if err == nil && left.Add(-1) == 0 {
					stop() // real workers go on and wait for the next job
				}
				return err
			})
		})
	}
	team.Wait()
	fmt.Printf("%d jobs left\n", left.Load())
	return errors.Join(errs...)
}

// enqueue sends the jobs. The key keeps those of a customer in order; without
// one they are spread over the partitions.
func enqueue(ctx context.Context, producer *mq.Producer) error {
	var jobs []*mq.Record
	for n := range jobsPerCustomer {
		for _, customer := range customers {
			jobs = append(jobs, &mq.Record{Key: []byte(customer), Value: []byte(strconv.Itoa(n))})
		}
	}
	return producer.SendBatch(ctx, jobs...)
}

// work does the jobs of one partition, one after the other, until ctx ends. A
// job whose worker died before it was stored as done is done again.
func work(ctx context.Context, e mq.Endpoint, partition int32, do mq.HandlerFunc) error {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{
		Topics: []string{"jobs"}, GroupID: "workers", Partitions: []int32{partition},
	})
	if err != nil {
		return err
	}
	defer consumer.Close()
	return consumer.Run(ctx, do)
}

// attempt does a job, several times if need be. One that can't be done goes to
// a topic of its own, for people to look at, and does not hold up the others.
func attempt(ctx context.Context, producer *mq.Producer, job *mq.Record) error {
	var err error
	for n := range tries {
		if err = do(job); err == nil {
			return nil
		}
		select {
		case <-time.After(time.Millisecond << n): // longer in real life
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Printf("job %s of %s is given up: %v\n", job.Value, job.Key, err)
	return producer.Send(ctx, &mq.Record{
		Topic: "jobs-failed", Key: job.Key, Value: job.Value,
		Headers: []mq.Header{{Key: "error", Value: []byte(err.Error())}},
	})
}

// do is the work. One job of one customer can't be done.
func do(job *mq.Record) error {
	if string(job.Key) == "ken" && string(job.Value) == "7" {
		return errors.New("out of paper")
	}
	return nil
}
