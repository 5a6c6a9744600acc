package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// commitCommand is the body of a kindCommitOffsets command.
type commitCommand struct {
	Group       string         `json:"group"`
	MemberID    string         `json:"member_id,omitempty"`
	MemberEpoch int32          `json:"member_epoch"`
	Force       bool           `json:"force,omitempty"` // without being a member although there are some
	Offsets     []commitRecord `json:"offsets"`
}

type commitRecord struct {
	TopicID     uuid.UUID `json:"topic_id"`
	Partition   int32     `json:"partition"`
	Offset      int64     `json:"offset"`
	LeaderEpoch int32     `json:"leader_epoch"`
	Metadata    string    `json:"metadata,omitempty"`
}

// groupCommand is the body of a kindGroup command: it makes the next revision of
// a group out of the one that the coordinator saw.
type groupCommand struct {
	Group    string         `json:"group"`
	Revision uint64         `json:"revision"` // that it replaces, 0 for a group that is not there
	Header   []byte         `json:"header"`
	Put      []memberRecord `json:"put,omitempty"`
	Deleted  []string       `json:"deleted,omitempty"`
}

type memberRecord struct {
	ID     string `json:"id"`
	Record []byte `json:"record"`
}

// forgetCommand is the body of kindDeleteGroup, kindDeleteOffsets and
// kindExpireGroup commands. The latter two change nothing unless the group has
// the revision that their proposer saw.
type forgetCommand struct {
	Group    string         `json:"group"`
	Revision uint64         `json:"revision,omitempty"`
	Offsets  []commitRecord `json:"offsets,omitempty"` // to delete
	Before   int64          `json:"before,omitempty"`  // ms: what was committed before expires
}

// errGroupChanged refuses a command that was computed from an older revision.
// Nobody outside hears of it.
var errGroupChanged = errors.New("mq: the group has changed meanwhile")

func (g *groupStore) begin() tx {
	return &groupTx{g: g, batch: g.kv.NewBatch(), term: g.epoch}
}

// deleted stands for the commit time of an offset that is gone.
const deleted = math.MinInt64

type groupTx struct {
	g     *groupStore
	batch *storage.KVBatch
	term  int32

	// What this batch wrote, which a read of the store does not see yet.
	changed map[string][]byte // of the groups' states; nil where deleted
	written map[string]int64  // of their offsets: when they were committed, or deleted

	// broken is why the store could not be read. The batch must not be committed:
	// other replicas could read theirs, and came to another result.
	broken error
}

// noted keeps an error of the store.
func (t *groupTx) noted(err error) error {
	if t.broken == nil {
		t.broken = err
	}
	return err
}

func (t *groupTx) epoch() int32 { return t.term }

func (t *groupTx) beginEpoch(epoch int32, _ uint8) {
	t.term = epoch
	storeEpoch(t.batch, epoch)
}

func (t *groupTx) apply(h header, body []byte) result {
	switch h.kind { //nolint:exhaustive // the rest is refused
	case kindCommitOffsets:
		return run(body, func(c commitCommand) result { return t.commitOffsets(c, h.time) })
	case kindGroup:
		return run(body, t.change)
	case kindDeleteGroup:
		return run(body, t.deleteGroup)
	case kindDeleteOffsets:
		return run(body, t.deleteOffsets)
	case kindExpireGroup:
		return run(body, t.expire)
	case kindPurgeTopic:
		var id uuid.UUID
		if len(body) != len(id) {
			return refused(fmt.Errorf("%w: purge of %d bytes", mqerr.ErrInternal, len(body)))
		}
		copy(id[:], body)
		return result{err: t.purge(id)}
	}
	return refused(fmt.Errorf("%w: command kind %d in a group shard", mqerr.ErrInternal, h.kind))
}

// run decodes the body of a command and does it.
func run[C any](body []byte, do func(C) result) result {
	var c C
	if err := json.Unmarshal(body, &c); err != nil {
		return refused(fmt.Errorf("%w: command of a group: %w", mqerr.ErrInternal, err))
	}
	return do(c)
}

// get reads a pair of a group's state as this batch left it.
func (t *groupTx) get(key []byte) (value []byte, ok bool, err error) {
	if v, changed := t.changed[string(key)]; changed {
		return v, v != nil, nil
	}
	value, ok, err = t.g.kv.Get(key)
	return value, ok, t.noted(err)
}

func (t *groupTx) put(key, value []byte) {
	if t.changed == nil {
		t.changed = make(map[string][]byte)
	}
	t.changed[string(key)] = value
	if value == nil {
		t.batch.Delete(key)
	} else {
		t.batch.Set(key, value)
	}
}

// header reads how a group is, and how many members it has. A group that is not
// there has revision 0.
func (t *groupTx) header(name string) (*group.State, int, error) {
	b, ok, err := t.get(headerKey(name))
	if err != nil || !ok {
		return &group.State{}, 0, err
	}
	s, members, err := group.DecodeHeader(b)
	return s, members, t.noted(err)
}

// change makes the next revision of a group.
func (t *groupTx) change(c groupCommand) result {
	if s, _, err := t.header(c.Group); err != nil {
		return refused(err)
	} else if s.Revision != c.Revision {
		return refused(errGroupChanged)
	}
	t.put(headerKey(c.Group), c.Header)
	for _, m := range c.Put {
		t.put(memberKey(c.Group, m.ID), m.Record)
	}
	for _, id := range c.Deleted {
		t.put(memberKey(c.Group, id), nil)
	}
	return result{}
}

// commitOffsets stores offsets of a member for what it holds, or of a consumer
// with fixed partitions in a group without members. The result's value has an
// error for each offset.
func (t *groupTx) commitOffsets(c commitCommand, now int64) result {
	may := func(commitRecord) bool { return true }
	if c.MemberID == "" {
		_, members, err := t.header(c.Group)
		if err == nil && members > 0 && !c.Force {
			err = fmt.Errorf("%w: the group has members, and this is none of them", mqerr.ErrUnknownMember)
		}
		if err != nil {
			return refused(err)
		}
	} else {
		b, ok, err := t.get(memberKey(c.Group, c.MemberID))
		if err == nil && !ok {
			err = fmt.Errorf("%w: %s", mqerr.ErrUnknownMember, c.MemberID)
		}
		if err != nil {
			return refused(err)
		}
		m, err := group.DecodeMember(c.MemberID, b)
		if err != nil {
			return refused(t.noted(err))
		}
		may = func(o commitRecord) bool {
			return m.MayCommit(group.Partition{Topic: o.TopicID, Number: o.Partition}, c.MemberEpoch)
		}
	}
	errs := make([]error, len(c.Offsets))
	for i, o := range c.Offsets {
		if !may(o) {
			errs[i] = fmt.Errorf("%w: member %s does not hold the partition since epoch %d", mqerr.ErrStaleMemberEpoch, c.MemberID, c.MemberEpoch)
			continue
		}
		rec := offsetRecord{o.Offset, o.LeaderEpoch, c.MemberEpoch, now, o.Metadata}
		key := offsetKey(c.Group, o.TopicID, o.Partition)
		t.batch.Set(key, rec.encode())
		t.wrote(key, now)
	}
	return result{value: errs}
}

// deleteGroup forgets a group without members.
func (t *groupTx) deleteGroup(c forgetCommand) result {
	s, members, err := t.header(c.Group)
	if err != nil {
		return refused(err)
	}
	if members > 0 {
		return refused(fmt.Errorf("%w: %d", mqerr.ErrNonEmptyGroup, members))
	}
	found := s.Revision > 0
	err = t.eachOffset(groupPrefix(c.Group), func(key []byte, _ int64) {
		found = true
		t.deleteOffset(key)
	})
	if err != nil {
		return refused(err)
	}
	if !found {
		return refused(mqerr.ErrUnknownGroup)
	}
	if s.Revision > 0 {
		t.put(headerKey(c.Group), nil)
	}
	return result{}
}

func (t *groupTx) deleteOffsets(c forgetCommand) result {
	if s, _, err := t.header(c.Group); err != nil {
		return refused(err)
	} else if s.Revision != c.Revision {
		return refused(errGroupChanged)
	}
	for _, o := range c.Offsets {
		t.deleteOffset(offsetKey(c.Group, o.TopicID, o.Partition))
	}
	return result{}
}

// expire forgets a group without members for which nothing was committed for long.
func (t *groupTx) expire(c forgetCommand) result {
	s, members, err := t.header(c.Group)
	if err != nil {
		return refused(err)
	}
	if members > 0 || s.Revision != c.Revision {
		return result{} // it came back to life
	}
	var old [][]byte
	inUse := false
	err = t.eachOffset(groupPrefix(c.Group), func(key []byte, committed int64) {
		old = append(old, bytes.Clone(key))
		inUse = inUse || committed >= c.Before
	})
	if err != nil {
		return refused(err)
	}
	if inUse {
		return result{}
	}
	for _, key := range old {
		t.deleteOffset(key)
	}
	if s.Revision > 0 {
		t.put(headerKey(c.Group), nil)
	}
	return result{}
}

// deleteOffset forgets an offset, if it is there.
func (t *groupTx) deleteOffset(key []byte) {
	t.batch.Delete(key)
	t.wrote(key, deleted)
}

func (t *groupTx) wrote(key []byte, committed int64) {
	if t.written == nil {
		t.written = make(map[string]int64)
	}
	t.written[string(key)] = committed
}

// eachOffset calls fn with the key and the commit time of each offset, as this
// batch left them, in no order that matters.
func (t *groupTx) eachOffset(prefix []byte, fn func(key []byte, committed int64)) error {
	for key, committed := range maps.Clone(t.written) {
		if committed != deleted && strings.HasPrefix(key, string(prefix)) {
			fn([]byte(key), committed)
		}
	}
	return t.noted(t.g.kv.Scan(prefix, func(key, value []byte) error {
		if _, newer := t.written[string(key)]; newer {
			return nil
		}
		o, err := decodeOffset(value)
		if err == nil {
			fn(key, o.commitTime)
		}
		return err
	}))
}

// purge deletes the offsets of a deleted topic.
func (t *groupTx) purge(id uuid.UUID) error {
	return t.eachOffset([]byte{preOffset}, func(key []byte, _ int64) {
		if _, topicID, _, ok := splitOffsetKey(key); ok && topicID == id {
			t.deleteOffset(key)
		}
	})
}

func (t *groupTx) commit(applied uint64) error {
	if t.broken != nil {
		return t.broken
	}
	if err := t.batch.Commit(applied); err != nil {
		return err
	}
	t.g.epoch = t.term
	return nil
}

func (t *groupTx) close() { t.batch.Close() }
