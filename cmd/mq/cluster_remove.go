package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newClusterRemove(p *program) *cobra.Command {
	var (
		risk    risk
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "remove BROKER",
		Short: "Make a broker, dead or alive, leave for good",
		Long: `Make a broker leave the cluster for good. What it has goes to brokers that lack
it, as far as there are any, while producers and consumers go on; then the cluster
forgets it, and it can be stopped. A broker that is dead can be removed, too. One
that was removed comes back only with an empty data directory.

The command waits until that is done. When it is interrupted, or --timeout has
passed, the broker goes on leaving.`,
		Args: exactArgs("BROKER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := brokerArg(args[0])
			if err != nil {
				return err
			}
			if timeout < 0 {
				return usage(fmt.Errorf("--timeout %v: want 0 or more", timeout))
			}
			if err := p.mayAsk(risk, "remove a broker"); err != nil {
				return err
			}
			return p.admin(cmd.Context(), func(ctx context.Context, a *mq.Admin) error {
				return p.removeBroker(ctx, a, id, risk, timeout)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "wait no longer than this (0: as long as it takes)")
	risk.flags(cmd)
	return cmd
}

func (p *program) removeBroker(ctx context.Context, a *mq.Admin, id int32, risk risk, timeout time.Duration) error {
	c, err := a.ClusterHealth(ctx)
	if err != nil {
		return err
	}
	what := ""
	for _, b := range c.Brokers {
		if b.ID == id {
			what = fmt.Sprintf("remove broker %d (%s), which has %s", id, brokerState(b), count(b.Replicas, "replica"))
		}
	}
	if what == "" {
		return fmt.Errorf("there is no broker %d", id)
	}
	if ok, err := p.goAhead(ctx, risk, what); !ok || err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return p.done(a.RemoveBroker(ctx, id), "broker %d has left; it can be stopped", id)
}
