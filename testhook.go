package mq

import (
	"context"
	"log/slog"

	"github.com/raftmq/mq/cluster"
	"github.com/raftmq/mq/cluster/crashdisk"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/internal/testhook"
	"github.com/raftmq/mq/transport"
)

// What package mqtest, and nobody else, needs.
func init() {
	testhook.NewDisk = func() testhook.Disk { return crashdisk.New() }
	testhook.OpenBroker = func(ctx context.Context, cfg any, m testhook.Machine) (any, error) {
		return openBroker(ctx, cfg.(BrokerConfig), &m)
	}
	testhook.NewClient = func(brokers []string, dial testhook.Dial) any {
		return &Client{route: route.New(route.Config{
			Seeds: brokers, Timeout: defaultClientTimeout, Logger: slog.New(slog.DiscardHandler),
			Dial: func(ctx context.Context, _ int32, addr string) (route.Conn, error) {
				return transport.Dial(ctx, addr, transport.ClientConfig{DialContext: dial})
			},
		})}
	}
	testhook.Look = func(broker any) testhook.Inside { return broker.(*Broker).node }
}

// onMachine puts a node on the machine of a test.
func onMachine(c cluster.Config, m *testhook.Machine) cluster.Config {
	if m != nil {
		d := m.Disk.(*crashdisk.Disk)
		c.Test.StoreFS, c.Test.RaftFS, c.Test.Now = d.Store(), d.Raft(), m.Now
		// Small, so that raft logs are cut and brokers that were away get snapshots.
		c.SnapshotBytes, c.SnapshotTotalBytes = 256<<10, 4<<20
	}
	return c
}
