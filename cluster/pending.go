package cluster

import (
	"fmt"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/raftmq/mq/internal/mqerr"
)

// proposal is a command on its way. done is called exactly once.
type proposal struct {
	epoch    int32
	size     int
	giveUpAt time.Time                // when the sweep loop answers for raft
	state    *dragonboat.RequestState // nil until Propose returned
	done     func(result)
}

// pending holds one replica's proposals until Update, the sweep loop or Close
// resolves them. Lock order: none is taken inside; done is called outside.
type pending struct {
	mu struct {
		sync.Mutex
		byID   map[uint64]*proposal
		bytes  int
		closed error
	}
}

// add registers a proposal. It fails with ErrBusy when limit bytes are on their
// way already (a single larger one is let through), and after close.
func (p *pending) add(seq uint64, pr *proposal, limit int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed != nil {
		return p.mu.closed
	}
	if p.mu.bytes > 0 && p.mu.bytes+pr.size > limit {
		return fmt.Errorf("%w: %d bytes are on their way to this partition", mqerr.ErrBusy, p.mu.bytes)
	}
	if p.mu.byID == nil {
		p.mu.byID = make(map[uint64]*proposal)
	}
	p.mu.byID[seq] = pr
	p.mu.bytes += pr.size
	return nil
}

// attach gives a proposal the handle by which the sweep loop learns that raft
// dropped it.
func (p *pending) attach(seq uint64, state *dragonboat.RequestState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.mu.byID[seq]; pr != nil {
		pr.state = state
	}
}

func (p *pending) takeLocked(seq uint64) *proposal {
	pr := p.mu.byID[seq]
	if pr != nil {
		delete(p.mu.byID, seq)
		p.mu.bytes -= pr.size
	}
	return pr
}

// resolve answers a proposal if it still waits.
func (p *pending) resolve(seq uint64, res result) {
	p.mu.Lock()
	pr := p.takeLocked(seq)
	p.mu.Unlock()
	if pr != nil {
		pr.done(res)
	}
}

// resolveIf answers every proposal for which verdict gives a result.
func (p *pending) resolveIf(verdict func(*proposal) (result, bool)) {
	type answer struct {
		pr  *proposal
		res result
	}
	var answers []answer
	p.mu.Lock()
	for seq, pr := range p.mu.byID {
		if res, ok := verdict(pr); ok {
			answers = append(answers, answer{p.takeLocked(seq), res})
		}
	}
	p.mu.Unlock()
	for _, a := range answers {
		a.pr.done(a.res)
	}
}

// close answers all that wait with err and refuses what comes later with later.
func (p *pending) close(err, later error) {
	p.mu.Lock()
	p.mu.closed = later
	p.mu.Unlock()
	p.resolveIf(func(*proposal) (result, bool) { return refused(err), true })
}

// empty reports whether nothing waits.
func (p *pending) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.byID) == 0
}
