package cluster

import (
	"errors"
	"math"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
)

// groupExpiryInterval is how often groups are looked through for what nobody has
// wanted for long. Kafka: offsets.retention.check.interval.ms.
const groupExpiryInterval = 10 * time.Minute

// expireGroups proposes the expiry of what groups without members committed long
// ago, and of groups of which nothing is left.
func (n *Node) expireGroups(r *replica) {
	g, ok := r.machine.app.(*groupStore)
	if !ok {
		return
	}
	if _, err := r.epochServed(); err != nil {
		return
	}
	before := int64(math.MinInt64) // nothing is as old
	if n.cfg.OffsetsRetention >= 0 {
		before = n.now().Add(-n.cfg.OffsetsRetention).UnixMilli()
	}
	due, err := g.expired(before)
	if err != nil {
		if !errors.Is(err, mqerr.ErrClosed) {
			n.log.Error("groups could not be read", "replica", r.name, "error", err)
		}
		return
	}
	for name, revision := range due {
		cmd := forgetCommand{Group: name, Revision: revision, Before: before}
		n.proposeGroup(r, kindExpireGroup, cmd, n.upkeepDone(r, "expiry of a group"))
	}
}

// expired gives the groups, and their revisions, of which something expires.
func (g *groupStore) expired(before int64) (map[string]uint64, error) {
	states, err := g.states([]byte{preGroupState})
	if err != nil {
		return nil, err
	}
	offsets := make(map[string]bool) // and whether there are old ones
	err = g.kv.Scan([]byte{preOffset}, func(key, value []byte) error {
		name, _, _, ok := splitOffsetKey(key)
		if !ok {
			return nil
		}
		o, err := decodeOffset(value)
		offsets[name] = offsets[name] || o.commitTime < before
		return err
	})
	due := make(map[string]uint64)
	for name, old := range offsets {
		if s := states[name]; old && (s == nil || len(s.Members) == 0 && s.EmptySince < before) {
			due[name] = 0
			if s != nil {
				due[name] = s.Revision
			}
		}
	}
	for name, s := range states {
		if _, has := offsets[name]; !has && len(s.Members) == 0 {
			due[name] = s.Revision
		}
	}
	return due, err
}
