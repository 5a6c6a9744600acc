package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newTopic(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "topic",
		Short: "Create, look at and change topics",
	}, newTopicCreate(p), newTopicList(p), newTopicDescribe(p), newTopicAlter(p),
		newTopicAddPartitions(p), newTopicTrim(p), newTopicDelete(p), newTopicCopy(p))
}

// admin runs fn with an Admin of the configured broker.
func (p *program) admin(ctx context.Context, fn func(context.Context, *mq.Admin) error) (err error) {
	f, err := p.load()
	if err != nil {
		return err
	}
	c, err := p.dial(ctx, f.Client)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	return fn(ctx, mq.NewAdmin(c))
}

// done tells a person what was done, unless it failed.
func (p *program) done(err error, format string, args ...any) error {
	if err == nil {
		p.say(format, args...)
	}
	return err
}
