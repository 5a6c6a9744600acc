package produce_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
)

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

func TestALeaderThatFallsSilentIsLeftForTheNext(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() { h.c.brokers[2] = &broker{cluster: h.c, id: 2} })
		h.send("a").offset()
		h.c.set(func() {
			h.c.brokers[1].deaf = true
			for _, p := range h.c.topics["t"].partitions {
				p.leader, p.epoch = 2, p.epoch+1
			}
		})
		start := time.Now()
		h.send("b").offset()
		if d := time.Since(start); d > 40*time.Second { // of the bubble: a bit more than one attempt
			h.Errorf("it took %v", d)
		}
		h.holds(0, "a", "b")
	})
}

// Records for a partition whose leader is not known make the engine ask for it,
// although the topic is known for long.
func TestAPartitionThatHadNoLeaderIsAskedForAgain(t *testing.T) {
	run(t, nil, func(h *harness) {
		var leader int32
		h.c.set(func() {
			p := h.c.topics["t"].partitions[1]
			leader, p.leader = p.leader, -1
		})
		h.send("a").offset()
		h.c.set(func() { h.c.topics["t"].partitions[1].leader = leader })
		start := time.Now()
		h.add(h.Context(), 1, "b", true).offset()
		if d := time.Since(start); d > 5*time.Second {
			h.Errorf("it took %v", d)
		}
	})
}
