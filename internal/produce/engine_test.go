package produce_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/internal/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is an engine on a cluster of one broker with topic t, which has two
// partitions.
type harness struct {
	*testing.T
	*produce.Engine
	c *cluster
	r *route.Router
}

// run runs a test in virtual time.
func run(t *testing.T, change func(*produce.Config), test func(h *harness)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{T: t, c: newCluster(1)}
		h.c.createTopic("t", 2)
		h.r = h.c.router(t)
		h.Engine = produce.New(config(func(cfg *produce.Config) {
			cfg.Router = h.r
			cfg.Partition = func(p produce.Promise, _ int) int {
				if p, ok := p.(*pending); ok {
					return p.partition
				}
				return 0
			}
			if change != nil {
				change(cfg)
			}
		}))
		defer h.Close()
		test(h)
	})
}

// pending is a record that was added.
type pending struct {
	t         *testing.T
	partition int
	done      chan produce.Result
	at        time.Time // of settling
}

func (p *pending) Settle(r produce.Result) {
	p.at = time.Now()
	p.done <- r
}

func (h *harness) record(partition int, value string) (produce.Record, *pending) {
	p := &pending{t: h.T, partition: partition, done: make(chan produce.Result, 1)}
	return produce.Record{Value: []byte(value), Promise: p}, p
}

func (h *harness) add(ctx context.Context, partition int, value string, urgent bool) *pending {
	h.Helper()
	rec, p := h.record(partition, value)
	if err := h.Add(ctx, "t", rec, urgent); err != nil {
		h.Fatalf("add %.20s: %v", value, err)
	}
	return p
}

// linger adds a record that is not urgent to partition 0.
func (h *harness) linger(value string) *pending {
	h.Helper()
	return h.add(context.Background(), 0, value, false)
}

// send adds an urgent record to partition 0.
func (h *harness) send(value string) *pending {
	h.Helper()
	return h.add(context.Background(), 0, value, true)
}

// offset waits for the acknowledgement.
func (p *pending) offset() int64 {
	p.t.Helper()
	r := <-p.done
	if r.Err != nil {
		p.t.Fatalf("not acknowledged: %v", r.Err)
	}
	return r.Offset
}

// failure waits for the error.
func (p *pending) failure() error {
	p.t.Helper()
	r := <-p.done
	if r.Err == nil {
		p.t.Fatalf("acknowledged at %d", r.Offset)
	}
	return r.Err
}

func (p *pending) settled() bool { return len(p.done) > 0 }

func (h *harness) holds(partition int, want ...string) {
	h.Helper()
	if got := h.c.values("t", partition); !slices.Equal(got, want) {
		h.Fatalf("partition %d holds %q, want %q", partition, got, want)
	}
}

// watchBatches returns the sizes of the batches that arrive, in records.
func (h *harness) watchBatches() func() []int {
	var sizes []int
	h.c.set(func() {
		h.c.fate = func(_ *partitionLog, b batch) fate {
			sizes = append(sizes, len(b.values))
			return fate{}
		}
	})
	return func() (got []int) {
		h.c.set(func() { got = slices.Clone(sizes) })
		return got
	}
}

// fates lets the next batches have these fates, in turn.
func (h *harness) fates(fs ...fate) {
	h.c.set(func() {
		h.c.fate = func(*partitionLog, batch) fate {
			if len(fs) == 0 {
				return fate{}
			}
			f := fs[0]
			fs = fs[1:]
			return f
		}
	})
}

func TestRecordsThatLingerShareABatch(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset() // everything is known from here on
		sizes := h.watchBatches()
		start := time.Now()
		a, b := h.linger("a"), h.linger("b")
		time.Sleep(4 * time.Millisecond)
		c := h.linger("c")
		if a.offset() != 1 || b.offset() != 2 || c.offset() != 3 {
			h.Fatal("offsets out of order")
		}
		if waited := c.at.Sub(start); waited != 5*time.Millisecond {
			h.Fatalf("settled after %v", waited)
		}
		if got := sizes(); !slices.Equal(got, []int{3}) {
			h.Fatalf("batches of %v records", got)
		}
	})
}

func TestUrgentRecordTakesTheLingeringAlong(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Linger = time.Hour; cfg.DeliveryTimeout = 0 }, func(h *harness) {
		start := time.Now()
		a := h.linger("a")
		b := h.send("b")
		if a.offset() != 0 || b.offset() != 1 || time.Since(start) > time.Second {
			h.Fatalf("took %v", time.Since(start))
		}
	})
}

func TestFullBatchDoesNotLinger(t *testing.T) {
	run(t, func(cfg *produce.Config) {
		cfg.Linger, cfg.DeliveryTimeout = time.Hour, 0
		cfg.BatchRecords = 2
		cfg.BatchBytes = 1000
	}, func(h *harness) {
		h.linger("a")
		h.linger("b").offset() // full by count

		big := h.linger(strings.Repeat("c", 900))
		next := h.linger(strings.Repeat("d", 900)) // does not fit beside
		big.offset()
		time.Sleep(time.Minute)
		if next.settled() {
			h.Fatal("the batch that is not full was sent")
		}
	})
}

func TestRecordAboveBatchBytesTravelsAlone(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BatchBytes = 1000 }, func(h *harness) {
		sizes := h.watchBatches()
		h.linger("a")
		h.linger(strings.Repeat("b", 100_000))
		h.linger("c").offset()
		if got := sizes(); !slices.Equal(got, []int{1, 1, 1}) {
			h.Fatalf("batches of %v records", got)
		}
	})
}

func TestRecordAboveTheLimitIsRefused(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.MaxRecordBytes = 1000 }, func(h *harness) {
		value := make([]byte, 1000-record.HeaderSize-9) // length, attributes, deltas, key, value, headers
		rec, p := h.record(0, string(value))
		if err := h.Add(h.Context(), "t", rec, true); err != nil {
			h.Fatalf("largest: %v", err)
		}
		p.offset()
		rec, _ = h.record(0, string(value)+"x")
		if err := h.Add(h.Context(), "t", rec, true); !errors.Is(err, mqerr.ErrRecordTooLarge) {
			h.Fatalf("one byte more: %v", err)
		}
		if err := h.TryAdd("t", rec); !errors.Is(err, mqerr.ErrRecordTooLarge) {
			h.Fatalf("one byte more: %v", err)
		}
	})
}

func TestBatchesStayBelowTheTopicsLimit(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.topics["t"].configs = map[string]string{topic.MaxMessageBytes: "500"} })
		sizes := h.watchBatches()
		for range 10 {
			h.linger(strings.Repeat("x", 150)) // two fit
		}
		if err := h.Flush(h.Context()); err != nil {
			h.Fatal(err)
		}
		if got := sizes(); slices.Max(got) != 2 {
			h.Fatalf("batches of %v records", got)
		}
	})
}

func TestFlushEndsLingeringAndReportsTheFirstFailure(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Linger = time.Minute }, func(h *harness) {
		start := time.Now()
		h.linger("a")
		if err := h.Flush(h.Context()); err != nil || time.Since(start) > time.Second {
			h.Fatalf("after %v: %v", time.Since(start), err)
		}
		h.holds(0, "a")

		h.fates(fate{refuse: mqerr.ErrInvalidRecord})
		h.linger("b")
		if err := h.Flush(h.Context()); !errors.Is(err, mqerr.ErrInvalidRecord) {
			h.Fatalf("flush: %v", err)
		}
		if err := h.Flush(h.Context()); err != nil {
			h.Fatalf("a failure was reported twice: %v", err)
		}
	})
}

func TestFlushWaitsOnlyForWhatCameBefore(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{delay: time.Second}, fate{delay: time.Hour})
		h.send("a")
		flushed := make(chan error, 1)
		go func() { flushed <- h.Flush(context.Background()) }()
		synctest.Wait()
		h.send("b")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(flushed) == 0 {
			h.Fatal("flush waits for a record that came later")
		}
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.fates(fate{silent: true})
		h.send("a")
		ctx, cancel := context.WithTimeout(h.Context(), time.Second)
		defer cancel()
		if err := h.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			h.Fatal(err)
		}
	})
}

func TestFullBufferMakesAddWait(t *testing.T) {
	for name, change := range map[string]func(*produce.Config){
		"records": func(cfg *produce.Config) { cfg.BufferRecords = 2 },
		"bytes":   func(cfg *produce.Config) { cfg.BufferBytes = 2100 },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(cfg *produce.Config) { change(cfg); cfg.Linger = time.Minute }, func(h *harness) {
				value := strings.Repeat("x", 1000)
				h.linger(value)
				h.linger(value)
				rec, _ := h.record(0, value)
				if err := h.TryAdd("t", rec); !errors.Is(err, mqerr.ErrBufferFull) {
					h.Fatalf("TryAdd: %v", err)
				}
				start := time.Now()
				h.linger(value) // waits until those that lingered are stored
				if got := len(h.c.values("t", 0)); got < 2 || time.Since(start) > time.Second {
					h.Fatalf("%d records stored after %v", got, time.Since(start))
				}
			})
		})
	}
}

func TestNothingLingersWhileSomebodyWaitsForRoom(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BufferRecords = 1; cfg.Linger = time.Minute }, func(h *harness) {
		h.linger("a")
		done := make(chan error, 2)
		for range 2 {
			go func() {
				rec, _ := h.record(0, "b")
				done <- h.Add(context.Background(), "t", rec, false)
			}()
		}
		time.Sleep(time.Second)
		h.holds(0, "a", "b") // the other may linger: nobody waits any more
		if err := errors.Join(<-done, <-done); err != nil {
			h.Fatal(err)
		}
	})
}

func TestAddThatWaitsForRoomEndsWithItsContext(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BufferRecords = 1 }, func(h *harness) {
		h.fates(fate{silent: true})
		h.send("a")
		ctx, cancel := context.WithTimeout(h.Context(), time.Second)
		defer cancel()
		rec, p := h.record(0, "b")
		err := h.Add(ctx, "t", rec, true)
		if !errors.Is(err, context.DeadlineExceeded) || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		h.Close()
		if p.settled() {
			h.Fatal("settled although Add failed")
		}
		h.holds(0, "a")
	})
}

func TestRecordIsDroppedWhenItsContextEndsBeforeItIsSent(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.topics["t"].partitions[0].leader = -1 })
		ctx, cancel := context.WithCancel(h.Context())
		before, p, after := h.send("before"), h.add(ctx, 0, "dropped", true), h.send("after")
		time.Sleep(time.Second)
		cancel()
		if err := p.failure(); !errors.Is(err, context.Canceled) || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		h.c.set(func() { h.c.topics["t"].partitions[0].leader = 1 })
		before.offset()
		after.offset()
		h.holds(0, "before", "after")
	})
}

func TestRecordIsStillStoredWhenItsContextEndsAfterItWasSent(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.fates(fate{lose: true, delay: time.Second, reply: errors.New("connection lost")})
		ctx, cancel := context.WithTimeout(h.Context(), 500*time.Millisecond)
		defer cancel()
		p := h.add(ctx, 0, "a", true)
		if err := p.failure(); !errors.Is(err, context.DeadlineExceeded) || !mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		if h.send("b").offset() != 1 {
			h.Fatal("b should follow a")
		}
		h.holds(0, "a", "b")
	})
}

func TestLostAnswerDoesNotDuplicate(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.fates(fate{reply: mqerr.ErrTimeout}, fate{reply: errors.New("connection lost")}, fate{silent: true})
		if got := h.send("a").offset(); got != 0 {
			h.Fatalf("offset %d", got)
		}
		h.send("b").offset()
		h.holds(0, "a", "b")
	})
}

func TestBatchesInFlightAreBounded(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.MaxInFlight = 3; cfg.BatchRecords = 1 }, func(h *harness) {
		h.send("first").offset()
		arrived := 0
		h.c.set(func() {
			h.c.fate = func(*partitionLog, batch) fate { arrived++; return fate{delay: time.Second} }
		})
		for range 10 {
			h.send("x")
		}
		synctest.Wait()
		h.c.set(func() {
			if arrived != 3 {
				h.Errorf("%d batches in flight", arrived)
			}
		})
		if err := h.Flush(h.Context()); err != nil {
			h.Fatal(err)
		}
	})
}

func TestPartitionInTroubleDoesNotDelayOthers(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset()
		h.add(h.Context(), 1, "first", true).offset()
		for range 10 { // what is ready at the same time is taken in any order
			h.fates(fate{refuse: mqerr.ErrNoQuorum})
			slow := h.add(h.Context(), 0, "slow", true)
			synctest.Wait()
			h.leaders(-1)
			quick := h.add(h.Context(), 1, "quick", true)
			h.c.set(func() {
				h.c.fate = func(p *partitionLog, _ batch) fate {
					return fate{delay: time.Duration(1-p.index) * 10 * time.Second}
				}
			})
			start := time.Now()
			h.leaders(1) // both can be sent now
			quick.offset()
			if waited := quick.at.Sub(start); waited > time.Second {
				h.Fatalf("partition 1 waited %v for partition 0", waited)
			}
			slow.offset()
		}
	})
}

// leaders gives both partitions a leader, -1 for none, and makes it known.
func (h *harness) leaders(id int32) {
	h.Helper()
	h.c.set(func() {
		for _, p := range h.c.topics["t"].partitions {
			p.leader = id
		}
	})
	if err := h.r.Refresh(h.Context()); err != nil {
		h.Fatal(err)
	}
	synctest.Wait()
}

func TestBrokerThatIsAwayForHalfAMinuteIsSurvived(t *testing.T) {
	run(t, nil, func(h *harness) {
		away := fmt.Errorf("%w: connection refused", mqerr.ErrLeaderNotAvailable)
		h.c.set(func() { h.c.down = away })
		a := h.send("a") // not even metadata is known
		time.Sleep(30 * time.Second)
		h.c.set(func() { h.c.down = nil })
		a.offset()
		if waited := time.Since(a.at); waited > 2*time.Second {
			h.Fatalf("noticed after %v", waited)
		}

		h.c.set(func() { h.c.down = away })
		b := h.send("b")
		time.Sleep(30 * time.Second)
		h.c.set(func() { h.c.down = nil })
		back := time.Now()
		b.offset()
		if waited := b.at.Sub(back); waited > 2*time.Second {
			h.Fatalf("noticed after %v", waited)
		}
		h.holds(0, "a", "b")
	})
}

func TestDeliveryTimeoutSaysWhetherTheOutcomeIsKnown(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset()
		start := time.Now()
		h.c.set(func() { h.c.fate = func(*partitionLog, batch) fate { return fate{refuse: mqerr.ErrBusy} } })
		refused := h.send("refused")
		if err := refused.failure(); mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrBusy) {
			h.Fatalf("refused for two minutes: %v", err)
		}
		if waited := refused.at.Sub(start); waited < 2*time.Minute || waited > 121*time.Second {
			h.Fatalf("failed after %v", waited)
		}
		h.c.set(func() {
			h.c.fate = func(*partitionLog, batch) fate { return fate{lose: true, reply: errors.New("lost")} }
		})
		if err := h.send("lost").failure(); !mqerr.OutcomeUnknown(err) {
			h.Fatalf("lost for two minutes: %v", err)
		}
		h.c.set(func() { h.c.fate = nil })
		if h.send("second").offset() != 1 {
			h.Fatal("goes on at the wrong offset")
		}
		h.holds(0, "first", "second")
	})
}

func TestYoungRecordDoesNotExpireWithAnOldOne(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("first").offset()
		h.leaders(-1)
		old := h.send("old")
		time.Sleep(100 * time.Second)
		young := h.send("young")
		if err := old.failure(); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			h.Fatal(err)
		}
		h.leaders(1)
		young.offset()
		h.holds(0, "first", "young")
	})
}

func TestRecordBehindOneOfUnknownOutcomeIsKnownNotToBeStored(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.MaxInFlight, cfg.BatchRecords = 1, 1 }, func(h *harness) {
		h.send("first").offset()
		h.c.set(func() {
			h.c.fate = func(*partitionLog, batch) fate { return fate{lose: true, delay: 25 * time.Second} }
		})
		lost, behind := h.send("lost"), h.send("behind")
		if err := lost.failure(); !mqerr.OutcomeUnknown(err) {
			h.Error(err)
		}
		if err := behind.failure(); mqerr.OutcomeUnknown(err) || !mqerr.Retriable(err) {
			h.Error(err)
		}
	})
}

func TestDeliveryTimeoutNamesBrokersThatDoNotAnswer(t *testing.T) {
	run(t, nil, func(h *harness) {
		away := fmt.Errorf("%w: connection refused", mqerr.ErrLeaderNotAvailable)
		h.c.set(func() { h.c.down = away })
		if err := h.send("a").failure(); !strings.Contains(err.Error(), "refused") || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
	})
}

func TestRefusedBatchDoesNotStopThoseBehindIt(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BatchRecords = 1 }, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{refuse: mqerr.ErrRecordTooLarge})
		bad, good := h.send("bad"), h.send("good")
		if err := bad.failure(); !errors.Is(err, mqerr.ErrRecordTooLarge) || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		good.offset()
		h.holds(0, "first", "good")
	})
}

func TestProducerThatTheBrokerForgotGoesOn(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BatchRecords = 1 }, func(h *harness) {
		h.send("a").offset()
		h.c.set(func() { clear(h.c.topics["t"].partitions[0].producers) })
		b, c := h.send("b"), h.send("c")
		b.offset()
		c.offset()
		h.holds(0, "a", "b", "c")
	})
}

func TestUnknownTopicFailsAfterTheGracePeriod(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { delete(h.c.topics, "t") })
		start := time.Now()
		p := h.send("a")
		err := p.failure()
		if !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		if waited := p.at.Sub(start); waited < 2*time.Second || waited > 4*time.Second {
			h.Fatalf("failed after %v", waited)
		}

		b := h.send("b")
		time.Sleep(time.Second)
		h.c.createTopic("t", 1)
		if b.offset() != 0 {
			h.Fatal("not stored in the topic that came in time")
		}
	})
}

func TestTopicIsCreatedByTheFirstRecord(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { delete(h.c.topics, "t"); h.c.autoCreate = 1 })
		start := time.Now()
		p := h.send("a")
		p.offset()
		if waited := p.at.Sub(start); waited > 100*time.Millisecond {
			h.Fatalf("took %v", waited)
		}
	})
}

func TestTopicNameThatIsNotAllowedFailsAtOnce(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.topics["t"].err = mqerr.ErrInvalidTopic })
		start := time.Now()
		p := h.send("a")
		if err := p.failure(); !errors.Is(err, mqerr.ErrInvalidTopic) || p.at.Sub(start) > time.Second {
			h.Fatalf("after %v: %v", p.at.Sub(start), err)
		}
	})
}

func TestPartitionThatDoesNotExistIsRefused(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.send("a").offset()
		rec, _ := h.record(7, "b")
		if err := h.Add(h.Context(), "t", rec, true); !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
			h.Fatal(err)
		}
		// One that is added comes to be known by the refusal.
		h.c.set(func() {
			t := h.c.topics["t"]
			for i := int32(2); i < 8; i++ {
				t.partitions = append(t.partitions, &partitionLog{topic: "t", index: i, leader: 1, producers: map[int64]*producerState{}})
			}
		})
		_ = h.Add(h.Context(), "t", rec, true)
		time.Sleep(time.Second)
		h.add(h.Context(), 7, "b", true).offset()
	})
}

func TestRecordForAPartitionThatDoesNotExistFailsBeforeTheTopicIsKnown(t *testing.T) {
	run(t, nil, func(h *harness) {
		bad, good := h.add(h.Context(), 7, "bad", true), h.send("good")
		if err := bad.failure(); !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
			h.Fatal(err)
		}
		good.offset()
	})
}

func TestRecordsGoToATopicThatWasCreatedAnew(t *testing.T) {
	run(t, nil, func(h *harness) {
		for range 3 {
			h.send("old").offset()
		}
		h.c.createTopic("t", 1)
		if h.send("new").offset() != 0 {
			h.Fatal("not the first record")
		}
		h.holds(0, "new")
	})
}

func TestLeaderHintIsFollowedWithoutARefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2)
		c.createTopic("t", 1)
		h := &harness{T: t, c: c, r: c.router(t)}
		h.Engine = produce.New(config(func(cfg *produce.Config) { cfg.Router = h.r }))
		defer h.Close()
		h.send("a").offset()
		refreshes := 0
		c.set(func() {
			p := c.topics["t"].partitions[0]
			p.leader, p.epoch = 2, p.epoch+1
			refreshes = c.metadata
		})
		start := time.Now()
		b := h.send("b")
		b.offset()
		if b.at.Sub(start) > 5*time.Millisecond || c.metadata != refreshes {
			t.Fatalf("took %v and %d refreshes", b.at.Sub(start), c.metadata-refreshes)
		}
	})
}

func TestAcksNoneKeepsOrderWithoutAnIdentity(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Acks = api.AcksNone; cfg.BatchRecords = 1 }, func(h *harness) {
		h.fates(fate{refuse: mqerr.ErrBusy}, fate{}, fate{refuse: mqerr.ErrBusy})
		var all []*pending
		for _, v := range []string{"a", "b", "c"} {
			all = append(all, h.linger(v))
		}
		for _, p := range all {
			if p.offset() != -1 {
				h.Fatal("an offset with AcksNone")
			}
		}
		h.holds(0, "a", "b", "c")

		h.fates(fate{lose: true, reply: errors.New("connection lost")})
		if err := h.send("d").failure(); !mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
		h.send("e").offset()
		h.holds(0, "a", "b", "c", "e")
	})
}

func TestMissingProducerIDIsWaitedForAndNamed(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.initErr = mqerr.ErrNoQuorum })
		a := h.send("a")
		time.Sleep(10 * time.Second)
		h.c.set(func() { h.c.initErr = nil })
		a.offset()
	})
}

func TestDeliveryTimeoutNamesAMissingProducerID(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.initErr = mqerr.ErrNoQuorum })
		if err := h.send("a").failure(); !errors.Is(err, mqerr.ErrNoQuorum) || mqerr.OutcomeUnknown(err) {
			h.Fatal(err)
		}
	})
}

func TestShutdownSettlesEverything(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.Linger = time.Minute }, func(h *harness) {
		a := h.linger("a")
		if err := h.Shutdown(h.Context()); err != nil {
			h.Fatal(err)
		}
		if !a.settled() || a.offset() != 0 {
			h.Fatal("not stored")
		}
		h.refusesEverything()
	})
}

func (h *harness) refusesEverything() {
	h.Helper()
	rec, _ := h.record(0, "late")
	if err := h.Add(context.Background(), "t", rec, true); !errors.Is(err, mqerr.ErrClosed) {
		h.Fatalf("Add: %v", err)
	}
	if err := h.TryAdd("t", rec); !errors.Is(err, mqerr.ErrClosed) {
		h.Fatalf("TryAdd: %v", err)
	}
	if err := h.Flush(context.Background()); err != nil {
		h.Fatalf("Flush: %v", err)
	}
	if err := h.Shutdown(context.Background()); err != nil {
		h.Fatalf("Shutdown: %v", err)
	}
	h.Close()
}

func TestShutdownThatTimesOutGoesOn(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.fates(fate{delay: 10 * time.Second})
		a := h.send("a")
		ctx, cancel := context.WithTimeout(h.Context(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			h.Fatal(err)
		}
		if err := h.Shutdown(h.Context()); err != nil {
			h.Fatal(err)
		}
		a.offset()
	})
}

func TestCloseFailsWhatIsLeft(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BatchRecords, cfg.MaxInFlight, cfg.BufferRecords = 1, 1, 3 }, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{silent: true})
		sent, unsent, parked := h.send("sent"), h.send("unsent"), &pending{t: h.T, done: make(chan produce.Result, 1)}
		if err := h.Add(h.Context(), "nowhere", produce.Record{Promise: parked}, true); err != nil {
			h.Fatal(err)
		}
		blocked := make(chan error, 1)
		go func() {
			rec, _ := h.record(0, "blocked")
			blocked <- h.Add(context.Background(), "t", rec, true)
		}()
		synctest.Wait()
		h.Close()
		if err := sent.failure(); !mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("sent: %v", err)
		}
		if err := unsent.failure(); mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("unsent: %v", err)
		}
		if err := parked.failure(); mqerr.OutcomeUnknown(err) || !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("parked: %v", err)
		}
		if err := <-blocked; !errors.Is(err, mqerr.ErrClosed) {
			h.Errorf("blocked: %v", err)
		}
	})
}

func TestClosedRouterFailsWhatIsLeft(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.topics["t"].partitions[0].leader = -1 })
		p := h.send("a")
		time.Sleep(time.Second)
		_ = h.r.Close()
		if err := p.failure(); !errors.Is(err, mqerr.ErrClosed) {
			h.Fatal(err)
		}
		rec, _ := h.record(0, "late")
		if err := h.Add(h.Context(), "t", rec, true); !errors.Is(err, mqerr.ErrClosed) {
			h.Fatal(err)
		}
	})
}

// again is a promise that sends a record when it is settled.
type again struct {
	h    *harness
	left int
	done chan error
}

func (a *again) Settle(r produce.Result) {
	if r.Err != nil || a.left == 0 {
		a.done <- r.Err
		return
	}
	a.left--
	if err := a.h.TryAdd("t", produce.Record{Promise: a}); err != nil {
		a.done <- err
	}
}

func TestCallbackMaySendMore(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.BufferRecords = 2 }, func(h *harness) {
		a := &again{h: h, left: 10, done: make(chan error, 1)}
		if err := h.TryAdd("t", produce.Record{Promise: a}); err != nil {
			h.Fatal(err)
		}
		if err := <-a.done; err != nil {
			h.Fatal(err)
		}
		if got := len(h.c.values("t", 0)); got != 11 {
			h.Fatalf("%d records", got)
		}
	})
}

func TestEveryCodecArrives(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			run(t, func(cfg *produce.Config) { cfg.Codec = codec }, func(h *harness) {
				value := strings.Repeat("the same again ", 1000)
				h.send(value).offset()
				h.holds(0, value)
			})
		})
	}
}

func TestRecordsWithoutPreferenceStickToABatchAndSpread(t *testing.T) {
	run(t, func(cfg *produce.Config) {
		cfg.Partition = func(produce.Promise, int) int { return -1 }
		cfg.BatchRecords = 10
	}, func(h *harness) {
		h.send("first").offset()
		sizes := h.watchBatches()
		for range 1000 {
			h.linger("x")
		}
		if err := h.Flush(h.Context()); err != nil {
			h.Fatal(err)
		}
		if got := len(sizes()); got > 102 {
			h.Fatalf("%d batches of up to 10 for 1000 records", got)
		}
		if a, b := len(h.c.values("t", 0)), len(h.c.values("t", 1)); a < 300 || b < 300 {
			h.Fatalf("partitions got %d and %d records", a, b)
		}
	})
}
