package cluster

import (
	"sync"
	"time"
)

// sweeper looks after replicas with something unfinished: proposals that raft
// may drop or time out without telling, barriers to propose again, lone voters
// that do not lead yet.
type sweeper struct {
	nudger
	mu struct {
		sync.Mutex
		busy map[*replica]struct{}
	}
}

const (
	sweepFirst = time.Millisecond
	sweepRest  = 50 * time.Millisecond
	sweepGrace = time.Second // that raft has to answer before the sweep loop does
)

// note puts a replica under care until a pass finds nothing unfinished.
func (s *sweeper) note(r *replica) {
	if r.swept.Swap(true) {
		return
	}
	s.mu.Lock()
	if s.mu.busy == nil {
		s.mu.busy = make(map[*replica]struct{})
	}
	s.mu.busy[r] = struct{}{}
	s.mu.Unlock()
	s.nudge()
}

// pass visits all under care and reports how many remain and whether any of
// them has no leader.
func (s *sweeper) pass() (left int, leaderless bool) {
	s.mu.Lock()
	all := make([]*replica, 0, len(s.mu.busy))
	for r := range s.mu.busy {
		all = append(all, r)
	}
	s.mu.Unlock()
	for _, r := range all {
		// Cleared first: what begins during the visit notes the replica again.
		r.swept.Store(false)
		again, none := r.visit()
		leaderless = leaderless || none
		if again {
			left++
			r.swept.Store(true)
			continue
		}
		s.mu.Lock()
		if !r.swept.Load() {
			delete(s.mu.busy, r)
		}
		s.mu.Unlock()
	}
	return left, leaderless
}

// sweepLoop visits quickly while a shard has no leader, then at leisure.
func (n *Node) sweepLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := sweepFirst
	for {
		select {
		case <-n.closing.Done():
			return
		case <-n.sweep.c:
			wait = sweepFirst
		case <-timer.C:
		}
		left, leaderless := n.sweep.pass()
		switch {
		case left == 0:
			continue // until the next nudge
		case leaderless:
			wait = min(2*wait, sweepRest)
		default:
			wait = sweepRest
		}
		timer.Reset(wait)
	}
}
