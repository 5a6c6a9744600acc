// Package config reads the command line's YAML files into the library's config
// structs. Every key of a struct can be used, and beside them the keys that
// files had before: they are told by presence, so that 0 and false in a file
// mean what they say, although the zero values of the structs mean defaults.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq"
)

// DefaultAddress is where a broker listens, and clients look for it, when
// nothing else is said.
const DefaultAddress = "localhost:50051"

// File is what a file configures. The broker section serves both sides: Broker
// is how to run one, Client how to reach one.
type File struct {
	Broker   mq.BrokerConfig
	Client   mq.ClientConfig
	Producer mq.ProducerConfig
	Consumer mq.ConsumerConfig
}

// Load reads a file, and Default's values where it says nothing. An unknown
// key is an error.
func Load(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	f, err := parse(data)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Default is the configuration without a file.
func Default() File {
	f, _ := parse(nil) // nothing to go wrong
	return f
}

// SetAddress replaces the address, to serve as well as to reach.
func (f *File) SetAddress(address string) {
	f.Broker.Listen = hostPort(address)
	f.Client.Brokers = []string{address}
}

type document struct {
	Broker   broker   `yaml:"broker"`
	Producer producer `yaml:"producer"`
	Consumer consumer `yaml:"consumer"`
}

func parse(data []byte) (File, error) {
	var d document
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil && !errors.Is(err, io.EOF) {
		return File{}, readable(err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return File{}, errors.New("more than one YAML document")
	}
	b, c := d.Broker.configs()
	return File{Broker: b, Client: c, Producer: d.Producer.config(), Consumer: d.Consumer.config()}, nil
}

var unknownField = regexp.MustCompile(`^line (\d+): field (\S+) not found in type \S+$`)

// readable turns yaml's report, which names Go types, into one line.
func readable(err error) error {
	var typeErr *yaml.TypeError
	if !errors.As(err, &typeErr) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	faults := make([]string, len(typeErr.Errors))
	for i, e := range typeErr.Errors {
		faults[i] = unknownField.ReplaceAllString(e, "line $1: unknown key $2")
	}
	return errors.New(strings.Join(faults, "; "))
}

type broker struct {
	Run   mq.BrokerConfig `yaml:",inline"`
	Reach mq.ClientConfig `yaml:",inline"`

	Address     string `yaml:"address"`
	TimeoutSecs int    `yaml:"timeout_secs"`
}

func (b broker) configs() (mq.BrokerConfig, mq.ClientConfig) {
	run, reach := b.Run, b.Reach
	if b.Address == "" {
		b.Address = DefaultAddress
	}
	if run.Listen == "" {
		run.Listen = hostPort(b.Address)
	}
	if len(reach.Brokers) == 0 {
		reach.Brokers = []string{b.Address}
	}
	if b.TimeoutSecs != 0 {
		reach.Timeout = time.Duration(b.TimeoutSecs) * time.Second
	}
	return run, reach
}

// hostPort is an address without its scheme.
func hostPort(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	return strings.TrimSuffix(rest, "/")
}

type producer struct {
	mq.ProducerConfig `yaml:",inline"`

	Partition       *int32 `yaml:"partition"`
	TimeoutMs       *int   `yaml:"timeout_ms"`
	FlushIntervalMs *int   `yaml:"flush_interval_ms"`
}

func (p producer) config() mq.ProducerConfig {
	cfg := p.ProducerConfig
	if p.Partition != nil {
		cfg.Partitioner = mq.FixedPartition(*p.Partition)
	}
	setMs(&cfg.Timeout, p.TimeoutMs, 0)
	setMs(&cfg.Linger, p.FlushIntervalMs, -1)
	return cfg
}

type consumer struct {
	mq.ConsumerConfig `yaml:",inline"`

	Topic                string    `yaml:"topic"`
	Partition            *int32    `yaml:"partition"`
	Offset               *mq.Start `yaml:"offset"`
	MaxWaitMs            *int      `yaml:"max_wait_ms"`
	AutoCommit           *bool     `yaml:"auto_commit"`
	AutoCommitIntervalMs *int      `yaml:"auto_commit_interval_ms"`
	PollIntervalMs       *int      `yaml:"poll_interval_ms"`
}

func (c consumer) config() mq.ConsumerConfig {
	cfg := c.ConsumerConfig
	if c.Topic != "" {
		cfg.Topics = append(cfg.Topics, c.Topic)
	}
	if c.Partition != nil {
		cfg.Partitions = append(cfg.Partitions, *c.Partition)
	}
	if c.Offset != nil {
		cfg.Start = *c.Offset
	}
	setMs(&cfg.MaxWait, c.MaxWaitMs, time.Millisecond) // as good as not at all
	setMs(&cfg.AutoCommitInterval, c.AutoCommitIntervalMs, time.Millisecond)
	setMs(&cfg.PollInterval, c.PollIntervalMs, 0)
	if c.AutoCommit != nil && !*c.AutoCommit {
		cfg.AutoCommitInterval = -1
	}
	return cfg
}

// setMs sets a duration from a key in milliseconds that was there; 0 becomes zero.
func setMs(d *time.Duration, ms *int, zero time.Duration) {
	switch {
	case ms == nil:
	case *ms == 0:
		*d = zero
	default:
		*d = time.Duration(*ms) * time.Millisecond
	}
}
