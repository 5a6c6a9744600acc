package mq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
)

// offsetStore reads and writes the offsets of a group at its coordinator.
// Methods are one attempt each and safe for concurrent use.
type offsetStore struct {
	router *route.Router
	group  string

	coordinator atomic.Int32 // who answered last; route.SeedID when nobody did
}

func newOffsetStore(r *route.Router, group string) *offsetStore {
	s := &offsetStore{router: r, group: group}
	s.coordinator.Store(route.SeedID)
	return s
}

// ask calls fn with the coordinator.
func (s *offsetStore) ask(ctx context.Context, fn func(api.Broker) error) error {
	id, err := askHinted(ctx, s.router, s.coordinator.Load(), fn)
	s.coordinator.Store(id)
	return err
}

// fetch returns what is committed for partitions, in their order, or for all
// that have something when tps is nil.
func (s *offsetStore) fetch(ctx context.Context, tps []api.TopicPartition) (offsets []api.CommittedOffset, err error) {
	err = s.ask(ctx, func(b api.Broker) error {
		resp, err := b.FetchOffsets(ctx, &api.FetchOffsetsRequest{Group: s.group, Partitions: tps})
		if err != nil {
			return err
		}
		if tps != nil && len(resp.Offsets) != len(tps) {
			return fmt.Errorf("%w: %d offsets for %d partitions", mqerr.ErrInternal, len(resp.Offsets), len(tps))
		}
		offsets = resp.Offsets
		return nil
	})
	return offsets, err
}

// heartbeat sends a sign of life of a member.
func (s *offsetStore) heartbeat(ctx context.Context, req *api.GroupHeartbeatRequest) (resp *api.GroupHeartbeatResponse, err error) {
	err = s.ask(ctx, func(b api.Broker) error {
		resp, err = b.GroupHeartbeat(ctx, req)
		return err
	})
	return resp, err
}

// commit stores offsets and returns an error for each, in their order.
func (s *offsetStore) commit(ctx context.Context, req *api.CommitOffsetsRequest) (results []api.CommitResult, err error) {
	req.Group = s.group
	err = s.ask(ctx, func(b api.Broker) error {
		resp, err := b.CommitOffsets(ctx, req)
		if err != nil {
			return outcome(err)
		}
		if len(resp.Results) != len(req.Offsets) {
			return fmt.Errorf("%w: %d results of %d commits", mqerr.ErrInternal, len(resp.Results), len(req.Offsets))
		}
		results = resp.Results
		return nil
	})
	return results, err
}

// Commit marks the records, and those before them in their partitions, as
// finished, and then stores the offsets of everything finished under GroupID.
// In a Run with a Concurrency above 1, or an error policy, it marks no others
// than those named. Without records it stores what is finished already; what
// Poll returned last is not. It waits for the answer and repeats attempts until ctx ends. Errors:
// ErrInvalidGroupID without a GroupID, ErrInvalidRequest for a record that was
// not handed out since the last Seek of its partition, ErrStaleMemberEpoch for
// one whose partition went to another member of the group; everything else is
// stored all the same.
func (c *Consumer) Commit(ctx context.Context, rs ...*Record) error {
	if c.offsets == nil {
		return fmt.Errorf("commit: %w", errNoGroup)
	}
	bound, cancel := ctx, context.CancelFunc(func() {})
	if ctx.Value(hookKey{}) == nil {
		bound, cancel = c.bind(ctx)
	}
	defer cancel()
	if bound.Err() != nil {
		return fmt.Errorf("commit: %w", c.whyEnded(ctx, nil))
	}
	var errs []error
	for _, r := range rs {
		errs = append(errs, c.finishAt(r))
	}
	if err := c.commitFinished(bound); err != nil {
		errs = append(errs, c.whyEnded(ctx, err))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// finishAt finishes a record and those before it in its partition.
func (c *Consumer) finishAt(r *Record) error {
	if r == nil {
		return fmt.Errorf("%w: %s", ErrInvalidRequest, describe(r))
	}
	key := fetch.Key{Topic: r.Topic, Partition: r.Partition}
	switch {
	case c.set.FinishAt(key, r.Offset+1, r.LeaderEpoch):
		return nil
	case c.member != nil && !slices.Contains(c.Assignment(), TopicPartition(key)):
		return fmt.Errorf("%w: the partition of %s is not this consumer's any more", ErrStaleMemberEpoch, describe(r))
	}
	return fmt.Errorf("%w: %s was not handed out since the last seek", ErrInvalidRequest, describe(r))
}

func describe(r *Record) string {
	if r == nil {
		return "a nil record"
	}
	return fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
}

// commitFinished stores what is finished and not stored yet, of some partitions
// or of all, and repeats attempts until ctx ends. One at a time, or an older
// commit might overtake. An attempt is over when its ctx is: a coordinator that gets
// to it later drops it, and what it has proposed before stays before the next.
func (c *Consumer) commitFinished(ctx context.Context, only ...*fetch.Partition) error {
	select {
	case c.committing <- struct{}{}:
		defer func() { <-c.committing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	run := committing{c: c, only: only, refused: make(map[*fetch.Partition]error)}
	err := repeat(ctx, c.cfg.Timeout, mayCommitAgain, run.once)
	for _, p := range run.order {
		err = errors.Join(err, run.refused[p])
	}
	return err
}

// committing is the attempts of one commit.
type committing struct {
	c       *Consumer
	only    []*fetch.Partition
	open    []fetch.Commit             // tried and not known to be stored
	refused map[*fetch.Partition]error // for good
	order   []*fetch.Partition         // of refused
}

// once makes an attempt for what was not refused. It returns what may pass, or
// refuses everything.
func (k *committing) once(ctx context.Context) error {
	for _, o := range k.open {
		if o.Of().Context().Err() != nil {
			k.refuse(o, context.Cause(o.Of().Context()))
		}
	}
	commits, req := k.gather()
	k.open = commits
	if len(commits) == 0 {
		return nil
	}
	for _, o := range commits {
		req.Offsets = append(req.Offsets, o.OffsetCommit)
	}
	results, err := k.c.offsets.commit(ctx, req)
	if err != nil {
		return err
	}
	k.open = nil
	var errs []error
	for i, r := range results {
		switch {
		case r.Err == nil:
			k.c.set.Committed(commits[i])
		case mayCommitAgain(r.Err):
			k.open = append(k.open, commits[i])
			errs = append(errs, fmt.Errorf("%s/%d@%d: %w", r.Topic, r.Partition, commits[i].Offset, r.Err))
		default:
			k.refuse(commits[i], r.Err)
			if k.c.member != nil && errors.Is(r.Err, ErrStaleMemberEpoch) {
				k.c.member.lose(r.Err, commits[i].Of())
			}
		}
	}
	return errors.Join(errs...)
}

// gather lists what is to be stored, and who says so.
func (k *committing) gather() (commits []fetch.Commit, req *api.CommitOffsetsRequest) {
	req = &api.CommitOffsetsRequest{MemberEpoch: api.NoMemberEpoch}
	if m := k.c.member; m != nil {
		req.MemberID = m.id
		commits, req.MemberEpoch = m.commits(k.only)
	} else {
		commits = k.c.set.Commits()
	}
	return slices.DeleteFunc(commits, func(o fetch.Commit) bool { return k.refused[o.Of()] != nil }), req
}

func (k *committing) refuse(o fetch.Commit, err error) {
	if k.refused[o.Of()] == nil {
		k.order = append(k.order, o.Of())
		k.refused[o.Of()] = fmt.Errorf("%s/%d@%d: %w", o.Topic, o.Partition, o.Offset, err)
	}
}

// mayCommitAgain refuses what a deleted topic answers: there is nothing left to
// commit for.
func mayCommitAgain(err error) bool { return fetch.MayPass(err) && !unknownTopic(err) }

func unknownTopic(err error) bool {
	return errors.Is(err, ErrUnknownTopicOrPartition) || errors.Is(err, ErrUnknownTopicID)
}

// commitLoop commits at the interval.
func (c *Consumer) commitLoop() {
	ticker := time.NewTicker(c.cfg.AutoCommitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ctx, cancel := context.WithTimeout(c.life, c.cfg.Timeout)
			if err := c.commitFinished(ctx); err != nil && c.life.Err() == nil {
				c.log.Warn("auto-commit failed, the next one tries again", "group", c.cfg.GroupID, "err", err)
			}
			cancel()
		case <-c.life.Done():
			return
		}
	}
}

// askLoop asks for committed offsets when partitions need them.
func (c *Consumer) askLoop() {
	for {
		select {
		case <-c.asking:
			c.askCommitted()
		case <-c.life.Done():
			return
		}
	}
}

// askCommitted asks until each partition that needs its committed offset has it.
func (c *Consumer) askCommitted() {
	var down outage
	_ = repeat(c.life, c.cfg.Timeout, always, func(ctx context.Context) error {
		lookups := c.set.CommittedLookups()
		if len(lookups) == 0 {
			return nil
		}
		err := c.askCommittedOnce(ctx, lookups)
		if err != nil && down.tell() && c.life.Err() == nil {
			c.log.Warn("no committed offsets yet", "group", c.cfg.GroupID, "for", outageTold, "err", err)
		}
		return err
	})
}

func always(error) bool { return true }

func (c *Consumer) askCommittedOnce(ctx context.Context, lookups []fetch.Lookup) error {
	tps := make([]api.TopicPartition, len(lookups))
	for i, l := range lookups {
		tps[i] = l.TopicPartition
	}
	offsets, err := c.offsets.fetch(ctx, tps)
	var errs []error
	for i, l := range lookups {
		if err == nil {
			c.set.FoundCommitted(l, offsets[i].Offset, offsets[i].Err)
			errs = append(errs, offsets[i].Err)
		} else {
			c.set.FoundCommitted(l, -1, err)
		}
	}
	return errors.Join(append(errs, err)...)
}
