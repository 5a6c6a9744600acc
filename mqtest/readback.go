package mqtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/testhook"
)

// readTopic reads a topic as consumers do, to where it ends now.
func (h *history) readTopic(ctx context.Context, e mq.Endpoint, topic string) (err error) {
	admin := mq.NewAdmin(e)
	starts, err := admin.ListOffsets(ctx, topic, mq.StartEarliest)
	if err != nil {
		return err
	}
	ends, err := admin.ListOffsets(ctx, topic, mq.StartLatest)
	if err != nil {
		return err
	}
	parts := make([]copyOf, len(ends))
	left := 0 // partitions that are not read to their end
	for i := range parts {
		parts[i] = copyOf{who: "a consumer", start: starts[i].Offset}
		if ends[i].Offset > starts[i].Offset {
			left++
		}
	}
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{topic}, Start: mq.StartEarliest})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	for left > 0 {
		rs, err := consumer.Poll(ctx, 1000)
		if err != nil {
			return err
		}
		for _, r := range rs {
			p := &parts[r.Partition]
			if r.Offset < ends[r.Partition].Offset {
				p.records = append(p.records, position{r.Offset, string(r.Value)})
			}
			if r.Offset == ends[r.Partition].Offset-1 {
				left--
			}
		}
	}
	for i, c := range parts {
		h.read[mq.TopicPartition{Topic: topic, Partition: int32(i)}] = c
	}
	return nil
}

// readCopies reads the copies of a topic that brokers have.
func (h *history) readCopies(ctx context.Context, topic string, brokers []*Broker) error {
	for tp, read := range h.read {
		if tp.Topic != topic {
			continue
		}
		end := read.start
		if n := len(read.records); n > 0 {
			end = read.records[n-1].offset + 1
		}
		for _, b := range brokers {
			c, err := readCopy(ctx, b, tp, end)
			if errors.Is(err, mq.ErrUnknownTopicOrPartition) {
				continue // it is on others
			}
			if err != nil {
				return fmt.Errorf("copy of %v on broker %d: %w", tp, b.id, err)
			}
			h.copies[tp] = append(h.copies[tp], c)
		}
	}
	return nil
}

// readCopy waits until a broker's copy reaches an offset, and reads it up to there.
func readCopy(ctx context.Context, b *Broker, tp mq.TopicPartition, end int64) (copyOf, error) {
	c := copyOf{who: fmt.Sprintf("broker %d", b.id)}
	inside := testhook.Look(b.Broker)
	for next, failures := int64(0), 0; ; {
		batches, start, has, err := inside.ReadCopy(tp.Topic, tp.Partition, next)
		if err != nil {
			return c, err
		}
		c.start = max(c.start, start)
		if next >= end || len(batches) == 0 && has >= end {
			return c, nil
		}
		if len(batches) == 0 {
			failures++
			if backoff.Sleep(ctx, tryAgain.Delay(failures)) != nil {
				return c, fmt.Errorf("it has %d of %d offsets", has, end)
			}
			continue
		}
		for len(batches) > 0 {
			var batch []byte
			if batch, batches, err = record.Next(batches); err != nil {
				return c, err
			}
			for r, err := range record.Records(batch, record.ReadOptions{}) {
				if err != nil {
					return c, err
				}
				if r.Offset < end {
					c.records = append(c.records, position{r.Offset, string(r.Value)})
				}
				next = r.Offset + 1
			}
		}
	}
}
