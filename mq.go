// Package mq is an embeddable, replicated message queue. It keeps Kafka's
// model (topics, partitions, offsets, consumer groups) and runs inside a Go
// program, as a server, or both.
//
// A Broker stores and replicates records. OpenBroker starts one inside the
// program; the zero BrokerConfig is a broker in memory that opens no socket.
// Dial connects to brokers elsewhere. Both are an Endpoint, and everything
// else is made from one:
//
//	producer, err := mq.NewProducer(endpoint, mq.ProducerConfig{Topic: "events"})
//	consumer, err := mq.NewConsumer(endpoint, mq.ConsumerConfig{Topics: []string{"events"}})
//	admin := mq.NewAdmin(endpoint)
//
// so that a program moves from an embedded to a remote broker by changing the
// endpoint only.
//
// # Configuration
//
// Configs are plain structs, passed by value. The zero value of every field is
// its documented default; where it makes sense, a negative value means off or
// unlimited. Constructors check the whole struct and report all faults at once
// in an ErrInvalidConfig that names fields by their YAML keys.
//
// # Errors
//
// Every error holds one of the Err variables; use errors.Is. Retriable tells
// whether nothing happened and trying again may help, OutcomeUnknown whether
// the operation may or may not have taken effect.
//
// # Concurrency
//
// All methods of Broker, Client, Producer, Consumer and Admin are safe for
// concurrent use, unless their comment says otherwise. No goroutine of this
// package outlives the Close of the object that started it.
package mq
