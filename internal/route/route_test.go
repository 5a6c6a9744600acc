package route_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster that answers metadata requests.
type world struct {
	mu       sync.Mutex
	brokers  []api.BrokerInfo
	topics   map[string]api.TopicInfo
	down     map[string]error // by address
	create   bool             // topics are created by asking
	asked    []string         // addresses, one for each request
	open     []string         // connections
	dialErr  error
	stuck    chan struct{} // requests wait for it, if not nil
	stuckAt  string        // at this address, "" for all
	dialings int
}

// newWorld has brokers 1 to n at b1 to bn, and topic t, led by broker 1.
func newWorld(n int) *world {
	w := &world{topics: map[string]api.TopicInfo{}, down: map[string]error{}}
	for id := range int32(n) {
		w.brokers = append(w.brokers, api.BrokerInfo{ID: id + 1, Addr: fmt.Sprintf("b%d", id+1)})
	}
	w.lead("t", 1, 1)
	return w
}

func (w *world) set(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// lead makes a broker the leader of a topic's one partition.
func (w *world) lead(topic string, leader, epoch int32) {
	w.set(func() {
		id := w.topics[topic].ID
		if id == uuid.Nil {
			id = uuid.New()
		}
		w.topics[topic] = api.TopicInfo{Name: topic, ID: id, Partitions: []api.PartitionInfo{{Leader: leader, LeaderEpoch: epoch}}}
	})
}

func (w *world) requests() (n int) {
	w.set(func() { n = len(w.asked) })
	return n
}

func (w *world) router(change func(*route.Config)) *route.Router {
	cfg := route.Config{Seeds: []string{"b1"}, Dial: w.dial}
	if change != nil {
		change(&cfg)
	}
	return route.New(cfg)
}

func (w *world) dial(_ context.Context, id int32, addr string) (route.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialings++
	if w.dialErr != nil {
		return nil, w.dialErr
	}
	w.open = append(w.open, addr)
	return &conn{world: w, id: id, addr: addr}, nil
}

type conn struct {
	api.Broker
	world *world
	id    int32
	addr  string
}

func (c *conn) Close() error {
	c.world.set(func() {
		c.world.open = slices.DeleteFunc(c.world.open, func(addr string) bool { return addr == c.addr })
	})
	return nil
}

func (c *conn) Metadata(ctx context.Context, req *api.MetadataRequest) (*api.MetadataResponse, error) {
	w := c.world
	w.mu.Lock()
	stuck := w.stuck
	if w.stuckAt != "" && w.stuckAt != c.addr {
		stuck = nil
	}
	w.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.down[c.addr]; err != nil {
		return nil, err
	}
	w.asked = append(w.asked, c.addr)
	res := &api.MetadataResponse{Brokers: slices.Clone(w.brokers)}
	for _, name := range req.Topics {
		info, ok := w.topics[name]
		switch {
		case ok:
			info.Partitions = slices.Clone(info.Partitions)
		case req.AutoCreate && w.create:
			info = api.TopicInfo{Name: name, ID: uuid.New(), Partitions: []api.PartitionInfo{{Leader: 1}}}
			w.topics[name] = info
		default:
			info = api.TopicInfo{Name: name, Err: mqerr.ErrUnknownTopicOrPartition}
		}
		res.Topics = append(res.Topics, info)
	}
	return res, nil
}

func test(t *testing.T, brokers int, change func(*route.Config), fn func(t *testing.T, w *world, r *route.Router)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(brokers)
		r := w.router(change)
		defer r.Close()
		fn(t, w, r)
	})
}

func leader(t *testing.T, r *route.Router) route.Leader {
	t.Helper()
	l, err := r.Leader(t.Context(), "t", 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConcurrentQuestionsShareARefresh(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := r.Leader(t.Context(), "t", 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := w.requests(); n > 2 { // one under way cannot serve who comes later
			t.Fatalf("%d requests", n)
		}
		leader(t, r)
		if n := w.requests(); n > 2 {
			t.Fatal("what is known was asked again")
		}
	})
}

func TestMetadataIsRefreshedAtItsAge(t *testing.T) {
	test(t, 2, nil, func(t *testing.T, w *world, r *route.Router) {
		leader(t, r)
		time.Sleep(10 * time.Minute) // the brokers are known for long
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.lead("t", 2, 2)
		changed := r.Changed()
		start := time.Now()
		<-changed
		if age := time.Since(start); age < 55*time.Second || age > time.Minute {
			t.Fatalf("refreshed after %v", age)
		}
		if l := leader(t, r); l.ID != 2 || l.Epoch != 2 {
			t.Fatalf("leader %+v", l)
		}
	})
}

// A client may know one broker of a cluster that is just being started.
func TestBrokersThatComeLaterAreSoonKnown(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		leader(t, r)
		w.set(func() { w.brokers = append(w.brokers, api.BrokerInfo{ID: 2, Addr: "b2"}) })
		w.lead("t", 2, 2)
		time.Sleep(5 * time.Second)
		w.set(func() {
			w.brokers = append(w.brokers, api.BrokerInfo{ID: 3, Addr: "b3"})
			w.down["b1"] = errors.New("dead")
		})
		time.Sleep(5 * time.Second)
		if l := leader(t, r); l.ID != 2 {
			t.Fatalf("leader %+v", l)
		}
		if brokers, err := r.Brokers(t.Context()); err != nil || len(brokers) != 3 {
			t.Fatalf("%v, %v", brokers, err)
		}
	})
}

func TestRefreshesInARowBackOff(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.lead("t", -1, 1)
		start := time.Now()
		var gaps []time.Duration
		for range 12 {
			before := time.Now()
			if _, err := r.Leader(t.Context(), "t", 0); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
				t.Fatal(err)
			}
			gaps = append(gaps, time.Since(before))
		}
		if gaps[0] != 0 || gaps[2] > 20*time.Millisecond {
			t.Errorf("slow to begin: %v", gaps)
		}
		if last := gaps[len(gaps)-1]; last < 700*time.Millisecond || last > 1300*time.Millisecond {
			t.Errorf("last gap %v after %v", last, time.Since(start))
		}
		time.Sleep(10 * time.Second)
		before := time.Now()
		_, _ = r.Leader(t.Context(), "t", 0)
		if waited := time.Since(before); waited > 0 {
			t.Errorf("waited %v after a rest", waited)
		}
	})
}

func TestUnknownTopicIsCreatedOnlyWhenAskedFor(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.create = true
		if _, err := r.Topic(t.Context(), "new", false); !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
			t.Fatal(err)
		}
		if info, err := r.Topic(t.Context(), "new", true); err != nil || len(info.Partitions) != 1 {
			t.Fatalf("%+v, %v", info, err)
		}
		// A topic that was deleted does not come back by a mere refresh.
		w.set(func() { delete(w.topics, "new") })
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if info, ok := r.Cached("new"); !ok || !errors.Is(info.Err, mqerr.ErrUnknownTopicOrPartition) {
			t.Fatalf("%+v", info)
		}
	})
}

func TestWantIsAnsweredByASuccessOnly(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.set(func() { w.create, w.down["b1"] = true, mqerr.ErrLeaderNotAvailable })
		changed, ticket := r.Changed(), r.Want("new", true)
		<-changed
		if r.Answered(ticket) {
			t.Error("answered by nobody")
		}
		w.set(func() { delete(w.down, "b1") })
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if info, ok := r.Cached("new"); !r.Answered(ticket) || !ok || info.Err != nil {
			t.Errorf("the topic is %+v", info)
		}
	})
}

func TestPartitionThatDoesNotExist(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, _ *world, r *route.Router) {
		for _, p := range []int32{-1, 1} {
			if _, err := r.Leader(t.Context(), "t", p); !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
				t.Errorf("%d: %v", p, err)
			}
		}
	})
}

func TestFailureOfTheLeaderCausesARefresh(t *testing.T) {
	test(t, 2, nil, func(t *testing.T, w *world, r *route.Router) {
		for i, err := range []error{mqerr.ErrNotLeader, mqerr.ErrTimeout, errors.New("connection lost")} {
			old := leader(t, r)
			w.lead("t", int32(1+(i+1)%2), int32(i+2))
			r.Failed(old, err)
			if l := leader(t, r); l.Epoch != int32(i+2) {
				t.Errorf("%v: still %+v", err, l)
			}
		}
	})
}

func TestFailureThatSaysNothingOfTheLeaderDoesNot(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		l := leader(t, r)
		before := w.requests()
		r.Failed(l, mqerr.ErrBusy)
		r.Failed(l, mqerr.ErrRecordTooLarge)
		time.Sleep(time.Second)
		if n := w.requests() - before; n > 0 {
			t.Fatalf("%d requests", n)
		}
	})
}

func TestFailureOfAnEarlierLeadershipIsIgnored(t *testing.T) {
	test(t, 2, nil, func(t *testing.T, w *world, r *route.Router) {
		old := leader(t, r)
		w.lead("t", 2, 2)
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := w.requests()
		for range 10 {
			r.Failed(old, mqerr.ErrNotLeader)
		}
		time.Sleep(time.Second)
		if n := w.requests() - before; n > 0 {
			t.Fatalf("%d requests", n)
		}
	})
}

func TestHintToTheLeaderIsTakenOverIfItIsNewer(t *testing.T) {
	test(t, 2, nil, func(t *testing.T, w *world, r *route.Router) {
		l := leader(t, r)
		before, changed := w.requests(), r.Changed()
		r.Failed(l, &mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: 2, LeaderEpoch: 2})
		<-changed
		if l = leader(t, r); l.ID != 2 || l.Epoch != 2 || w.requests() != before {
			t.Fatalf("%+v after %d requests", l, w.requests()-before)
		}
		// Brokers that are behind do not undo it.
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l = leader(t, r); l.ID != 2 {
			t.Fatalf("%+v", l)
		}
		for _, hint := range []mqerr.Detail{
			{Err: mqerr.ErrNotLeader, Leader: 1, LeaderEpoch: 1}, // old
			{Err: mqerr.ErrNotLeader, Leader: 9, LeaderEpoch: 3}, // nobody knows it
		} {
			r.Failed(l, &hint)
			if l = leader(t, r); l.ID != 2 {
				t.Fatalf("took over %+v", hint)
			}
		}
	})
}

func TestNextBrokerIsAskedWhenOneFails(t *testing.T) {
	seeds := func(cfg *route.Config) { cfg.Seeds = []string{"b1", "b2"} }
	test(t, 3, seeds, func(t *testing.T, w *world, r *route.Router) {
		w.down["b1"] = errors.New("one is away")
		leader(t, r)
		w.set(func() { w.down["b2"] = errors.New("two is away"); w.asked = nil })
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.asked, []string{"b3"}) {
			t.Fatalf("asked %v", w.asked)
		}
		w.set(func() { w.down["b3"] = errors.New("three is away") })
		err := r.Refresh(t.Context())
		if !errors.Is(err, mqerr.ErrLeaderNotAvailable) || !errors.Is(r.Err(), mqerr.ErrLeaderNotAvailable) {
			t.Fatal(err)
		}
		for _, want := range []string{"b1: one is away", "b2: two is away", "b3: three is away"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %q", want, err)
			}
		}
		if l := leaderOrCached(r); l != 1 {
			t.Error("what was known is gone")
		}
		w.set(func() { clear(w.down) })
		if _, err := r.Any(t.Context()); err != nil || r.Err() != nil {
			t.Errorf("%v, %v", err, r.Err())
		}
	})
}

func leaderOrCached(r *route.Router) int32 {
	info, _ := r.Cached("t")
	return info.Partitions[0].Leader
}

func TestBrokerWithoutAddressIsReachedThroughTheSeed(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.brokers[0].Addr = ""
		if l := leader(t, r); l.Broker.(*conn).addr != "b1" {
			t.Fatalf("through %v", l.Broker)
		}
		if w.dialings != 1 {
			t.Fatalf("%d connections", w.dialings)
		}
	})
}

func TestLocalBrokerIsCalledDirectly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3)
		w.brokers[1].Addr, w.brokers[2].Addr = "", ""
		local := &conn{world: w}
		r := w.router(func(cfg *route.Config) { cfg.Local, cfg.LocalID, cfg.Seeds = local, 1, nil })
		defer r.Close()
		if l := leader(t, r); l.Broker != api.Broker(local) {
			t.Fatalf("through %v", l.Broker)
		}
		if b, err := r.Any(t.Context()); err != nil || b != api.Broker(local) {
			t.Fatalf("any: %v, %v", b, err)
		}
		if w.dialings != 0 {
			t.Fatal("connected to itself")
		}
		for id := int32(2); id <= 3; id++ { // told apart by their ids
			if b, err := r.Broker(t.Context(), id); err != nil || b.(*conn).id != id {
				t.Fatalf("broker %d: %v, %v", id, b, err)
			}
		}
		if _, err := r.Broker(t.Context(), 9); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Fatal(err)
		}
	})
}

func TestConnectionIsSharedAndClosedWhenItsBrokerLeaves(t *testing.T) {
	test(t, 3, nil, func(t *testing.T, w *world, r *route.Router) {
		leader(t, r)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := r.Broker(t.Context(), 3); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if want := []string{"b1", "b3"}; !slices.Equal(w.open, want) {
			t.Fatalf("open: %v, want %v", w.open, want)
		}
		w.set(func() { w.brokers = w.brokers[:2] })
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := []string{"b1"}; !slices.Equal(w.open, want) {
			t.Fatalf("open: %v, want %v", w.open, want)
		}
		_ = r.Close()
		if len(w.open) > 0 {
			t.Fatalf("left open: %v", w.open)
		}
	})
}

func TestFailedDialIsTriedAgain(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.dialErr = errors.New("no route")
		if _, err := r.Leader(t.Context(), "t", 0); !errors.Is(err, w.dialErr) {
			t.Fatal(err)
		}
		w.set(func() { w.dialErr = nil })
		leader(t, r)
	})
}

func TestTopicThatNobodyAsksForIsForgotten(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.lead("u", 1, 1)
		_, _ = r.Topic(t.Context(), "u", false)
		for range 20 {
			leader(t, r)
			time.Sleep(time.Minute)
		}
		if _, ok := r.Cached("u"); ok {
			t.Error("u is still refreshed")
		}
		if _, ok := r.Cached("t"); !ok {
			t.Error("t, which is in use, was forgotten")
		}
	})
}

func TestWaitingEndsWithContextAndClose(t *testing.T) {
	test(t, 1, nil, func(t *testing.T, w *world, r *route.Router) {
		w.stuck = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Leader(ctx, "t", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		calls := map[string]func() error{
			"Leader":  func() error { _, err := r.Leader(context.Background(), "t", 0); return err },
			"Topic":   func() error { _, err := r.Topic(context.Background(), "t", false); return err },
			"Refresh": func() error { return r.Refresh(context.Background()) },
			"Any":     func() error { _, err := r.Any(context.Background()); return err },
			"Brokers": func() error { _, err := r.Brokers(context.Background()); return err },
		}
		type result struct {
			name string
			err  error
		}
		results := make(chan result, len(calls))
		for name, call := range calls {
			go func() { results <- result{name, call()} }()
		}
		synctest.Wait()
		_ = r.Close()
		for range calls {
			if got := <-results; !errors.Is(got.err, mqerr.ErrClosed) {
				t.Errorf("%s: %v", got.name, got.err)
			}
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, mqerr.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		<-r.Done()
	})
}

func TestAnyIsAnotherBrokerAfterOneDidNotAnswer(t *testing.T) {
	test(t, 2, nil, func(t *testing.T, w *world, r *route.Router) {
		before, err := r.Any(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.set(func() { w.down["b1"] = mqerr.ErrLeaderNotAvailable })
		if again, err := r.Any(t.Context()); err != nil || again != before {
			t.Fatalf("nobody complained and Any gives another broker: %v", err)
		}
		r.AnyFailed(mqerr.ErrTopicExists)
		if again, err := r.Any(t.Context()); err != nil || again != before {
			t.Fatalf("an answer is no failure, and Any gives another broker: %v", err)
		}
		r.AnyFailed(mqerr.ErrLeaderNotAvailable)
		if after, err := r.Any(t.Context()); err != nil || after == before {
			t.Errorf("Any gives the broker that did not answer: %v", err)
		}
	})
}

func TestABrokerThatDoesNotAnswerDelaysARefreshLittle(t *testing.T) {
	test(t, 2, nil, func(t *testing.T, w *world, r *route.Router) {
		leader(t, r)
		w.set(func() { w.stuck, w.stuckAt = make(chan struct{}), "b1" })
		start := time.Now()
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 2*time.Second { // of the bubble
			t.Errorf("a refresh took %v", d)
		}
	})
}
