package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/profile"
)

// settings lays the config file, the profile, the variables and the flags over
// each other.
func (p *program) settings() (*config.Config, error) {
	var layers []config.Layer
	add := func(l config.Layer, err error) error {
		layers = append(layers, l)
		return err
	}
	if path := given(p.configFile, "MQ_CONFIG"); path != "" {
		if err := add(config.FromFile(path)); err != nil {
			return nil, usage(err)
		}
	}
	path, name, err := p.profileInUse()
	if err != nil {
		return nil, usage(err)
	}
	if name != "" {
		if err := add(config.FromProfile(path, name)); err != nil {
			return nil, usage(err)
		}
	}
	if err := errors.Join(add(config.FromEnv(os.Environ())), add(config.FromFlags(p.broker, append(slices.Clone(p.overrides), p.tls.overrides()...)))); err != nil {
		return nil, usage(err)
	}
	c, err := config.Resolve(layers...)
	return c, usage(err)
}

// given is the value of a flag, or else of a variable.
func given(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(variable)
}

// profileInUse returns the file and the name of the profile that was asked for,
// or else of the one in use, or nothing.
func (p *program) profileInUse() (path, name string, err error) {
	name = given(p.profile, "MQ_PROFILE")
	store, err := profile.Open()
	if err != nil {
		if name == "" {
			err = nil // no home, no profile
		}
		return "", "", err
	}
	if name == "" {
		name, err = store.Current()
		if errors.Is(err, fs.ErrPermission) {
			err = nil // somebody else's home
		}
		if err != nil || name == "" {
			return "", "", err
		}
	}
	path, err = store.Path(name)
	return path, name, err
}

// load returns the settings for the library, with loggers.
func (p *program) load() (config.File, error) {
	c, err := p.settings()
	if err != nil {
		return config.File{}, err
	}
	f := c.File
	quiet, err := p.logger(slog.LevelError) // a command tells what went wrong itself
	if err != nil {
		return f, err
	}
	if f.Client.TLS, err = f.ClientTLS.Load(quiet); err != nil {
		return f, err
	}
	if f.ClientTLS.InsecureSkipVerify {
		p.say("insecure_skip_verify: whoever answers is taken for the broker")
	}
	f.Client.Logger, f.Producer.Logger, f.Consumer.Logger = quiet, quiet, quiet
	f.Broker.Logger, err = p.logger(slog.LevelWarn)
	return f, err
}

// loadBroker returns the settings of a broker to run, with its certificates.
func (p *program) loadBroker(f config.File) (cfg mq.BrokerConfig, err error) {
	cfg = f.Broker
	if cfg.TLS, err = f.ServerTLS.Load(cfg.Logger); err != nil {
		return cfg, err
	}
	cfg.Cluster.TLS, err = f.PeerTLS.Load(cfg.Logger)
	return cfg, err
}

// dial connects to a broker, or says in which way it can't. However many
// retries are left, it gives up after the timeout, unless it is to try for ever.
func (p *program) dial(ctx context.Context, cfg mq.ClientConfig) (*mq.Client, error) {
	dialCtx := ctx
	if cfg.MaxRetries >= 0 || cfg.MaxRetries == mq.NoRetries {
		full, _ := cfg.Complete() // Dial tells what is wrong
		var cancel context.CancelFunc
		dialCtx, cancel = context.WithTimeoutCause(ctx, full.Timeout, fmt.Errorf("gave up after %v", full.Timeout))
		defer cancel()
	}
	c, err := mq.Dial(dialCtx, cfg)
	if err != nil && !errors.Is(err, mq.ErrInvalidConfig) && ctx.Err() == nil {
		return nil, &exitError{exitConnect, err}
	}
	return c, err
}
