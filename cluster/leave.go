package cluster

import (
	"context"
	"fmt"

	"github.com/raftmq/mq/internal/api"
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

// RemoveBroker implements api.Broker. A broker that was removed has to be stopped,
// and comes back only with an empty data directory.
func (n *Node) RemoveBroker(ctx context.Context, req *api.RemoveBrokerRequest) (*api.RemoveBrokerResponse, error) {
	if err := n.proposeMeta(ctx, &metaCommand{LeaveBroker: &leaveBroker{Broker: req.ID}}, nil); err != nil {
		return nil, err
	}
	n.membership.nudge()
	return &api.RemoveBrokerResponse{}, nil
}

// knownRequest asks whether a directory is that of a broker of the cluster.
type knownRequest struct {
	Dir string `json:"dir"`
}

type knownAnswer struct {
	Known bool `json:"known"`
}

// serveKnown answers by the newest metadata, or not at all.
func (n *Node) serveKnown(ctx context.Context, q *knownRequest) (*knownAnswer, error) {
	if !n.registered.Load() {
		return nil, errNotJoined
	}
	if err := n.refreshMeta(ctx); err != nil {
		return nil, err
	}
	_, known := n.meta.state.Load().byDir(q.Dir)
	return &knownAnswer{Known: known}, nil
}

// removed asks the others whether this broker is one of them still: once it is
// not, it hears nothing of the metadata any more, its removal included.
func (n *Node) removed(ctx context.Context) error {
	me := n.DirectoryID()
	for _, b := range n.meta.state.Load().brokers {
		if b.DirID == me {
			continue
		}
		if a, err := call[knownAnswer](ctx, n.link, b.DirID, callKnown, knownRequest{Dir: me}); err == nil {
			if a.Known {
				return nil
			}
			return mqerr.ErrRemoved
		}
	}
	return nil // nobody knows
}

// checkRemoved ends a broker that leaves when it has left.
func (n *Node) checkRemoved() {
	if !n.meta.state.Load().brokers[n.cfg.BrokerID].Leaving {
		return
	}
	ctx, cancel := context.WithTimeout(n.closing, stepTimeout)
	defer cancel()
	if err := n.removed(ctx); err != nil {
		n.fail(err)
	}
}
