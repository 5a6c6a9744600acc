package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/topic"
)

// fakeClock stands still until it is told to move.
type fakeClock struct{ ms atomic.Int64 }

func newFakeClock() *fakeClock {
	c := &fakeClock{}
	c.ms.Store(1_700_000_000_000)
	return c
}

func (c *fakeClock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

func (c *fakeClock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// logOf describes the log of partition 0.
func logOf(tb testing.TB, n api.Broker, name string) api.LogInfo {
	tb.Helper()
	resp, err := n.DescribeLogs(tb.Context(), &api.DescribeLogsRequest{Topics: []string{name}})
	if err == nil {
		err = resp.Logs[0].Err
	}
	if err != nil {
		tb.Fatal(err)
	}
	return resp.Logs[0]
}

// retained runs a pass of retention and waits until the log starts there.
func (n *Node) retained(tb testing.TB, name string, start int64) {
	tb.Helper()
	n.upkeepNow()
	waitFor(tb, fmt.Sprint("the log to start at ", start), func() bool { return logOf(tb, n, name).LogStart == start })
}

// sweepRetention runs a pass of retention and waits until what it proposed is applied.
func (n *Node) sweepRetention(tb testing.TB) {
	tb.Helper()
	n.eachReplica(func(r *replica) { n.retain(r, true) })
	n.eachReplica(func(r *replica) { waitFor(tb, "the trims to be applied", r.pend.empty) })
}

func TestRetentionBySizeKeepsTheNewest(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	batch := makeBatch(t, strings.Repeat("x", 1000))
	newTopic(t, n, "t", 1, map[string]string{topic.RetentionBytes: fmt.Sprint(10 * len(batch))})
	newTopic(t, n, "all", 1, nil)
	for range 25 {
		for _, name := range []string{"t", "all"} {
			if _, err := produce(timeout(t), n, name, 0, batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.retained(t, "t", 15)
	if l := logOf(t, n, "t"); l.HighWatermark != 25 || l.SizeBytes != int64(10*len(batch)) {
		t.Errorf("after retention: %+v", l)
	}
	if got := len(readAll(t, n, "t", 0, 15)); got != 10 {
		t.Errorf("%d records are left", got)
	}
	if l := logOf(t, n, "all"); l.LogStart != 0 {
		t.Errorf("a topic without a limit: %+v", l)
	}
	// A changed limit counts at once.
	_, err := n.AlterTopic(t.Context(), &api.AlterTopicRequest{Name: "all", Set: map[string]string{topic.RetentionBytes: fmt.Sprint(len(batch))}})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the changed limit to count", func() bool { return logOf(t, n, "all").LogStart == 24 })
	if _, err := n.AlterTopic(t.Context(), &api.AlterTopicRequest{Name: "all", Set: map[string]string{topic.RetentionBytes: "0"}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "everything to go", func() bool { return logOf(t, n, "all").LogStart == 25 })
	if got := mustProduce(t, n, "all", 0, "next"); got != 25 {
		t.Errorf("an emptied log goes on at %d", got)
	}
}

// Age counts from when the broker appended, whatever times the records have.
func TestRetentionByAgeCountsFromTheAppend(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	cfg := Config{Dir: t.TempDir(), Test: TestSeams{Now: clock.now}}
	n := openNode(t, cfg)
	newTopic(t, n, "t", 1, map[string]string{topic.RetentionMs: "60000"})
	newTopic(t, n, "kept", 1, map[string]string{topic.RetentionMs: "-1"})
	future := clock.now().Add(1000 * time.Hour).UnixMilli()
	for i, at := range []int64{1000, future, 1000} {
		for _, name := range []string{"t", "kept"} {
			if _, err := produce(timeout(t), n, name, 0, timedBatch(t, at)); err != nil {
				t.Fatal(err)
			}
		}
		if i < 2 {
			clock.advance(30 * time.Second)
		}
	}
	n.sweepRetention(t) // ages are 60, 30 and 0 s
	if l := logOf(t, n, "t"); l.LogStart != 0 {
		t.Errorf("records of less than a minute went: %+v", l)
	}
	clock.advance(time.Millisecond)
	n.retained(t, "t", 1)
	clock.advance(-time.Hour) // a clock set back keeps records longer, and harms nothing
	mustProduce(t, n, "t", 0, "x")
	n.sweepRetention(t)
	if l := logOf(t, n, "t"); l.LogStart != 1 {
		t.Errorf("after the clock was set back: %+v", l)
	}
	clock.advance(time.Hour + 30*time.Second)
	n.retained(t, "t", 2)
	if err := n.Close(); err != nil { // ages survive a restart
		t.Fatal(err)
	}
	n = openNode(t, cfg)
	n.sweepRetention(t)
	if l := logOf(t, n, "t"); l.LogStart != 2 || l.HighWatermark != 4 {
		t.Errorf("after a restart: %+v", l)
	}
	clock.advance(time.Hour)
	n.retained(t, "t", 4)
	if l := logOf(t, n, "kept"); l.LogStart != 0 {
		t.Errorf("a topic kept for ever: %+v", l)
	}
}

func TestTrimDeletesBelowAnOffset(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 3, nil)
	for range 10 {
		mustProduce(t, n, "t", 0, "a", "b")
		mustProduce(t, n, "t", 1, "a")
	}
	to := func(partition int32, offset int64) api.TrimPartition {
		return api.TrimPartition{TopicPartition: api.TopicPartition{Topic: "t", Partition: partition}, Offset: offset}
	}
	for _, c := range []struct {
		at    api.TrimPartition
		start int64
		want  error
	}{
		{to(0, 5), 5, nil}, // in the midst of a batch
		{to(0, 5), 5, nil},
		{to(0, 3), 5, nil}, // never back
		{to(0, 21), -1, mqerr.ErrOffsetOutOfRange},
		{to(0, -2), -1, mqerr.ErrOffsetOutOfRange},
		{to(3, 0), -1, mqerr.ErrUnknownTopicOrPartition},
		{to(0, 20), 20, nil},
		{to(1, -1), 10, nil}, // all there is
		{to(2, -1), 0, nil},
	} {
		resp, err := n.TrimTopic(timeout(t), &api.TrimTopicRequest{Partitions: []api.TrimPartition{c.at}})
		if err != nil {
			t.Fatal(err)
		}
		if p := resp.Partitions[0]; p.LogStart != c.start || !errors.Is(p.Err, c.want) || p.Partition != c.at.Partition {
			t.Errorf("trim of %d to %d: %+v, want %d, %v", c.at.Partition, c.at.Offset, p, c.start, c.want)
		}
	}
	var d *mqerr.Detail
	resp, err := n.TrimTopic(timeout(t), &api.TrimTopicRequest{Partitions: []api.TrimPartition{to(1, 11), to(0, -1)}})
	if err != nil || !errors.As(resp.Partitions[0].Err, &d) || d.LogStart != 10 || d.HighWatermark != 10 || resp.Partitions[1].Err != nil {
		t.Errorf("one good, one out of range: %+v, %v, details %+v", resp, err, d)
	}
	if got := mustProduce(t, n, "t", 1, "next"); got != 10 {
		t.Errorf("an emptied log goes on at %d", got)
	}
	if l := logOf(t, n, "t"); l.SizeBytes != 0 || l.LogStart != 20 {
		t.Errorf("an emptied log: %+v", l)
	}
}

func TestATrimEndsWithItsContext(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "x")
	release := n.stall(t, "t", 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.TrimTopic(ctx, &api.TrimTopicRequest{Partitions: []api.TrimPartition{{TopicPartition: api.TopicPartition{Topic: "t"}, Offset: 1}}})
	if !errors.Is(err, context.Canceled) || !mqerr.OutcomeUnknown(err) {
		t.Errorf("it ended with %v", err)
	}
	release()
	waitFor(t, "the trim to happen all the same", func() bool { return logOf(t, n, "t").LogStart == 1 })
}

func TestASilentProducerIsForgotten(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	n := openNode(t, Config{ProducerExpiry: time.Hour, Test: TestSeams{Now: clock.now}})
	newTopic(t, n, "t", 1, nil)
	send := func(id int64, seq int32) (api.ProduceResult, error) {
		return produce(timeout(t), n, "t", 0, makeBatchFor(t, record.BuildOptions{ProducerID: id, BaseSequence: seq}, "x"))
	}
	for id := range int64(2) {
		if _, err := send(id, 0); err != nil {
			t.Fatal(err)
		}
	}
	clock.advance(40 * time.Minute)
	if _, err := send(1, 1); err != nil {
		t.Fatal(err)
	}
	clock.advance(40 * time.Minute)
	n.sweepRetention(t)
	if res, err := send(1, 1); err != nil || res.BaseOffset != 2 {
		t.Errorf("a producer that was not silent: %+v, %v", res, err)
	}
	if _, err := send(0, 1); !errors.Is(err, mqerr.ErrOutOfOrderSequence) {
		t.Errorf("a forgotten producer went on: %v", err)
	}
	if res, err := send(0, 0); err != nil || res.BaseOffset != 3 {
		t.Errorf("a forgotten producer began anew: %+v, %v", res, err)
	}
}

// fakeDisk has as much room as it is told.
type fakeDisk struct{ free atomic.Uint64 }

func (d *fakeDisk) usage() (free, total uint64, ok bool) { return d.free.Load(), 1 << 40, true }

func (n *Node) waitFenced(tb testing.TB, fenced bool) {
	tb.Helper()
	waitFor(tb, fmt.Sprint("the fence to be ", fenced), func() bool {
		n.upkeepNow()
		return (n.Stats().Fenced != nil) == fenced
	})
}

func TestABrokerWithoutDiskSpaceRefusesRecordsOnly(t *testing.T) {
	t.Parallel()
	disk := &fakeDisk{}
	disk.free.Store(10 << 30)
	cfg := Config{Dir: t.TempDir(), MinFreeBytes: 1 << 30, Test: TestSeams{DiskFree: disk.usage}}
	n := openNode(t, cfg)
	newTopic(t, n, "t", 1, nil)
	for range 3 {
		mustProduce(t, n, "t", 0, "x")
	}
	refuses := func(n *Node) {
		t.Helper()
		res, err := produce(timeout(t), n, "t", 0, makeBatch(t, "no"))
		if !errors.Is(err, mqerr.ErrDiskFull) || !mqerr.Retriable(err) || res.BaseOffset != -1 {
			t.Errorf("produce: %+v, %v", res, err)
		}
		if _, err := n.CreateTopic(t.Context(), &api.CreateTopicRequest{Name: "new"}); !errors.Is(err, mqerr.ErrDiskFull) {
			t.Errorf("create topic: %v", err)
		}
		if _, err := n.AddPartitions(t.Context(), &api.AddPartitionsRequest{Name: "t", Total: 2}); !errors.Is(err, mqerr.ErrDiskFull) {
			t.Errorf("add partitions: %v", err)
		}
	}
	disk.free.Store(1<<30 - 1)
	n.waitFenced(t, true)
	refuses(n)
	if got := readAll(t, n, "t", 0, 0); len(got) != 3 {
		t.Errorf("a fenced broker gives %q", got)
	}
	commitAt(t, n, "g", "t", 0, 2)
	trim(t, n, "t", 0, 2)
	if _, err := n.AlterTopic(t.Context(), &api.AlterTopicRequest{Name: "t", Set: map[string]string{topic.RetentionMs: "1000000"}}); err != nil {
		t.Errorf("alter topic: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, cfg) // it opens, and takes nothing from the first moment on
	refuses(n)
	if got := committed(t, n, "g"); got != "t/0=2" {
		t.Errorf("what was committed: %s", got)
	}
	if _, err := n.DeleteTopic(t.Context(), &api.DeleteTopicRequest{Name: "t"}); err != nil {
		t.Errorf("delete topic: %v", err)
	}
	disk.free.Store(1 << 30)
	n.waitFenced(t, false)
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "x")
}

func TestABrokerInMemoryStopsAtItsLimit(t *testing.T) {
	t.Parallel()
	const limit = 16 << 20
	n := openNode(t, Config{MaxMemory: limit})
	newTopic(t, n, "t", 4, nil)
	batch := makeBatch(t, strings.Repeat("x", 10_000))
	var full error
	for i := 0; full == nil; i++ {
		if i > 4*limit/len(batch) {
			t.Fatalf("%d bytes were taken, the limit is %d", i*len(batch), limit)
		}
		_, full = produce(timeout(t), n, "t", int32(i%4), batch)
	}
	if !errors.Is(full, mqerr.ErrBusy) || !mqerr.Retriable(full) {
		t.Errorf("a full broker: %v", full)
	}
	if held := n.Stats().HeldBytes; held > limit*3/4 {
		t.Errorf("%d bytes are held, the limit is %d", held, limit)
	}
	if got := len(readAll(t, n, "t", 3, 0)); got == 0 {
		t.Error("a full broker gives nothing")
	}
	for p := range int32(4) {
		trim(t, n, "t", p, -1)
	}
	n.waitFenced(t, false)
	mustProduce(t, n, "t", 0, "room again")
}
