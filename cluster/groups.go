package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// Limits of a commit.
const (
	maxGroupID        = 255
	maxCommitMetadata = 4096 // Kafka: offset.metadata.max.bytes
)

// groupStore is the application of a group shard: members and committed offsets
// of the groups whose ids hash to its slot. It is dumb: the coordinator computes
// what becomes of a group, and what is refused here is what it could not know.
type groupStore struct {
	store *storage.Store
	id    storage.ReplicaID
	kv    *storage.KV
	epoch int32
}

var _ application = (*groupStore)(nil)

// slotOf says which group shard holds a group.
func slotOf(group string) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, group)
	return int(h.Sum32() % groupSlots)
}

// offsetRecord is what is stored for one group and partition.
type offsetRecord struct {
	offset      int64
	leaderEpoch int32
	memberEpoch int32
	commitTime  int64 // ms, the proposer's clock
	metadata    string
}

const offsetRecordVersion = 1

func (o offsetRecord) encode() []byte {
	b := []byte{offsetRecordVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(o.offset))
	b = binary.BigEndian.AppendUint32(b, uint32(o.leaderEpoch))
	b = binary.BigEndian.AppendUint32(b, uint32(o.memberEpoch))
	b = binary.BigEndian.AppendUint64(b, uint64(o.commitTime))
	return append(b, o.metadata...)
}

func decodeOffset(b []byte) (offsetRecord, error) {
	const fixed = 1 + 8 + 4 + 4 + 8
	if len(b) < fixed || b[0] != offsetRecordVersion {
		return offsetRecord{}, fmt.Errorf("%w: committed offset of %d bytes", mqerr.ErrCorruptLog, len(b))
	}
	return offsetRecord{
		offset:      int64(binary.BigEndian.Uint64(b[1:])),
		leaderEpoch: int32(binary.BigEndian.Uint32(b[9:])),
		memberEpoch: int32(binary.BigEndian.Uint32(b[13:])),
		commitTime:  int64(binary.BigEndian.Uint64(b[17:])),
		metadata:    string(b[fixed:]),
	}, nil
}

// Keys: 'o', length of the group id, group id, topic id, partition.
const preOffset = 'o'

func groupPrefix(group string) []byte {
	return append([]byte{preOffset, byte(len(group))}, group...)
}

func offsetKey(group string, topicID uuid.UUID, partition int32) []byte {
	k := append(groupPrefix(group), topicID[:]...)
	return binary.BigEndian.AppendUint32(k, uint32(partition))
}

func splitOffsetKey(k []byte) (group string, topicID uuid.UUID, partition int32, ok bool) {
	if len(k) < 2 || k[0] != preOffset || len(k) != 2+int(k[1])+16+4 {
		return "", uuid.Nil, 0, false
	}
	n := 2 + int(k[1])
	copy(topicID[:], k[n:])
	return string(k[2:n]), topicID, int32(binary.BigEndian.Uint32(k[n+16:])), true
}

func (g *groupStore) open() (uint64, error) {
	kv, err := g.store.OpenKV(g.id)
	if err != nil {
		return 0, err
	}
	g.kv = kv
	return kv.Applied(), loadEpoch(kv, &g.epoch)
}

func (g *groupStore) sync() error { return g.kv.Sync() }

func (g *groupStore) snapshot() (*storage.Snapshot, error) { return g.kv.Snapshot() }

func (g *groupStore) restore(r io.Reader, stop <-chan struct{}) (uint64, error) {
	if err := g.kv.Restore(r, stop); err != nil {
		return 0, err
	}
	return g.kv.Applied(), loadEpoch(g.kv, &g.epoch)
}

// offsets reads what a group committed.
func (g *groupStore) offsets(group string, fn func(topicID uuid.UUID, partition int32, o offsetRecord) error) error {
	return g.kv.Scan(groupPrefix(group), func(key, value []byte) error {
		name, topicID, partition, ok := splitOffsetKey(key)
		if !ok || name != group {
			return nil
		}
		o, err := decodeOffset(value)
		if err != nil {
			return err
		}
		return fn(topicID, partition, o)
	})
}

// hasOffsets reports whether a group committed anything.
func (g *groupStore) hasOffsets(name string) (bool, error) {
	found := errors.New("found")
	err := g.kv.Scan(groupPrefix(name), func([]byte, []byte) error { return found })
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

func checkCommit(req *api.CommitOffsetsRequest) error {
	if err := checkGroupID(req.Group); err != nil {
		return err
	}
	for _, o := range req.Offsets {
		if len(o.Metadata) > maxCommitMetadata {
			return fmt.Errorf("%w: %d bytes, at most %d", mqerr.ErrOffsetMetadataTooLarge, len(o.Metadata), maxCommitMetadata)
		}
		if !utf8.ValidString(o.Metadata) {
			return fmt.Errorf("%w: commit metadata is not UTF-8", mqerr.ErrInvalidRequest)
		}
	}
	return nil
}

// checkGroupID also refuses what the command's encoding would change.
func checkGroupID(group string) error {
	if group == "" || len(group) > maxGroupID {
		return fmt.Errorf("%w: 1 to %d bytes, not %d", mqerr.ErrInvalidGroupID, maxGroupID, len(group))
	}
	if !utf8.ValidString(group) {
		return fmt.Errorf("%w: not UTF-8", mqerr.ErrInvalidGroupID)
	}
	return nil
}
