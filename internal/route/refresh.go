package route

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// useLocked returns the entry of a topic and marks it as used.
func (r *Router) useLocked(name string) *topic {
	t := r.mu.topics[name]
	if t == nil {
		t = &topic{}
		r.mu.topics[name] = t
	}
	t.used.Store(time.Now().UnixNano())
	return t
}

// wantLocked asks for a refresh, of t if not nil, and returns a ticket for wait.
func (r *Router) wantLocked(t *topic) uint64 {
	r.mu.asked++
	if t == nil {
		t = &r.mu.cluster
	}
	if t.wanted <= r.mu.served {
		t.first = r.mu.asked
	}
	t.wanted = r.mu.asked
	select {
	case r.wake <- struct{}{}:
	default: // one is on its way
	}
	return r.mu.asked
}

// wait waits for a refresh that began after the ticket was given, and returns
// why it failed.
func (r *Router) wait(ctx context.Context, ticket uint64) error {
	for {
		r.mu.RLock()
		served, err, changed := r.mu.served, r.mu.err, r.mu.changed
		r.mu.RUnlock()
		if served >= ticket {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.ctx.Done():
			return mqerr.ErrClosed
		}
	}
}

func (r *Router) announceLocked() {
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
}

// run refreshes when it is wanted and when what is known is old, until the Router closes.
func (r *Router) run() {
	due := time.NewTimer(r.cfg.MaxAge)
	defer due.Stop()
	for {
		select {
		case <-r.wake:
		case <-due.C:
			r.refresh()
		case <-r.ctx.Done():
			return
		}
		due.Reset(time.Until(r.due()))
	}
}

// due is when to refresh next: when what is known is old, or when the first topic may that
// wants to.
func (r *Router) due() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	due := r.mu.pace.last.Add(r.mu.age)
	wants := func(t *topic) {
		if t.wanted > r.mu.served && t.pace.next.Before(due) {
			due = t.pace.next
		}
	}
	wants(&r.mu.cluster)
	for _, t := range r.mu.topics {
		wants(t)
	}
	if r.mu.err != nil && due.Before(r.mu.pace.next) {
		return r.mu.pace.next // no use in asking sooner, whoever wants to
	}
	return due
}

// pace spaces refreshes in a row. Who asks again soon after one waits for
// something that has not happened yet; whoever has not asked must not wait for
// them.
type pace struct {
	last, next time.Time // the last refresh, and when another one may be
	inRow      int
}

func (p *pace) refreshed(now time.Time) {
	if now.Sub(p.next) > p.next.Sub(p.last) { // twice the back-off went by
		p.inRow = 0
	}
	p.inRow++
	p.last, p.next = now, now.Add(spacing.Delay(p.inRow))
}

// refreshedLocked notes a refresh, for the Router and those who wanted it.
func (r *Router) refreshedLocked(serving uint64, err error) {
	now := time.Now()
	r.mu.pace.refreshed(now)
	if err == nil {
		r.mu.pace.inRow = 0 // it spaces failures
	}
	wanted := func(t *topic) {
		if t.wanted > r.mu.served && t.first <= serving {
			t.pace.refreshed(now) // also for those who came while it was under way
			t.first = serving + 1
		}
	}
	wanted(&r.mu.cluster)
	for _, t := range r.mu.topics {
		wanted(t)
	}
	r.mu.served, r.mu.err = serving, err
}

// refresh asks brokers for metadata until one answers.
func (r *Router) refresh() {
	r.mu.Lock()
	serving := r.mu.asked
	var names, create []string
	for name, t := range r.mu.topics {
		switch {
		case time.Since(time.Unix(0, t.used.Load())) > idleTopic:
			delete(r.mu.topics, name)
		case t.create:
			create = append(create, name)
			t.create = false
		default:
			names = append(names, name)
		}
	}
	r.mu.Unlock()
	slices.Sort(names)
	slices.Sort(create)

	answer, addr, err := r.ask(names, create)

	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.announceLocked()
	failedBefore := r.mu.err != nil
	r.refreshedLocked(serving, err)
	if err != nil {
		for _, name := range create { // which nobody may have heard of
			if t := r.mu.topics[name]; t != nil {
				t.create = true
			}
		}
		if !failedBefore && r.ctx.Err() == nil {
			r.cfg.Logger.Warn("no broker answers", "err", err)
		}
		return
	}
	if failedBefore {
		r.cfg.Logger.Info("a broker answers again", "addr", addr)
	}
	r.mu.fresh, r.mu.good, r.mu.suspect = serving, addr, false
	before := r.mu.brokers
	r.mu.brokers = map[int32]api.BrokerInfo{}
	inUse := map[string]bool{}
	for _, b := range answer.Brokers {
		r.mu.brokers[b.ID] = b
		inUse[connKey(b.ID, b.Addr)] = true
	}
	r.mu.age = min(2*r.mu.age, r.cfg.MaxAge)
	if !maps.Equal(before, r.mu.brokers) {
		r.mu.age = min(youngest, r.cfg.MaxAge)
	}
	for _, seed := range r.cfg.Seeds {
		inUse[connKey(SeedID, seed)] = true
	}
	r.conns.keep(inUse)
	for _, info := range answer.Topics {
		if t := r.mu.topics[info.Name]; t != nil {
			t.known, t.info = true, newer(t.info, info)
			if info.Err == nil {
				t.create = false // who wished it meanwhile has it; later, it may have been deleted
			}
		}
	}
}

// newer merges what is known about a topic with what a broker answered, whose
// own knowledge may be older: a leadership of a higher epoch stays.
func newer(old, info api.TopicInfo) api.TopicInfo {
	if old.ID != info.ID {
		return info
	}
	for i := range info.Partitions {
		if i < len(old.Partitions) && old.Partitions[i].LeaderEpoch > info.Partitions[i].LeaderEpoch {
			info.Partitions[i] = old.Partitions[i]
		}
	}
	return info
}

// ask sends the request to one broker after the other until one answers, and
// returns its address. One that takes long does not keep it from the next.
func (r *Router) ask(names, create []string) (*api.MetadataResponse, string, error) {
	if r.cfg.Local != nil {
		answer, err := r.metadata(r.ctx, r.cfg.Local, names, create)
		return answer, "", err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	var asking sync.WaitGroup // ends with ctx
	defer asking.Wait()
	defer cancel()
	addrs := r.candidates()
	answers := make(chan asked, len(addrs)) // takes all, also those nobody waits for
	var absent unreachable
	for open := 0; len(addrs) > 0 || open > 0; {
		var slow <-chan time.Time
		if len(addrs) > 0 {
			addr := addrs[0]
			addrs = addrs[1:]
			open++
			asking.Go(func() {
				answer, err := r.askAt(ctx, addr, names, create)
				answers <- asked{answer, addr, err}
			})
			slow = time.After(patience)
		}
		select {
		case a := <-answers:
			if a.err == nil {
				return a.answer, a.addr, nil
			}
			if r.ctx.Err() != nil {
				return nil, "", mqerr.ErrClosed
			}
			open--
			absent.add(a.addr, a.err)
		case <-slow: // it may come yet, but another may be faster
		}
	}
	return nil, "", &absent
}

// patience is how long the only broker asked for metadata has to answer, which it
// does from memory, before the next is asked as well.
const patience = time.Second

// asked is what became of asking a broker.
type asked struct {
	answer *api.MetadataResponse
	addr   string
	err    error
}

func (r *Router) askAt(ctx context.Context, addr string, names, create []string) (*api.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	conn, err := r.conns.get(ctx, SeedID, addr)
	if err != nil {
		return nil, err
	}
	return r.metadata(ctx, conn, names, create)
}

// candidates are the addresses to ask: who answered last, unless it did not when
// asked again, the known brokers, the seeds.
func (r *Router) candidates() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var addrs []string
	if !r.mu.suspect {
		addrs = append(addrs, r.mu.good)
	}
	for _, b := range sortedBrokers(r.mu.brokers) {
		addrs = append(addrs, b.Addr)
	}
	addrs = append(addrs, r.cfg.Seeds...)
	seen := map[string]bool{"": true}
	return slices.DeleteFunc(addrs, func(a string) bool {
		dup := seen[a]
		seen[a] = true
		return dup
	})
}

// metadata asks one broker. Topics that may be created go in a request of their
// own, so that no other topic comes back to life by a mere refresh.
func (r *Router) metadata(ctx context.Context, b api.Broker, names, create []string) (*api.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if names == nil {
		names = []string{} // nil would mean all
	}
	answer, err := b.Metadata(ctx, &api.MetadataRequest{Topics: names})
	if err != nil || len(create) == 0 {
		return answer, err
	}
	created, err := b.Metadata(ctx, &api.MetadataRequest{Topics: create, AutoCreate: true})
	if err != nil {
		return nil, err
	}
	created.Topics = append(created.Topics, answer.Topics...)
	return created, nil
}

func sortedBrokers(m map[int32]api.BrokerInfo) []api.BrokerInfo {
	return slices.SortedFunc(maps.Values(m), func(a, b api.BrokerInfo) int { return cmp.Compare(a.ID, b.ID) })
}
