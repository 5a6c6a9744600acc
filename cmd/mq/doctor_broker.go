package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/raftmq/mq"
)

const (
	pings         = 9  // round trips that are measured
	maxAdvertised = 64 // addresses that are tried
)

// broker checks whether a broker answers, how fast, and what it tells of the
// cluster.
func (d *diagnosis) broker(ctx context.Context, cfg mq.ClientConfig, timeout time.Duration) {
	const name = "broker"
	addrs := strings.Join(cfg.Brokers, ", ")
	cfg.Timeout, cfg.MaxRetries = timeout, mq.NoRetries
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := mq.Dial(dialing, cfg)
	if err != nil {
		d.fail(name, "start one with mq broker, or name it with --broker", "%v", err)
		return
	}
	defer func() { _ = c.Close() }()
	a := mq.NewAdmin(c)
	var took []time.Duration
	var cluster mq.ClusterInfo
	for range pings {
		began := time.Now()
		if cluster, err = describe(ctx, a, timeout); err != nil {
			d.fail(name, "look at the broker's log", "%s: %v", addrs, err)
			return
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	d.ok(name, "%s answers in %v, median of %d, longest %v", addrs, round(took[pings/2]), pings, round(took[pings-1]))
	if cluster.Controller < 0 {
		d.fail("cluster", "start the brokers that are missing", "%s: no broker leads the metadata", cluster.ID)
	} else {
		d.ok("cluster", "%s, brokers: %d, controller: %d", cluster.ID, len(cluster.Brokers), cluster.Controller)
	}
	d.advertised(ctx, cluster, timeout)
	d.leaders(ctx, a, timeout)
}

func describe(ctx context.Context, a *mq.Admin, timeout time.Duration) (mq.ClusterInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return a.DescribeCluster(ctx)
}

// advertised checks whether the addresses that brokers tell their clients lead
// to something from here.
func (d *diagnosis) advertised(ctx context.Context, cluster mq.ClusterInfo, timeout time.Duration) {
	const name, advice = "advertised", "start the broker with --advertise HOST:PORT that clients reach"
	var fine []string
	for _, b := range cluster.Brokers[:min(len(cluster.Brokers), maxAdvertised)] {
		if err := reach(ctx, b.Addr, timeout); err != nil {
			d.fail(name, advice, "broker %d tells clients to use %q, which they can't from here: %v", b.ID, b.Addr, err)
		} else if onEveryInterface(b.Addr) {
			d.warn(name, advice, "broker %d tells clients to use %s, which leads nowhere from other machines", b.ID, b.Addr)
		} else {
			fine = append(fine, b.Addr)
		}
	}
	if len(fine) > 0 {
		d.ok(name, "reached from here: %s", strings.Join(fine, ", "))
	}
}

func reach(ctx context.Context, addr string, timeout time.Duration) error {
	if addr == "" {
		return errors.New("it has no address")
	}
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// leaders checks whether every partition can be written and read.
func (d *diagnosis) leaders(ctx context.Context, a *mq.Admin, timeout time.Duration) {
	const name = "partitions"
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	topics, err := a.ListTopics(ctx)
	if err != nil {
		d.fail(name, "look at the broker's log", "%v", err)
		return
	}
	total, leaderless := 0, []string{}
	for _, t := range topics {
		total += len(t.Partitions)
		if slices.ContainsFunc(t.Partitions, func(part mq.PartitionInfo) bool { return part.Leader < 0 }) {
			leaderless = append(leaderless, t.Name)
		}
	}
	if len(leaderless) > 0 {
		d.fail(name, "start the brokers that are missing; mq topic describe tells which", "topics with a partition without a leader: %s", strings.Join(leaderless, ", "))
		return
	}
	d.ok(name, "%d of %s, all with a leader", total, count(len(topics), "topic"))
}
