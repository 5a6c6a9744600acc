package cluster

import (
	"fmt"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// Settled says what is missing until the cluster has this many brokers and every
// shard all its replicas, as far as this broker knows.
func (n *Node) Settled(brokers int) error {
	if err := n.missing(); err != nil {
		return err
	}
	s := n.meta.state.Load()
	if len(s.brokers) != brokers {
		return fmt.Errorf("%w: %d of %d brokers", mqerr.ErrLeaderNotAvailable, len(s.brokers), brokers)
	}
	var missing error
	staying := len(s.staying())
	s.eachShard(func(shard shardRecord, t *topicRecord) {
		want, has := votersWanted(shard, t, staying), shard.voters()
		if has < want && missing == nil {
			missing = fmt.Errorf("%w: shard %d has %d of %d replicas", mqerr.ErrLeaderNotAvailable, shard.Shard, has, want)
		}
	})
	return missing
}

// copyBytes is how much ReadCopy reads at a time.
const copyBytes = 1 << 20

// ReadCopy reads batches of this broker's copy of a partition from an offset on,
// leader or not, and tells where the copy starts and ends. All it gives is
// committed, but it may lack what is committed elsewhere.
func (n *Node) ReadCopy(topic string, number int32, from int64) (batches []byte, start, end int64, err error) {
	t, err := lookup(n.meta.state.Load(), api.TopicPartition{Topic: topic, Partition: number})
	if err != nil {
		return nil, 0, 0, err
	}
	r := n.replica(t.Partitions[number].Shard)
	if r == nil {
		return nil, 0, 0, fmt.Errorf("%w: broker %d has no copy of %s/%d", mqerr.ErrUnknownTopicOrPartition, n.cfg.BrokerID, topic, number)
	}
	p := r.machine.app.(*partition)
	st := p.log.State()
	if from >= st.End {
		return nil, st.Start, st.End, nil
	}
	batches, _, err = p.log.Read(nil, max(from, st.Start), copyBytes)
	return batches, st.Start, st.End, r.readError(err)
}
