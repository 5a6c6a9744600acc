package produce_test

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/produce"
	"github.com/raftmq/mq/internal/record"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the exactly-once property with this seed only")
	seedsFlag = flag.Int("seeds", 1500, "run it with so many seeds, as far as 10 s reach")
)

// Whatever the network and the brokers do: a record is stored once if it was
// acknowledged, never if it was refused, at most once if nobody knows; those of
// a partition are stored, and settled, in the order in which they were added.
func TestRecordsAreStoredOnceAndInOrderUnderFaults(t *testing.T) {
	if *seedFlag != 0 {
		synctest.Test(t, func(t *testing.T) { runFaults(t, *seedFlag) })
		return
	}
	began := time.Now()
	for seed := range uint64(*seedsFlag) {
		if time.Since(began) > 10*time.Second {
			t.Logf("time is up after %d seeds", seed)
			break
		}
		synctest.Test(t, func(t *testing.T) { runFaults(t, seed+1) })
		if t.Failed() {
			t.Fatalf("seed %d", seed+1)
		}
	}
}

// sent is a record of the test, and its own promise.
type sent struct {
	run       *faultRun
	partition int
	value     string
	cancel    context.CancelFunc // nil without
	settled   bool
	result    produce.Result
}

func (s *sent) Settle(r produce.Result) {
	if s.settled {
		s.run.t.Errorf("%s settled twice: %+v, %+v", s.value, s.result, r)
	}
	s.settled, s.result = true, r
	if r.Err == nil {
		s.run.acked[s.partition] = append(s.run.acked[s.partition], s.value)
	}
}

type faultRun struct {
	t     *testing.T
	rng   *rand.Rand
	c     *cluster
	harsh bool       // brokers refuse for good and forget
	acked [][]string // by partition, in the order of settling; of the callback goroutine
}

func runFaults(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	partitions := 1 + rng.IntN(4)
	run := &faultRun{t: t, rng: rng, c: newCluster(1 + rng.IntN(3)), acked: make([][]string, partitions)}
	run.c.createTopic("t", partitions)
	run.c.fate = run.fates()

	delivery := []time.Duration{0, 2 * time.Minute, 3 * time.Second, time.Second}[rng.IntN(4)]
	r := run.c.router(t)
	e := produce.New(config(func(cfg *produce.Config) {
		cfg.Router = r
		cfg.Partition = func(p produce.Promise, _ int) int { return p.(*sent).partition }
		cfg.BatchRecords = 1 + rng.IntN(8)
		cfg.MaxInFlight = 1 + rng.IntN(8)
		cfg.BufferRecords = 10 + rng.IntN(100)
		cfg.Timeout = []time.Duration{30 * time.Second, 100 * time.Millisecond}[rng.IntN(2)]
		cfg.DeliveryTimeout = delivery
		cfg.Linger = time.Duration(rng.IntN(3)) * 5 * time.Millisecond
		cfg.Codec = []record.Codec{record.None, record.None, record.Snappy}[rng.IntN(3)]
	}))

	var all []*sent
	for i := range 50 + rng.IntN(150) {
		s := &sent{run: run, partition: rng.IntN(partitions), value: strconv.Itoa(i)}
		ctx := context.Background()
		if chance(rng, 20) {
			ctx, s.cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
		}
		err := e.Add(ctx, "t", produce.Record{Value: []byte(s.value), Promise: s}, chance(rng, 20))
		if err != nil { // then nobody settles it
			s.settled, s.result.Err = true, err
		}
		all = append(all, s)
		if chance(rng, 30) {
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		if chance(rng, 2) {
			run.moveLeader()
		}
	}
	abort := chance(rng, 10)
	if !abort {
		// From some point on the world is kind.
		time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
		run.c.set(func() { run.c.fate = nil })
		_ = e.Shutdown(context.Background()) // the records have the errors
	}
	e.Close()
	_ = r.Close()
	for _, s := range all {
		if s.cancel != nil {
			s.cancel()
		}
	}
	time.Sleep(time.Minute) // what is still on its way arrives
	run.check(all)
	if !abort && !run.harsh && delivery == 0 {
		run.checkDelivered(all)
	}
}

// fates returns what happens to batches: mostly nothing, with bad moments.
func (run *faultRun) fates() func(*partitionLog, batch) fate {
	rng := rand.New(rand.NewPCG(run.rng.Uint64(), 1))
	badness := rng.IntN(60)
	forgets := chance(rng, 20)
	fatals := chance(rng, 20)
	run.harsh = forgets || fatals
	ms := func(n int) time.Duration { return time.Duration(rng.IntN(n)) * time.Millisecond }
	return func(p *partitionLog, b batch) fate {
		// Long after its first batches, of which nothing is on its way any more, a
		// broker may forget a producer.
		if s := p.producers[b.ProducerID]; forgets && s != nil && s.batches > window && p.late == 0 && chance(rng, 5) {
			delete(p.producers, b.ProducerID)
		}
		f := fate{delay: ms(20)}
		if !chance(rng, badness) {
			return f
		}
		switch rng.IntN(8) {
		case 0:
			f.refuse = []error{mqerr.ErrBusy, mqerr.ErrNoQuorum, mqerr.ErrNotLeader, mqerr.ErrDiskFull}[rng.IntN(4)]
		case 1:
			f.lose = true
		case 2:
			f.reply = mqerr.ErrTimeout
		case 3:
			f.reply = errors.New("connection reset")
		case 4:
			f.late = time.Millisecond + ms(3000)
		case 5:
			f.silent = true
		case 6:
			f.delay = ms(3000)
		case 7:
			if fatals {
				f.refuse = mqerr.ErrRecordTooLarge
			}
		}
		return f
	}
}

func (run *faultRun) moveLeader() {
	run.c.set(func() {
		p := run.c.topics["t"].partitions
		moved := p[run.rng.IntN(len(p))]
		moved.leader = int32(run.rng.IntN(len(run.c.brokers))) + 1
		moved.epoch++
	})
}

func (run *faultRun) check(all []*sent) {
	t := run.t
	offsets := map[string]int{}
	for p := range run.acked {
		last := -1
		for offset, v := range run.c.values("t", p) {
			if other, twice := offsets[v]; twice {
				t.Errorf("%s is stored twice: %d and %d in partition %d", v, other, offset, p)
			}
			offsets[v] = offset
			n, _ := strconv.Atoi(v)
			if n < last {
				t.Errorf("partition %d: %d is stored behind %d", p, n, last)
			}
			last = n
		}
		last = -1
		for _, v := range run.acked[p] {
			n, _ := strconv.Atoi(v)
			if n < last {
				t.Errorf("partition %d: %d was acknowledged after %d", p, n, last)
			}
			last = n
		}
	}
	for _, s := range all {
		offset, stored := offsets[s.value]
		switch {
		case !s.settled:
			t.Errorf("%s was never settled", s.value)
		case s.result.Err == nil && !stored:
			t.Errorf("%s was acknowledged and is not stored", s.value)
		case s.result.Err == nil && s.result.Offset >= 0 && int(s.result.Offset) != offset:
			t.Errorf("%s was acknowledged at %d and is at %d", s.value, s.result.Offset, offset)
		case s.result.Err != nil && stored && !mqerr.OutcomeUnknown(s.result.Err):
			t.Errorf("%s is stored in spite of: %v", s.value, s.result.Err)
		}
	}
}

// checkDelivered holds where nothing is refused for good and there is time.
func (run *faultRun) checkDelivered(all []*sent) {
	for _, s := range all {
		if s.cancel == nil && s.result.Err != nil {
			run.t.Errorf("%s was given up: %v", s.value, s.result.Err)
		}
	}
}

func config(change func(*produce.Config)) produce.Config {
	cfg := produce.Config{
		Partition:       func(produce.Promise, int) int { return -1 },
		Acks:            api.AcksAll,
		BatchRecords:    10_000,
		BatchBytes:      256 << 10,
		MaxRecordBytes:  1 << 20,
		Linger:          5 * time.Millisecond,
		MaxInFlight:     5,
		BufferRecords:   100_000,
		BufferBytes:     64 << 20,
		Timeout:         30 * time.Second,
		DeliveryTimeout: 2 * time.Minute,
		Logger:          slog.New(slog.DiscardHandler),
	}
	change(&cfg)
	return cfg
}
