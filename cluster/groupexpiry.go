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

// expireGroups proposes the expiry of groups that had no member and committed
// nothing for long, and of those of which nothing is left. While a consumer with
// fixed partitions commits for some of them, it keeps what it has for the others.
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
	newest := make(map[string]int64) // commit of a group
	err = g.kv.Scan([]byte{preOffset}, func(key, value []byte) error {
		name, _, _, ok := splitOffsetKey(key)
		if !ok {
			return nil
		}
		o, err := decodeOffset(value)
		newest[name] = max(newest[name], o.commitTime)
		return err
	})
	due := make(map[string]uint64)
	for name, at := range newest {
		switch s := states[name]; {
		case at >= before:
		case s == nil:
			due[name] = 0
		case len(s.Members) == 0 && s.EmptySince < before:
			due[name] = s.Revision
		}
	}
	for name, s := range states {
		if _, has := newest[name]; !has && len(s.Members) == 0 {
			due[name] = s.Revision
		}
	}
	return due, err
}
