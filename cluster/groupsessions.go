package cluster

import (
	"maps"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/clock"
)

// coordinatorStall is the time between two looks at sessions above which the
// process must have stood still.
const coordinatorStall = time.Second

// session is until when a member lives unless it is heard, and until when it has
// to have given up what it was first asked for.
type session struct {
	heard, revoked time.Time
	first          int32 // group epoch at which it was asked; 0 if it was not
}

func (s session) over(now time.Time) bool {
	return s.heard.Before(now) || s.first != 0 && s.revoked.Before(now)
}

func (s session) later(by time.Duration) session {
	return session{heard: s.heard.Add(by), revoked: s.revoked.Add(by), first: s.first}
}

// hear takes a heartbeat for a sign of life. Its contents may have to wait.
func (g *balanced) hear(b *beat) {
	if m := g.state.Members[b.MemberID]; m != nil && b.Epoch != api.LeaveEpoch {
		s := g.sessions[b.MemberID]
		s.heard = b.arrived.Add(m.SessionTimeout)
		g.sessions[b.MemberID] = s
	}
}

// renew brings the sessions in line with the members.
func (g *balanced) renew(now time.Time) {
	maps.DeleteFunc(g.sessions, func(id string, _ session) bool { return g.state.Members[id] == nil })
	for id, m := range g.state.Members {
		s, ok := g.sessions[id]
		if !ok {
			s.heard = now.Add(m.SessionTimeout)
		}
		if first := m.Revoked(); first != s.first {
			s.first, s.revoked = first, now.Add(m.RebalanceTimeout)
		}
		g.sessions[id] = s
	}
}

// expire removes the members whose time is over. Time in which this process did
// not run counts for nobody: it heard nothing then.
func (c *coordinator) expire() {
	stood := clock.System{}.Now()
	since := stood.Sub(c.looked)
	if c.looked.IsZero() {
		since = coordinatorTick
	}
	if since < coordinatorTick {
		return
	}
	c.looked = stood
	now := c.node.now()
	c.each(func(g *balanced) {
		if since > coordinatorStall {
			for id, s := range g.sessions {
				g.sessions[id] = s.later(since)
			}
		}
		if g.going != nil {
			return
		}
		if g.doubt {
			c.step(g, nil)
			return
		}
		var expired []string
		for id, s := range g.sessions {
			if s.over(now) {
				expired = append(expired, id)
			}
		}
		if len(expired) > 0 {
			slices.Sort(expired)
			c.node.log.Info("members of a group are removed", "group", g.name, "members", expired, "reason", "they were silent, or did not give up partitions in time")
			c.step(g, expired)
		}
	})
}
