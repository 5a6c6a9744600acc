package mq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
)

// beatLoop keeps the member in its group until the consumer ends or the group
// refuses it for good.
func (m *member) beatLoop() {
	var down outage
	for failures := 0; ; {
		m.gate.Lock()
		m.gate.Unlock() //nolint:staticcheck // nobody holds it, but tests
		sent := time.Now()
		resp, told, err := m.heartbeat(failures > 0)
		var pause time.Duration
		switch {
		case m.c.over():
			return
		case err == nil:
			failures, down = 0, outage{}
			if !m.answered(sent, resp) {
				pause = resp.Interval - time.Since(sent) // else it goes on waiting there
			}
		case told:
			continue // the next one tells it
		case rejoins(err):
			m.lose(err)
			pause = requestBackoff.Delay(failures) // of the first, none
			failures++
		case fetch.MayPass(err):
			failures++
			pause = min(requestBackoff.Delay(failures), m.session()/6) // a new coordinator gives it one session
			m.unheard(err)
			if down.tell() {
				m.c.log.Warn("no coordinator answers", "group", m.c.cfg.GroupID, "for", outageTold, "err", err)
			}
		default:
			m.fail(err)
			return
		}
		if !m.rest(pause) {
			return
		}
	}
}

// rest waits until there is something to tell, or it is time. False when the
// consumer ended.
func (m *member) rest(pause time.Duration) bool {
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-m.wake:
		case <-m.c.life.Done():
		case <-m.c.router.Done():
		}
	}
	return !m.c.over()
}

// heartbeat sends one and waits for the answer, but not when there is more to
// tell, which told says. An urgent one is answered at once.
func (m *member) heartbeat(urgent bool) (resp *api.GroupHeartbeatResponse, told bool, err error) {
	m.mu.Lock()
	req := m.requestLocked(m.mu.epoch)
	m.mu.untold, m.mu.asked = false, true
	select {
	case <-m.wake:
	default:
	}
	member := m.mu.epoch != api.JoinEpoch
	if member && !urgent {
		req.MaxWait = min(m.mu.interval, m.session()/3)
	}
	patience := req.MaxWait + min(m.c.cfg.Timeout, m.session()/3)
	if left := m.session() - time.Since(m.mu.heard); member && left > 0 {
		patience = min(patience, left)
	}
	ctx, cancel := context.WithTimeout(m.c.life, patience)
	defer cancel()
	m.mu.cancel = cancel
	m.mu.Unlock()

	resp, err = m.c.offsets.heartbeat(ctx, req)

	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.cancel = nil
	return resp, m.mu.untold && errors.Is(ctx.Err(), context.Canceled), err
}

// requestLocked says everything about the member.
func (m *member) requestLocked(epoch int32) *api.GroupHeartbeatRequest {
	cfg := m.c.cfg
	req := &api.GroupHeartbeatRequest{
		Group: cfg.GroupID, MemberID: m.id, MemberEpoch: epoch, InstanceID: cfg.InstanceID, ClientID: cfg.ClientID,
		GroupSubscription: api.GroupSubscription{
			Topics: cfg.Topics, Pattern: cfg.TopicPattern, Assignor: cfg.Assignor,
			SessionTimeout: cfg.SessionTimeout, RebalanceTimeout: cfg.RebalanceTimeout,
		},
	}
	for _, h := range m.mu.mine {
		req.Owned = append(req.Owned, h.tp)
	}
	return req
}

// unheard hands out no more records when no heartbeat was answered for so long
// that the coordinator, if there is one, takes the member for dead. It will tell:
// if there was none, the member still has everything.
func (m *member) unheard(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.mute || m.mu.epoch == api.JoinEpoch || time.Since(m.mu.heard) < m.session() {
		return
	}
	m.mu.mute = true
	m.c.set.Mute(true)
	m.c.log.Warn("the group does not answer: no more records are handed out until it does", "group", m.c.cfg.GroupID,
		"session", m.session(), "err", err)
}

// fail ends the membership for good. Reading fails from now on.
func (m *member) fail(err error) {
	m.lose(err)
	m.mu.Lock()
	m.mu.err = fmt.Errorf("group %q: %w", m.c.cfg.GroupID, err)
	m.mu.Unlock()
	m.c.set.Stir()
}

// leave tells the coordinator that the member is no more. A static one says
// that it may be back. One that never heard of a coordinator does not insist.
func (m *member) leave(ctx context.Context) {
	m.mu.Lock()
	known, again := m.mu.asked && m.mu.err == nil, fetch.MayPass
	if !m.mu.joined {
		again = func(error) bool { return false }
	}
	epoch := api.LeaveEpoch
	if m.c.cfg.InstanceID != "" {
		epoch = api.LeaveStaticEpoch
	}
	req := m.requestLocked(epoch)
	m.mu.Unlock()
	if !known {
		return
	}
	err := repeat(ctx, min(m.c.cfg.Timeout, time.Second), again, func(ctx context.Context) error {
		_, err := m.c.offsets.heartbeat(ctx, req)
		return err
	})
	if err != nil && !rejoins(err) {
		m.c.log.Debug("the group was not told of the consumer's end", "group", m.c.cfg.GroupID, "err", err)
	}
}
