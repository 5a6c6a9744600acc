package mq_test

import (
	"context"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// fakeGroup is a group as its coordinator has it. Unless a test says who gets
// what, the member that came first gets everything.
type fakeGroup struct {
	coordinator int32
	members     []*fakeMember // as they came
	scripted    bool
	beats       []api.GroupHeartbeatRequest
	epochs      int32
	stale       []int32 // partitions that nobody may commit for
}

type fakeMember struct {
	id, instance string
	topics       []string
	epoch        int32
	target, may  []api.TopicPartition // what it shall have, and what of it nobody else has
	owned        []api.TopicPartition // as it says
	refused      error                // the answer to its next heartbeat
	away         bool                 // a static member that will be back
}

const fakeInterval = 5 * time.Second

func (c *fakeCluster) groupLocked(name string) *fakeGroup {
	if c.groups == nil {
		c.groups = map[string]*fakeGroup{}
	}
	g := c.groups[name]
	if g == nil {
		g = &fakeGroup{coordinator: 1}
		c.groups[name] = g
	}
	return g
}

func (g *fakeGroup) member(id string) *fakeMember {
	i := slices.IndexFunc(g.members, func(m *fakeMember) bool { return m.id == id })
	if i < 0 {
		return nil
	}
	return g.members[i]
}

// balanceLocked decides what each member shall and may have.
func (c *fakeCluster) balanceLocked(g *fakeGroup) {
	if !g.scripted {
		for i, m := range g.members {
			m.target = nil
			for _, name := range m.topics {
				t := c.topics[name]
				if t == nil || i > 0 {
					continue
				}
				for n := range t.partitions {
					m.target = append(m.target, api.TopicPartition{Topic: name, TopicID: t.id, Partition: int32(n)})
				}
			}
		}
	}
	for _, m := range g.members {
		may := slices.DeleteFunc(slices.Clone(m.target), func(tp api.TopicPartition) bool {
			return slices.ContainsFunc(g.members, func(o *fakeMember) bool {
				return o != m && !o.away && (slices.Contains(o.owned, tp) || slices.Contains(o.may, tp))
			})
		})
		if m.epoch == 0 || !slices.Equal(may, m.may) {
			g.epochs++
			m.epoch, m.may = g.epochs, may
		}
	}
}

// script gives the members, as they came, partitions of a topic, from now on.
func (c *fakeCluster) script(group, topic string, partitions ...[]int32) {
	defer c.lock()()
	g := c.groupLocked(group)
	g.scripted = true
	for i, m := range g.members {
		m.target = nil
		if i < len(partitions) {
			for _, n := range partitions[i] {
				m.target = append(m.target, api.TopicPartition{Topic: topic, TopicID: c.topics[topic].id, Partition: n})
			}
		}
	}
	c.notifyLocked()
}

// refuseMember makes the next heartbeat of the nth member fail. One that is fenced or
// unknown is a member no more.
func (c *fakeCluster) refuseMember(group string, n int, err error) {
	defer c.lock()()
	c.groupLocked(group).members[n].refused = err
	c.notifyLocked()
}

// coordinate moves a group to a broker.
func (c *fakeCluster) coordinate(group string, broker int32) {
	defer c.lock()()
	c.groupLocked(group).coordinator = broker
	c.notifyLocked()
}

// beats returns the heartbeats of a group so far.
func (c *fakeCluster) beats(group string) []api.GroupHeartbeatRequest {
	defer c.lock()()
	return slices.Clone(c.groupLocked(group).beats)
}

func (c *fakeCluster) lastBeat(group string) api.GroupHeartbeatRequest {
	beats := c.beats(group)
	return beats[len(beats)-1]
}

func (b fakeBroker) GroupHeartbeat(ctx context.Context, req *api.GroupHeartbeatRequest) (*api.GroupHeartbeatResponse, error) {
	if err := b.enter(ctx, "GroupHeartbeat"); err != nil {
		return nil, err
	}
	unlock := b.c.lock()
	g := b.c.groupLocked(req.Group)
	g.beats = append(g.beats, *req)
	unlock()
	deadline := time.NewTimer(req.MaxWait)
	defer deadline.Stop()
	for first, last := true, req.MaxWait == 0; ; first = false {
		unlock := b.c.lock()
		resp, err := b.beatLocked(g, req, first)
		changed := b.c.changed
		unlock()
		if resp != nil || err != nil || last {
			if resp == nil && err == nil {
				defer b.c.lock()()
				resp = g.member(req.MemberID).answer()
			}
			return resp, err
		}
		select {
		case <-changed:
		case <-deadline.C:
			last = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := b.enter(ctx, "GroupHeartbeat"); err != nil {
			return nil, err
		}
	}
}

func (m *fakeMember) answer() *api.GroupHeartbeatResponse {
	return &api.GroupHeartbeatResponse{MemberEpoch: m.epoch, Interval: fakeInterval, Assignment: slices.Clone(m.may)}
}

// beatLocked takes a heartbeat. The answer is nil when there is no news.
func (b fakeBroker) beatLocked(g *fakeGroup, req *api.GroupHeartbeatRequest, first bool) (*api.GroupHeartbeatResponse, error) {
	if err := b.coordinatesLocked(req.Group); err != nil {
		return nil, err
	}
	m := g.member(req.MemberID)
	remove := func() {
		g.members = slices.DeleteFunc(g.members, func(o *fakeMember) bool { return o == m })
		b.c.notifyLocked()
	}
	switch {
	case req.MemberEpoch == api.LeaveEpoch || req.MemberEpoch == api.LeaveStaticEpoch:
		if m == nil {
			return nil, mqerr.ErrUnknownMember
		}
		if m.away, m.owned = true, nil; req.MemberEpoch == api.LeaveEpoch {
			remove()
		}
		return &api.GroupHeartbeatResponse{MemberEpoch: req.MemberEpoch}, nil
	case req.MemberEpoch == api.JoinEpoch && m == nil:
		if m = g.instance(req.InstanceID); m == nil {
			m = &fakeMember{instance: req.InstanceID}
			g.members = append(g.members, m)
		}
		m.id, m.away = req.MemberID, false
		defer b.c.notifyLocked()
	case m == nil:
		return nil, mqerr.ErrUnknownMember
	case m.refused != nil:
		defer remove()
		return nil, m.refused
	case req.MemberEpoch == api.JoinEpoch:
		m.may, m.epoch = nil, 0
	case req.MemberEpoch > m.epoch:
		return nil, mqerr.ErrFencedMemberEpoch
	}
	if first && !slices.Equal(m.owned, req.Owned) {
		m.owned = slices.Clone(req.Owned)
		defer b.c.notifyLocked()
	}
	m.topics = req.Topics
	b.c.balanceLocked(g)
	if m.epoch != req.MemberEpoch {
		return m.answer(), nil
	}
	return nil, nil //nolint:nilnil // there is no news
}

func (b fakeBroker) coordinatesLocked(group string) error {
	if g := b.c.groupLocked(group); g.coordinator != b.id {
		return &mqerr.Detail{Err: mqerr.ErrNotCoordinator, Leader: g.coordinator}
	}
	return nil
}

func (g *fakeGroup) instance(id string) *fakeMember {
	i := slices.IndexFunc(g.members, func(m *fakeMember) bool { return id != "" && m.instance == id && m.away })
	if i < 0 {
		return nil
	}
	return g.members[i]
}

// mayCommitLocked says what the coordinator answers to a commit for a partition.
func (g *fakeGroup) mayCommitLocked(req *api.CommitOffsetsRequest, tp api.TopicPartition) error {
	m := g.member(req.MemberID)
	switch {
	case req.MemberID == "" && (len(g.members) == 0 || req.Force):
		return nil
	case m == nil:
		return mqerr.ErrUnknownMember
	case slices.Contains(g.stale, tp.Partition), !slices.Contains(m.owned, tp) && !slices.Contains(m.may, tp):
		return mqerr.ErrStaleMemberEpoch
	}
	return nil
}
