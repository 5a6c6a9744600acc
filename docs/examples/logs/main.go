// Command logs shows log aggregation: many programs send their log to one
// topic, and one program reads it all.
//
//	go run ./docs/examples/logs
//
// The senders are ordinary slog loggers whose writer is a topic. They never
// wait for the broker: better a lost line than an application that stands still
// because of its log.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq"
)

const linesPerHost = 1000

var hosts = []string{"api-1", "api-2", "web-1"}

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
	// Kept for a day, and no more than a gigabyte of each partition.
	if _, err := mq.NewAdmin(broker).CreateTopic(ctx, mq.TopicSpec{Name: "logs", Partitions: 3, Configs: map[string]string{
		mq.ConfigRetentionMs: "86400000", mq.ConfigRetentionBytes: "1000000000",
	}}); err != nil {
		return err
	}
	var applications sync.WaitGroup
	errs := make([]error, len(hosts))
	for i, host := range hosts {
		applications.Go(func() { errs[i] = application(broker, host) })
	}
	applications.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return aggregate(ctx, broker)
}

// application logs as any program does.
func application(e mq.Endpoint, host string) error {
	// Lines go in batches, compressed, and are on their way within a second.
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "logs", Compression: mq.CompressionZstd, Linger: time.Second})
	if err != nil {
		return err
	}
	lines := &topicWriter{producer: producer, host: []byte(host)}
	logger := slog.New(slog.NewJSONHandler(lines, nil)).With("host", host)
	for n := range linesPerHost {
		if n%100 == 0 {
			logger.Error("request failed", "n", n)
		} else {
			logger.Info("request served", "n", n)
		}
	}
	err = producer.Close() // sends what still lingers
	if lost := lines.lost.Load(); lost > 0 {
		fmt.Printf("%s: %d lines lost\n", host, lost)
	}
	return err
}

// topicWriter is an io.Writer that sends each write as a record. The host as
// the key keeps the lines of a host in order.
type topicWriter struct {
	producer *mq.Producer
	host     []byte
	lost     atomic.Int64
}

func (w *topicWriter) Write(line []byte) (int, error) {
	// slog uses its buffer again, and the bytes of a record must stay as they are.
	r := &mq.Record{Key: w.host, Value: slices.Clone(line)}
	if err := w.producer.TrySend(r, w.settled); err != nil {
		w.lost.Add(1) // most likely the buffer is full: the broker is away, or slow
	}
	return len(line), nil
}

func (w *topicWriter) settled(_ *mq.Record, err error) {
	if err != nil {
		w.lost.Add(1)
	}
}

// aggregate counts lines. It stores no offsets: each run reads everything.
func aggregate(ctx context.Context, e mq.Endpoint) error {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"logs"}})
	if err != nil {
		return err
	}
	defer consumer.Close()
	type count struct{ lines, errors int }
	counts := map[string]count{}
	for left := len(hosts) * linesPerHost; left > 0; {
		records, err := consumer.Poll(ctx, 1000) // in bulk, and as soon as there is one
		if err != nil {
			return err
		}
		left -= len(records)
		for _, r := range records {
			var line struct{ Host, Level string }
			if err := json.Unmarshal(r.Value, &line); err != nil {
				return fmt.Errorf("%s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			c := counts[line.Host]
			if c.lines++; line.Level == "ERROR" {
				c.errors++
			}
			counts[line.Host] = c
		}
	}
	for _, host := range hosts {
		fmt.Printf("%s: %d lines, %d errors\n", host, counts[host].lines, counts[host].errors)
	}
	return nil
}
