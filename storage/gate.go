package storage

import (
	"math"
	"sync/atomic"

	"github.com/raftmq/mq/internal/mqerr"
)

// gate lets many users in until it is closed, and lets the closer wait until
// all have left. Unlike with a sync.RWMutex, who is inside may enter again
// while somebody waits to close; it is then refused.
type gate struct {
	n     atomic.Int64  // users inside; negative once closed
	empty chan struct{} // capacity 1: told when a closed gate has no users
}

const gateClosed = math.MinInt64 / 2

func newGate() gate { return gate{empty: make(chan struct{}, 1)} }

// enter must be followed by leave unless it fails.
func (g *gate) enter() error {
	if g.n.Add(1) < 0 {
		g.leave()
		return mqerr.ErrClosed
	}
	return nil
}

func (g *gate) leave() {
	if g.n.Add(-1) == gateClosed {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// close shuts the gate and waits for those inside. Call it once.
func (g *gate) close() {
	if g.n.Add(gateClosed) != gateClosed {
		<-g.empty
	}
}
