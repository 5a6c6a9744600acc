package mq

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
)

// ConsumerConfig says what a Consumer reads and how. Topics or, for a group,
// TopicPattern is required; every other zero value is a default that suits most
// programs.
type ConsumerConfig struct {
	// Topics are the topics to read. One that does not exist is waited for, and
	// partitions that are added later are noticed within half a minute.
	Topics []string `yaml:"topics"`

	// TopicPattern is a regular expression: the group reads the topics whose
	// whole name matches it, beside Topics, also those that are created later.
	// Syntax: RE2. Default empty, none. Only for members of a group. Kafka:
	// subscribe(SubscriptionPattern).
	TopicPattern string `yaml:"topic_pattern"`

	// Partitions are the partitions to read of each topic. Default empty: with
	// a GroupID those that the group's coordinator gives, else all. A number
	// that a topic does not have is ErrUnknownTopicOrPartition. Kafka: assign.
	Partitions []int32 `yaml:"partitions"`

	// GroupID is the name of the consumer's group. Its consumers share the
	// partitions of their topics: each partition is read by one of them, and when
	// they come and go, or there are new partitions, only the partitions that
	// have to move do. Offsets are stored under the name as well, so that who
	// reads a partition next goes on where this consumer stopped. With Partitions
	// the name is for offsets only: the consumer is no member and shares nothing,
	// and can't commit while the group has members. Default empty: no group,
	// nothing is stored. Kafka: group.id.
	GroupID string `yaml:"group_id"`

	// InstanceID makes a member a static one: it is expected back after Close,
	// and until SessionTimeout is over nobody else gets what it had. It must be
	// the same each time, and no other live consumer of the group may have it.
	// Default empty: on Close the others take over at once. Kafka:
	// group.instance.id.
	InstanceID string `yaml:"instance_id"`

	// ClientID names the program in descriptions of the group. Default empty.
	// Kafka: client.id.
	ClientID string `yaml:"client_id"`

	// SessionTimeout is after how long without a sign of life a member is taken
	// for dead and its partitions go to others. Signs of life do not depend on
	// handlers. One that nobody answers for so long hands out no more records until it
	// is told whether it still is a member. Default 0: as the brokers are configured; the consumer itself
	// then counts 45 seconds. Kafka: session.timeout.ms.
	SessionTimeout time.Duration `yaml:"session_timeout"`

	// RebalanceTimeout is how long handlers may take to finish what they have of
	// a partition that is to go to another member, and a program what Poll
	// returned. Then they lose it. Default 0: as the brokers are configured; the
	// consumer itself then counts 5 minutes. Kafka: max.poll.interval.ms.
	RebalanceTimeout time.Duration `yaml:"rebalance_timeout"`

	// Assignor says how partitions are shared out: AssignUniform or AssignRange.
	// Of different wishes in a group that of most members counts. Default empty:
	// AssignUniform. Kafka: group.remote.assignor.
	Assignor string `yaml:"assignor"`

	// OnAssigned, OnRevoked and OnLost are told which partitions the member
	// gets and has no more, by topic and number. They are called one at a time,
	// on a goroutine of the consumer's, while reading of other partitions goes on;
	// each partition that was assigned is either revoked or lost later.
	//
	// OnAssigned is called before the first record of the partitions is handed
	// out; Seek may say where to begin. OnRevoked is called when everything of them
	// that was handed out is finished, or had its RebalanceTimeout, and, unless
	// AutoCommitInterval is negative, is committed; nobody else has them yet, and
	// Commit with ctx may still store offsets. On Close it is called for all.
	// OnLost is called when others may have them already: the group has removed the
	// consumer, which it did not hear of for too long. Nothing can be committed.
	//
	// They may call any method, Close excepted: it waits for them, though not
	// longer than CloseTimeout. ctx ends CloseTimeout after the consumer does.
	OnAssigned RebalanceHook `yaml:"-"`
	OnRevoked  RebalanceHook `yaml:"-"`
	OnLost     RebalanceHook `yaml:"-"`

	// Start is where reading begins. Default StartCommitted. A partition that
	// is created while the consumer runs is always read from its first record,
	// or from the committed offset. So is one that a member of a group does not
	// have from the beginning: others may have read it. Kafka:
	// auto.offset.reset, seek.
	Start Start `yaml:"start"`

	// Reset is what happens where there is no offset to go on from: nothing is
	// committed, or the offset is not in the log any more. Default
	// ResetEarliest. Kafka: auto.offset.reset.
	Reset ResetPolicy `yaml:"reset"`

	// Isolation decides about records of transactions. Default ReadUncommitted.
	// Kafka: isolation.level.
	Isolation Isolation `yaml:"isolation"`

	// ReadFrom says which broker a partition is read from. Default ReadLeader.
	// With ReadNearest it is one that has a replica: the broker in this process,
	// if the consumer works on one, or else one of the same Rack. It gives what
	// is committed, as the leader does, only maybe a little later. While it has no
	// leader itself, is behind the consumer, or does not answer, reading goes on
	// at the leader, without a gap and without going back. Kafka: client.rack.
	ReadFrom ReadFrom `yaml:"read_from"`

	// Rack is where the consumer stands, as brokers are told where they do by
	// BrokerConfig.Rack. Default that of the broker in this process; over gRPC
	// none, and then ReadNearest is ReadLeader. Kafka: client.rack.
	Rack string `yaml:"rack"`

	// MaxBytes bounds the answer to one request to a broker; the first batch
	// comes always, however large. About twice as much of one partition is
	// fetched ahead. Default 1 MiB. Kafka: fetch.max.bytes.
	MaxBytes int `yaml:"max_bytes"`

	// MinBytes is how much a broker should have before it answers. More means
	// fewer requests and later records. Default 1. Kafka: fetch.min.bytes.
	MinBytes int `yaml:"min_bytes"`

	// MaxWait is how long a broker waits for MinBytes. It delays no record when
	// MinBytes is 1. Default 500ms. Kafka: fetch.max.wait.ms.
	MaxWait time.Duration `yaml:"max_wait"`

	// PollInterval is a pause after an answer without records. Default 0, none:
	// a broker holds a request until there are records, so polling less often
	// only makes them late.
	PollInterval time.Duration `yaml:"poll_interval"`

	// MaxBufferedBytes bounds what is fetched ahead, over all partitions, as it
	// was on the wire. One batch per broker may come on top, and one batch,
	// decompressed, in the reader's hands. When the program does not read,
	// fetching stops here. Records that a Run took up and has not finished count
	// apart, up to as much. Default 64 MiB; less than MaxBytes lowers that.
	MaxBufferedBytes int `yaml:"max_buffered_bytes"`

	// AutoCommitInterval is how often offsets of finished records are stored
	// under GroupID; they also are when Run ends and on Close. Default 5s;
	// negative turns all of that off, then only Commit stores.
	// Kafka: auto.commit.interval.ms, enable.auto.commit.
	AutoCommitInterval time.Duration `yaml:"auto_commit_interval"`

	// Concurrency is how many records Run has handled at a time. Default 1: each
	// partition is handled strictly in the order of its offsets. Above 1 only
	// records of a partition that have equal keys are: they never overlap. A
	// record without a key (nil, not empty) has no order to keep, and is taken up
	// as soon as there is room. Whatever the order in which records are finished,
	// what is committed ends before the first one that is not. Records are taken
	// up at most 1,000, or four times Concurrency if that is more, ahead of it in
	// their partition: one that takes long, or waits for a retry, holds up its key
	// at once, and its partition when as many are behind it. Messages and Poll
	// take no notice of it.
	Concurrency int `yaml:"concurrency"`

	// Retry says how often Run calls the handler again for a record that it
	// failed. Meanwhile records that must come after it wait, and others do not:
	// with a Concurrency of 1 those are of other partitions. Default: not at all.
	Retry RetryPolicy `yaml:"retry"`

	// DeadLetterTopic is where Run sends records that the handler failed for good:
	// as they are, and with headers that say why, see HeaderDeadLetterError. One
	// is finished when all of its new partition's majority has it; until then Run
	// tries again, so it is never lost, and may be there twice: after a crash, and
	// when its partition is lost meanwhile, for what was sent is not called back.
	// Default none: a record that fails for good stops Run.
	DeadLetterTopic string `yaml:"dead_letter_topic"`

	// Timeout bounds one attempt of a request, on top of MaxWait. Attempts are
	// repeated, so a broker may be away for longer. Default 10s. Kafka:
	// request.timeout.ms.
	Timeout time.Duration `yaml:"timeout"`

	// CloseTimeout bounds the last commit, of Close and at the end of Run; on
	// Close also the hooks and the farewell to the group. Default 5s. Kafka: Consumer.close(Duration).
	CloseTimeout time.Duration `yaml:"close_timeout"`

	// Logger gets the consumer's log: what could not be read for half a minute,
	// and records that became dead letters, at level warn; each failed attempt at
	// level debug. Default nil, silent.
	Logger *slog.Logger `yaml:"-"`
}

const (
	defaultConsumerMaxBytes = 1 << 20
	defaultConsumerBuffered = 64 << 20
	defaultMaxWait          = 500 * time.Millisecond
	defaultAutoCommit       = 5 * time.Second
	defaultConsumerTimeout  = 10 * time.Second
	defaultConsumerClose    = 5 * time.Second
)

// withDefaults returns a copy in which every field has its value.
func (c ConsumerConfig) withDefaults() ConsumerConfig {
	c.Topics, c.Partitions = slices.Clone(c.Topics), slices.Clone(c.Partitions)
	orDefault(&c.MaxBytes, defaultConsumerMaxBytes)
	orDefault(&c.MinBytes, 1)
	orDefault(&c.MaxWait, defaultMaxWait)
	orDefault(&c.MaxBufferedBytes, defaultConsumerBuffered)
	orDefault(&c.AutoCommitInterval, defaultAutoCommit)
	orDefault(&c.Concurrency, 1)
	orDefault(&c.Retry.MaxAttempts, 1)
	orDefault(&c.Retry.Backoff, defaultRetryBackoff)
	orDefault(&c.Retry.MaxBackoff, defaultRetryMaxBackoff)
	orDefault(&c.Timeout, defaultConsumerTimeout)
	orDefault(&c.CloseTimeout, defaultConsumerClose)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

func (c ConsumerConfig) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case c.TopicPattern != "" && !c.balanced():
		fault("topic_pattern: only for a group_id without partitions")
	case c.TopicPattern == "" && len(c.Topics) == 0:
		fault("topics: at least one is required")
	}
	if _, err := regexp.Compile(c.TopicPattern); err != nil {
		fault("topic_pattern: %w: %w", mqerr.ErrInvalidPattern, err)
	}
	for i, name := range c.Topics {
		if err := topic.CheckName(name); err != nil {
			fault("topics: %w", err)
		} else if slices.Contains(c.Topics[:i], name) {
			fault("topics: %q is there twice", name)
		}
	}
	for i, n := range c.Partitions {
		if n < 0 {
			fault("partitions: %d is negative", n)
		} else if slices.Contains(c.Partitions[:i], n) {
			fault("partitions: %d is there twice", n)
		}
	}
	if err := c.Start.check(); err != nil {
		fault("start: %w", err)
	}
	if _, err := c.Reset.MarshalText(); err != nil {
		fault("reset: %w", err)
	}
	if _, err := c.ReadFrom.MarshalText(); err != nil {
		fault("read_from: %w", err)
	}
	if _, err := c.Isolation.MarshalText(); err != nil {
		fault("isolation: %w", err)
	}
	if c.Retry.MaxBackoff >= 0 && c.Retry.Backoff > c.Retry.MaxBackoff {
		fault("retry.backoff: %v is above retry.max_backoff, %v", c.Retry.Backoff, c.Retry.MaxBackoff)
	}
	if name := c.DeadLetterTopic; name != "" {
		if err := topic.CheckName(name); err != nil {
			fault("dead_letter_topic: %w", err)
		} else if slices.Contains(c.Topics, name) {
			fault("dead_letter_topic: %q is one of topics: what fails would come again for ever", name)
		}
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"max_bytes", int64(c.MaxBytes)},
		{"min_bytes", int64(c.MinBytes)},
		{"max_wait", int64(c.MaxWait)},
		{"poll_interval", int64(c.PollInterval)},
		{"max_buffered_bytes", int64(c.MaxBufferedBytes)},
		{"concurrency", int64(c.Concurrency)},
		{"retry.backoff", int64(c.Retry.Backoff)},
		{"retry.max_backoff", int64(c.Retry.MaxBackoff)},
		{"session_timeout", int64(c.SessionTimeout)},
		{"rebalance_timeout", int64(c.RebalanceTimeout)},
		{"timeout", int64(c.Timeout)},
		{"close_timeout", int64(c.CloseTimeout)},
	} {
		if f.value < 0 {
			fault("%s: must not be negative", f.name)
		}
	}
	return invalidConfig("consumer", faults)
}

// balanced reports whether the group's coordinator says which partitions are read.
func (c ConsumerConfig) balanced() bool { return c.GroupID != "" && len(c.Partitions) == 0 }

// commits reports whether finished records are committed without being asked.
func (c ConsumerConfig) commits() bool { return c.GroupID != "" && c.AutoCommitInterval > 0 }

func (c ConsumerConfig) fetch() fetch.Config {
	return fetch.Config{
		MaxBytes:    min(c.MaxBytes, c.MaxBufferedBytes),
		MinBytes:    c.MinBytes,
		MaxWait:     c.MaxWait,
		MaxBuffered: c.MaxBufferedBytes,
		Isolation:   int8(c.Isolation),
		Group:       c.GroupID != "",
		Assigned:    c.balanced(),
		Start:       c.Start.at,
		Reset:       fetch.Reset(c.Reset),
	}
}

// RebalanceHook is called when the partitions of a member of a group change. See
// ConsumerConfig.OnAssigned.
type RebalanceHook func(ctx context.Context, tps []TopicPartition)

// Assignors.
const (
	AssignUniform = api.AssignUniform // evenly, with as few moves as possible
	AssignRange   = api.AssignRange   // partitions of the same number, of different topics, go to the same member
)

// Isolation says which records of transactions are read. In YAML it is its
// name. Kafka: isolation.level.
type Isolation uint8

// The levels.
const (
	ReadUncommitted = Isolation(api.ReadUncommitted) // all
	ReadCommitted   = Isolation(api.ReadCommitted)   // only those of transactions that were committed
)

var isolationNames = []string{ReadUncommitted: "read_uncommitted", ReadCommitted: "read_committed"}

// String returns read_uncommitted or read_committed.
func (i Isolation) String() string { return nameOf(isolationNames, "Isolation", uint8(i)) }

// MarshalText implements encoding.TextMarshaler.
func (i Isolation) MarshalText() ([]byte, error) { return marshalName(isolationNames, uint8(i)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Isolation) UnmarshalText(text []byte) error {
	return unmarshalName(isolationNames, (*uint8)(i), text)
}

func nameOf(names []string, kind string, v uint8) string {
	if int(v) >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, v)
	}
	return names[v]
}

func marshalName(names []string, v uint8) ([]byte, error) {
	if int(v) >= len(names) {
		return nil, fmt.Errorf("%w: %d is none of %q", mqerr.ErrInvalidConfig, v, names)
	}
	return []byte(names[v]), nil
}

func unmarshalName(names []string, v *uint8, text []byte) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("%w: %q is none of %q", mqerr.ErrInvalidConfig, text, names)
	}
	*v = uint8(i)
	return nil
}

// errNoGroup is what commits without a group get.
var errNoGroup = fmt.Errorf("%w: the consumer has no group_id", mqerr.ErrInvalidGroupID)
