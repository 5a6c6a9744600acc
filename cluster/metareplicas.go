package cluster

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
)

// changeReplica changes where a shard is. A replica that is added begins as a
// learner of the shard's raft group; when it has caught up and votes it counts as
// joined. One that leaves is dropped when the group has dropped it. Each step is
// proposed by whoever saw the one before done: see membership.go.
type changeReplica struct {
	Shard   uint64     `json:"shard"`
	Change  replicaOp  `json:"change"`
	Broker  int32      `json:"broker,omitempty"`  // of addReplica and moveReplica
	Replica uint64     `json:"replica,omitempty"` // of all but addReplica
	TopicID *uuid.UUID `json:"topic_id,omitempty"`
}

type replicaOp string

const (
	addReplica    replicaOp = "add"
	replicaJoined replicaOp = "joined"
	leaveReplica  replicaOp = "leave"
	replicaLeft   replicaOp = "left"
	moveReplica   replicaOp = "move"   // to another broker
	preferReplica replicaOp = "prefer" // as the leader
)

func (t *metaTx) changeReplica(c *changeReplica) error {
	return t.updateShard(c, func(s *shardRecord) error {
		for _, r := range s.Replicas { // raft takes no number twice, not of one that left either
			s.Newest = max(s.Newest, r.Replica)
		}
		at := s.replica(c.Replica)
		if c.Change != addReplica && at < 0 {
			return fmt.Errorf("%w: shard %d has no replica %d", mqerr.ErrInvalidRequest, s.Shard, c.Replica)
		}
		switch c.Change {
		case addReplica:
			return t.addReplica(s, c.Broker, 0)
		case moveReplica:
			if !s.Replicas[at].settled() {
				return fmt.Errorf("%w: replica %d of shard %d is moving already", mqerr.ErrInvalidRequest, c.Replica, s.Shard)
			}
			return t.addReplica(s, c.Broker, c.Replica)
		case preferReplica:
			s.Preferred = c.Replica
		case replicaJoined:
			s.Replicas[at].Joining = false
		case leaveReplica:
			if !s.Replicas[at].Leaving && s.staying() == 1 {
				return fmt.Errorf("%w: replica %d of shard %d is the last", mqerr.ErrInvalidRequest, c.Replica, s.Shard)
			}
			s.Replicas[at].Leaving = true
		case replicaLeft:
			if !s.Replicas[at].Leaving {
				return fmt.Errorf("%w: replica %d of shard %d does not leave", mqerr.ErrInvalidRequest, c.Replica, s.Shard)
			}
			s.Replicas = slices.Delete(s.Replicas, at, at+1)
		default:
			return fmt.Errorf("%w: replica change %q", mqerr.ErrUnsupportedVersion, c.Change)
		}
		return nil
	})
}

func (t *metaTx) addReplica(s *shardRecord, broker int32, replaces uint64) error {
	switch b, ok := t.next.brokers[broker]; {
	case !ok:
		return fmt.Errorf("%w: no broker %d", mqerr.ErrInvalidRequest, broker)
	case b.Leaving:
		return fmt.Errorf("%w: broker %d is leaving", mqerr.ErrInvalidRequest, broker)
	}
	if _, ok := s.on(broker); ok {
		return fmt.Errorf("%w: broker %d has a replica of shard %d", mqerr.ErrInvalidRequest, broker, s.Shard)
	}
	s.Newest++
	s.Replicas = append(s.Replicas, replicaRecord{Broker: broker, Replica: s.Newest, Added: true, Joining: true, Replaces: replaces})
	return nil
}

// updateShard changes a copy of a shard's record and puts it in its place.
func (t *metaTx) updateShard(c *changeReplica, change func(*shardRecord) error) error {
	if c.Shard == metaShard {
		s := t.next.meta.clone()
		if err := change(&s); err != nil {
			return err
		}
		t.next.meta = s
		return t.put(keyMeta, s)
	}
	for slot, g := range t.next.groups {
		if g.Shard == c.Shard {
			g.shardRecord = g.clone()
			if err := change(&g.shardRecord); err != nil {
				return err
			}
			t.next.groups[slot] = g
			return t.put(fmt.Sprintf("%s%d", preGroup, slot), g)
		}
	}
	if c.TopicID != nil {
		if old := t.next.byID[*c.TopicID]; old != nil {
			for i := range old.Partitions {
				if old.Partitions[i].Shard == c.Shard {
					rec := *old
					rec.Partitions = slices.Clone(old.Partitions)
					rec.Partitions[i] = old.Partitions[i].clone()
					if err := change(&rec.Partitions[i]); err != nil {
						return err
					}
					return t.putTopic(&rec)
				}
			}
		}
	}
	return fmt.Errorf("%w: shard %d", mqerr.ErrUnknownTopicOrPartition, c.Shard)
}

func (s shardRecord) clone() shardRecord {
	s.Replicas = slices.Clone(s.Replicas)
	return s
}
