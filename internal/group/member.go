package group

import (
	"fmt"
	"maps"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// member takes what a heartbeat says into the group: who comes, stays and goes.
func (t *step) member(h *Heartbeat) error {
	m := t.now.Members[h.MemberID]
	switch {
	case h.Epoch == api.LeaveEpoch:
		t.remove(h.MemberID) // who is not there has left
		return nil
	case h.Epoch == api.LeaveStaticEpoch && m == nil:
		return nil
	case m == nil && h.Epoch == api.JoinEpoch:
		return t.join(h)
	case m == nil:
		return t.unknown(h)
	}
	if err := h.fits(m, t.old.Epoch); err != nil {
		return err
	}
	if h.Epoch == api.LeaveStaticEpoch {
		m = t.change(m.ID)
		m.Away = true
		maps.DeleteFunc(m.Held, func(_ Partition, tenure Tenure) bool { return tenure.Revoked != 0 })
		return nil
	}
	if !m.wants(h.Subscription) {
		t.dirty = true
	}
	if m.Away || m.ClientID != h.ClientID || !m.Subscription.equal(h.Subscription) {
		m = t.change(m.ID)
		m.Away, m.ClientID, m.Subscription = false, h.ClientID, h.Subscription
	}
	return nil
}

// unknown tells a member that it is none.
func (t *step) unknown(h *Heartbeat) error {
	if o := t.instance(h.InstanceID); o != nil {
		return fmt.Errorf("%w: %s is member %s now", mqerr.ErrInstanceFenced, h.InstanceID, o.ID)
	}
	return fmt.Errorf("%w: %s", mqerr.ErrUnknownMember, h.MemberID)
}

// instance finds the static member with an instance id.
func (t *step) instance(id string) *Member {
	if id == "" {
		return nil
	}
	for _, m := range t.now.Members {
		if m.InstanceID == id {
			return m
		}
	}
	return nil
}

// join takes in who was not there before.
func (t *step) join(h *Heartbeat) error {
	was := t.instance(h.InstanceID)
	switch {
	case was != nil && !was.Away:
		return fmt.Errorf("%w: %s is member %s, which has not left and is not known to be dead", mqerr.ErrInstanceInUse, h.InstanceID, was.ID)
	case was == nil && len(t.now.Members) >= t.in.MaxMembers:
		return fmt.Errorf("%w: %d", mqerr.ErrGroupMaxSize, len(t.now.Members))
	}
	m := &Member{InstanceID: h.InstanceID, Held: make(map[Partition]Tenure)}
	if was != nil { // it is back, and what it held is still its own
		m = was.clone()
		delete(t.members(), was.ID)
	}
	t.dirty = t.dirty || was == nil || !was.wants(h.Subscription)
	m.ID, m.ClientID, m.Subscription, m.Away = h.MemberID, h.ClientID, h.Subscription, false
	t.members()[m.ID] = m
	t.joined = append(t.joined, m)
	return nil
}
