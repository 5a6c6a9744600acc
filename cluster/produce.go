package cluster

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// found is a partition that this broker leads, or follows.
type found struct {
	topic *topicRecord
	rep   *replica
	part  *partition
	epoch int32
	led   error // why it does not lead, when it may answer all the same
}

// find resolves a partition. The error says who to ask where that is known.
func (n *Node) find(tp api.TopicPartition) (found, error) {
	f, err := n.findReplica(tp)
	if err != nil {
		return found{}, err
	}
	if f.epoch, err = f.rep.epochServed(); err != nil {
		return found{}, err
	}
	return f, nil
}

// findReplica finds it whoever leads.
func (n *Node) findReplica(tp api.TopicPartition) (found, error) {
	s := n.meta.state.Load()
	t, err := lookup(s, tp)
	if err != nil {
		return found{}, err
	}
	r := n.replica(t.Partitions[tp.Partition].Shard)
	if r == nil {
		if _, here := t.Partitions[tp.Partition].on(n.cfg.BrokerID); !here {
			return found{}, fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, mqerr.ErrNotLeader)
		}
		return found{}, fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, mqerr.ErrLeaderNotAvailable)
	}
	return found{topic: t, rep: r, part: r.machine.app.(*partition)}, nil
}

// Produce implements api.Broker.
func (n *Node) Produce(ctx context.Context, req *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
	if err := ctx.Err(); err != nil {
		done(nil, fmt.Errorf("%w: %w", mqerr.ErrLeaderNotAvailable, context.Cause(ctx)))
		return
	}
	switch req.Acks {
	case api.AcksNone, api.AcksLeader, api.AcksAll:
	default:
		done(nil, fmt.Errorf("%w: acks %d", mqerr.ErrInvalidRequest, req.Acks))
		return
	}
	resp := &api.ProduceResponse{Partitions: make([]api.ProduceResult, len(req.Partitions))}
	// One more than the partitions, so that the last answer can't come before
	// all were handed over.
	var open atomic.Int32
	open.Store(int32(len(req.Partitions)) + 1)
	answered := func() {
		if open.Add(-1) == 0 {
			done(resp, nil)
		}
	}
	for i := range req.Partitions {
		p := &req.Partitions[i]
		out := &resp.Partitions[i]
		out.TopicPartition, out.BaseOffset, out.AppendTime = p.TopicPartition, -1, -1
		if req.Acks == api.AcksNone {
			// Answered when handed over; the outcome is nobody's concern, but a
			// refusal that is known by now is told.
			var refusal atomic.Pointer[error]
			n.produceOne(req, p, func(res result, _ int64) {
				if res.err != nil {
					refusal.CompareAndSwap(nil, &res.err)
				}
			})
			if err := refusal.Load(); err != nil {
				out.Err = *err
			}
			answered()
			continue
		}
		n.produceOne(req, p, func(res result, appendTime int64) {
			out.BaseOffset, out.LogStart, out.LeaderEpoch, out.Err = res.offset, res.logStart, res.epoch, res.err
			if res.err == nil {
				out.AppendTime = appendTime
			}
			answered()
		})
	}
	answered()
}

// produceOne checks a batch and proposes it. Refused before that, nothing
// happened and the error says so.
func (n *Node) produceOne(req *api.ProduceRequest, p *api.ProducePartition, answer func(result, int64)) {
	done := func(res result, appendTime int64) {
		if res.err != nil {
			n.stats.failed.count(n.meta.state.Load(), p.Topic, res.err)
		}
		answer(res, appendTime)
	}
	refuse := func(err error) {
		n.stats.refused.Add(1)
		done(refused(fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, err)), -1)
	}
	f, err := n.find(p.TopicPartition)
	if err != nil {
		done(refused(err), -1)
		return
	}
	if err := n.fenced(); err != nil {
		refuse(err)
		return
	}
	cfg := f.topic.config
	info, err := record.Validate(p.Batch, cfg.MaxMessageBytes)
	if err != nil {
		refuse(err)
		return
	}
	if info.Transactional {
		refuse(fmt.Errorf("%w: transactions are not supported", mqerr.ErrInvalidRecord))
		return
	}
	batch, appendTime := p.Batch, int64(-1)
	if cfg.LogAppendTime {
		appendTime = n.now().UnixMilli()
		batch = bytes.Clone(batch)
		record.StampAppendTime(batch, appendTime)
	}
	timeout := n.cfg.ProposeTimeout
	if req.Timeout > 0 {
		timeout = req.Timeout
	}
	f.rep.propose(kindAppend, batch, timeout, func(res result) { done(res, appendTime) })
}
