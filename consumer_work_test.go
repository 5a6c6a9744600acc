package mq_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/record"
)

// addKeyed appends a batch of records, each written as key=value. Without a key
// it is nil.
func (c *fakeCluster) addKeyed(name string, n int32, records ...string) {
	var b record.Builder
	for _, r := range records {
		k, v, _ := strings.Cut(r, "=")
		var key []byte
		if k != "" {
			key = []byte(k)
		}
		b.Append(key, []byte(v), nil, 1000)
	}
	c.addBatch(name, n, &b, record.BuildOptions{ProducerID: record.NoProducerID})
}

// crew is a handler that notes what happens. A record whose value is in gates
// waits until that channel is closed, then fails with what fails says.
type crew struct {
	gates map[string]chan struct{}
	fails func(r *mq.Record, attempt int) error

	mu       sync.Mutex
	busy     map[string]bool // keys under way
	last     map[string]int64
	begun    []string
	finished []string
	attempts map[string]int
	most     int // records at a time
	overlaps []string
}

func newCrew(gated ...string) *crew {
	w := &crew{gates: map[string]chan struct{}{}, busy: map[string]bool{}, last: map[string]int64{}, attempts: map[string]int{}}
	for _, v := range gated {
		w.gates[v] = make(chan struct{})
	}
	return w
}

func (w *crew) Handle(ctx context.Context, r *mq.Record) error {
	key := fmt.Sprintf("%d %q", r.Partition, r.Key)
	if r.Key == nil {
		key = fmt.Sprintf("%d at %d", r.Partition, r.Offset)
	}
	value := string(r.Value)
	w.mu.Lock()
	if w.busy[key] {
		w.overlaps = append(w.overlaps, value)
	}
	w.busy[key] = true
	w.most = max(w.most, len(w.busy))
	w.begun = append(w.begun, value)
	w.attempts[value]++
	attempt := w.attempts[value]
	gate, fails := w.gates[value], w.fails
	w.mu.Unlock()
	var err error
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if fails != nil && err == nil {
		err = fails(r, attempt)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, key)
	if err == nil {
		w.finished = append(w.finished, value)
	}
	return err
}

func (w *crew) saw(what *[]string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(*what)
}

// open lets gated records go on.
func (w *crew) open(values ...string) {
	for _, v := range values {
		close(w.gates[v])
	}
}

// running is a Run that the test ends.
type running struct {
	stop context.CancelFunc
	err  chan error
}

func run(t *testing.T, c *mq.Consumer, h mq.Handler) *running {
	ctx, stop := context.WithCancel(t.Context())
	r := &running{stop, make(chan error, 1)}
	go func() { r.err <- c.Run(ctx, h) }()
	return r
}

// end stops a Run, which must have nothing to complain about.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.err; err != nil {
		t.Fatal(err)
	}
}

func TestRecordsOfAKeyAreHandledInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 3)
		const each = 400
		rnd := rand.New(rand.NewPCG(1, 2))
		times := map[string]time.Duration{}
		for n := range int32(3) {
			for at := 0; at < each; at += 20 {
				var rs []string
				for i := range 20 {
					key := []string{"", "a", "b", "c", "d", "e", "f", "g", "h"}[rnd.IntN(9)]
					value := fmt.Sprintf("%d/%d", n, at+i)
					times[value] = time.Duration(rnd.IntN(30)) * time.Millisecond
					rs = append(rs, key+"="+value)
				}
				c.addKeyed("t", n, rs...)
			}
		}
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 16})
		w := newCrew()
		w.fails = func(r *mq.Record, _ int) error {
			time.Sleep(times[string(r.Value)])
			w.mu.Lock()
			defer w.mu.Unlock()
			if key := fmt.Sprintf("%d %s", r.Partition, r.Key); r.Key != nil {
				if last, ok := w.last[key]; ok && last >= r.Offset {
					t.Errorf("key %s: %d came after %d", key, r.Offset, last)
				}
				w.last[key] = r.Offset
			}
			return nil
		}
		r := run(t, consumer, w)
		for range 10 {
			time.Sleep(time.Second)
		}
		r.end(t)
		if len(w.overlaps) > 0 {
			t.Errorf("two of a key at once: %q", w.overlaps)
		}
		if w.most != 16 {
			t.Errorf("at most %d records at a time, want 16", w.most)
		}
		if len(w.begun) != 3*each {
			t.Errorf("%d calls for %d records", len(w.begun), 3*each)
		}
		for n := range int32(3) {
			committed(t, c, n, each)
		}
	})
}

func TestRecordsWithoutAKeyHaveNoOrder(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		var b record.Builder
		b.Append([]byte{}, []byte("empty 1"), nil, 1000) // an empty key is one
		b.Append([]byte{}, []byte("empty 2"), nil, 1000)
		c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID})
		c.addKeyed("t", 0, "=nil 1", "=nil 2", "=nil 3")
		w := newCrew("empty 1", "nil 1", "nil 2", "nil 3")
		r := run(t, c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Concurrency: 9}), w)
		settle()
		equal(t, sorted(w.saw(&w.begun)), "empty 1", "nil 1", "nil 2", "nil 3")
		w.open("empty 1")
		settle()
		equal(t, w.saw(&w.finished), "empty 1", "empty 2")
		r.end(t)
	})
}

// By default the order is that of the partition, whatever the keys.
func TestOneAtATimeIsInOrderOfTheOffsets(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.addKeyed("t", 0, "a=0", "b=1", "=2", "=3")
		c.addKeyed("t", 1, "x=other")
		failed := errors.New("not now")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Retry: mq.RetryPolicy{MaxAttempts: 9, Backoff: time.Minute, MaxBackoff: time.Minute}})
		w := newCrew()
		w.fails = func(r *mq.Record, attempt int) error {
			if string(r.Value) == "0" && attempt < 3 {
				return failed
			}
			return nil
		}
		r := run(t, consumer, w)
		settle()
		equal(t, sorted(w.saw(&w.begun)), "0", "other") // another partition does not wait
		committed(t, c, 0, -1)
		time.Sleep(5 * time.Minute)
		equal(t, w.saw(&w.begun)[2:], "0", "0", "1", "2", "3")
		if w.most != 1 {
			t.Errorf("%d at a time", w.most)
		}
		r.end(t)
		committed(t, c, 0, 4)
	})
}

func TestCommitWaitsForTheFirstUnfinishedAndACrashRedeliversFromThere(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2", "d=3", "e=4")
		cfg := mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 3, AutoCommitInterval: time.Second}
		consumer := c.consumer(t, cfg)
		w := newCrew("2")
		r := run(t, consumer, w)
		settle()
		settle()
		committed(t, c, 0, 2)
		equal(t, sorted(w.saw(&w.finished)), "0", "1", "3", "4")
		cfg.Partitions, cfg.AutoCommitInterval = []int32{0}, -1
		equal(t, pollUntil(t, c.consumer(t, cfg), 3), "2", "3", "4") // as after a crash
		w.open("2")
		settle()
		settle()
		committed(t, c, 0, 5)
		r.end(t)
	})
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func TestSlowRecordBoundsWhatIsTakenUpBehindIt(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		for i := 0; i < 5000; i += 500 {
			var rs []string
			for j := range 500 {
				rs = append(rs, fmt.Sprintf("k%d=%d", i+j, i+j))
			}
			c.addKeyed("t", 0, rs...)
		}
		c.addKeyed("t", 1, "a=x", "b=y", "c=z")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 4})
		w := newCrew("0")
		r := run(t, consumer, w)
		settle()
		if n := len(w.saw(&w.finished)); n != 999+3 {
			t.Errorf("%d records are finished, want 999 behind the slow one and 3 of another partition", n)
		}
		w.open("0")
		settle()
		if n := len(w.saw(&w.finished)); n != 5003 {
			t.Errorf("%d records are finished of 5003", n)
		}
		r.end(t)
		committed(t, c, 0, 5000)
	})
}

// A key that waits must not take up all memory with what must wait for it.
func TestSlowKeyBoundsTheBytesThatWaitForIt(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		pad := strings.Repeat("x", 1000)
		for i := range 100 {
			c.addKeyed("t", 0, fmt.Sprintf("slow=%d%s", i, pad))
		}
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, Concurrency: 2, MaxBytes: 2000, MaxBufferedBytes: 10000})
		w := newCrew("0" + pad)
		r := run(t, consumer, w)
		settle()
		unlock := c.lock()
		served := c.served
		unlock()
		if served > 25000 {
			t.Errorf("%d bytes were fetched", served)
		}
		w.open("0" + pad)
		settle()
		if n := len(w.saw(&w.finished)); n != 100 {
			t.Errorf("%d records are finished of 100", n)
		}
		r.end(t)
	})
}

func TestSeekDuringConcurrentHandlingWins(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "a=1", "b=2", "b=3", "a=4", "c=5")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 2})
		w := newCrew("0", "2")
		r := run(t, consumer, w)
		settle()
		equal(t, sorted(w.saw(&w.begun)), "0", "2")
		if err := consumer.Seek(t.Context(), mq.StartAt(4)); err != nil {
			t.Fatal(err)
		}
		w.open("2")
		settle()
		equal(t, sorted(w.saw(&w.begun)), "0", "2", "5") // 3 is from before the seek, 4 waits for 0
		w.open("0")
		settle()
		equal(t, w.saw(&w.finished), "2", "5", "0", "4")
		r.end(t)
		committed(t, c, 0, 6)
	})
}

// A record from before a Seek does not hold what is read after it.
func TestSeekForgetsRetries(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "a=1")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Retry: mq.RetryPolicy{MaxAttempts: -1, Backoff: time.Second}})
		w := newCrew()
		w.fails = func(r *mq.Record, _ int) error {
			if string(r.Value) == "0" {
				return errors.New("never")
			}
			return nil
		}
		r := run(t, consumer, w)
		time.Sleep(time.Minute)
		before := len(w.saw(&w.begun))
		if before < 5 {
			t.Errorf("%d attempts in a minute", before)
		}
		if err := consumer.Seek(t.Context(), mq.StartAt(1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		equal(t, w.saw(&w.begun)[before:], "1")
		r.end(t)
		committed(t, c, 0, 2)
	})
}

func TestPauseHoldsWhatWaitsForItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		c.addKeyed("t", 0, "a=0", "a=1", "b=2", "c=3")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 2})
		p0 := mq.TopicPartition{Topic: "t", Partition: 0}
		w := newCrew("0", "2")
		r := run(t, consumer, w)
		settle()
		consumer.Pause(p0)
		w.open("0", "2")
		c.addKeyed("t", 1, "x=other")
		settle()
		equal(t, sorted(w.saw(&w.begun)), "0", "2", "other")
		consumer.Resume(p0)
		settle()
		equal(t, sorted(w.saw(&w.finished)), "0", "1", "2", "3", "other")
		r.end(t)
		committed(t, c, 0, 4)
	})
}

func TestCommitFromAConcurrentHandlerFinishesItsRecordOnly(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1", "c=2")
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", AutoCommitInterval: -1, Concurrency: 3})
		w := newCrew("1")
		w.fails = func(r *mq.Record, _ int) error { return consumer.Commit(t.Context(), r) }
		r := run(t, consumer, w)
		settle()
		committed(t, c, 0, 1)
		w.open("1")
		settle()
		committed(t, c, 0, 3)
		r.end(t)
	})
}

func TestUnreadableBatchStopsConcurrentRun(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 1)
		c.addKeyed("t", 0, "a=0", "b=1")
		var b record.Builder
		b.Append(nil, make([]byte, record.DefaultMaxDecodedBytes), nil, 0)
		c.addBatch("t", 0, &b, record.BuildOptions{ProducerID: record.NoProducerID, Codec: record.Gzip})
		consumer := c.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g", Concurrency: 4})
		w := newCrew("0")
		r := run(t, consumer, w)
		settle()
		w.open("0")
		var failure *mq.PartitionError
		if err := <-r.err; !errors.As(err, &failure) || failure.Offset != 2 {
			t.Fatalf("got %v", err)
		}
		committed(t, c, 0, 2)
	})
}

// Whatever is killed whenever: each record is finished by somebody, and none of
// a key before those that come before it.
func TestCrashesLoseNothingAndKeepTheOrderOfKeys(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster) {
		c.create("t", 2)
		const each = 300
		rnd := rand.New(rand.NewPCG(3, 4))
		before := map[string][]string{} // of a value, what must be finished first
		for n := range int32(2) {
			keys := map[string][]string{}
			for at := 0; at < each; at += 10 {
				var rs []string
				for i := range 10 {
					key := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}[rnd.IntN(9)]
					value := fmt.Sprintf("%d/%d", n, at+i)
					before[value] = keys[key]
					keys[key] = append(keys[key][:len(keys[key]):len(keys[key])], value)
					rs = append(rs, key+"="+value)
				}
				c.addKeyed("t", n, rs...)
			}
		}
		finished := map[string]bool{}
		var mu sync.Mutex
		h := mq.HandlerFunc(func(ctx context.Context, r *mq.Record) error {
			mu.Lock()
			takes := time.Duration(rnd.IntN(20)) * time.Millisecond
			mu.Unlock()
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			for _, v := range before[string(r.Value)] {
				if !finished[v] {
					t.Errorf("%s is finished before %s", r.Value, v)
				}
			}
			finished[string(r.Value)] = true
			if rnd.IntN(50) == 0 {
				return errors.New("not now")
			}
			return nil
		})
		crashes := 0
		for ; c.committed("g", "t", 0) < each || c.committed("g", "t", 1) < each; crashes++ {
			if crashes > 1000 {
				t.Fatal("it never ends")
			}
			e, router := c.endpoint(t)
			consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{
				Topics: []string{"t"}, Partitions: []int32{0, 1}, GroupID: "g", Concurrency: 16, AutoCommitInterval: 10 * time.Millisecond, CloseTimeout: time.Millisecond,
				Retry: mq.RetryPolicy{MaxAttempts: 10, Backoff: time.Millisecond},
			})
			if err != nil {
				t.Fatal(err)
			}
			r := run(t, consumer, h)
			mu.Lock()
			lives := time.Duration(rnd.IntN(100)) * time.Millisecond
			mu.Unlock()
			time.Sleep(lives)
			router.Close() // as a kill: nothing gets through any more
			<-r.err
			consumer.Close()
		}
		if len(finished) != 2*each || crashes < 5 {
			t.Errorf("%d records of %d are finished, after %d crashes", len(finished), 2*each, crashes)
		}
	})
}
