package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

func fetchAt(topic string, partition int32, offset int64) api.FetchPartition {
	return api.FetchPartition{
		TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Offset: offset, LeaderEpoch: api.NoEpoch,
	}
}

func fetch(tb testing.TB, n api.Broker, req *api.FetchRequest) *api.FetchResponse {
	tb.Helper()
	resp, err := n.Fetch(timeout(tb), req)
	if err != nil {
		tb.Fatalf("fetch: %v", err)
	}
	return resp
}

// countBatches counts whole batches.
func countBatches(tb testing.TB, b []byte) int {
	tb.Helper()
	count := 0
	for ; len(b) > 0; count++ {
		if err := record.CheckCRC(b); err != nil {
			tb.Fatal(err)
		}
		var err error
		if _, b, err = record.Next(b); err != nil {
			tb.Fatal(err)
		}
	}
	return count
}

// waiting starts a fetch and returns when it waits for the partition.
func waiting(ctx context.Context, tb testing.TB, n *Node, req *api.FetchRequest) <-chan fetchAnswer {
	tb.Helper()
	f, err := n.find(req.Partitions[0].TopicPartition)
	if err != nil {
		tb.Fatal(err)
	}
	before := f.part.readers.count()
	out := make(chan fetchAnswer, 1)
	go func() {
		resp, err := n.Fetch(ctx, req)
		out <- fetchAnswer{resp, err}
	}()
	waitFor(tb, "the fetch to wait", func() bool { return f.part.readers.count() > before })
	return out
}

type fetchAnswer struct {
	resp *api.FetchResponse
	err  error
}

func answerOf(tb testing.TB, c <-chan fetchAnswer) fetchAnswer {
	tb.Helper()
	select {
	case a := <-c:
		return a
	case <-timeout(tb).Done():
		tb.Fatal("a fetch was not answered")
		return fetchAnswer{}
	}
}

func (r *readers) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.waiting)
}

const long = time.Minute // longer than any test waits

func TestAWaitingFetchWakesOnProduce(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	for i := range int64(20) {
		got := waiting(t.Context(), t, n, &api.FetchRequest{
			MaxWait: long, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, i), fetchAt("t", 1, 0)},
		})
		mustProduce(t, n, "t", 0, "x")
		a := answerOf(t, got)
		if a.err != nil || len(a.resp.Partitions) != 1 {
			t.Fatalf("fetch %d: %+v, %v", i, a.resp, a.err)
		}
		if p := a.resp.Partitions[0]; p.Partition != 0 || p.Err != nil || p.HighWatermark != i+1 || p.LastStableOffset != i+1 || p.LeaderEpoch < 1 || p.TopicID == uuid.Nil {
			t.Errorf("fetch %d: %+v", i, p)
		}
	}
	f, err := n.find(api.TopicPartition{Topic: "t"})
	if err != nil || f.part.readers.count() != 0 {
		t.Errorf("%d readers wait after all were answered, %v", f.part.readers.count(), err)
	}
}

func TestAFetchWaitsForMinBytes(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	size := len(makeBatch(t, "x"))
	got := waiting(t.Context(), t, n, &api.FetchRequest{
		MaxWait: long, MinBytes: 3*size - 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 0), fetchAt("t", 1, 0)},
	})
	for _, p := range []int32{0, 1, 0} {
		mustProduce(t, n, "t", p, "x")
	}
	a := answerOf(t, got)
	if a.err != nil {
		t.Fatal(a.err)
	}
	batches := 0
	for _, p := range a.resp.Partitions {
		batches += countBatches(t, p.Batches)
	}
	if batches != 3 {
		t.Errorf("%d batches were given, 3 make MinBytes", batches)
	}
}

func TestAFetchGivesWhatThereIsAfterMaxWait(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	for _, wait := range []time.Duration{0, time.Millisecond} {
		resp := fetch(t, n, &api.FetchRequest{MaxWait: wait, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}})
		if len(resp.Partitions) != 1 || resp.Partitions[0].Err != nil || len(resp.Partitions[0].Batches) != 0 {
			t.Errorf("one empty partition: %+v", resp)
		}
		resp = fetch(t, n, &api.FetchRequest{MaxWait: wait, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 0), fetchAt("t", 1, 0)}})
		if len(resp.Partitions) != 0 {
			t.Errorf("two empty partitions: %+v", resp)
		}
	}
	mustProduce(t, n, "t", 0, "x")
	resp := fetch(t, n, &api.FetchRequest{MaxWait: time.Millisecond, MinBytes: 1 << 20, Partitions: []api.FetchPartition{fetchAt("t", 0, 0), fetchAt("t", 1, 0)}})
	if len(resp.Partitions) != 1 || countBatches(t, resp.Partitions[0].Batches) != 1 {
		t.Errorf("less than MinBytes: %+v", resp)
	}
}

func TestAFetchGivesWholeBatchesWithinItsBounds(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 3, nil)
	size := 0
	for p := range int32(3) {
		for range 10 {
			batch := makeBatch(t, strings.Repeat("x", 1000))
			size = len(batch)
			if _, err := produce(timeout(t), n, "t", p, batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		whole int    // MaxBytes of the request
		each  int    // and of each partition
		want  string // batches by partition
	}{
		{0, 0, "0:10 1:10 2:10"},
		{1, 0, "0:1"}, // the first always
		{1, 1, "0:1"},
		{size - 1, 0, "0:1"},
		{2*size - 1, 0, "0:1"},
		{2 * size, 0, "0:2"},
		{12*size + 5, 0, "0:10 1:2"},
		{1 << 20, 3 * size, "0:3 1:3 2:3"},
		{5 * size, 3 * size, "0:3 1:2"},
		{1 << 20, 1, "0:1"}, // the others are given when it is their turn to be first
		{-1, -1, "0:10 1:10 2:10"},
	} {
		req := &api.FetchRequest{MaxBytes: c.whole}
		for p := range int32(3) {
			at := fetchAt("t", p, 0)
			at.MaxBytes = c.each
			req.Partitions = append(req.Partitions, at)
		}
		var got []string
		for _, p := range fetch(t, n, req).Partitions {
			got = append(got, fmt.Sprintf("%d:%d", p.Partition, countBatches(t, p.Batches)))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("MaxBytes %d, %d each: %v, want %s", c.whole, c.each, got, c.want)
		}
	}
}

func TestAFetchBeginsWithTheBatchThatHoldsTheOffset(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "0", "1", "2")
	mustProduce(t, n, "t", 0, "3", "4", "5")
	for offset, first := range []int64{0, 0, 0, 3, 3, 3} {
		p := fetch(t, n, &api.FetchRequest{MaxBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, int64(offset))}}).Partitions[0]
		info, err := record.Parse(p.Batches)
		if err != nil || info.BaseOffset != first || info.LeaderEpoch != p.LeaderEpoch {
			t.Errorf("offset %d: %+v, %v", offset, info, err)
		}
	}
}

func TestOneFetchReadsManyPartitions(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	const parts = 40
	newTopic(t, n, "t", parts, nil)
	req := &api.FetchRequest{MaxWait: long, MinBytes: 1}
	for p := range int32(parts) {
		req.Partitions = append(req.Partitions, fetchAt("t", p, 0))
	}
	got := waiting(t.Context(), t, n, req)
	mustProduce(t, n, "t", parts-1, "last")
	if a := answerOf(t, got); a.err != nil || len(a.resp.Partitions) != 1 || a.resp.Partitions[0].Partition != parts-1 {
		t.Errorf("one partition has news: %+v, %v", a.resp, a.err)
	}
	for p := range int32(parts) {
		mustProduce(t, n, "t", p, "x")
	}
	if resp := fetch(t, n, req); len(resp.Partitions) != parts {
		t.Errorf("%d of %d partitions with data were given", len(resp.Partitions), parts)
	}
}

func TestAFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	got := waiting(ctx, t, n, &api.FetchRequest{MaxWait: long, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}})
	why := errors.New("no more")
	cancel(why)
	if a := answerOf(t, got); !errors.Is(a.err, why) || a.resp != nil {
		t.Errorf("%+v, %v", a.resp, a.err)
	}
	f, err := n.find(api.TopicPartition{Topic: "t"})
	if err != nil || f.part.readers.count() != 0 {
		t.Errorf("%d readers are left, %v", f.part.readers.count(), err)
	}
}

func TestAWaitingFetchIsAnsweredWhenTheBrokerCloses(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	got := waiting(t.Context(), t, n, &api.FetchRequest{MaxWait: long, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if a := answerOf(t, got); !errors.Is(a.err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("%+v, %v", a.resp, a.err)
	}
	resp, err := n.Fetch(t.Context(), &api.FetchRequest{Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}})
	if err == nil && len(resp.Partitions) == 1 {
		err = resp.Partitions[0].Err
	}
	mustProduceFail(t, n, "t", mqerr.ErrLeaderNotAvailable)
	if err != nil && !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("a fetch from a closed broker: %v", err)
	}
}

func mustProduceFail(tb testing.TB, n api.Broker, topic string, want error) {
	tb.Helper()
	if res, err := produce(timeout(tb), n, topic, 0, makeBatch(tb, "x")); !errors.Is(err, want) {
		tb.Errorf("produce: %+v, %v, want %v", res, err, want)
	}
}

func TestAWaitingFetchIsToldThatTheTopicIsGone(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	got := waiting(t.Context(), t, n, &api.FetchRequest{MaxWait: long, MinBytes: 1, Partitions: []api.FetchPartition{fetchAt("t", 0, 0)}})
	deleteTopicNamed(t, n, "t")
	a := answerOf(t, got)
	if a.err != nil || len(a.resp.Partitions) != 1 {
		t.Fatalf("%+v, %v", a.resp, a.err)
	}
	if err := a.resp.Partitions[0].Err; !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) && !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("the partition says %v", err)
	}
}

// A leader that changes while a fetch waits is told at once, whenever it happens.
func TestAWaitingFetchIsToldThatTheLeaderChanged(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	f, err := n.find(api.TopicPartition{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	serving := f.rep.lead.Load()
	for range 300 {
		at := fetchAt("t", 0, 0)
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan fetchAnswer, 1)
		go func() {
			resp, err := n.Fetch(ctx, &api.FetchRequest{MaxWait: long, MinBytes: 1, Partitions: []api.FetchPartition{at}})
			out <- fetchAnswer{resp, err}
		}()
		f.rep.leaderUpdated(99, serving.term+1) // some time after the fetch began
		if a := answerOf(t, out); a.err != nil || !errors.Is(a.resp.Partitions[0].Err, mqerr.ErrNotLeader) {
			t.Fatalf("%+v, %v", a.resp, a.err)
		}
		cancel()
		f.rep.lead.Store(serving)
	}
}

func TestFetchErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	for range 10 {
		mustProduce(t, n, "t", 0, "a", "b")
	}
	trim(t, n, "t", 0, 6)
	f, err := n.find(api.TopicPartition{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*api.FetchPartition)
		want   error
	}{
		"unknown topic":      {func(p *api.FetchPartition) { p.Topic = "x" }, mqerr.ErrUnknownTopicOrPartition},
		"another topic id":   {func(p *api.FetchPartition) { p.TopicID = uuid.New() }, mqerr.ErrUnknownTopicID},
		"negative partition": {func(p *api.FetchPartition) { p.Partition = -1 }, mqerr.ErrUnknownTopicOrPartition},
		"large partition":    {func(p *api.FetchPartition) { p.Partition = 1 }, mqerr.ErrUnknownTopicOrPartition},
		"old leader epoch":   {func(p *api.FetchPartition) { p.LeaderEpoch = f.epoch - 1 }, mqerr.ErrFencedLeaderEpoch},
		"negative offset":    {func(p *api.FetchPartition) { p.Offset = -1 }, mqerr.ErrOffsetOutOfRange},
		"trimmed offset":     {func(p *api.FetchPartition) { p.Offset = 5 }, mqerr.ErrOffsetOutOfRange},
		"offset to come":     {func(p *api.FetchPartition) { p.Offset = 21 }, mqerr.ErrOffsetOutOfRange},
		"the trimmed start":  {func(p *api.FetchPartition) { p.Offset = 6 }, nil},
		"the end":            {func(p *api.FetchPartition) { p.Offset = 20 }, nil},
		"the leader epoch":   {func(p *api.FetchPartition) { p.LeaderEpoch = f.epoch }, nil},
		"its topic id":       {func(p *api.FetchPartition) { p.TopicID = f.topic.ID }, nil},
	} {
		at := fetchAt("t", 0, 10)
		c.change(&at)
		wait := long // an error is told at once
		if c.want == nil {
			wait = 0
		}
		p := fetch(t, n, &api.FetchRequest{MaxWait: wait, MinBytes: 1 << 20, Partitions: []api.FetchPartition{at}}).Partitions[0]
		if !errors.Is(p.Err, c.want) {
			t.Errorf("%s: %v, want %v", name, p.Err, c.want)
		}
		var d *mqerr.Detail
		if errors.As(p.Err, &d) != errors.Is(p.Err, mqerr.ErrOffsetOutOfRange) || d != nil && (d.LogStart != 6 || d.HighWatermark != 20) {
			t.Errorf("%s: details are %+v", name, d)
		}
	}
	too := &api.FetchRequest{Partitions: make([]api.FetchPartition, maxFetchParts+1)}
	if _, err := n.Fetch(t.Context(), too); !errors.Is(err, mqerr.ErrInvalidRequest) {
		t.Errorf("too many partitions: %v", err)
	}
	if resp := fetch(t, n, &api.FetchRequest{}); len(resp.Partitions) != 0 {
		t.Errorf("no partitions: %+v", resp)
	}
}

// Readers see what is committed only, in order and once, while others write and trim.
func TestReadersSeeEachRecordOnceWhileOthersWriteAndTrim(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	const last = 400
	var written atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(last) {
			mustProduce(t, n, "t", 0, fmt.Sprint(i))
			written.Store(i)
			if i%50 == 49 {
				trim(t, n, "t", 0, i-40)
			}
		}
	}()
	for offset := int64(0); offset < last; {
		p := fetch(t, n, &api.FetchRequest{MaxWait: time.Second, MinBytes: 1, MaxBytes: 300, Partitions: []api.FetchPartition{fetchAt("t", 0, offset)}}).Partitions[0]
		var d *mqerr.Detail
		if errors.As(p.Err, &d) && d.LogStart > offset {
			offset = d.LogStart
			continue
		}
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		for b := p.Batches; len(b) > 0; {
			batch, rest, err := record.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			for r, err := range record.Records(batch, record.ReadOptions{}) {
				if err != nil || r.Offset != offset || string(r.Value) != fmt.Sprint(offset) {
					t.Fatalf("at %d: offset %d value %q, %v", offset, r.Offset, r.Value, err)
				}
				offset++
			}
			b = rest
		}
	}
	<-done
}
