package cluster

import (
	"context"
	"fmt"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// ListOffsets implements api.Broker.
func (n *Node) ListOffsets(_ context.Context, req *api.ListOffsetsRequest) (*api.ListOffsetsResponse, error) {
	resp := &api.ListOffsetsResponse{}
	for _, p := range req.Partitions {
		res := api.ListOffsetsResult{TopicPartition: p.TopicPartition, Offset: -1, Timestamp: -1, LeaderEpoch: api.NoEpoch}
		f, err := n.find(p.TopicPartition)
		if err != nil {
			res.Err = err
		} else {
			res.TopicID, res.LeaderEpoch = f.topic.ID, f.epoch
			res.Offset, res.Timestamp, res.Err = f.part.offsetFor(p.Timestamp)
			res.Err = f.rep.readError(res.Err)
		}
		resp.Partitions = append(resp.Partitions, res)
	}
	return resp, nil
}

// offsetFor finds the first record at or after a time (ms), or a special one.
func (p *partition) offsetFor(timestamp int64) (offset, at int64, err error) {
	st := p.log.State()
	switch timestamp {
	case api.LatestTimestamp:
		return st.End, -1, nil
	case api.EarliestTimestamp:
		return st.Start, -1, nil
	case api.MaxTimestamp:
		return p.youngest(st.MaxTimestamp)
	}
	if timestamp < 0 {
		return -1, -1, fmt.Errorf("%w: timestamp %d", mqerr.ErrInvalidRequest, timestamp)
	}
	return p.firstSince(timestamp)
}

// youngest finds the first of the readable records with the largest timestamp.
// The largest ever is known; if its record was trimmed, halving the time before
// it finds the largest that is left.
func (p *partition) youngest(ever int64) (offset, at int64, err error) {
	offset, at, err = p.firstSince(ever)
	if err != nil || offset >= 0 {
		return offset, at, err
	}
	for low, high := int64(-1), ever; high-low > 1; {
		// A record since low is there or low is -1, none since high is.
		try := low + (high-low)/2
		off, found, err := p.firstSince(try)
		switch {
		case err != nil:
			return -1, -1, err
		case off < 0:
			high = try
		default:
			offset, at, low = off, found, found
		}
	}
	return offset, at, nil
}

// firstSince finds the first readable record at or after a time, -1 for none.
func (p *partition) firstSince(timestamp int64) (offset, at int64, err error) {
	st := p.log.State()
	for from := int64(0); ; {
		// Batches that may hold such a record, by what their headers say.
		batch, next, err := p.log.OffsetForTimestamp(timestamp, from)
		if err != nil || batch == nil {
			return -1, -1, err
		}
		offset, at, ok, err := record.FirstAtOrAfter(batch, timestamp, st.Start)
		if err != nil {
			return -1, -1, err
		}
		if ok {
			return offset, at, nil
		}
		from = next
	}
}

// EpochEnds implements api.Broker.
func (n *Node) EpochEnds(_ context.Context, req *api.EpochEndsRequest) (*api.EpochEndsResponse, error) {
	resp := &api.EpochEndsResponse{}
	for _, p := range req.Partitions {
		res := api.EpochEndsResult{TopicPartition: p.TopicPartition, LeaderEpoch: api.NoEpoch, EndOffset: -1}
		f, err := n.find(p.TopicPartition)
		if err != nil {
			res.Err = err
		} else {
			res.TopicID = f.topic.ID
			res.LeaderEpoch, res.EndOffset, res.Err = f.part.log.EpochEnd(p.LeaderEpoch)
			res.Err = f.rep.readError(res.Err)
		}
		resp.Partitions = append(resp.Partitions, res)
	}
	return resp, nil
}

// DescribeLogs implements api.Broker.
func (n *Node) DescribeLogs(_ context.Context, req *api.DescribeLogsRequest) (*api.DescribeLogsResponse, error) {
	s := n.meta.state.Load()
	topics := s.sortedTopics()
	if req.Topics != nil {
		topics = nil
		for _, name := range req.Topics {
			t := s.topics[name]
			if t == nil {
				return nil, fmt.Errorf("%w: topic %q", mqerr.ErrUnknownTopicOrPartition, name)
			}
			topics = append(topics, t)
		}
	}
	resp := &api.DescribeLogsResponse{}
	for _, t := range topics {
		for i := range t.Partitions {
			l := api.LogInfo{TopicPartition: t.tp(i), LeaderEpoch: api.NoEpoch}
			if f, err := n.find(l.TopicPartition); err != nil {
				n.followedLog(t, &l, err)
			} else {
				st := f.part.log.State()
				l.LogStart, l.HighWatermark, l.SizeBytes = st.Start, st.End, st.Bytes
				l.LeaderEpoch, l.Leader = f.epoch, true
			}
			resp.Logs = append(resp.Logs, l)
		}
	}
	return resp, nil
}

// TrimTopic implements api.Broker.
func (n *Node) TrimTopic(ctx context.Context, req *api.TrimTopicRequest) (*api.TrimTopicResponse, error) {
	resp := &api.TrimTopicResponse{Partitions: make([]api.TrimResult, len(req.Partitions))}
	results := make([]result, len(req.Partitions))
	answered := make(chan struct{}, len(req.Partitions)) // takes all answers even if nobody waits any more
	open := 0
	for i, p := range req.Partitions {
		resp.Partitions[i] = api.TrimResult{TopicPartition: p.TopicPartition, LogStart: -1}
		f, err := n.find(p.TopicPartition)
		if err != nil {
			results[i] = refused(err)
			continue
		}
		to := p.Offset
		if to == -1 {
			to = f.part.log.State().End
		}
		open++
		f.rep.propose(kindTrim, trimBody(to), n.cfg.ProposeTimeout, func(res result) {
			results[i] = res
			answered <- struct{}{}
		})
	}
	for range open {
		select {
		case <-answered:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", mqerr.ErrTimeout, context.Cause(ctx))
		}
	}
	for i, res := range results {
		if resp.Partitions[i].Err = res.err; res.err == nil {
			resp.Partitions[i].LogStart = res.logStart
		}
	}
	return resp, nil
}
