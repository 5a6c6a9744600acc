package mq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// told is what the hooks of a consumer were told, as in "+0 +1 -0 !1".
type told struct {
	mu   sync.Mutex
	what []string
}

// hooks adds hooks that note what they are told.
func (h *told) hooks(cfg mq.ConsumerConfig) mq.ConsumerConfig {
	note := func(sign string) mq.RebalanceHook {
		return func(_ context.Context, tps []mq.TopicPartition) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, tp := range tps {
				h.what = append(h.what, fmt.Sprint(sign, tp.Partition))
			}
		}
	}
	cfg.OnAssigned, cfg.OnRevoked, cfg.OnLost = note("+"), note("-"), note("!")
	return cfg
}

func (h *told) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.what, " ")
}

func (h *told) want(t *testing.T, want string) {
	t.Helper()
	if got := h.String(); got != want {
		t.Errorf("hooks were told %q, want %q", got, want)
	}
}

// member is a consumer of topic t in group g whose hooks are noted.
func member(t *testing.T, c *fakeCluster, cfg mq.ConsumerConfig) (*mq.Consumer, *told) {
	t.Helper()
	var h told
	cfg.Topics, cfg.GroupID = []string{"t"}, "g"
	return c.consumer(t, h.hooks(cfg)), &h
}

// owns checks what the last heartbeat said.
func owns(t *testing.T, c *fakeCluster, want ...int32) {
	t.Helper()
	var got []int32
	for _, tp := range c.lastBeat("g").Owned {
		got = append(got, tp.Partition)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the last heartbeat owns %v, want %v", got, want)
	}
}

// joins counts the heartbeats that joined.
func joins(c *fakeCluster) (n int) {
	for _, b := range c.beats("g") {
		if b.MemberEpoch == api.JoinEpoch {
			n++
		}
	}
	return n
}

func assignment(c *mq.Consumer) (ns []int32) {
	for _, tp := range c.Assignment() {
		ns = append(ns, tp.Partition)
	}
	return ns
}

func TestMemberReadsWhatItIsGivenAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 3)
		for n := range int32(3) {
			c.add("t", n, fmt.Sprint("p", n))
		}
		c.script("g", "t") // nothing yet
		consumer, h := member(t, c, mq.ConsumerConfig{ClientID: "me", SessionTimeout: time.Minute, RebalanceTimeout: time.Hour, Assignor: mq.AssignRange})
		settle()
		if lag, err := consumer.Lag(t.Context()); err != nil || len(lag) != 0 {
			t.Errorf("lag of nothing is %v, %v", lag, err)
		}
		if err := consumer.Seek(t.Context(), mq.StartEarliest); err != nil {
			t.Errorf("seek of nothing: %v", err)
		}
		h.want(t, "")
		c.script("g", "t", []int32{0, 2})
		settle()
		h.want(t, "+0 +2")
		owns(t, c, 0, 2)
		got := pollUntil(t, consumer, 2)
		slices.Sort(got)
		equal(t, got, "p0", "p2")
		b := c.beats("g")[1]
		if b.ClientID != "me" || b.SessionTimeout != time.Minute || b.RebalanceTimeout != time.Hour || b.Assignor != "range" ||
			!slices.Equal(b.Topics, []string{"t"}) || b.MaxWait != fakeInterval || joins(c) != 1 {
			t.Errorf("heartbeat %+v", b)
		}
	})
}

func TestAssignedHookComesBeforeTheFirstRecordAndMaySeek(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 9)...)
		var consumer *mq.Consumer
		ready, done := make(chan struct{}), false
		consumer = c.consumer(t, mq.ConsumerConfig{
			Topics: []string{"t"}, GroupID: "g",
			OnAssigned: func(ctx context.Context, tps []mq.TopicPartition) {
				<-ready
				time.Sleep(time.Minute) // fetched meanwhile
				if err := consumer.Seek(ctx, mq.StartAt(7), tps...); err != nil {
					t.Error(err)
				}
				done = true
			},
		})
		close(ready)
		for r := range consumer.Messages(t.Context()) {
			if !done || r.Offset != 7 {
				t.Errorf("offset %d came, the hook has returned: %v", r.Offset, done)
			}
			break
		}
	})
}

// What Poll returned is finished by the next Poll, so a partition goes when that
// was called, and no record is handled twice. The other partition goes on.
func TestRevokedPartitionGoesWhenWhatWasPolledIsFinished(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b")
		c.script("g", "t")
		consumer, h := member(t, c, mq.ConsumerConfig{})
		settle()
		c.script("g", "t", []int32{0, 1})
		equal(t, poll(t, consumer, 1), "a")
		c.script("g", "t", []int32{1})
		settle()
		time.Sleep(time.Minute) // it takes its time
		owns(t, c, 0, 1)
		h.want(t, "+0 +1")
		committed(t, c, 0, 0)
		c.add("t", 1, "other")
		before := len(c.beats("g"))
		equal(t, poll(t, consumer, 10), "other") // and a is finished
		settle()
		committed(t, c, 0, 1)
		h.want(t, "+0 +1 -0")
		owns(t, c, 1)
		if n := len(c.beats("g")) - before; n != 1 {
			t.Errorf("%d heartbeats told of it", n)
		}
		if got := assignment(consumer); !slices.Equal(got, []int32{1}) {
			t.Errorf("assigned are %v", got)
		}
	})
}

func TestPolledRecordsThatACommitNamesAreFinishedForARevocation(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer, h := member(t, c, mq.ConsumerConfig{AutoCommitInterval: -1})
		rs, err := consumer.Poll(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		c.script("g", "t")
		settle()
		h.want(t, "+0")
		if err := consumer.Commit(t.Context(), rs...); err != nil {
			t.Fatal(err)
		}
		settle()
		h.want(t, "+0 -0")
		committed(t, c, 0, 2)
		owns(t, c)
	})
}

func TestRevocationWaitsForTheHandlerAndHeartbeatsDoNot(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer, h := member(t, c, mq.ConsumerConfig{})
		ctx, stop := context.WithCancel(t.Context())
		got := newCrew() // only to note what came
		var wg sync.WaitGroup
		wg.Go(func() {
			err := consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
				_ = got.Handle(ctx, r)
				c.script("g", "t")
				before := len(c.beats("g"))
				time.Sleep(2 * time.Minute)
				if n := len(c.beats("g")) - before; n < 20 || n > 30 {
					t.Errorf("%d heartbeats in two minutes", n)
				}
				owns(t, c, 0)
				return ctx.Err()
			}))
			if err != nil {
				t.Error(err)
			}
		})
		time.Sleep(3 * time.Minute)
		equal(t, got.saw(&got.begun), "a")
		committed(t, c, 0, 1)
		h.want(t, "+0 -0")
		owns(t, c)
		c.script("g", "t", []int32{0}) // and back
		time.Sleep(3 * time.Minute)
		equal(t, got.saw(&got.begun), "a", "b")
		stop()
		wg.Wait()
	})
}

func TestHandlerThatTakesTooLongLosesARevokedPartition(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer, h := member(t, c, mq.ConsumerConfig{RebalanceTimeout: 10 * time.Second})
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
				if r.Offset == 0 {
					return nil
				}
				c.script("g", "t")
				began := time.Now()
				<-ctx.Done()
				if took := time.Since(began); took > 10*time.Second || !errors.Is(context.Cause(ctx), mq.ErrStaleMemberEpoch) {
					t.Errorf("its ctx ended after %v because %v", took, context.Cause(ctx))
				}
				return errors.New("unfinished")
			})); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Minute)
		h.want(t, "+0 -0")
		committed(t, c, 0, 1) // b comes again elsewhere
		owns(t, c)
		stop()
		wg.Wait()
	})
}

func TestFencedMemberStopsItsHandlersAndJoinsAgain(t *testing.T) {
	for _, refusal := range []error{mqerr.ErrFencedMemberEpoch, mqerr.ErrUnknownMember} {
		bubbled(t, refusal.Error(), func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "a", "b")
			consumer, h := member(t, c, mq.ConsumerConfig{})
			ctx, stop := context.WithCancel(t.Context())
			var got []string
			if err := consumer.Run(ctx, mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
				got = append(got, string(r.Value))
				switch len(got) {
				case 2:
					c.refuseMember("g", 0, refusal)
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), refusal) {
						t.Errorf("the ctx ended because %v", context.Cause(ctx))
					}
					return ctx.Err() // which does not end Run
				case 4:
					stop()
				}
				return nil
			})); err != nil {
				t.Fatal(err)
			}
			equal(t, got, "a", "b", "a", "b") // nothing was committed
			h.want(t, "+0 !0 +0")
			if joins(c) != 2 {
				t.Errorf("joined %d times", joins(c))
			}
		})
	}
}

// Nobody answers for longer than the session: others may have everything by now, or
// there is no coordinator that could have given it to them. So the member hands out
// nothing until one tells.
func TestMemberThatNobodyHearsHandsNothingOutUntilItIsTold(t *testing.T) {
	for name, removed := range map[string]bool{"still a member": false, "removed": true} {
		bubbled(t, name, func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, numbered(0, 4)...)
			consumer, h := member(t, c, mq.ConsumerConfig{SessionTimeout: 20 * time.Second, AutoCommitInterval: -1})
			equal(t, poll(t, consumer, 1), "0")
			c.hook(func(ctx context.Context, _ int32, method string) error {
				if method == "GroupHeartbeat" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
			time.Sleep(14 * time.Second)
			equal(t, poll(t, consumer, 1), "1")
			time.Sleep(7 * time.Second)
			pollNothing(t, consumer, time.Hour)
			if err := consumer.Commit(t.Context()); err != nil { // who is not sure may ask
				t.Fatal(err)
			}
			h.want(t, "+0")
			if removed {
				c.refuseMember("g", 0, mqerr.ErrUnknownMember)
			}
			c.hook(nil)
			equal(t, poll(t, consumer, 1), "2")
			if want, n := map[bool]string{false: "+0", true: "+0 !0 +0"}[removed], joins(c); h.String() != want || n > 1 != removed {
				t.Errorf("hooks were told %q, want %q; it joined %d times", h, want, n)
			}
		})
	}
}

// A coordinator gives members a whole session when it begins. However long there
// was none, they ask often enough for that.
func TestMemberAsksSeveralTimesInASession(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		member(t, c, mq.ConsumerConfig{SessionTimeout: time.Second})
		settle()
		var asked []time.Time
		c.hook(func(_ context.Context, _ int32, method string) error {
			if method == "GroupHeartbeat" {
				asked = append(asked, time.Now())
				return mqerr.ErrLeaderNotAvailable
			}
			return nil
		})
		time.Sleep(time.Minute)
		settle()
		for i, at := range asked[1:] {
			if gap := at.Sub(asked[i]); gap > 500*time.Millisecond {
				t.Fatalf("%v between two heartbeats", gap)
			}
		}
	})
}

func TestShortOutageOfTheCoordinatorAndItsMoveGoUnnoticed(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, numbered(0, 6)...)
		consumer, h := member(t, c, mq.ConsumerConfig{AutoCommitInterval: -1})
		equal(t, poll(t, consumer, 1), "0")
		c.coordinate("g", 2)
		time.Sleep(20 * time.Second)
		equal(t, poll(t, consumer, 1), "1")
		if err := consumer.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		committed(t, c, 0, 1)
		c.hook(func(_ context.Context, broker int32, method string) error {
			if strings.HasPrefix(method, "Group") && broker == 2 {
				return mqerr.ErrLeaderNotAvailable
			}
			return nil
		})
		time.Sleep(20 * time.Second)
		c.coordinate("g", 3)
		c.hook(nil)
		time.Sleep(time.Minute)
		equal(t, poll(t, consumer, 1), "2")
		h.want(t, "+0")
		if joins(c) != 1 {
			t.Errorf("joined %d times", joins(c))
		}
	})
}

// One partition waits for its committed offset; what is done of the other is
// committed all the same.
func TestAutoCommitGoesOnWhileACommittedOffsetCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a", "b")
		c.script("g", "t")
		consumer, _ := member(t, c, mq.ConsumerConfig{})
		settle()
		c.script("g", "t", []int32{0})
		equal(t, poll(t, consumer, 1), "a")
		c.refuse("FetchOffsets", mqerr.ErrLeaderNotAvailable)
		c.script("g", "t", []int32{0, 1})
		settle()
		equal(t, poll(t, consumer, 1), "b") // and a is finished
		time.Sleep(time.Minute)
		committed(t, c, 0, 1)
	})
}

func TestRefusedCommitLosesItsPartitionOnly(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, "a")
		c.add("t", 1, "b")
		consumer, h := member(t, c, mq.ConsumerConfig{AutoCommitInterval: -1})
		var rs []*mq.Record
		for len(rs) < 2 {
			more, err := consumer.Poll(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			rs = append(rs, more...)
		}
		func() {
			defer c.lock()()
			c.groupLocked("g").stale = []int32{0}
		}()
		c.script("g", "t", []int32{1}) // it has not heard yet
		if err := consumer.Commit(t.Context(), rs...); !errors.Is(err, mq.ErrStaleMemberEpoch) || !strings.Contains(err.Error(), "t/0") {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, -1)
		committed(t, c, 1, 1)
		settle()
		h.want(t, "+0 +1 !0")
		owns(t, c, 1)
		// Now it knows.
		if err := consumer.Commit(t.Context(), rs...); !errors.Is(err, mq.ErrStaleMemberEpoch) {
			t.Errorf("commit of what is another's: %v", err)
		}
	})
}

func TestCommitOfARecordOfALostPartitionStoresTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 1, "b")
		c.script("g", "t")
		consumer, _ := member(t, c, mq.ConsumerConfig{AutoCommitInterval: -1})
		settle()
		c.script("g", "t", []int32{1})
		rs, err := consumer.Poll(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		err = consumer.Commit(t.Context(), &mq.Record{Topic: "t", Partition: 0}, rs[0])
		if !errors.Is(err, mq.ErrStaleMemberEpoch) || !strings.Contains(err.Error(), "t/0@0") {
			t.Errorf("got %v", err)
		}
		committed(t, c, 1, 1)
	})
}

func TestGroupThatRefusesTheMemberFailsReading(t *testing.T) {
	for _, refusal := range []error{
		mqerr.ErrInstanceInUse, mqerr.ErrInstanceFenced, mqerr.ErrGroupMaxSize, mqerr.ErrUnsupportedAssignor,
		mqerr.ErrInvalidPattern, mqerr.ErrInvalidGroupID, mqerr.ErrUnsupportedVersion,
	} {
		bubbled(t, refusal.Error(), func(t *testing.T, c *fakeCluster) {
			c.create("t", 1)
			c.add("t", 0, "a")
			consumer, h := member(t, c, mq.ConsumerConfig{})
			equal(t, poll(t, consumer, 1), "a")
			c.refuseMember("g", 0, refusal)
			for range 2 {
				if _, err := consumer.Poll(t.Context(), 1); !errors.Is(err, refusal) || !strings.Contains(err.Error(), `group "g"`) {
					t.Errorf("poll: %v", err)
				}
			}
			if _, err := consumer.Lag(t.Context()); !errors.Is(err, refusal) {
				t.Errorf("lag: %v", err)
			}
			if err := consumer.Seek(t.Context(), mq.StartEarliest); !errors.Is(err, refusal) {
				t.Errorf("seek: %v", err)
			}
			settle()
			h.want(t, "+0 !0")
			n := len(c.beats("g"))
			time.Sleep(time.Hour)
			if len(c.beats("g")) != n {
				t.Error("it did not give up")
			}
		})
	}
}

func TestPausedPartitionThatComesBackIsNotPaused(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a")
		consumer, h := member(t, c, mq.ConsumerConfig{})
		settle()
		consumer.Pause(mq.TopicPartition{Topic: "t"})
		pollNothing(t, consumer, time.Second)
		c.script("g", "t")
		settle()
		c.script("g", "t", []int32{0})
		equal(t, poll(t, consumer, 1), "a")
		h.want(t, "+0 -0 +0")
	})
}

// Start is for what the member has from the beginning; what comes later was
// others', or is new.
func TestMemberBeginsWhereStartSaysOnlyAtFirst(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.add("t", 0, numbered(0, 3)...)
		c.add("t", 1, numbered(10, 13)...)
		c.store("g", "t", 0, 2)
		c.store("g", "t", 1, 2)
		consumer, _ := member(t, c, mq.ConsumerConfig{Start: mq.StartEarliest})
		settle()
		got := pollUntil(t, consumer, 6)
		slices.Sort(got)
		equal(t, got, "0", "1", "10", "11", "12", "2")
		pollNothing(t, consumer, time.Second) // finishes them
		c.script("g", "t", []int32{0})
		settle()
		c.add("t", 1, "13")
		c.script("g", "t", []int32{0, 1})
		equal(t, poll(t, consumer, 9), "13")
	})
}

func TestPartitionsThatAreNewToTheGroupAreReadFromTheirFirstRecord(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("old", 1)
		c.add("old", 0, "before")
		c.script("g", "old")
		consumer := c.consumer(t, mq.ConsumerConfig{TopicPattern: "o.*|n.*", GroupID: "g", Reset: mq.ResetLatest})
		settle()
		c.create("new", 1)
		c.add("new", 0, "after")
		c.script("g", "old", []int32{0})
		pollNothing(t, consumer, time.Second)
		c.script("g", "new", []int32{0})
		equal(t, poll(t, consumer, 9), "after")
		if b := c.beats("g")[0]; b.Pattern != "o.*|n.*" || len(b.Topics) != 0 {
			t.Errorf("heartbeat %+v", b)
		}
	})
}

func TestTopicThatIsCreatedAnewIsAnotherOne(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.add("t", 0, "a", "b")
		consumer, h := member(t, c, mq.ConsumerConfig{})
		equal(t, poll(t, consumer, 1), "a")
		c.create("t", 1)
		c.add("t", 0, "c")
		settle()
		equal(t, poll(t, consumer, 10), "c")
		h.want(t, "+0 -0 +0")
	})
}

func TestConfigOfMembers(t *testing.T) {
	t.Parallel()
	e := newFakeCluster()
	for _, cfg := range []mq.ConsumerConfig{
		{TopicPattern: "a"},
		{TopicPattern: "a", GroupID: "g", Partitions: []int32{0}},
		{TopicPattern: "(", GroupID: "g"},
		{GroupID: "g"},
		{Topics: []string{"t"}, GroupID: "g", SessionTimeout: -1},
		{Topics: []string{"t"}, GroupID: "g", RebalanceTimeout: -1},
	} {
		ep, _ := e.endpoint(t)
		if _, err := mq.NewConsumer(ep, cfg); !errors.Is(err, mq.ErrInvalidConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
