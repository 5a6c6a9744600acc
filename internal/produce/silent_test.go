package produce_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
)

// patient waits an hour for each answer, so that whatever comes sooner comes for
// another reason.
func patient(cfg *produce.Config) {
	cfg.Timeout, cfg.DeliveryTimeout, cfg.BatchRecords = time.Hour, 0, 1
}

// moves makes a second broker the leader of partition 0.
func (h *harness) moves() {
	h.c.set(func() {
		h.c.brokers[2] = &broker{cluster: h.c, id: 2}
		h.c.topics["t"].partitions[0].leader, h.c.topics["t"].partitions[0].epoch = 2, 1
	})
}

func TestALeaderThatFellSilentIsLeftWhenAnotherOneLeads(t *testing.T) {
	run(t, patient, func(h *harness) {
		h.send("first").offset()
		h.c.set(func() { h.c.brokers[1].deaf = true })
		start := time.Now()
		a, b := h.send("a"), h.send("b")
		time.Sleep(10 * time.Second) // as an election may take
		h.moves()
		if a.offset() != 1 || b.offset() != 2 || time.Since(start) > time.Minute {
			h.Errorf("after %v", time.Since(start))
		}
		h.holds(0, "first", "a", "b")
	})
}

// What the old leader had done before it fell silent is not done twice.
func TestWhatASilentLeaderStoredIsNotStoredAgain(t *testing.T) {
	run(t, patient, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{silent: true}, fate{silent: true})
		start := time.Now()
		a, b := h.send("a"), h.send("b")
		synctest.Wait()
		h.moves()
		if a.offset() != 1 || b.offset() != 2 || time.Since(start) > time.Minute {
			h.Errorf("after %v", time.Since(start))
		}
		h.holds(0, "first", "a", "b")
	})
}

// Without an identity a batch can't be sent again: it may be stored already.
func TestWithoutAcksASilentLeaderIsNotLeft(t *testing.T) {
	change := func(cfg *produce.Config) {
		patient(cfg)
		cfg.Acks = api.AcksNone
	}
	run(t, change, func(h *harness) {
		h.send("first").offset()
		h.fates(fate{silent: true})
		start := time.Now()
		a := h.send("a")
		synctest.Wait()
		h.moves()
		if err := a.failure(); err == nil || time.Since(start) < time.Hour {
			h.Errorf("%v after %v", err, time.Since(start))
		}
		h.holds(0, "first", "a")
	})
}

func TestASilentLeaderIsAskedAboutNowAndThen(t *testing.T) {
	run(t, patient, func(h *harness) {
		h.send("first").offset()
		h.c.set(func() { h.c.brokers[1].deaf = true })
		for range 20 {
			h.send("a")
		}
		before := 0
		h.c.set(func() { before = h.c.metadata })
		time.Sleep(time.Minute)
		h.c.set(func() {
			if n := h.c.metadata - before; n < 20 || n > 70 {
				h.Errorf("%d requests for metadata in a minute", n)
			}
		})
		h.moves()
		if err := h.Flush(h.Context()); err != nil {
			h.Fatal(err)
		}
	})
}

// The leader of a topic that was created anew is no successor, whatever becomes of
// what was in flight to the old topic: a copy in its log is in no log any more.
func TestATopicThatIsCreatedAnewLeavesNoOutcomeInDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		old    fate
		leader int32 // at first, of the new topic
	}{
		"refused":          {fate{refuse: mqerr.ErrUnknownTopicID, delay: 10 * time.Second}, 1},
		"refused, no lead": {fate{refuse: mqerr.ErrUnknownTopicID, delay: 10 * time.Second}, -1},
		"time-out":         {fate{lose: true, delay: 10 * time.Second}, 1},
		"time-out at once": {fate{lose: true}, 1},
		"stored":           {fate{reply: mqerr.ErrTimeout, delay: 10 * time.Second}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, patient, func(h *harness) {
				h.send("first").offset()
				h.fates(c.old)
				a := h.send("a")
				synctest.Wait()
				anew := h.createsAnew(c.leader)
				time.Sleep(time.Second)
				h.c.set(func() { anew.partitions[0].leader, anew.partitions[0].epoch = 1, anew.partitions[0].epoch+1 })
				if got := a.offset(); got != 0 {
					h.Errorf("it is at offset %d", got)
				}
				h.holds(0, "a")
			})
		})
	}
}

// createsAnew puts another topic, with this leader, in the place of t.
func (h *harness) createsAnew(leader int32) (anew *topicLog) {
	h.c.set(func() {
		old := h.c.topics["t"]
		anew = &topicLog{id: uuid.New(), configs: old.configs}
		for i, p := range old.partitions {
			anew.partitions = append(anew.partitions, &partitionLog{
				topic: p.topic, index: int32(i), leader: leader, epoch: p.epoch + 1, producers: map[int64]*producerState{},
			})
		}
		h.c.topics["t"] = anew
	})
	return anew
}
