package mq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/raftmq/mq"
)

// check ends the program when there is an error, to keep the examples short.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A broker inside the program: no server, no socket.
func Example() {
	ctx := context.Background()
	// README
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{}) // in memory; DataDir: "./data" keeps it
	check(err)
	defer broker.Close()
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "events"})
	check(err)
	defer producer.Close()
	check(producer.Send(ctx, &mq.Record{Key: []byte("greeting"), Value: []byte("hello")}))
	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{Topics: []string{"events"}})
	check(err)
	defer consumer.Close()
	for r, err := range consumer.Messages(ctx) {
		check(err)
		fmt.Printf("%s/%d@%d %s: %s\n", r.Topic, r.Partition, r.Offset, r.Key, r.Value)
		break
	}
	// Output: events/0@0 greeting: hello
}

// The same program with the broker elsewhere: only the endpoint differs. The
// consumer stores its offsets under a group and goes on from there next time.
func ExampleDial() {
	address, stop := serve() // a `mq broker` somewhere
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	// README
	client, err := mq.Dial(ctx, mq.ClientConfig{Brokers: []string{address}}) // "localhost:50051"
	check(err)
	defer client.Close()
	producer, err := mq.NewProducer(client, mq.ProducerConfig{Topic: "events"})
	check(err)
	defer producer.Close()
	check(producer.Send(ctx, &mq.Record{Value: []byte("hello")}))
	consumer, err := mq.NewConsumer(client, mq.ConsumerConfig{Topics: []string{"events"}, GroupID: "printer"})
	check(err)
	defer consumer.Close()
	check(consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
		fmt.Printf("%s\n", r.Value)
		cancel() // enough: Run commits and returns
		return nil
	})))
	// Output: hello
}

// SendAsync fills batches and waits only when the buffer is full.
func ExampleProducer_SendAsync() {
	ctx := context.Background()
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	check(err)
	defer broker.Close()
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "events", Compression: mq.CompressionZstd})
	check(err)
	defer producer.Close()

	stored := 0 // callbacks come one after the other
	for i := range 1000 {
		producer.SendAsync(ctx, &mq.Record{Value: fmt.Append(nil, "event ", i)}, func(_ *mq.Record, err error) {
			check(err)
			stored++
		})
	}
	check(producer.Flush(ctx))
	fmt.Println(stored)
	// Output: 1000
}

// What an error says about the record, and what may be done about it. By then
// the producer has retried what can be retried.
func ExampleRetriable() {
	ctx := context.Background()
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	check(err)
	defer broker.Close()
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "events"})
	check(err)
	defer producer.Close()

	switch err := producer.Send(ctx, &mq.Record{Value: make([]byte, 10<<20)}); {
	case err == nil:
		fmt.Println("stored")
	case mq.OutcomeUnknown(err):
		fmt.Println("stored or not: sending it again may store it twice")
	case mq.Retriable(err):
		fmt.Println("not stored: sending it again may help")
	default:
		fmt.Println("not stored, and never will be; too large:", errors.Is(err, mq.ErrRecordTooLarge))
	}
	// Output: not stored, and never will be; too large: true
}

// Poll reads in bulk; Commit stores how far the program got.
func ExampleConsumer_Poll() {
	ctx := context.Background()
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	check(err)
	defer broker.Close()
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "events"})
	check(err)
	defer producer.Close()
	check(producer.SendBatch(ctx, &mq.Record{Value: []byte("a")}, &mq.Record{Value: []byte("b")}, &mq.Record{Value: []byte("c")}))

	consumer, err := mq.NewConsumer(broker, mq.ConsumerConfig{
		Topics: []string{"events"}, GroupID: "bulk", AutoCommitInterval: -1,
	})
	check(err)
	defer consumer.Close()
	for seen := 0; seen < 3; {
		records, err := consumer.Poll(ctx, 100)
		check(err)
		for _, r := range records {
			fmt.Printf("%d: %s\n", r.Offset, r.Value)
		}
		check(consumer.Commit(ctx, records...))
		seen += len(records)
	}
	// Output:
	// 0: a
	// 1: b
	// 2: c
}

// Topics are created on first use, or on purpose.
func ExampleAdmin() {
	ctx := context.Background()
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	check(err)
	defer broker.Close()
	admin := mq.NewAdmin(broker)
	_, err = admin.CreateTopic(ctx, mq.TopicSpec{
		Name: "orders", Partitions: 3,
		Configs: map[string]string{mq.ConfigRetentionMs: "3600000"},
	})
	check(err)
	topics, err := admin.ListTopics(ctx)
	check(err)
	for _, t := range topics {
		fmt.Println(t.Name, len(t.Partitions), t.Configs[mq.ConfigRetentionMs])
	}
	// Output: orders 3 3600000
}

// serve runs a broker that other processes could reach.
func serve() (address string, stop func()) {
	broker, err := mq.OpenBroker(context.Background(), mq.BrokerConfig{Listen: "127.0.0.1:0"})
	check(err)
	return broker.Addr(), sync.OnceFunc(func() { check(broker.Close()) })
}
