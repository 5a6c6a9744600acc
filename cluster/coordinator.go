package cluster

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/mqerr"
)

// The coordinator of the groups whose shards this broker leads. One loop owns
// everything: heartbeats and the outcomes of proposals come to it by post, and
// what package group makes of them is proposed as one command per group at a
// time. What comes meanwhile waits, and is then one step.
//
//	GroupHeartbeat ──► post ──► group.Next ──► unchanged: answer, or hold until news
//	expiry, topics ─────────────────┘    └───► changed: propose ──► applied: answer
//	     (the held ones are asked again at each change)
//
// Sessions are in memory only and begin anew with each leader: members, epochs
// and what they hold are not.
type coordinator struct {
	nudger
	node *Node
	post struct { // what the loop has not taken yet
		sync.Mutex
		beats []*beat
		calls []func() // each is run once
	}

	// What follows belongs to the loop.
	shards map[uint64]*coordinated
	meta   *metaState // that topics are of
	topics *group.Topics
	looked time.Time // when sessions were last looked at, by a clock that can't be set
}

const (
	coordinatorTick = 200 * time.Millisecond
	// maxQueuedPerMember bounds the heartbeats of one group that wait for a step: some of
	// each member that there may be. Beyond it they are refused with ErrBusy.
	maxQueuedPerMember = 4
	// maxPosted bounds those that the loop has not looked at yet.
	maxPosted = 1 << 16
)

// coordinated is a shard that this broker leads.
type coordinated struct {
	r      *replica
	store  *groupStore
	epoch  int32
	groups map[string]*balanced // those with members or something to do
}

// balanced is a group.
type balanced struct {
	name     string
	shard    *coordinated
	state    *group.State
	sessions map[string]session // of the members
	queue    []*beat            // that wait for the next step
	held     map[string]*beat   // by member: known, and wait for news
	going    *going             // nil while nothing is proposed
	over     bool               // this broker does not lead it any more
	doubt    bool               // a command whose outcome is not known may still change it
}

// going is a step whose command is on its way.
type going struct {
	next    *group.State
	beats   []*beat
	answers []group.Answer
}

func (c *coordinator) init(n *Node) {
	c.nudger.init()
	c.node = n
	c.shards = make(map[uint64]*coordinated)
}

// call makes the loop run fn. It never blocks.
func (c *coordinator) call(fn func()) {
	c.post.Lock()
	c.post.calls = append(c.post.calls, fn)
	c.post.Unlock()
	c.nudge()
}

// group finds the group of a heartbeat, nil if there is nothing to do in it.
func (c *coordinator) group(b *beat) *balanced {
	if s := c.shards[b.shard]; s != nil {
		return s.groups[b.group]
	}
	return nil
}

// coordinatorLoop runs the coordinator.
func (n *Node) coordinatorLoop() {
	c := &n.coordinator
	timer := time.NewTimer(0)
	defer timer.Stop()
	changed := n.changed.wait()
	c.follow()
	for {
		c.lookAtTopics()
		c.take()
		if c.idle() {
			c.looked = time.Time{}
		} else {
			c.expire()
			timer.Reset(coordinatorTick)
		}
		select {
		case <-n.closing.Done():
			return // who waits for an answer hears of it too
		case <-c.c:
		case <-timer.C:
		case <-changed:
			changed = n.changed.wait()
			c.follow()
		}
	}
}

func (c *coordinator) idle() bool {
	for _, s := range c.shards {
		if len(s.groups) > 0 {
			return false
		}
	}
	return true
}

// follow takes over the groups of shards that this broker has begun to lead, and
// drops those of others.
func (c *coordinator) follow() {
	led := make(map[uint64]*coordinated)
	c.node.eachReplica(func(r *replica) {
		store, ok := r.machine.app.(*groupStore)
		if !ok {
			return
		}
		epoch, err := r.epochServed()
		if err != nil {
			return
		}
		was := c.shards[r.id.Shard]
		if was == nil || was.r != r || was.epoch != epoch {
			was = c.begin(r, store, epoch)
		}
		if was != nil {
			led[r.id.Shard] = was
		}
	})
	for id, s := range c.shards {
		if led[id] != s {
			s.end(c.node)
		}
	}
	c.shards = led
}

// lookAtTopics makes a step of every group when the topics may have changed.
func (c *coordinator) lookAtTopics() {
	s := c.node.meta.state.Load()
	if s == c.meta || c.node.loaded() != nil {
		return
	}
	c.meta = s
	topics := make([]group.Topic, 0, len(s.topics))
	for _, t := range s.topics {
		topics = append(topics, group.Topic{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))})
	}
	c.topics = group.NewTopics(topics)
	c.each(func(g *balanced) { c.step(g, nil) })
}

// begin loads the groups with members of a shard.
func (c *coordinator) begin(r *replica, store *groupStore, epoch int32) *coordinated {
	states, err := store.states([]byte{preGroupState})
	if err != nil {
		if !errors.Is(err, mqerr.ErrClosed) {
			c.node.log.Error("groups could not be read", "replica", r.name, "error", err)
		}
		return nil
	}
	s := &coordinated{r: r, store: store, epoch: epoch, groups: make(map[string]*balanced)}
	for name, state := range states {
		if len(state.Members) > 0 {
			s.add(name, state, c.node.now())
		}
	}
	return s
}

// add begins the sessions of a group.
func (s *coordinated) add(name string, state *group.State, now time.Time) *balanced {
	g := &balanced{name: name, shard: s, state: state, sessions: make(map[string]session), held: make(map[string]*beat)}
	g.renew(now)
	s.groups[name] = g
	return g
}

// end answers all that wait: another broker leads the shard.
func (s *coordinated) end(n *Node) {
	for _, g := range s.groups {
		g.over = true
		err := n.notCoordinator(g.name, n.leaderOf(s.r))
		g.fail(err)
		if g.going != nil {
			for _, b := range g.going.beats {
				b.reply(group.Answer{Err: err})
			}
		}
	}
}

// fail answers all that wait for a step of a group.
func (g *balanced) fail(err error) {
	for _, b := range g.queue {
		b.reply(group.Answer{Err: err})
	}
	for _, b := range g.held {
		b.reply(group.Answer{Err: err})
	}
	g.queue = nil
	clear(g.held)
}

func (c *coordinator) each(fn func(*balanced)) {
	for _, s := range c.shards {
		for _, g := range s.groups {
			fn(g)
		}
	}
}

// take handles what came by post.
func (c *coordinator) take() {
	c.post.Lock()
	beats, calls := c.post.beats, c.post.calls
	c.post.beats, c.post.calls = nil, nil
	c.post.Unlock()
	due := make(map[*balanced]bool)
	for _, b := range beats {
		if g := c.enqueue(b); g != nil {
			due[g] = true
		}
	}
	for g := range due {
		c.step(g, nil)
	}
	for _, fn := range calls {
		fn()
	}
}

// release answers a heartbeat that is held with what its sender knows.
func (g *balanced) release(member string) {
	if b := g.held[member]; b != nil {
		delete(g.held, member)
		b.reply(g.state.Answer(member))
	}
}

// enqueue gives a heartbeat to its group, which is loaded if need be.
func (c *coordinator) enqueue(b *beat) *balanced {
	s := c.shards[b.shard]
	if s == nil { // it leads only just now, or not any more
		c.follow()
		if s = c.shards[b.shard]; s == nil {
			b.reply(group.Answer{Err: c.node.notCoordinator(b.group, -1)})
			return nil
		}
	}
	g := s.groups[b.group]
	if g == nil {
		state, err := s.store.state(b.group)
		if err != nil {
			b.reply(group.Answer{Err: fmt.Errorf("group %s: %w", b.group, err)})
			return nil
		}
		g = s.add(b.group, state, c.node.now())
	}
	if len(g.queue) >= maxQueuedPerMember*c.node.cfg.MaxGroupMembers {
		b.reply(group.Answer{Err: fmt.Errorf("group %s: %w: %d heartbeats wait", b.group, mqerr.ErrBusy, len(g.queue))})
		return nil
	}
	g.hear(b)
	g.queue = append(g.queue, b)
	return g
}

// step computes and proposes the next step of a group, unless one is on its way.
func (c *coordinator) step(g *balanced, expired []string) {
	if g.going != nil || g.over || c.topics == nil {
		return
	}
	if g.doubt {
		c.seal(g)
		return
	}
	for _, b := range g.queue { // whoever is heard again does not wait with the old one
		g.release(b.MemberID)
	}
	beats := g.queue
	g.queue = nil
	next, out := c.next(g, beats, expired)
	if !out.Changed {
		g.state = next
		g.deliver(beats, out.Answers)
		if len(next.Members) == 0 { // what is left of it is stored
			delete(g.shard.groups, g.name)
		}
		return
	}
	for _, id := range slices.Sorted(maps.Keys(g.held)) { // there may be news for them
		beats = append(beats, g.held[id])
	}
	clear(g.held)
	next, out = c.next(g, beats, expired)
	g.going = &going{next: next, beats: beats, answers: out.Answers}
	cmd := groupCommand{Group: g.name, Revision: g.state.Revision, Header: next.EncodeHeader(), Deleted: out.Deleted}
	for _, m := range out.Put {
		cmd.Put = append(cmd.Put, memberRecord{m.ID, m.Encode()})
	}
	c.node.proposeGroup(g.shard.r, kindGroup, cmd, func(res result) {
		c.call(func() { c.settle(g, res.err) })
	})
}

// seal proposes a command that no state fits. When it is refused for that, all
// that was proposed before has been applied or never will be.
func (c *coordinator) seal(g *balanced) {
	g.going = &going{}
	c.node.proposeGroup(g.shard.r, kindGroup, groupCommand{Group: g.name, Revision: math.MaxUint64}, func(res result) {
		c.call(func() { c.settle(g, res.err) })
	})
}

func (c *coordinator) next(g *balanced, beats []*beat, expired []string) (*group.State, group.Output) {
	in := group.Input{Topics: c.topics, Expired: expired, MaxMembers: c.node.cfg.MaxGroupMembers, Now: c.node.now().UnixMilli()}
	for _, b := range beats {
		in.Heartbeats = append(in.Heartbeats, b.Heartbeat)
	}
	return g.state.Next(in)
}

// settle takes the outcome of a proposal.
func (c *coordinator) settle(g *balanced, err error) {
	done := g.going
	g.going = nil
	if g.over {
		return
	}
	if err == nil {
		g.state = done.next
		g.renew(c.node.now())
		g.deliver(done.beats, done.answers)
	} else {
		c.failed(g, done.beats, err)
	}
	if !g.doubt { // or else with the next heartbeat, or tick
		c.step(g, nil)
	}
}

// failed goes back to what is stored, whatever became of a proposal.
func (c *coordinator) failed(g *balanced, beats []*beat, err error) {
	state, broken := g.shard.store.state(g.name)
	if broken != nil {
		err = broken
	} else {
		g.state = state
		g.renew(c.node.now())
	}
	if errors.Is(err, errGroupChanged) {
		g.doubt = false
		g.queue = append(beats, g.queue...) // once more
		return
	}
	g.doubt = g.doubt || mqerr.OutcomeUnknown(err)
	for _, b := range beats {
		b.reply(group.Answer{Err: coordinatorError(g.name, err)})
	}
}

// deliver answers heartbeats, or holds those that wait for news.
func (g *balanced) deliver(beats []*beat, answers []group.Answer) {
	for i, b := range beats {
		if a := answers[i]; a.Err == nil && a.Known && !b.hurry.Load() {
			g.release(b.MemberID)
			g.held[b.MemberID] = b
		} else {
			b.reply(a)
		}
	}
}
