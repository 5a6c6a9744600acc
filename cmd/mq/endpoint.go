package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
)

// load reads the config file, if there is one, and applies the root's flags.
func (p *program) load() (config.File, error) {
	f := config.Default()
	if p.configFile != "" {
		var err error
		if f, err = config.Load(p.configFile); err != nil {
			return f, usage(err)
		}
	}
	if p.broker != "" {
		f.SetAddress(p.broker)
	}
	quiet, err := p.logger(slog.LevelError) // a command tells what went wrong itself
	if err != nil {
		return f, err
	}
	f.Client.Logger, f.Producer.Logger, f.Consumer.Logger = quiet, quiet, quiet
	f.Broker.Logger, err = p.logger(slog.LevelWarn)
	return f, err
}

// dial connects to a broker, or says in which way it can't.
func (p *program) dial(ctx context.Context, cfg mq.ClientConfig) (*mq.Client, error) {
	c, err := mq.Dial(ctx, cfg)
	if err != nil && !errors.Is(err, mq.ErrInvalidConfig) && ctx.Err() == nil {
		return nil, &exitError{exitConnect, err}
	}
	return c, err
}
