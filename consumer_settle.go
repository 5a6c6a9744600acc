package mq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/fetch"
)

// settleLoop calls hooks, one at a time, and gives up what is not wanted any
// more, until the consumer ends.
func (m *member) settleLoop() {
	defer close(m.done)
	for {
		select {
		case <-m.work:
			for m.c.life.Err() == nil && m.settle() {
			}
		case <-m.c.life.Done():
			return
		}
	}
}

// settle does one thing, if there is one to do.
func (m *member) settle() bool {
	return m.settleLost() || m.settleArriving() || m.settleLeaving()
}

func (m *member) settleLost() bool {
	m.mu.Lock()
	lost := m.mu.lost
	m.mu.lost = nil
	m.mu.Unlock()
	m.tellHook(m.grace, m.c.cfg.OnLost, lost)
	return len(lost) > 0
}

func (m *member) settleArriving() bool {
	hs, tps := m.take(func(h *holding) bool { return h.phase == arriving }, held)
	m.tellHook(m.grace, m.c.cfg.OnAssigned, tps)
	for _, h := range hs {
		m.c.set.Release(h.part)
	}
	return len(hs) > 0
}

// take lists the holdings that pass, by topic and partition, and moves them to a
// phase.
func (m *member) take(pass func(*holding) bool, to phase) (hs []*holding, tps []TopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, h := range m.mu.mine {
		if pass(h) {
			h.phase = to
			hs = append(hs, h)
			tps = append(tps, TopicPartition(key))
		}
	}
	slices.SortFunc(hs, func(a, b *holding) int { return a.part.Key().Compare(b.part.Key()) })
	return hs, sorted(tps)
}

// settleLeaving gives up the partitions that are drained: first the commit, then
// the hook, then the coordinator is told.
func (m *member) settleLeaving() bool {
	ready := func(h *holding) bool { return h.phase == leaving && h.drained }
	var parts []*fetch.Partition
	var until time.Time
	m.mu.Lock()
	for _, h := range m.mu.mine {
		if ready(h) {
			parts, until = append(parts, h.part), h.until
		}
	}
	m.mu.Unlock()
	if len(parts) == 0 {
		return false
	}
	if m.c.cfg.commits() {
		ctx, cancel := context.WithDeadline(m.grace, until)
		if err := m.c.commitFinished(ctx, parts...); err != nil && !unknownTopic(err) && !rejoins(err) {
			m.c.log.Warn("commit of partitions that go to others failed, what was not committed comes again there",
				"group", m.c.cfg.GroupID, "err", err)
		}
		cancel()
	}
	hs, tps := m.take(func(h *holding) bool { return h.phase == leaving && slices.Contains(parts, h.part) }, gone)
	m.tellHook(m.grace, m.c.cfg.OnRevoked, tps)
	m.drop(hs)
	return true
}

// drop forgets partitions and has the coordinator told.
func (m *member) drop(hs []*holding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range hs {
		m.c.set.Remove(h.part, errRevoked)
		if key := h.part.Key(); m.mu.mine[key] == h {
			delete(m.mu.mine, key)
		}
	}
	m.tellLocked()
	m.reconcileLocked(false)
}

// tellHook calls a hook if there is one and anything to tell.
func (m *member) tellHook(ctx context.Context, hook RebalanceHook, tps []TopicPartition) {
	if hook != nil && len(tps) > 0 {
		hook(context.WithValue(ctx, hookKey{}, true), tps)
	}
}

// hookKey marks the ctx of a hook, which may commit while the consumer closes.
type hookKey struct{}

// farewell gives up everything and leaves the group, once nobody reads and the
// consumer's loops have ended. It returns what became of the last commit. A hook
// that is running is waited for as long as CloseTimeout allows.
func (m *member) farewell() error {
	m.parting.Do(func() {
		m.c.loops.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), m.c.cfg.CloseTimeout)
		defer cancel()
		first, done := context.WithTimeout(ctx, m.c.cfg.CloseTimeout-m.c.cfg.CloseTimeout/5) // the rest is for hooks and leaving
		defer done()
		last, over := context.WithTimeout(ctx, m.c.cfg.CloseTimeout-m.c.cfg.CloseTimeout/10)
		defer over()
		select {
		case <-m.done:
			m.waits.Wait()
			m.parted = m.lastCommit(first)
			m.parted = errors.Join(m.parted, m.giveUp(last))
		case <-first.Done():
			m.parted = errors.Join(tooLong(first), m.lastCommit(last))
		}
		m.leave(ctx)
		m.endGrace()
	})
	return m.parted
}

// giveUp calls the last hooks, which may not hold it up longer than ctx, nor when
// they call Close, which waits for them.
func (m *member) giveUp(ctx context.Context) (err error) {
	told := make(chan struct{})
	go func() { // ends with the hooks
		defer close(told)
		m.settleLost()
		_, tps := m.take(func(h *holding) bool { return h.phase == held || h.phase == leaving }, gone)
		select {
		case <-m.c.router.Done():
			m.tellHook(ctx, m.c.cfg.OnLost, tps) // there is nobody to commit to
		default:
			m.tellHook(ctx, m.c.cfg.OnRevoked, tps)
		}
	}()
	select {
	case <-told:
	case <-ctx.Done():
		err = tooLong(ctx)
	}
	m.forget(ErrClosed, nil)
	return err
}

func (m *member) lastCommit(ctx context.Context) error {
	if !m.c.cfg.commits() {
		return nil
	}
	return m.c.commitFinished(ctx)
}

func tooLong(ctx context.Context) error {
	return fmt.Errorf("close: a hook takes longer than close_timeout: %w", ctx.Err())
}
