package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

// drainTime bounds the clean end of a broker after the first signal.
const drainTime = 30 * time.Second

func newBroker(p *program) *cobra.Command {
	var flags struct{ dataDir, listen, addrFile string }
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Run a broker until it is told to stop",
		Long: `Run a broker until SIGINT or SIGTERM. Without a data directory it keeps
everything in memory, and says so: all records are gone when it stops.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			cfg := f.Broker
			if cmd.Flags().Changed("data-dir") {
				cfg.DataDir = flags.dataDir
			}
			if cmd.Flags().Changed("listen") {
				cfg.Listen = flags.listen
			}
			return p.runBroker(cmd.Context(), cfg, flags.addrFile)
		},
	}
	cmd.Flags().StringVar(&flags.dataDir, "data-dir", "", "`directory` of the data; without one, memory")
	cmd.Flags().StringVar(&flags.listen, "listen", "", "`address` to serve (default localhost:50051; port 0 picks one)")
	cmd.Flags().StringVar(&flags.addrFile, "addr-file", "", "write the address to this `file` once the broker serves")
	return cmd
}

// runBroker serves until ctx ends, then drains.
func (p *program) runBroker(ctx context.Context, cfg mq.BrokerConfig, addrFile string) error {
	b, err := mq.OpenBroker(ctx, cfg)
	if err != nil {
		return err
	}
	if b.Durable() {
		p.say("broker serves %s; data in %s", b.Addr(), cfg.DataDir)
	} else {
		p.say("broker serves %s; in memory", b.Addr())
	}
	if addrFile != "" {
		if err := writeWhole(addrFile, b.Addr()+"\n"); err != nil {
			_ = b.Close()
			return err
		}
	}
	select {
	case <-b.Done():
		return fmt.Errorf("broker stopped: %w", b.Err())
	case <-ctx.Done():
	}
	p.say("broker stops")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	return b.Shutdown(drain)
}

// writeWhole writes a file so that a reader sees all of it or nothing.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".tmp", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
