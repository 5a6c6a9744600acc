package mq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformMembers = []behaviour{
	{"partitions move to who comes and from who goes, and no record is handled twice", testMembersComeAndGo},
	{"a member that is not heard for its session is fenced", testMemberIsFenced},
	{"a static member that restarts moves nothing", testStaticMember},
	{"two live members can't have one instance id", testInstanceInUse},
	{"of ten members over three partitions three read", testMoreMembersThanPartitions},
	{"a topic deleted under a group stops nothing else", testTopicDeletedUnderGroup},
	{"partitions that are added are read from their first record", testPartitionsAddedUnderGroup},
	{"a pattern picks up topics that are created later", testPatternPicksUpTopics},
	{"a group with members can be described, and moved only by force", testGroupAdmin},
	{"a group without members can be moved, and deleted", testIdleGroup},
}

// ledger is what the consumers of a group have handled, in the order of time.
type ledger struct {
	mu      sync.Mutex
	offsets map[int32][]int64            // by partition
	by      map[string]map[int32][]int64 // by consumer and partition
	total   int
}

func newLedger() *ledger {
	return &ledger{offsets: map[int32][]int64{}, by: map[string]map[int32][]int64{}}
}

func (l *ledger) note(who string, r *mq.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offsets[r.Partition] = append(l.offsets[r.Partition], r.Offset)
	if l.by[who] == nil {
		l.by[who] = map[int32][]int64{}
	}
	l.by[who][r.Partition] = append(l.by[who][r.Partition], r.Offset)
	l.total++
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// worker is a consumer that notes what it handles.
type worker struct {
	*mq.Consumer
	name string
	stop context.CancelFunc
	done chan error
}

func (l *ledger) start(t *testing.T, e mq.Endpoint, name string, cfg mq.ConsumerConfig) *worker {
	t.Helper()
	w := &worker{Consumer: newConsumer(t, e, cfg), name: name, done: make(chan error, 1)}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(soon(t))
	go func() {
		w.done <- w.Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			l.note(name, r)
			return nil
		}))
	}()
	return w
}

// end stops a worker in order.
func (w *worker) end(t *testing.T) {
	t.Helper()
	w.stop()
	if err := errors.Join(<-w.done, w.Close()); err != nil {
		t.Errorf("%s: %v", w.name, err)
	}
}

// flow sends records to all partitions of a topic until end, which returns how
// many there are.
func flow(t *testing.T, e mq.Endpoint, topic string) (end func() int) {
	t.Helper()
	p := newProducer(t, e, mq.ProducerConfig{Topic: topic, Partitioner: lastByte{}})
	ctx, cancel := context.WithCancel(soon(t))
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if err := p.Send(soon(t), &mq.Record{Key: []byte{byte(n)}, Value: []byte(strconv.Itoa(n))}); err != nil {
				t.Errorf("send: %v", err)
			}
		}
		sent <- n
	}()
	return func() int { cancel(); return <-sent }
}

func testMembersComeAndGo(t *testing.T, s *site) {
	name := s.topic(t, 6)
	end := flow(t, s.endpoint(), name)
	l := newLedger()
	workers := map[string]*worker{}
	// level waits until the members have equal shares and everybody handles his.
	level := func() {
		t.Helper()
		eventually(t, "the partitions are shared out", func() bool {
			for _, w := range workers {
				if len(w.Assignment()) != 6/len(workers) {
					return false
				}
			}
			return true
		})
		before := l.count()
		eventually(t, "it flows", func() bool { return l.count() > before+30 })
	}
	for _, who := range []string{"a", "b", "c"} {
		workers[who] = l.start(t, s.endpoint(), who, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
		level()
	}
	for _, who := range []string{"b", "a"} {
		workers[who].end(t)
		delete(workers, who)
	}
	level()
	n := end()
	eventually(t, "everything is handled", func() bool { return l.count() >= n })
	workers["c"].end(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total != n {
		t.Errorf("%d records were handled, %d sent", l.total, n)
	}
	for partition, offsets := range l.offsets {
		for i, o := range offsets {
			if o != int64(i) {
				t.Fatalf("partition %d: offset %d was handled as number %d", partition, o, i)
			}
		}
	}
	if len(l.by) != 3 {
		t.Errorf("only %d have handled anything", len(l.by))
	}
}

func testMemberIsFenced(t *testing.T, s *site) {
	name := tenRecords(t, s)
	lost := make(chan []mq.TopicPartition, 1)
	cfg := mq.ConsumerConfig{Topics: []string{name}, GroupID: name, AutoCommitInterval: -1}
	slow := cfg
	slow.SessionTimeout = 5 * time.Second // in which it is heard even on a slow machine
	slow.OnLost = func(_ context.Context, tps []mq.TopicPartition) { lost <- tps }
	c := s.consumer(t, slow)
	if err := c.Commit(soon(t), take(t, c, 3)...); err != nil {
		t.Fatal(err)
	}
	late := take(t, c, 4)
	release := mq.HoldHeartbeats(c) // as if the process were stopped
	other := s.consumer(t, cfg)
	if got := takeOne(t, other); got != "3" {
		t.Errorf("the new owner begins at %s, want 3, where the last good commit was", got)
	}
	err := c.Commit(soon(t), late...)
	if !errors.Is(err, mq.ErrUnknownMember) && !errors.Is(err, mq.ErrStaleMemberEpoch) && !errors.Is(err, mq.ErrFencedMemberEpoch) {
		t.Errorf("a late commit: %v", err)
	}
	if stored, err := s.admin().CommittedOffsets(soon(t), name); err != nil || len(stored) != 1 || stored[0].Offset != 3 {
		t.Errorf("after a late commit %+v is stored, %v", stored, err)
	}
	release()
	select {
	case tps := <-lost:
		if !slices.Equal(tps, []mq.TopicPartition{{Topic: name}}) {
			t.Errorf("%v were lost", tps)
		}
	case <-soon(t).Done():
		t.Fatal("it never learnt")
	}
	if err := c.Commit(soon(t), late...); !errors.Is(err, mq.ErrStaleMemberEpoch) {
		t.Errorf("a commit of what is lost: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if got := takeOne(t, c); got != "3" {
		t.Errorf("back in the group it begins at %s, want 3", got)
	}
}

func testStaticMember(t *testing.T, s *site) {
	name := s.topic(t, 4)
	var mu sync.Mutex
	var moved []string
	told := 0 // partitions that it has as far as the hooks know
	note := func(sign string) mq.RebalanceHook {
		return func(_ context.Context, tps []mq.TopicPartition) {
			mu.Lock()
			defer mu.Unlock()
			moved = append(moved, fmt.Sprint(sign, len(tps)))
			if sign == "+" {
				told += len(tps)
			} else {
				told -= len(tps)
			}
		}
	}
	cfg := func(instance string) mq.ConsumerConfig {
		return mq.ConsumerConfig{Topics: []string{name}, GroupID: name, InstanceID: instance}
	}
	a := s.consumer(t, cfg("a"))
	watched := cfg("b")
	watched.OnAssigned, watched.OnRevoked, watched.OnLost = note("+"), note("-"), note("!")
	b := s.consumer(t, watched)
	shared := func() bool { return len(a.Assignment()) == 2 && len(b.Assignment()) == 2 }
	eventually(t, "both have two partitions, and the hooks are through", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return shared() && told == 2
	})
	before := a.Assignment()
	mu.Lock()
	moved = nil
	mu.Unlock()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = s.consumer(t, cfg("a"))
	eventually(t, "the member is back", shared)
	if got := a.Assignment(); !slices.Equal(got, before) {
		t.Errorf("it had %v, now %v", before, got)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(moved) > 0 {
		t.Errorf("the other one was told %v", moved)
	}
}

func testInstanceInUse(t *testing.T, s *site) {
	name := tenRecords(t, s)
	cfg := mq.ConsumerConfig{Topics: []string{name}, GroupID: name, InstanceID: "one"}
	first := s.consumer(t, cfg)
	take(t, first, 1)
	_, err := s.consumer(t, cfg).Poll(soon(t), 1)
	wantError(t, err, mq.ErrInstanceInUse)
	take(t, first, 1)
}

func testMoreMembersThanPartitions(t *testing.T, s *site) {
	name := s.topic(t, 3)
	l := newLedger()
	workers := map[string]*worker{}
	for i := range 10 {
		who := strconv.Itoa(i)
		workers[who] = l.start(t, s.endpoint(), who, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	}
	owners := func() (who []string) {
		for _, w := range workers {
			switch n := len(w.Assignment()); n {
			case 0:
			case 1:
				who = append(who, w.name)
			default:
				return nil // it still has to share
			}
		}
		return who
	}
	eventually(t, "three members read", func() bool { return len(owners()) == 3 })
	end := flow(t, s.endpoint(), name)
	eventually(t, "it flows", func() bool { return l.count() > 30 })
	for _, who := range owners() {
		workers[who].end(t)
		delete(workers, who)
	}
	eventually(t, "three others read", func() bool { return len(owners()) == 3 })
	n := end()
	eventually(t, "everything is handled", func() bool { return l.count() >= n })
	for _, w := range workers {
		w.end(t)
	}
	if l.total != n {
		t.Errorf("%d records were handled, %d sent", l.total, n)
	}
}

func testTopicDeletedUnderGroup(t *testing.T, s *site) {
	stays := s.topic(t, 2)
	goes := stays[:min(len(stays), 200)] + "-goes"
	if _, err := s.admin().CreateTopic(soon(t), mq.TopicSpec{Name: goes, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{stays, goes}, GroupID: stays})
	eventually(t, "it has all", func() bool { return len(c.Assignment()) == 4 })
	send(t, s.producer(t, mq.ProducerConfig{Topic: goes}), "gone")
	take(t, c, 1)
	if err := s.admin().DeleteTopic(soon(t), goes); err != nil {
		t.Fatal(err)
	}
	send(t, s.producer(t, mq.ProducerConfig{Topic: stays}), "here")
	if got := takeOne(t, c); got != "here" {
		t.Errorf("got %q", got)
	}
	eventually(t, "it has only what is left", func() bool { return len(c.Assignment()) == 2 })
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func testPartitionsAddedUnderGroup(t *testing.T, s *site) {
	name := s.topic(t, 1)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, Reset: mq.ResetLatest})
	eventually(t, "it has the one", func() bool { return len(c.Assignment()) == 1 })
	if _, err := s.admin().AddPartitions(soon(t), name, 3); err != nil {
		t.Fatal(err)
	}
	send(t, s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(2)}), "first")
	if got := takeOne(t, c); got != "first" {
		t.Errorf("got %q", got)
	}
}

func testPatternPicksUpTopics(t *testing.T, s *site) {
	base := s.topic(t, 1)
	base = base[:min(len(base), 200)]
	c := s.consumer(t, mq.ConsumerConfig{TopicPattern: base + "-[0-9]+", GroupID: base, Reset: mq.ResetLatest})
	for i, name := range []string{"-1", "-x", "-2"} {
		send(t, s.producer(t, mq.ProducerConfig{Topic: base + name}), name)
		if strings.HasSuffix(name, "x") {
			continue
		}
		if got := takeOne(t, c); got != name {
			t.Errorf("topic %d: got %q, want %q", i, got, name)
		}
	}
}

func testGroupAdmin(t *testing.T, s *site) {
	name, a := tenRecords(t, s), s.admin()
	tp := mq.TopicPartition{Topic: name}
	_, err := a.DescribeGroup(soon(t), name)
	wantError(t, err, mq.ErrUnknownGroup)
	wantError(t, a.DeleteGroup(soon(t), name), mq.ErrUnknownGroup)
	_, err = a.PlanGroupSeek(soon(t), name, mq.StartEarliest)
	wantError(t, err, mq.ErrUnknownGroup)

	c := s.consumer(t, mq.ConsumerConfig{
		Topics: []string{name}, GroupID: name, ClientID: "me", InstanceID: "one", Assignor: mq.AssignRange,
		SessionTimeout: 30 * time.Second, RebalanceTimeout: time.Minute,
	})
	if err := c.Commit(soon(t), take(t, c, 4)...); err != nil {
		t.Fatal(err)
	}
	d, err := a.DescribeGroup(soon(t), name)
	if err != nil || len(d.Members) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	m := d.Members[0]
	if d.GroupID != name || d.State != mq.GroupStable || d.Coordinator < 1 || d.Epoch < 1 || d.AssignmentEpoch < 1 || d.Assignor != mq.AssignRange ||
		m.MemberID == "" || m.ClientID != "me" || m.InstanceID != "one" || m.Epoch < 1 || !slices.Equal(m.Topics, []string{name}) ||
		m.SessionTimeout != 30*time.Second || m.RebalanceTimeout != time.Minute ||
		!slices.Equal(m.Assigned, []mq.TopicPartition{tp}) || !slices.Equal(m.Target, m.Assigned) || len(m.Revoking) != 0 {
		t.Errorf("described as %+v", d)
	}
	plan, err := a.PlanGroupSeek(soon(t), name, mq.StartAt(7))
	if err != nil || !slices.Equal(plan, []mq.GroupSeek{{Topic: name, From: 4, To: 7}}) {
		t.Fatalf("the plan is %+v, %v", plan, err)
	}
	// While there are members it is theirs to say.
	wantError(t, a.SeekGroup(soon(t), name, plan, false), mq.ErrNonEmptyGroup)
	wantError(t, a.DeleteGroup(soon(t), name), mq.ErrNonEmptyGroup)
	wantError(t, a.DeleteOffsets(soon(t), name, tp), mq.ErrGroupSubscribed)
	other := s.beside(t, name, name)
	wantError(t, other.Commit(soon(t), take(t, other, 1)...), mq.ErrUnknownMember)
	if err := a.SeekGroup(soon(t), name, plan, true); err != nil {
		t.Error(err)
	}
	if got := takeOne(t, s.beside(t, name, name)); got != "7" {
		t.Errorf("a forced seek to 7 leads to %s", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = a.PlanGroupSeek(soon(t), name, mq.StartCommitted, tp)
	wantError(t, err, mq.ErrInvalidRequest)
	wantError(t, a.DeleteOffsets(soon(t), name), mq.ErrInvalidRequest)
}

func testIdleGroup(t *testing.T, s *site) {
	name, a := tenRecords(t, s), s.admin()
	tp := mq.TopicPartition{Topic: name}
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	if err := errors.Join(c.Commit(soon(t), take(t, c, 4)...), c.Close()); err != nil {
		t.Fatal(err)
	}
	if d, err := a.DescribeGroup(soon(t), name); err != nil || d.State != mq.GroupEmpty || len(d.Members) != 0 {
		t.Errorf("described as %+v, %v", d, err)
	}
	if _, err := a.TrimTopic(soon(t), name, mq.StartAt(2)); err != nil {
		t.Fatal(err)
	}
	from := int64(4)
	for _, c := range []struct {
		to   mq.Start
		want int64
	}{
		{mq.StartEarliest, 2},
		{mq.StartLatest, 10},
		{mq.StartAt(7), 7},
		{mq.StartAt(0), 2},
		{mq.StartAt(99), 10},
		{mq.StartAtTime(time.Now().Add(time.Hour)), 10},
		{mq.StartAtTime(time.Now().Add(-time.Hour)), 2},
	} {
		plan, err := a.PlanGroupSeek(soon(t), name, c.to, tp)
		if err != nil || !slices.Equal(plan, []mq.GroupSeek{{Topic: name, From: from, To: c.want}}) {
			t.Fatalf("to %v: the plan is %+v, %v; want from %d to %d", c.to, plan, err, from, c.want)
		}
		if err := a.SeekGroup(soon(t), name, plan, false); err != nil {
			t.Fatal(err)
		}
		from = c.want
	}
	wantError(t, a.SeekGroup(soon(t), name, []mq.GroupSeek{{Topic: name, To: -1}}, false), mq.ErrInvalidRequest)
	wantError(t, a.SeekGroup(soon(t), name, []mq.GroupSeek{{Topic: name + "-nowhere"}}, false), mq.ErrUnknownTopicOrPartition)
	if err := a.DeleteOffsets(soon(t), name, tp); err != nil {
		t.Error(err)
	}
	if stored, err := a.CommittedOffsets(soon(t), name); err != nil || len(stored) > 0 {
		t.Errorf("%+v is left, %v", stored, err)
	}
	if err := a.SeekGroup(soon(t), name, []mq.GroupSeek{{Topic: name, To: 5}}, false); err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteGroup(soon(t), name); err != nil {
		t.Error(err)
	}
	_, err := a.DescribeGroup(soon(t), name)
	wantError(t, err, mq.ErrUnknownGroup)
}
