package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newCluster(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "cluster",
		Short: "Look at the brokers of a cluster, move what they have, and remove one",
	}, newClusterInfo(p), newClusterHealth(p), newClusterMembers(p),
		newClusterTransferLeader(p), newClusterMoveReplica(p), newClusterRemove(p))
}

func newClusterInfo(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the cluster and how its brokers are",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withCluster(cmd.Context(), func(c mq.ClusterHealth) error {
				return p.show(out, c, func(w *table) {
					w.row("cluster", c.ID)
					w.row("controller", known(c.Controller))
					w.row("brokers", len(c.Brokers))
					w.row("feature level", word(c.FeatureLevel == 0, "-", strconv.Itoa(c.FeatureLevel)))
					w.row("health", word(len(c.Problems()) == 0, "healthy", "not healthy, see mq cluster health"))
					w.row()
					w.head("BROKER", "ADDRESS", "STATE", "REPLICAS", "LEADERS", "BEHIND")
					for _, b := range c.Brokers {
						w.row(b.ID, dash(b.Addr), brokerState(b), b.Replicas, told(b, b.Leaders), told(b, b.Behind))
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

func newClusterMembers(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the brokers with their addresses and data directories",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withCluster(cmd.Context(), func(c mq.ClusterHealth) error {
				return p.show(out, c.Brokers, func(w *table) {
					w.head("BROKER", "STATE", "ADDRESS", "PEER ADDRESS", "RACK", "METADATA", "DIRECTORY")
					for _, b := range c.Brokers {
						role := word(b.MetadataVoter, "votes", "follows")
						if b.ID == c.Controller {
							role = "leads"
						}
						w.row(b.ID, brokerState(b), dash(b.Addr), dash(b.PeerAddr), dash(b.Rack), role, b.DirectoryID)
					}
				})
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

// health is what `cluster health` answers.
type health struct {
	Healthy  bool     `json:"healthy"`
	Problems []string `json:"problems"`
}

func (h health) equal(other health) bool {
	return h.Healthy == other.Healthy && strings.Join(h.Problems, "\n") == strings.Join(other.Problems, "\n")
}

// healthEvery is how often `cluster health --watch` looks.
const healthEvery = 500 * time.Millisecond

func newClusterHealth(p *program) *cobra.Command {
	var out *output
	var flags struct {
		watch, exit bool
		brokers     int
		timeout     time.Duration
	}
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Tell whether the cluster is healthy, and what is wrong with it",
		Long: `Tell whether the cluster is healthy: all of its brokers can be reached, are
ready and have what their leaders have; everything has a leader, and as many
replicas as it should. If not, the exit code is 5 and each problem has a line.

With --watch it goes on looking and tells when something has changed, until
ctrl-C; with --exit-when-healthy it ends as soon as all is well, so that a script
can wait for a cluster that starts, or for a broker that comes back.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case flags.exit && !flags.watch:
				return usage(errors.New("--exit-when-healthy goes with --watch"))
			case flags.brokers < 0:
				return usage(fmt.Errorf("--min-brokers %d: want 0 or more", flags.brokers))
			case flags.timeout < 0 || flags.timeout > 0 && !flags.watch:
				return usage(errors.New("--timeout is a time above 0 and goes with --watch"))
			}
			show := func(h health) error { return p.show(out, h, h.table) }
			if flags.watch {
				return p.watchHealth(cmd.Context(), flags.brokers, flags.exit, flags.timeout, show)
			}
			return p.withCluster(cmd.Context(), func(c mq.ClusterHealth) error {
				h := healthOf(c, flags.brokers)
				return answered(show(h), h.err())
			})
		},
	}
	cmd.Flags().BoolVarP(&flags.watch, "watch", "w", false, "go on and tell when something has changed")
	cmd.Flags().BoolVar(&flags.exit, "exit-when-healthy", false, "with --watch: end as soon as all is well")
	cmd.Flags().IntVar(&flags.brokers, "min-brokers", 0, "fewer than `N` brokers are not healthy")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", 0, "with --watch: end after this `time`, with exit code 4 unless all is well")
	out = outputFlag(cmd)
	return cmd
}

func healthOf(c mq.ClusterHealth, atLeast int) health {
	h := health{Problems: []string{}}
	for _, problem := range c.Problems() {
		h.Problems = append(h.Problems, strings.ReplaceAll(problem, "mq: ", ""))
	}
	if n := len(c.Brokers); n < atLeast {
		h.Problems = append(h.Problems, fmt.Sprintf("%s, not %d", thereAre(n, "broker"), atLeast))
	}
	h.Healthy = len(h.Problems) == 0
	return h
}

func (h health) table(w *table) {
	if h.Healthy {
		w.row("healthy")
		return
	}
	for _, problem := range h.Problems {
		w.row(problem)
	}
}

// err is what a cluster that is not healthy ends the program with.
func (h health) err() error {
	if h.Healthy {
		return nil
	}
	return &exitError{exitUnhealthy, errors.New("the cluster is not healthy")}
}

// watchHealth looks again and again, and shows what has changed. That no broker
// answers is a problem like others.
func (p *program) watchHealth(ctx context.Context, atLeast int, exit bool, timeout time.Duration, show func(health) error) error {
	f, err := p.load()
	if err != nil {
		return err
	}
	if f.Client, err = f.Client.Complete(); err != nil {
		return err
	}
	f.Client.MaxRetries = mq.NoRetries
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	ctx, cancel := untilReaderGone(ctx, p.out)
	defer cancel()
	every := time.NewTicker(healthEvery)
	defer every.Stop()
	var client *mq.Client
	defer func() {
		if client != nil {
			_ = client.Close()
		}
	}()
	var last *health
	for {
		h := health{Problems: []string{"no broker answers"}}
		if client == nil {
			client, _ = mq.Dial(ctx, f.Client) // what fails is told as a problem
		}
		if client != nil {
			if c, err := describeSoon(ctx, client); err == nil {
				h = healthOf(c, atLeast)
			}
		}
		if ctx.Err() == nil && (last == nil || !h.equal(*last)) {
			if err := show(h); err != nil {
				return err
			}
			last = &h
		}
		if exit && h.Healthy {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			switch {
			case last != nil && last.Healthy, errors.Is(context.Cause(ctx), syscall.EPIPE):
				return nil
			case errors.Is(ctx.Err(), context.DeadlineExceeded):
				return &exitError{exitTimeout, fmt.Errorf("the cluster was not healthy within %v", timeout)}
			case exit:
				return context.Cause(ctx)
			}
			return nil
		}
	}
}

// describeSoon does not wait for brokers that start.
func describeSoon(ctx context.Context, c *mq.Client) (mq.ClusterHealth, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return mq.NewAdmin(c).ClusterHealth(ctx)
}

// withCluster calls fn with the cluster.
func (p *program) withCluster(ctx context.Context, fn func(mq.ClusterHealth) error) error {
	return p.admin(ctx, func(ctx context.Context, a *mq.Admin) error {
		c, err := a.ClusterHealth(ctx)
		if err != nil {
			return err
		}
		return fn(c)
	})
}

func brokerState(b mq.BrokerHealth) string {
	switch {
	case b.Leaving:
		return "leaving"
	case !b.Reachable:
		return "not reachable"
	case b.Waiting != "":
		return "starting"
	case b.Fenced != "":
		return "fenced"
	case len(b.Damaged) > 0:
		return "damaged"
	case b.Behind > 0:
		return "behind"
	}
	return "ready"
}

// told prints what only the broker itself could tell.
func told(b mq.BrokerHealth, n int) any {
	if !b.Reachable {
		return "-"
	}
	return n
}

func word(yes bool, then, otherwise string) string {
	if yes {
		return then
	}
	return otherwise
}

// dash prints what is empty as a dash.
func dash(s string) string { return word(s == "", "-", s) }
