package mq

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/topic"
)

// The headers of a record in a dead-letter topic, besides those that it had.
// Values are text.
const (
	HeaderDeadLetterError     = "mq-dlt-error"     // what the handler returned last, cut to 4 KiB
	HeaderDeadLetterTopic     = "mq-dlt-topic"     // where the record was read
	HeaderDeadLetterPartition = "mq-dlt-partition" // there
	HeaderDeadLetterOffset    = "mq-dlt-offset"    // there
	HeaderDeadLetterTimestamp = "mq-dlt-timestamp" // that it had there, in milliseconds since 1970
	HeaderDeadLetterGroup     = "mq-dlt-group"     // GroupID of the consumer, if it has one
	HeaderDeadLetterAttempts  = "mq-dlt-attempts"  // how often the handler was called
)

var deadLetterHeaders = []string{
	HeaderDeadLetterError, HeaderDeadLetterTopic, HeaderDeadLetterPartition, HeaderDeadLetterOffset,
	HeaderDeadLetterTimestamp, HeaderDeadLetterGroup, HeaderDeadLetterAttempts,
}

// maxDeadLetterError is how much of an error goes into a header: a panic's has
// the stack in it.
const maxDeadLetterError = 4 << 10

// Waits between attempts to send a dead letter.
var deadLetterBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 10 * time.Second}

// deadLetters sends records that could not be handled to a topic of their own.
type deadLetters struct {
	producer *Producer
	group    string
	log      *slog.Logger
}

func newDeadLetters(e Endpoint, cfg ConsumerConfig) (*deadLetters, error) {
	producer, err := NewProducer(e, ProducerConfig{
		Topic:           cfg.DeadLetterTopic,
		MaxRecordBytes:  topic.MaxBatchBytes, // the topic's own limit decides
		DeliveryTimeout: -1,                  // until ctx ends: a second attempt would not be known as one
		Logger:          cfg.Logger,
	})
	return &deadLetters{producer, cfg.GroupID, cfg.Logger}, err
}

// close ends what is on its way: nobody waits for it any more.
func (d *deadLetters) close() { d.producer.engine.Close() }

// send returns when the record is stored, ctx has ended, or the record is
// refused in a way that waiting does not cure.
func (d *deadLetters) send(ctx context.Context, r *Record, attempts int, why error) error {
	headers := d.headers(r, attempts, why)
	log := d.log.With("topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "to", d.producer.cfg.Topic)
	late := time.AfterFunc(outageTold, func() { log.Warn("dead letter is not stored yet", "for", outageTold) })
	defer late.Stop()
	for failures := 1; ; failures++ {
		err := d.producer.Send(ctx, &Record{Key: r.Key, Value: r.Value, Headers: headers})
		switch {
		case err == nil:
			log.Warn("record given up", "attempts", attempts, "err", why)
			return nil
		case !fetch.MayPass(err):
			return fmt.Errorf("dead letter for %s: %w", describe(r), err)
		}
		log.Debug("dead letter failed", "err", err) // also when ctx ended
		if err := backoff.Sleep(ctx, deadLetterBackoff.Delay(failures)); err != nil {
			return err
		}
	}
}

// headers returns those of a dead letter. A record that was one already gets
// new ones.
func (d *deadLetters) headers(r *Record, attempts int, why error) []Header {
	hs := slices.DeleteFunc(slices.Clone(r.Headers), func(h Header) bool { return slices.Contains(deadLetterHeaders, h.Key) })
	text := why.Error()
	if len(text) > maxDeadLetterError {
		text = strings.ToValidUTF8(text[:maxDeadLetterError], "")
	}
	add := func(key, value string) { hs = append(hs, Header{key, []byte(value)}) }
	add(HeaderDeadLetterError, text)
	add(HeaderDeadLetterTopic, r.Topic)
	add(HeaderDeadLetterPartition, strconv.Itoa(int(r.Partition)))
	add(HeaderDeadLetterOffset, strconv.FormatInt(r.Offset, 10))
	add(HeaderDeadLetterTimestamp, strconv.FormatInt(r.Timestamp.UnixMilli(), 10))
	if d.group != "" {
		add(HeaderDeadLetterGroup, d.group)
	}
	add(HeaderDeadLetterAttempts, strconv.Itoa(attempts))
	return hs
}
