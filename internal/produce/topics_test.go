package produce_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
)

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

// That the making of a topic timed out says nothing of the records, which have not left.
func TestTopicWhoseCreationTimesOutIsAskedForAgain(t *testing.T) {
	run(t, func(cfg *produce.Config) { cfg.DeliveryTimeout = time.Minute }, func(h *harness) {
		var slow atomic.Bool
		slow.Store(true)
		h.c.set(func() {
			delete(h.c.topics, "t")
			h.c.autoCreate = 1
			h.c.creation = func() error {
				time.Sleep(10 * time.Second)
				if slow.Load() {
					return fmt.Errorf("%w: nobody leads it", mqerr.ErrTimeout)
				}
				return nil
			}
		})
		err := h.send("a").failure()
		if !mqerr.Retriable(err) || !strings.Contains(err.Error(), "1m0s: ") || !strings.Contains(err.Error(), "nobody leads it") {
			h.Fatalf("a record for which there was no topic in time: %v", err)
		}
		b := h.send("b")
		time.Sleep(time.Second)
		slow.Store(false)
		c := h.send("c")
		if b, c := b.offset(), c.offset(); b != 0 || c != 1 {
			h.Fatalf("they are at %d and %d", b, c)
		}
	})
}

// Others ask for a topic without creating it. The answer to that is no refusal.
func TestTopicThatIsBeingCreatedIsNotMissing(t *testing.T) {
	run(t, nil, func(h *harness) {
		h.c.set(func() {
			delete(h.c.topics, "t")
			h.c.autoCreate = 1
			h.c.creation = func() error { time.Sleep(10 * time.Second); return nil }
		})
		h.r.Want("t", false)
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithCancel(h.Context())
		h.add(ctx, 0, "a", true)
		time.Sleep(time.Second)
		cancel()
		time.Sleep(5 * time.Second)
		if b := h.send("b"); b.offset() != 0 {
			h.Fatal("not the first record")
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
