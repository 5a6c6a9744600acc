package group

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// Limits of what a member may say.
const (
	maxName    = 255 // bytes of member, instance and client ids
	maxPattern = 4096
	maxTopics  = 10000 // in one subscription
)

// Heartbeat is what a member says of itself. Epoch is its member epoch, or one
// of those with a meaning of their own in package api.
type Heartbeat struct {
	MemberID   string
	InstanceID string
	ClientID   string
	Epoch      int32
	Subscription
	Owned []Partition // all that it still reads
}

// Check refuses what makes no sense whatever the state.
func (h *Heartbeat) Check() error {
	for what, s := range map[string]string{"member id": h.MemberID, "instance id": h.InstanceID, "client id": h.ClientID} {
		if len(s) > maxName || !utf8.ValidString(s) {
			return fmt.Errorf("%w: %s: at most %d bytes of UTF-8", mqerr.ErrInvalidRequest, what, maxName)
		}
	}
	switch {
	case h.MemberID == "":
		return fmt.Errorf("%w: no member id", mqerr.ErrInvalidRequest)
	case h.Epoch < api.LeaveStaticEpoch:
		return fmt.Errorf("%w: member epoch %d", mqerr.ErrInvalidRequest, h.Epoch)
	case h.Epoch == api.LeaveStaticEpoch && h.InstanceID == "":
		return fmt.Errorf("%w: who leaves and will be back needs an instance id", mqerr.ErrInvalidRequest)
	case h.Epoch < 0: // what it wanted matters no more
		return nil
	case h.Epoch == api.JoinEpoch && len(h.Owned) > 0:
		return fmt.Errorf("%w: a member that joins can't own partitions", mqerr.ErrInvalidRequest)
	case len(h.Topics) == 0 && h.Pattern == "":
		return fmt.Errorf("%w: neither topics nor a pattern", mqerr.ErrInvalidRequest)
	case len(h.Topics) > maxTopics:
		return fmt.Errorf("%w: %d topics, at most %d", mqerr.ErrInvalidRequest, len(h.Topics), maxTopics)
	}
	if _, err := compile(h.Pattern); err != nil {
		return err
	}
	return checkAssignor(h.Assignor)
}

// Answer is what a heartbeat gave. With Err set the rest means nothing.
type Answer struct {
	Epoch    int32
	Assigned []Partition // what the member may own: what it owns beside, it has to give up
	// Known says that the member knows all this, so that there is no need to tell.
	Known bool
	Err   error
}

// known reports whether the heartbeat shows that its sender was told what m has:
// it owns all it may, and what it owns beside it knows to be revoked.
func (h *Heartbeat) known(m *Member) bool {
	if h.Epoch <= 0 {
		return false
	}
	assigned := 0
	for _, p := range h.Owned {
		switch t := m.Held[p]; {
		case t.Revoked == 0:
			assigned++
		case t.Revoked > h.Epoch:
			return false
		}
	}
	for _, t := range m.Held {
		if t.Revoked == 0 {
			assigned--
		}
	}
	return assigned == 0
}

// fits refuses a heartbeat that is of another time than what is stored of m.
func (h *Heartbeat) fits(m *Member, epoch int32) error {
	if h.InstanceID != m.InstanceID {
		return fmt.Errorf("%w: member %s has instance id %q, not %q", mqerr.ErrInvalidRequest, m.ID, m.InstanceID, h.InstanceID)
	}
	if h.Epoch == api.JoinEpoch || h.Epoch == api.LeaveStaticEpoch {
		return nil
	}
	if m.Away {
		return fmt.Errorf("%w: member %s has left", mqerr.ErrFencedMemberEpoch, m.ID)
	}
	if h.Epoch < m.Seen || h.Epoch > epoch {
		return fmt.Errorf("%w: member %s has epoch %d to %d, not %d", mqerr.ErrFencedMemberEpoch, m.ID, m.Seen, epoch, h.Epoch)
	}
	if i := slices.IndexFunc(h.Owned, func(p Partition) bool { _, ok := m.Held[p]; return !ok }); i >= 0 {
		return fmt.Errorf("%w: member %s does not hold partition %d of topic %s", mqerr.ErrFencedMemberEpoch, m.ID, h.Owned[i].Number, h.Owned[i].Topic)
	}
	return nil
}
