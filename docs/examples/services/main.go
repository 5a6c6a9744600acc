// Command services shows event-driven services: one publishes what happened,
// others react to it, each on its own, and nobody waits for anybody.
//
//	go run ./docs/examples/services
//
// Here all of them share one process. In real life each is a program of its
// own, with an mq.Dial instead of the mq.OpenBroker below; nothing else changes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/raftmq/mq"
)

// orderPlaced is an event. It says what happened, not what is to be done.
type orderPlaced struct {
	ID    string `json:"id"`
	Item  string `json:"item"`
	Cents int    `json:"cents"`
}

var orders = []orderPlaced{{"o-1", "lamp", 2500}, {"o-2", "chair", 8000}, {"o-3", "table", 19900}}

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
	var services sync.WaitGroup
	var billing, shipping error
	services.Go(func() { billing = runBilling(ctx, broker) })
	services.Go(func() { shipping = runShipping(ctx, broker) })
	shop := runShop(ctx, broker)
	services.Wait()
	return errors.Join(shop, billing, shipping)
}

// runShop publishes. It does not know who listens.
func runShop(ctx context.Context, e mq.Endpoint) error {
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "orders"})
	if err != nil {
		return err
	}
	defer producer.Close()
	for _, order := range orders {
		value, err := json.Marshal(order)
		if err != nil {
			return err
		}
		// The key keeps all events of an order in one partition, and so in order.
		if err := producer.Send(ctx, &mq.Record{Key: []byte(order.ID), Value: value}); err != nil {
			return err
		}
	}
	return nil
}

func runShipping(ctx context.Context, e mq.Endpoint) error {
	return react(ctx, e, "shipping", func(o orderPlaced) error {
		fmt.Printf("shipping: packs a %s for %s\n", o.Item, o.ID)
		return nil
	})
}

func runBilling(ctx context.Context, e mq.Endpoint) error {
	bankIsDown := true
	return react(ctx, e, "billing", func(o orderPlaced) error {
		if o.ID == "o-2" && bankIsDown {
			bankIsDown = false
			return errors.New("the bank does not answer")
		}
		fmt.Printf("billing: charges %d.%02d for %s\n", o.Cents/100, o.Cents%100, o.ID)
		return nil
	})
}

// react calls fn for each event until it has seen all orders. The group is the
// service's: each service gets every event, and one that was restarted goes on
// where it was. An event comes again when fn failed, or when the service died
// before it stored how far it got, so fn must be able to bear one twice.
func react(ctx context.Context, e mq.Endpoint, service string, fn func(orderPlaced) error) error {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{"orders"}, GroupID: service})
	if err != nil {
		return err
	}
	defer consumer.Close()
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	seen := 0
	handler := mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
		var order orderPlaced
		if err := json.Unmarshal(r.Value, &order); err != nil {
			return fmt.Errorf("not an order: %w", err)
		}
		if err := fn(order); err != nil {
			return err
		}
		if seen++; seen == len(orders) {
			enough() // a real service goes on until it is told to stop
		}
		return nil
	})
	for failures := 0; ; failures++ {
		err := consumer.Run(ctx, handler)
		if err == nil || failures == 3 {
			return err // what still fails after that is for an operator
		}
		fmt.Printf("%s: tries again: %v\n", service, err)
	}
}
