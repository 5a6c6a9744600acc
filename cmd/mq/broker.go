package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/sdnotify"
	"github.com/raftmq/mq/cmd/mq/internal/whole"
)

// drainTime bounds the clean end of a broker after the first signal.
const drainTime = 30 * time.Second

// brokerOptions are what a broker is started with and no file says.
type brokerOptions struct {
	addrFile string // gets the address once the broker serves
	metrics  string // address to serve metrics on
}

func newBroker(p *program) *cobra.Command {
	var flags struct{ dataDir, listen, advertise string }
	var options brokerOptions
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Run a broker until it is told to stop",
		Long: `Run a broker until SIGINT or SIGTERM. Without a data directory it keeps
everything in memory, and says so: all records are gone when it stops.

The first signal lets requests finish and closes the data cleanly; a second one
kills. A service manager that set NOTIFY_SOCKET is told when the broker serves
and when it stops.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := p.load()
			if err != nil {
				return err
			}
			cfg, err := p.loadBroker(f)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("data-dir") {
				cfg.DataDir = flags.dataDir
			}
			if cmd.Flags().Changed("listen") {
				cfg.Listen = flags.listen
			}
			if cmd.Flags().Changed("advertise") {
				cfg.Advertise = flags.advertise
			}
			if _, _, err := net.SplitHostPort(options.metrics); options.metrics != "" && err != nil {
				return usage(fmt.Errorf("--metrics: %q is not host:port", options.metrics))
			}
			return p.runBroker(cmd.Context(), cfg, options)
		},
	}
	cmd.Flags().StringVar(&flags.dataDir, "data-dir", "", "`directory` of the data; without one, memory")
	cmd.Flags().StringVar(&flags.listen, "listen", "", "`address` to serve (default localhost:50051; port 0 picks one)")
	cmd.Flags().StringVar(&flags.advertise, "advertise", "", "`address` that clients are told (default: the one that is served)")
	cmd.Flags().StringVar(&options.metrics, "metrics", "", "`address` to serve Prometheus metrics on (default: nowhere)")
	cmd.Flags().StringVar(&options.addrFile, "addr-file", "", "write the address to this `file` once the broker serves")
	return cmd
}

// runBroker serves until ctx ends, then drains.
func (p *program) runBroker(ctx context.Context, cfg mq.BrokerConfig, options brokerOptions) error {
	b, err := mq.OpenBroker(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // told to stop before it had started
		}
		return err
	}
	defer func() { _ = b.Close() }() // after Shutdown it does nothing
	if options.metrics != "" {
		stop, err := p.serveMetrics(ctx, b, options.metrics)
		if err != nil {
			return err
		}
		defer stop()
	}
	place := "in memory"
	if b.Durable() {
		place = "data in " + cfg.DataDir
	}
	p.say("broker serves %s; %s", b.Addr(), place)
	if cfg.Advertise == "" && onEveryInterface(b.Addr()) {
		p.say("clients on other machines are told %s too, which does not lead here: say --advertise HOST:PORT", b.Addr())
	}
	if options.addrFile != "" {
		if err := whole.Write(options.addrFile, []byte(b.Addr()+"\n"), 0o644); err != nil {
			return err
		}
	}
	p.notify(sdnotify.Ready, "STATUS=serves "+b.Addr())
	select {
	case <-b.Done():
		return fmt.Errorf("broker stopped: %w", b.Err())
	case <-ctx.Done():
	}
	p.notify(sdnotify.Stopping)
	p.say("broker stops")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	return b.Shutdown(drain)
}

// notify tells the service manager; a broker serves also when that fails.
func (p *program) notify(states ...string) {
	if err := sdnotify.Send(states...); err != nil {
		p.say("the service manager was not told: %v", err)
	}
}

// serveMetrics serves the broker's metrics until stop is called.
func (p *program) serveMetrics(ctx context.Context, b *mq.Broker, addr string) (stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", b.MetricsHandler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.say("metrics: %v", err)
		}
	}()
	p.say("metrics on http://%s/metrics", listener.Addr())
	return func() {
		_ = server.Close() // a scrape that is cut is repeated
		<-done
	}, nil
}

// onEveryInterface reports whether an address names no host.
func onEveryInterface(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "" || net.ParseIP(host).IsUnspecified())
}
