package cluster

import (
	"fmt"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/mqerr"
)

// Keys of a group's state: 'g', length of the group id, group id, and then 0 for
// the header or 1 and the id of a member. One scan sees a group as it is at one
// time.
const (
	preGroupState = 'g'
	keyOfHeader   = 0
	keyOfMember   = 1
)

func groupStatePrefix(name string) []byte {
	return append([]byte{preGroupState, byte(len(name))}, name...)
}

func headerKey(name string) []byte { return append(groupStatePrefix(name), keyOfHeader) }

func memberKey(name, id string) []byte {
	return append(append(groupStatePrefix(name), keyOfMember), id...)
}

// states reads groups, whole: all of them, or the one whose prefix is given.
func (g *groupStore) states(prefix []byte) (map[string]*group.State, error) {
	out := make(map[string]*group.State)
	err := g.kv.Scan(prefix, func(key, value []byte) error {
		n := 2 + int(key[1])
		name, rest := string(key[2:n]), key[n:]
		if rest[0] == keyOfHeader {
			s, _, err := group.DecodeHeader(value)
			out[name] = s
			return err
		}
		id := string(rest[1:])
		m, err := group.DecodeMember(id, value)
		if err != nil {
			return err
		}
		s := out[name]
		if s == nil { // the header comes first
			return fmt.Errorf("%w: group %s has members and no header", mqerr.ErrCorruptLog, name)
		}
		s.Members[id] = m
		return nil
	})
	return out, err
}

// state reads one group. One that is not there has revision 0.
func (g *groupStore) state(name string) (*group.State, error) {
	all, err := g.states(groupStatePrefix(name))
	if s := all[name]; s != nil {
		return s, err
	}
	return &group.State{}, err
}

// list adds the groups that the shard has.
func (g *groupStore) list(out map[string]api.GroupInfo) error {
	err := g.kv.Scan([]byte{preOffset}, func(key, _ []byte) error {
		if name, _, _, ok := splitOffsetKey(key); ok {
			out[name] = api.GroupInfo{Group: name, State: api.GroupEmpty}
		}
		return nil
	})
	if err != nil {
		return err
	}
	states, err := g.states([]byte{preGroupState})
	for name, s := range states {
		out[name] = api.GroupInfo{Group: name, State: stateOf(s), Members: int32(len(s.Members))}
	}
	return err
}

func stateOf(s *group.State) api.GroupState {
	switch {
	case len(s.Members) == 0:
		return api.GroupEmpty
	case s.Settled():
		return api.GroupStable
	}
	return api.GroupReconciling
}
