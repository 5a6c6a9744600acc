package mq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
)

// Waits between attempts of one request.
var requestBackoff = backoff.Policy{Base: 20 * time.Millisecond, Max: 2 * time.Second}

// repeat calls fn until it succeeds, fails in a way that again refuses, or ctx
// ends; then the error holds the cause and the last failure. Each attempt gets
// at most timeout.
func repeat(ctx context.Context, timeout time.Duration, again func(error) bool, fn func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for failures := 1; ; failures++ {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := fn(attempt)
		cancel()
		if err == nil || ctx.Err() == nil && !again(err) {
			return err
		}
		if over := backoff.Sleep(ctx, requestBackoff.Delay(failures)); over != nil {
			if errors.Is(err, over) {
				return err
			}
			return fmt.Errorf("%w: %w", over, err)
		}
	}
}

// hops is how many hints to a better broker are followed: one that has no copy
// knows who has, and that one knows who leads.
const hops = 3

// askHinted calls fn with the broker id, with any one if that is route.SeedID,
// and again with the broker that the answer names as a better one. It returns the
// broker to begin with next time.
func askHinted(ctx context.Context, r *route.Router, id int32, fn func(api.Broker) error) (int32, error) {
	get := r.Any
	if id != route.SeedID {
		get = func(ctx context.Context) (api.Broker, error) { return r.Broker(ctx, id) }
	}
	b, err := get(ctx)
	if err == nil {
		err = fn(b)
	}
	for range hops {
		hint, _, ok := LeaderHint(err)
		if !ok || hint == id {
			break
		}
		id = hint
		if b, err = r.Broker(ctx, id); err == nil {
			err = fn(b)
		}
	}
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return id, err // who asked does not want it any more; nothing is known of the broker
		}
		if id == route.SeedID {
			r.AnyFailed(err)
		}
		return route.SeedID, err
	}
	return id, nil
}

// question is a request about one partition: value is a timestamp or an offset.
type question struct {
	api.TopicPartition
	value int64
}

// reply answers a question.
type reply struct {
	offset, timestamp int64
	leaderEpoch       int32
	err               error
}

// askFunc sends questions to one broker; replies come in their order.
type askFunc func(ctx context.Context, b api.Broker, qs []question) ([]reply, error)

// askLeaders sends each question to the leader of its partition, those for one
// leader together, and asks again as repeat does. Replies come in the order of
// the questions; one that fails for good fails the request.
func askLeaders(ctx context.Context, r *route.Router, timeout time.Duration, again func(error) bool, qs []question, ask askFunc) ([]reply, error) {
	replies := make([]reply, len(qs))
	done := make([]bool, len(qs))
	err := repeat(ctx, timeout, again, func(ctx context.Context) error {
		at, err := groupByLeader(ctx, r, qs, done)
		if err != nil {
			return err
		}
		var failed error
		for _, id := range slices.Sorted(maps.Keys(at)) {
			for _, l := range askLeader(ctx, at[id], ask) {
				replies[l.index], done[l.index] = l.reply, l.reply.err == nil
				if l.reply.err == nil {
					continue
				}
				r.Failed(l.leader, l.reply.err)
				failed = fmt.Errorf("%s/%d: %w", l.Topic, l.Partition, l.reply.err)
				if !again(failed) {
					return failed
				}
			}
		}
		return failed
	})
	return replies, err
}

// led is a question, who is to be asked, and the reply.
type led struct {
	question
	index  int // among all questions
	leader route.Leader
	reply  reply
}

// groupByLeader finds the leaders of the questions that are not done.
func groupByLeader(ctx context.Context, r *route.Router, qs []question, done []bool) (map[int32][]led, error) {
	at := make(map[int32][]led)
	for i, q := range qs {
		if done[i] {
			continue
		}
		l, err := r.Leader(ctx, q.Topic, q.Partition)
		if err != nil {
			return nil, err
		}
		if q.TopicID == uuid.Nil {
			q.TopicID = l.TopicID
		}
		at[l.ID] = append(at[l.ID], led{question: q, index: i, leader: l})
	}
	return at, nil
}

// askLeader fills in the replies of one leader.
func askLeader(ctx context.Context, ls []led, ask askFunc) []led {
	qs := make([]question, len(ls))
	for i, l := range ls {
		qs[i] = l.question
	}
	replies, err := ask(ctx, ls[0].leader.Broker, qs)
	if err == nil && len(replies) != len(qs) {
		err = fmt.Errorf("%w: %d replies to %d questions", mqerr.ErrInternal, len(replies), len(qs))
	}
	for i := range ls {
		if err != nil {
			ls[i].reply.err = err
		} else {
			ls[i].reply = replies[i]
		}
	}
	return ls
}

// askOffsets asks for the offsets of timestamps.
func askOffsets(isolation Isolation) askFunc {
	return func(ctx context.Context, b api.Broker, qs []question) ([]reply, error) {
		req := &api.ListOffsetsRequest{Isolation: int8(isolation)}
		for _, q := range qs {
			req.Partitions = append(req.Partitions, api.ListOffsetsPartition{TopicPartition: q.TopicPartition, Timestamp: q.value})
		}
		resp, err := b.ListOffsets(ctx, req)
		if err != nil {
			return nil, err
		}
		var replies []reply
		for _, p := range resp.Partitions {
			replies = append(replies, reply{p.Offset, p.Timestamp, p.LeaderEpoch, p.Err})
		}
		for i := range min(len(replies), len(qs)) {
			if r := &replies[i]; r.err == nil && r.offset < 0 && qs[i].value < 0 {
				r.err = fmt.Errorf("%w: no offset for timestamp %d", mqerr.ErrInternal, qs[i].value)
			}
		}
		return replies, nil
	}
}

// askTrim asks to delete the records below offsets.
func askTrim(ctx context.Context, b api.Broker, qs []question) ([]reply, error) {
	req := &api.TrimTopicRequest{}
	for _, q := range qs {
		req.Partitions = append(req.Partitions, api.TrimPartition{TopicPartition: q.TopicPartition, Offset: q.value})
	}
	resp, err := b.TrimTopic(ctx, req)
	if err != nil {
		return nil, outcome(err)
	}
	var replies []reply
	for _, p := range resp.Partitions {
		replies = append(replies, reply{offset: p.LogStart, err: p.Err})
	}
	return replies, nil
}
