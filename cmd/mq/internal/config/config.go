// Package config turns files, profiles, variables and flags into the library's
// config structs.
//
// Every key of those structs is a setting, and so are a few keys that only
// files have. Each source is a Layer of settings, and Resolve lays them over
// each other: what a higher one says hides what lower ones say of the same
// key, under whichever name. That a setting is there at all counts, so that 0
// and false mean what they say, although the zero values of the structs mean
// defaults.
package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/raftmq/mq"
)

// DefaultAddress is where a broker listens, and clients look for it, when
// nothing else is said.
const DefaultAddress = "localhost:50051"

// File is what is configured. The broker section serves both sides: Broker is
// how to run one, Client how to reach one.
type File struct {
	Broker   mq.BrokerConfig
	Client   mq.ClientConfig
	Producer mq.ProducerConfig
	Consumer mq.ConsumerConfig

	// Files of certificates, which nobody has read yet.
	ClientTLS ClientTLS
	ServerTLS ServerTLS
	PeerTLS   PeerTLS
}

// Config is layers laid over each other.
type Config struct {
	File
	doc document         // the settings, with defaults
	set map[*key]applied // those that a layer has
}

// applied is the setting that counts.
type applied struct {
	setting
	kind kind
	zero bool // it is 0, and zeros says what this means
}

// Load is the configuration of one file.
func Load(path string) (*Config, error) {
	l, err := FromFile(path)
	if err != nil {
		return nil, err
	}
	return Resolve(l)
}

// Resolve lays layers over each other, whatever their order. A value that can't
// be read is an error also where another one hides it. The error is Faults.
func Resolve(layers ...Layer) (*Config, error) {
	c := &Config{set: map[*key]applied{}}
	var faults Faults
	layers = slices.Clone(layers)
	slices.SortStableFunc(layers, func(a, b Layer) int { return int(a.kind - b.kind) })
	for _, l := range layers {
		for _, s := range l.settings {
			if err := c.apply(l.kind, s); err != nil {
				faults = append(faults, s.at+": "+err.Error())
			}
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	c.complete()
	if faults = c.check(); len(faults) > 0 {
		return nil, faults
	}
	return c, nil
}

// apply sets a key. An empty list, or a zero that makes no sense, hides what is
// below, and leaves the default.
func (c *Config) apply(kind kind, s setting) error {
	field := s.key.in(&c.doc)
	field.SetZero()
	if err := decode(s.node, s.unit, field); err != nil {
		return err
	}
	if field.Kind() == reflect.Slice && field.Len() == 0 {
		field.SetZero()
		delete(c.set, s.key)
		return nil
	}
	meaning, special := zeros[s.key.String()]
	zero := special && field.IsZero()
	if zero {
		field.SetInt(meaning)
	}
	c.set[s.key] = applied{s, kind, zero}
	return nil
}

// get returns the setting of a key; its kind is 0 when no layer has it.
func (c *Config) get(name string) applied { return c.set[keyOf(name)] }

// complete makes the File, and fills what nobody set.
func (c *Config) complete() {
	address, d := c.get(addressName), &c.doc
	if d.Broker.Address == "" {
		d.Broker.Address = DefaultAddress
	}
	if len(d.Broker.Brokers) == 0 || c.get(brokersName).kind < address.kind {
		d.Broker.Brokers = []string{d.Broker.Address}
		delete(c.set, keyOf(brokersName))
	}
	if d.Broker.Listen == "" {
		delete(c.set, keyOf(listenName))
		d.Broker.Listen = hostPort(d.Broker.Address)
		if address.kind == ofProfile { // it says whom to reach, and that is elsewhere
			d.Broker.Listen = DefaultAddress
		}
	}
	c.File = File{
		Broker: d.Broker.BrokerConfig, Client: d.Broker.ClientConfig, Producer: d.Producer.ProducerConfig, Consumer: d.Consumer.ConsumerConfig,
		ClientTLS: d.Broker.ClientTLS, ServerTLS: d.Broker.TLS, PeerTLS: d.Broker.PeerTLS,
	}
	if d.Producer.Partition != nil {
		c.Producer.Partitioner = mq.FixedPartition(*d.Producer.Partition)
	}
	if d.Consumer.AutoCommit == nil {
		d.Consumer.AutoCommit = new(bool)
		*d.Consumer.AutoCommit = true
	}
	if !*d.Consumer.AutoCommit {
		c.Consumer.AutoCommitInterval = -1
	}
}

// check asks the library about what was set, and fills the document with its
// defaults. What is missing may still come, as a topic does from an argument.
func (c *Config) check() Faults {
	broker, brokerErr := c.Broker.Complete()
	client, clientErr := c.Client.Complete()
	producer, producerErr := c.Producer.Complete()
	consumer, consumerErr := c.doc.Consumer.Complete() // auto_commit: false apart

	faults := c.faults("broker", brokerErr)
	for _, f := range c.faults("broker", clientErr) {
		if !slices.Contains(faults, f) {
			faults = append(faults, f)
		}
	}
	faults = append(faults, c.tlsFaults()...)
	faults = append(faults, c.faults("producer", producerErr)...)
	faults = append(faults, c.faults("consumer", consumerErr)...)

	client.Brokers = c.Client.Brokers // with their schemes
	d := &c.doc
	d.Broker.BrokerConfig, d.Broker.ClientConfig = broker, client
	d.Producer.ProducerConfig, d.Consumer.ConsumerConfig = producer, consumer
	return faults
}

// faults sorts out what the library said about a section, for each setting
// where it was given.
func (c *Config) faults(section string, err error) Faults {
	var faults Faults
	for _, text := range each(err) {
		name, text, _ := strings.Cut(text, ": ")
		s := c.about(section + "." + name)
		if s.kind == 0 && section+"."+name == listenName {
			s = c.get(addressName)
		}
		if s.kind != 0 {
			faults = append(faults, s.at+": "+text)
		}
	}
	return faults
}

// about returns the setting of a key, or the first of those below it.
func (c *Config) about(name string) applied {
	for _, k := range keys {
		if s, isSet := c.set[k]; isSet && (k.String() == name || strings.HasPrefix(k.String(), name+".")) {
			return s
		}
	}
	return applied{}
}

// each returns the texts of joined errors.
func each(err error) []string {
	var wrapped, joined interface{ Unwrap() []error }
	var texts []string
	if errors.As(err, &wrapped) {
		for _, e := range wrapped.Unwrap() {
			if errors.As(e, &joined) {
				for _, fault := range joined.Unwrap() {
					texts = append(texts, strings.ReplaceAll(fault.Error(), "mq: ", ""))
				}
			}
		}
	}
	return texts
}

// hostPort is an address without its scheme.
func hostPort(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	return strings.TrimSuffix(rest, "/")
}
