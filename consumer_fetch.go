package mq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
)

// lookForPartitions is how often the partitions of topics are counted anew.
const lookForPartitions = 30 * time.Second

// locateLoop keeps the set up to date with metadata: which partitions there are
// and who has them. It is the only one that starts fetchLoops; a broker's goes
// on, idle, when there is nothing to read from it any more.
func (c *Consumer) locateLoop() {
	age := time.NewTicker(lookForPartitions)
	defer age.Stop()
	fetching := make(map[int32]bool)
	var down outage
	if !c.firstMetadata(&down) {
		return
	}
	if c.member != nil {
		c.loops.Go(c.member.beatLoop) // ends with life
	}
	for {
		changed := c.router.Changed()
		located, complete := c.locate()
		for _, broker := range c.set.Sync(located) {
			if !fetching[broker] {
				fetching[broker] = true
				c.loops.Go(func() { c.fetchLoop(broker) }) // ends with life
			}
		}
		if c.offsets != nil && len(c.set.CommittedLookups()) > 0 {
			notify(c.asking)
		}
		if complete {
			down = outage{}
		} else {
			if down.tell() {
				c.log.Warn("topics are missing or partitions without a leader", "topics", c.topics(), "for", outageTold)
			}
			c.wantMetadata()
		}
		if !c.awaitMetadata(changed, age.C) {
			return
		}
	}
}

// firstMetadata waits until the brokers have answered about each topic, also
// that it does not exist: what shows up later is new. What the endpoint knows
// already will do; to ask anew for each consumer would hold up the next one.
// False when life ended.
func (c *Consumer) firstMetadata(down *outage) bool {
	for _, name := range c.cfg.Topics {
		if !c.untilAnswered(down, func(ctx context.Context) error {
			info, err := c.router.Topic(ctx, name, false)
			c.partitions[name] = len(info.Partitions)
			return err
		}) {
			return false
		}
	}
	return c.cfg.TopicPattern == "" || c.untilAnswered(down, c.countPartitions)
}

// untilAnswered repeats a question about topics until brokers answer it, if only
// that there is no such topic. False when life ended.
func (c *Consumer) untilAnswered(down *outage, ask func(context.Context) error) bool {
	for !c.over() {
		err := ask(c.life)
		if err == nil || unknownTopic(err) || !fetch.MayPass(err) {
			return !c.over()
		}
		if down.tell() {
			c.log.Warn("no broker answers", "for", outageTold, "err", err)
		}
		_ = backoff.Sleep(c.life, requestBackoff.Base) // life's end is seen by the loop
	}
	return false
}

// countPartitions notes which topics there are.
func (c *Consumer) countPartitions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	_, err := askHinted(ctx, c.router, route.SeedID, func(b api.Broker) error {
		all, err := b.Metadata(ctx, &api.MetadataRequest{})
		if err != nil {
			return err
		}
		for _, info := range all.Topics {
			c.partitions[info.Name] = len(info.Partitions)
		}
		return nil
	})
	return err
}

// over reports whether the consumer ended, and ends it when the endpoint did.
func (c *Consumer) over() bool {
	select {
	case <-c.router.Done():
		c.end()
	default:
	}
	return c.life.Err() != nil
}

func (c *Consumer) wantMetadata() {
	for _, name := range c.topics() {
		c.router.Want(name, false)
	}
}

// topics are those that are read.
func (c *Consumer) topics() []string {
	if c.member == nil {
		return c.cfg.Topics
	}
	var names []string
	for _, p := range c.set.Progress() {
		if !slices.Contains(names, p.Topic) {
			names = append(names, p.Topic)
		}
	}
	return names
}

// awaitMetadata waits for the next news, and asks for some when a partition
// lost its leader or time is up. False when life ended.
func (c *Consumer) awaitMetadata(changed <-chan struct{}, age <-chan time.Time) bool {
	for {
		select {
		case <-changed:
			return !c.over()
		case <-c.moved:
			return !c.over()
		case <-c.lost:
			c.wantMetadata()
		case <-age:
			c.wantMetadata()
		case <-c.router.Done():
			c.end()
			return false
		case <-c.life.Done():
			return false
		}
	}
}

// locate lists the partitions to read as metadata has them. complete is false
// when a topic or a leader is missing.
func (c *Consumer) locate() (located []fetch.Located, complete bool) {
	if c.member != nil {
		return c.locateAssigned()
	}
	complete = true
	for _, name := range c.cfg.Topics {
		info, ok := c.router.Cached(name)
		if !ok || info.Err != nil {
			complete = false
			continue
		}
		wanted := c.cfg.Partitions
		if len(wanted) == 0 {
			for i := range info.Partitions {
				wanted = append(wanted, int32(i))
			}
		}
		for _, n := range wanted {
			l := fetch.Located{TopicPartition: api.TopicPartition{Topic: name, TopicID: info.ID, Partition: n}}
			if int(n) < len(info.Partitions) {
				p := info.Partitions[n]
				l.Leader, l.LeaderEpoch, l.Near = p.Leader, p.LeaderEpoch, c.nearest.follower(name, p)
			} else {
				l.Leader, l.LeaderEpoch = fetch.NoLeader, api.NoEpoch
				l.Err = fmt.Errorf("%w: the topic has no partition %d (partitions: %d)", ErrUnknownTopicOrPartition, n, len(info.Partitions))
			}
			complete = complete && l.Leader != fetch.NoLeader
			located = append(located, l)
		}
	}
	return located, complete
}

// locateAssigned lists the partitions that the group's coordinator gave, where
// metadata has them.
func (c *Consumer) locateAssigned() (located []fetch.Located, complete bool) {
	complete = true
	for _, p := range c.set.Progress() {
		l := fetch.Located{TopicPartition: p.TopicPartition, Leader: fetch.NoLeader, LeaderEpoch: api.NoEpoch}
		if info, ok := c.router.Cached(p.Topic); ok && info.Err == nil && info.ID == p.TopicID && int(p.Partition) < len(info.Partitions) {
			at := info.Partitions[p.Partition]
			l.Leader, l.LeaderEpoch, l.Near = at.Leader, at.LeaderEpoch, c.nearest.follower(p.Topic, at)
		}
		complete = complete && l.Leader != fetch.NoLeader
		located = append(located, l)
	}
	return located, complete
}

// fetchLoop reads from one broker, as a rule what it leads: long polls, one at a
// time, over all of its partitions that have room.
func (c *Consumer) fetchLoop(broker int32) {
	wake := c.set.Wake(broker)
	var down outage
	late := newLateness(c.lost)
	defer late.end()
	for c.life.Err() == nil {
		asked := c.lookUp(broker, late, &down)
		fetched := c.fetchOnce(broker, late, &down)
		if asked || fetched {
			continue
		}
		select {
		case <-wake:
		case <-c.life.Done():
		}
	}
}

// lookUp asks for the offsets of timestamps that partitions begin at. It
// returns false when there is nothing to ask.
func (c *Consumer) lookUp(leader int32, late *lateness, down *outage) bool {
	lookups := c.set.Lookups(leader)
	if len(lookups) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(c.life, c.cfg.Timeout)
	defer cancel()
	qs := make([]question, len(lookups))
	for i, l := range lookups {
		qs[i] = question{l.TopicPartition, l.Timestamp}
	}
	var replies []reply
	b, err := c.router.Broker(ctx, leader)
	if err == nil {
		late.begin(0)
		replies, err = askOffsets(c.cfg.Isolation)(ctx, b, qs)
		late.end()
	}
	if err == nil && len(replies) != len(qs) {
		err = fmt.Errorf("%w: %d replies to %d questions", mqerr.ErrInternal, len(replies), len(qs))
	}
	if c.life.Err() != nil {
		return true
	}
	var troubles []fetch.Trouble
	for i, l := range lookups {
		r := reply{err: err}
		if err == nil {
			r = replies[i]
		}
		troubles = append(troubles, c.set.Found(l, r.offset, r.err)...)
	}
	c.troubled(leader, troubles, down)
	return true
}

// fetchOnce makes one request. It returns false when there is nothing to fetch.
func (c *Consumer) fetchOnce(broker int32, late *lateness, down *outage) bool {
	ctx, cancel := context.WithCancel(c.life)
	defer cancel()
	flight := c.set.StartFetch(broker, cancel)
	if flight == nil {
		return false
	}
	patience := c.cfg.Timeout
	if flight.Request.Follower {
		patience = min(patience, followerPatience)
	}
	ctx, end := context.WithTimeout(ctx, c.cfg.MaxWait+patience)
	defer end()
	var resp *api.FetchResponse
	b, err := c.router.Broker(ctx, broker)
	if err == nil {
		late.begin(c.cfg.MaxWait)
		resp, err = b.Fetch(ctx, flight.Request)
		late.end()
	}
	if errors.Is(ctx.Err(), context.Canceled) { // by the set, which has something better to ask, or at the end
		c.set.EndFetch(flight, nil, nil)
		return true
	}
	troubles := c.set.EndFetch(flight, resp, err)
	c.troubled(broker, troubles, down)
	if err == nil && c.cfg.PollInterval > 0 && len(resp.Partitions) == 0 {
		_ = backoff.Sleep(c.life, c.cfg.PollInterval) // life's end is seen by the loop
	}
	return true
}

// troubled passes on what went wrong with partitions, if anything did.
func (c *Consumer) troubled(broker int32, troubles []fetch.Trouble, down *outage) {
	if len(troubles) == 0 {
		*down = outage{}
		return
	}
	for _, t := range troubles {
		c.log.Debug("read failed", "topic", t.Topic, "partition", t.Partition, "broker", broker, "err", t.Err)
		if t.Follower {
			c.nearest.avoid(replicaAt{t.Topic, t.Partition, broker})
			continue
		}
		c.router.FailedAt(t.Topic, t.Partition, broker, t.LeaderEpoch, t.Err)
	}
	if down.tell() {
		c.log.Warn("can't read from broker", "broker", broker, "for", outageTold, "err", troubles[0].Err)
	}
	notify(c.lost)
}

// lateAfter is how long a broker may take beyond what it was told to wait before
// the consumer asks whether another one leads, and how long before it asks again. A
// machine without power breaks no connection.
const lateAfter = time.Second

// lateness asks for newer metadata while an answer is late.
type lateness struct {
	lost chan<- struct{}
	mu   struct {
		sync.Mutex
		timer *time.Timer
		out   bool // an answer is awaited
	}
}

func newLateness(lost chan<- struct{}) *lateness {
	l := &lateness{lost: lost}
	l.mu.timer = time.AfterFunc(time.Hour, l.ask)
	l.mu.timer.Stop()
	return l
}

// begin says that an answer should come after so long.
func (l *lateness) begin(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.out = true
	l.mu.timer.Reset(wait + lateAfter)
}

// end says that the answer is there.
func (l *lateness) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.out = false
	l.mu.timer.Stop()
}

func (l *lateness) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.out {
		notify(l.lost)
		l.mu.timer.Reset(lateAfter)
	}
}

// outage is how long something has not worked. The zero value means it works.
type outage struct {
	since time.Time
	told  bool
}

// outageTold is when an outage is worth a word in the log.
const outageTold = 30 * time.Second

// tell notes a failure and reports, once, that it has gone on for long.
func (o *outage) tell() bool {
	if o.since.IsZero() {
		o.since = time.Now()
	}
	if o.told || time.Since(o.since) < outageTold {
		return false
	}
	o.told = true
	return true
}

// notify puts a value into a channel of capacity 1 unless there is one.
func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
