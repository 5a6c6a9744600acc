package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/raftmq/mq"
)

// silence is how long nothing comes before consume looks whether anything could.
const silence = 2 * time.Second

// lookAround asks the brokers where the logs end, which tells a quiet topic
// from dead brokers, and says so if it is new. A range whose records were
// deleted meanwhile ends here.
func (c *consumption) lookAround(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, silence, errSilence)
	defer cancel()
	for _, topic := range c.opt.cfg.Topics {
		_, err := c.admin.ListOffsets(ctx, topic, mq.StartLatest, c.opt.cfg.Partitions...)
		switch {
		case err == nil:
			delete(c.missing, topic)
			c.sayBack()
		case !errors.Is(err, mq.ErrUnknownTopicOrPartition):
			return c.sayAway(ctx)
		case c.opt.bounded():
			return err
		case !c.missing[topic]:
			c.missing[topic] = true
			c.p.say("topic %s is gone, waiting for a new one", topic)
		}
	}
	if c.opt.bounded() {
		if err := c.closeRead(ctx); err != nil {
			return c.sayAway(ctx)
		}
	}
	return nil
}

// sayAway says once that nothing can be read. Ends of ctx other than the
// silence's are errors.
func (c *consumption) sayAway(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSilence) {
		return cause
	}
	if !c.away {
		c.away = true
		c.p.say("nothing can be read from %s now, still trying", strings.Join(c.brokers, ", "))
	}
	return nil
}

func (c *consumption) sayBack() {
	if c.away {
		c.away = false
		c.p.say("reading again")
	}
}

// sayMissing names the topics that a consumer will wait for. Any other error
// is the consumer's to meet and tell.
func (c *consumption) sayMissing(ctx context.Context) {
	for _, topic := range c.opt.cfg.Topics {
		if _, err := c.admin.DescribeTopic(ctx, topic); errors.Is(err, mq.ErrUnknownTopicOrPartition) {
			c.missing[topic] = true
			c.p.say("topic %s does not exist yet, waiting for it", topic)
		}
	}
}
