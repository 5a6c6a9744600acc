package main

import (
	"context"
	"fmt"

	"github.com/raftmq/mq/cmd/mq/internal/format"
	"github.com/raftmq/mq/cmd/mq/internal/nearest"
)

var modes = []string{"broker", "producer", "consumer"}

// runMode is `mq --mode MODE --config FILE`: the same as the subcommands, with
// everything, topics included, from the file.
func (p *program) runMode(ctx context.Context, mode string) error {
	f, err := p.load()
	if err != nil {
		return err
	}
	switch mode {
	case "broker":
		cfg, err := p.loadBroker(f)
		if err != nil {
			return err
		}
		return p.runBroker(ctx, cfg, brokerOptions{})
	case "producer":
		if f.Producer.Topic == "" {
			return usage(fmt.Errorf("--mode producer needs producer.topic, from a --config"))
		}
		return p.produce(ctx, f.Client, plainLines(f.Producer))
	case "consumer":
		if len(f.Consumer.Topics) == 0 {
			return usage(fmt.Errorf("--mode consumer needs consumer.topic, from a --config"))
		}
		pattern, err := format.Parse(defaultFormat)
		if err != nil {
			return err
		}
		return p.consume(ctx, f.Client, consumeOptions{cfg: f.Consumer, format: pattern})
	}
	return usage(fmt.Errorf("bad --mode %q: want broker, producer or consumer%s", mode, nearest.Hint(mode, modes)))
}
