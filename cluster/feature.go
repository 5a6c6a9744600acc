package cluster

import (
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// raiseFeature raises the feature level of the cluster. Every broker tells the level
// that it applies when it takes part, and when all know a higher one than they use,
// the leader of the metadata proposes it. From then on brokers stamp their commands
// with it, and one that does not know it is not let in any more. So brokers are
// upgraded one after the other, and no command reaches one that can't apply it.
type raiseFeature struct {
	Level uint8 `json:"level"`
}

func (t *metaTx) raiseFeature(level uint8) error {
	if known := t.next.knownByAll(); level > known {
		return fmt.Errorf("%w: feature level %d, not all brokers know more than %d", mqerr.ErrUnsupportedVersion, level, known)
	}
	t.next.feature = max(t.next.feature, level)
	return nil
}

// knownByAll is the newest feature level that every broker knows.
func (s *metaState) knownByAll() uint8 {
	known := uint8(0)
	for _, b := range s.brokers {
		if level := max(b.Feature, oldestFeature); known == 0 || level < known {
			known = level
		}
	}
	return known
}

// mayCut refuses what would replace the raft log of a parked replica: a newer build
// has to find the whole of it. Raft believes that a parked replica has applied it.
func (n *Node) mayCut(shard uint64) error {
	if r := n.replica(shard); r != nil && r.machine.parked.Load() {
		return fmt.Errorf("%s: %w", r.name, r.machine.whyParked())
	}
	return nil
}
