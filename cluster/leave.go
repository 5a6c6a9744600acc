package cluster

import (
	"context"
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// leaveBroker names a broker that leaves the cluster.
type leaveBroker struct {
	Broker int32 `json:"broker"`
}

func (t *metaTx) leaveBroker(id int32) error {
	b, ok := t.next.brokers[id]
	switch {
	case !ok:
		return fmt.Errorf("%w: no broker %d", mqerr.ErrInvalidRequest, id)
	case len(t.next.staying()) == 1 && !b.Leaving:
		return fmt.Errorf("%w: broker %d is the last", mqerr.ErrInvalidRequest, id)
	}
	b.Leaving = true
	t.next.brokers[id] = b
	return t.put(brokerKey(id), b)
}

func (t *metaTx) forgetBroker(id int32) error {
	if b, ok := t.next.brokers[id]; ok && !b.Leaving {
		return fmt.Errorf("%w: broker %d does not leave", mqerr.ErrInvalidRequest, id)
	}
	var holds error
	t.next.eachShard(func(s shardRecord, _ *topicRecord) {
		if _, ok := s.on(id); ok {
			holds = fmt.Errorf("%w: broker %d has a replica of shard %d", mqerr.ErrInvalidRequest, id, s.Shard)
		}
	})
	if holds != nil {
		return holds
	}
	delete(t.next.brokers, id)
	t.batch.Delete([]byte(brokerKey(id)))
	return nil
}

func brokerKey(id int32) string { return fmt.Sprintf("%s%d", preBroker, id) }

// RemoveBroker makes a broker leave the cluster: what it has goes to others, as
// far as there are any that lack it, and then the cluster forgets it. It returns
// when that is done; when ctx ends before, it goes on. A broker that is dead can
// be removed too. One that was removed has to be stopped, and comes back only
// with an empty data directory.
func (n *Node) RemoveBroker(ctx context.Context, id int32) error {
	if err := n.proposeMeta(ctx, &metaCommand{LeaveBroker: &leaveBroker{Broker: id}}, nil); err != nil {
		return err
	}
	n.membership.nudge()
	for {
		changed := n.changed.wait()
		if _, there := n.meta.state.Load().brokers[id]; !there {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: broker %d is leaving: %w", mqerr.ErrTimeout, id, context.Cause(ctx))
		case <-n.closing.Done():
			return fmt.Errorf("%w: broker %d is leaving", mqerr.ErrTimeout, id)
		}
	}
}
