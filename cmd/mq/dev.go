package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/whole"
)

const (
	// peerPorts is how far the ports for other brokers are from those for
	// clients, as in the files broker-1.yaml and so on.
	peerPorts  = 10
	maxBrokers = 9 // so that the two do not meet
)

// devOptions say what `mq dev` starts.
type devOptions struct {
	brokers  int
	port     int // of the first broker, 0 for any
	dataDir  string
	addrFile string // gets the addresses once all serve
}

func newDev(p *program) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in one process, to try things out",
		Long: `Run several brokers in this process until SIGINT or SIGTERM. They talk to each
other and to clients over real ports of 127.0.0.1, as brokers on several machines
would. Without a data directory everything is in memory, and gone when they stop.

Ports are whichever are free. With --port P the brokers serve clients on P, P+1
and so on, and each other on P+10, P+11 and so on.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.brokers < 1 || o.brokers > maxBrokers {
				return usage(fmt.Errorf("--brokers %d: want 1 to %d", o.brokers, maxBrokers))
			}
			if o.port < 0 || o.port > 65535-peerPorts-maxBrokers {
				return usage(fmt.Errorf("--port %d: want 1 to %d", o.port, 65535-peerPorts-maxBrokers))
			}
			f, err := p.load()
			if err != nil {
				return err
			}
			if o.dataDir == "" { // says so itself
				if f.Broker.Logger, err = p.logger(slog.LevelError); err != nil {
					return err
				}
			}
			err = p.runDev(cmd.Context(), f.Broker, o)
			if err != nil && cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil // told to stop before all had started
			}
			return err
		},
	}
	cmd.Flags().IntVar(&o.brokers, "brokers", 3, "how many")
	cmd.Flags().IntVar(&o.port, "port", 0, "`port` of the first broker (default: any that are free)")
	cmd.Flags().StringVar(&o.dataDir, "data-dir", "", "`directory` of the data, with one below it for each broker; without one, memory")
	cmd.Flags().StringVar(&o.addrFile, "addr-file", "", "write the addresses to this `file`, one a line, once all serve")
	return cmd
}

// runDev serves until ctx ends, then stops the brokers, the last one first.
func (p *program) runDev(ctx context.Context, base mq.BrokerConfig, o devOptions) (err error) {
	var brokers []*mq.Broker
	defer func() {
		for _, b := range slices.Backward(brokers) {
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			if failed := b.Shutdown(drain); !errors.Is(failed, mq.ErrRemoved) {
				err = errors.Join(err, failed)
			}
			cancel()
		}
	}()
	ended := make(chan int, o.brokers) // ids of brokers that stop
	var addrs, peers []string
	for i := range o.brokers {
		b, err := mq.OpenBroker(ctx, o.config(base, i, peers))
		if err != nil {
			return err
		}
		brokers, addrs, peers = append(brokers, b), append(addrs, b.Addr()), append(peers, b.PeerAddr())
		go func() { // ends with the broker
			<-b.Done()
			ended <- i + 1
		}()
		p.say("broker %d serves %s", i+1, b.Addr())
	}
	if err := p.meet(ctx, brokers); err != nil {
		return err
	}
	if o.addrFile != "" {
		if err := whole.Write(o.addrFile, []byte(strings.Join(addrs, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	place := "in memory: everything is gone when they stop"
	if o.dataDir != "" {
		place = "data in " + o.dataDir
	}
	p.say("all brokers are ready; %s", place)
	for range brokers {
		select {
		case id := <-ended:
			if err := brokers[id-1].Err(); !errors.Is(err, mq.ErrRemoved) {
				return fmt.Errorf("broker %d stopped: %w", id, err)
			}
			p.say("broker %d has left", id)
		case <-ctx.Done():
			p.say("brokers stop")
			return nil
		}
	}
	return nil
}

// config is that of broker i, from 0, which finds those before it.
func (o devOptions) config(base mq.BrokerConfig, i int, peers []string) mq.BrokerConfig {
	cfg := base
	cfg.ID, cfg.DataDir, cfg.Advertise = int32(i+1), "", ""
	if o.dataDir != "" {
		cfg.DataDir = filepath.Join(o.dataDir, fmt.Sprint("broker-", cfg.ID))
	}
	port := func(offset int) string {
		if o.port == 0 {
			return "127.0.0.1:0"
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port+offset+i))
	}
	cfg.Listen = port(0)
	cfg.Cluster = mq.ClusterConfig{Listen: port(peerPorts), Seeds: slices.Clone(peers)}
	return cfg
}

// devPatience is how long `mq dev` waits in silence for its brokers.
const devPatience = 10 * time.Second

// meet waits until all brokers are ready and the cluster is healthy. What is not
// right for long is said, and no reason not to serve.
func (p *program) meet(ctx context.Context, brokers []*mq.Broker) error {
	for i, b := range brokers {
		if err := p.ready(ctx, i, b); err != nil {
			return err
		}
	}
	patient, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	for {
		c, err := mq.NewAdmin(brokers[0]).ClusterHealth(patient)
		problems := c.Problems()
		if err == nil && len(c.Brokers) >= len(brokers) && len(problems) == 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-patient.Done():
			if ctx.Err() == nil && err == nil {
				p.say("the cluster is not healthy yet: %s", strings.Join(problems, "; "))
			}
			return context.Cause(ctx)
		}
	}
}

// ready waits until a broker is ready, and says for what if that takes long.
func (p *program) ready(ctx context.Context, i int, b *mq.Broker) error {
	patient, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	err := b.WaitReady(patient)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	p.say("broker %d is %v; was the directory that of more brokers?", i+1, oneLine(err))
	return b.WaitReady(ctx)
}
