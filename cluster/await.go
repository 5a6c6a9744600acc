package cluster

import (
	"cmp"
	"context"

	"github.com/raftmq/mq/internal/mqerr"
)

// await waits until holds is true, looking again whenever leadership, metadata or
// replicas have changed. It may end before, with ctx, whose cause it gives, or with
// the node: then it gives why that failed, or ErrClosed.
func (n *Node) await(ctx context.Context, holds func() bool) error {
	for {
		changed := n.changed.wait()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.failed.c:
			return n.failed.err
		case <-n.closing.Done():
			return cmp.Or(n.Failure(), error(mqerr.ErrClosed))
		}
	}
}
