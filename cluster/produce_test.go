package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/topic"
)

// sealed renews the checksum of a batch that a test has changed.
func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestBatchesThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, map[string]string{topic.MaxMessageBytes: "1000"})
	good := makeBatch(t, "one", "two")
	changed := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] ^= v
		return b
	}
	for name, c := range map[string]struct {
		batch []byte
		want  error
	}{
		"nothing":              {nil, mqerr.ErrInvalidRecord},
		"a few bytes":          {good[:20], mqerr.ErrCorruptBatch},
		"a batch cut off":      {good[:len(good)-1], mqerr.ErrCorruptBatch},
		"a flipped bit":        {changed(len(good)-1, 1), mqerr.ErrCorruptBatch},
		"a wrong CRC":          {changed(18, 1), mqerr.ErrCorruptBatch},
		"above the limit":      {makeBatch(t, strings.Repeat("x", 1000)), mqerr.ErrRecordTooLarge},
		"two batches":          {append(bytes.Clone(good), good...), mqerr.ErrInvalidRecord},
		"bytes behind":         {append(bytes.Clone(good), 0), mqerr.ErrInvalidRecord},
		"an older format":      {changed(16, 3), mqerr.ErrInvalidRecord},
		"a newer format":       {changed(16, 1), mqerr.ErrUnsupportedVersion},
		"an unknown codec":     {sealed(changed(22, 7)), mqerr.ErrUnsupportedCompression},
		"a broker's timestamp": {sealed(changed(22, 8)), mqerr.ErrInvalidRecord},
		"a transaction":        {sealed(changed(22, 16)), mqerr.ErrInvalidRecord},
		"a control record":     {sealed(changed(22, 32)), mqerr.ErrInvalidRecord},
		"no records":           {sealed(changed(60, 2)), mqerr.ErrInvalidRecord},
		"a count of its own":   {sealed(changed(60, 1)), mqerr.ErrInvalidRecord},
	} {
		res, err := produce(timeout(t), n, "t", 0, c.batch)
		if !errors.Is(err, c.want) || res.BaseOffset != -1 {
			t.Errorf("%s: %+v, %v, want %v", name, res, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "t/0") {
			t.Errorf("%s: the error does not say where: %v", name, err)
		}
	}
	if got := n.Stats().ProduceRefused; got != 16 {
		t.Errorf("%d refusals are counted, 16 were", got)
	}
	if res, err := produce(timeout(t), n, "t", 0, good); err != nil || res.BaseOffset != 0 || res.LogStart != 0 || res.LeaderEpoch < 1 {
		t.Errorf("a good batch afterwards: %+v, %v", res, err)
	}
}

// produceAll sends one request and waits for its one answer.
func produceAll(tb testing.TB, n api.Broker, req *api.ProduceRequest) (*api.ProduceResponse, error) {
	tb.Helper()
	got := make(chan produceAnswer, 2)
	n.Produce(tb.Context(), req, func(resp *api.ProduceResponse, err error) { got <- produceAnswer{resp, err} })
	select {
	case a := <-got:
		return a.resp, a.err
	case <-timeout(tb).Done():
		tb.Fatal("a produce request was not answered")
		return nil, nil
	}
}

type produceAnswer struct {
	resp *api.ProduceResponse
	err  error
}

func TestARequestIsAnsweredPartitionByPartition(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 2, nil)
	batch := makeBatch(t, "x")
	to := func(topic string, partition int32) api.ProducePartition {
		return api.ProducePartition{TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Batch: batch}
	}
	other := to("t", 0)
	other.TopicID = uuid.New()
	resp, err := produceAll(t, n, &api.ProduceRequest{Acks: api.AcksLeader, Partitions: []api.ProducePartition{
		to("t", 1), to("x", 0), to("t", -1), to("t", 2), to("t", 0), to("t", 1), other,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		err    error
		offset int64
	}{
		{nil, 0},
		{mqerr.ErrUnknownTopicOrPartition, -1},
		{mqerr.ErrUnknownTopicOrPartition, -1},
		{mqerr.ErrUnknownTopicOrPartition, -1},
		{nil, 0},
		{nil, 1},
		{mqerr.ErrUnknownTopicID, -1},
	} {
		if p := resp.Partitions[i]; !errors.Is(p.Err, want.err) || p.BaseOffset != want.offset {
			t.Errorf("result %d: %+v, want offset %d, %v", i, p, want.offset, want.err)
		}
	}
	if resp, err := produceAll(t, n, &api.ProduceRequest{Acks: api.AcksAll}); err != nil || len(resp.Partitions) != 0 {
		t.Errorf("a request for no partition: %+v, %v", resp, err)
	}
	for _, acks := range []int16{2, -2, 1000} {
		if resp, err := produceAll(t, n, &api.ProduceRequest{Acks: acks, Partitions: []api.ProducePartition{to("t", 0)}}); !errors.Is(err, mqerr.ErrInvalidRequest) || resp != nil {
			t.Errorf("acks %d: %+v, %v", acks, resp, err)
		}
	}
}

func TestProduceUnderAnEndedContextDoesNothing(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := 0
	n.Produce(ctx, &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
		TopicPartition: api.TopicPartition{Topic: "t"}, Batch: makeBatch(t, "x"),
	}}}, func(_ *api.ProduceResponse, err error) {
		calls++
		if !errors.Is(err, context.Canceled) || mqerr.OutcomeUnknown(err) {
			t.Errorf("answer: %v", err)
		}
	})
	if calls != 1 {
		t.Errorf("done was called %d times", calls)
	}
	if got := readAll(t, n, "t", 0, 0); len(got) != 0 {
		t.Errorf("it was appended: %q", got)
	}
}

func TestWithoutAcksTheAnswerDoesNotWait(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	release := n.stall(t, "t", 0)
	batch := makeBatch(t, "x")
	resp, err := produceAll(t, n, &api.ProduceRequest{Acks: api.AcksNone, Partitions: []api.ProducePartition{
		{TopicPartition: api.TopicPartition{Topic: "t"}, Batch: batch},
		{TopicPartition: api.TopicPartition{Topic: "t"}, Batch: batch[:10]},
	}})
	if err != nil || resp.Partitions[0].Err != nil || resp.Partitions[0].BaseOffset != -1 || !errors.Is(resp.Partitions[1].Err, mqerr.ErrCorruptBatch) {
		t.Fatalf("%+v, %v", resp, err)
	}
	clear(batch) // it is the caller's again
	release()
	waitFor(t, "the record to come", func() bool { return fmt.Sprint(readAll(t, n, "t", 0, 0)) == "[x]" })
}

// stall holds up the replica of a partition inside Update until release, as a
// slow disk would.
func (n *Node) stall(tb testing.TB, topic string, partition int32) (release func()) {
	tb.Helper()
	f, err := n.find(api.TopicPartition{Topic: topic, Partition: partition})
	if err != nil {
		tb.Fatal(err)
	}
	f.part.readers.mu.Lock() // taken after each commit, to wake readers
	release = sync.OnceFunc(f.part.readers.mu.Unlock)
	tb.Cleanup(release)
	return release
}

// flood sends count batches without waiting and returns how each was answered.
func flood(tb testing.TB, n api.Broker, topic string, partition int32, count int, batch []byte) (*sync.WaitGroup, []atomic.Pointer[error]) {
	tb.Helper()
	answers := make([]atomic.Pointer[error], count)
	var open sync.WaitGroup
	for i := range count {
		open.Add(1)
		n.Produce(tb.Context(), &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
			TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Batch: batch,
		}}}, func(resp *api.ProduceResponse, err error) {
			if err == nil {
				err = resp.Partitions[0].Err
			}
			if !answers[i].CompareAndSwap(nil, &err) {
				tb.Errorf("request %d was answered twice", i)
			}
			open.Done()
		})
	}
	return &open, answers
}

func count(answers []atomic.Pointer[error], target error) (is, others int) {
	for i := range answers {
		if p := answers[i].Load(); p != nil && errors.Is(*p, target) {
			is++
		} else if p != nil {
			others++
		}
	}
	return is, others
}

func TestAFullPartitionIsBusyAndRecovers(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{PartitionInFlightBytes: 50_000})
	newTopic(t, n, "t", 2, nil)
	release := n.stall(t, "t", 0)
	batch := makeBatch(t, strings.Repeat("x", 5000))
	open, answers := flood(t, n, "t", 0, 30, batch)
	busy, others := count(answers, mqerr.ErrBusy)
	if fit := 50_000 / len(batch); busy < 30-fit-1 || busy > 30-fit || others != 0 {
		t.Errorf("of 30 batches %d were refused as busy and %d answered otherwise; %d fit", busy, others, fit)
	}
	if p := answers[29].Load(); p == nil || !mqerr.Retriable(*p) {
		t.Error("busy is not retriable")
	}
	mustProduce(t, n, "t", 1, "another partition has room")
	if used := n.Stats().InFlightBytes; used < 40_000 || used > 60_000 {
		t.Errorf("%d bytes are counted as on their way", used)
	}
	release()
	open.Wait()
	if done, _ := count(answers, nil); done != 30-busy {
		t.Errorf("%d batches were appended, %d refused", done, busy)
	}
	if used := n.Stats().InFlightBytes; used != 0 {
		t.Errorf("%d bytes are counted as on their way, none is", used)
	}
	mustProduce(t, n, "t", 0, "room again")
}

func TestABatchLargerThanTheBudgetPassesAlone(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{PartitionInFlightBytes: 50_000, InFlightBytes: 60_000})
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, strings.Repeat("x", 200_000))
	release := n.stall(t, "t", 0)
	open, answers := flood(t, n, "t", 0, 2, makeBatch(t, strings.Repeat("x", 200_000)))
	if busy, others := count(answers, mqerr.ErrBusy); busy != 1 || others != 0 {
		t.Errorf("of two at once %d were refused as busy and %d answered otherwise", busy, others)
	}
	release()
	open.Wait()
}

func TestTheLargestBatchPassesUnderTheSmallestBudget(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{PartitionInFlightBytes: 1000, InFlightBytes: 1000, MaxMemory: 1 << 30})
	newTopic(t, n, "t", 1, map[string]string{topic.MaxMessageBytes: fmt.Sprint(topic.MaxBatchBytes)})
	mustProduce(t, n, "t", 0, strings.Repeat("x", topic.MaxBatchBytes-1000))
	mustProduce(t, n, "t", 0, "and on")
}

func TestAFullBrokerIsBusyAndRecovers(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{InFlightBytes: 50_000})
	newTopic(t, n, "t", 2, nil)
	release := n.stall(t, "t", 0)
	batch := makeBatch(t, strings.Repeat("x", 5000))
	open, answers := flood(t, n, "t", 0, 30, batch)
	if busy, _ := count(answers, mqerr.ErrBusy); busy < 20 {
		t.Errorf("of 30 batches %d were refused as busy", busy)
	}
	if _, err := produce(timeout(t), n, "t", 1, batch); !errors.Is(err, mqerr.ErrBusy) {
		t.Errorf("another partition of the full broker: %v", err)
	}
	// What frees space or is small goes on. The group's shard must not share the
	// stalled partition's worker.
	group := "g"
	for (firstGroup+slotOf(group))%applyShards == firstPartition%applyShards {
		group += "g"
	}
	commitAt(t, n, group, "t", 0, 1)
	trim(t, n, "t", 1, 0)
	newTopic(t, n, "new", 1, nil)
	release()
	open.Wait()
	mustProduce(t, n, "t", 1, "room again")
}

func TestEveryRequestIsAnsweredOnceWhenTheBrokerCloses(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{InFlightBytes: 1 << 30, PartitionInFlightBytes: 1 << 30, MaxMemory: 16 << 30})
	newTopic(t, n, "t", 2, nil)
	release := n.stall(t, "t", 0) // so that thousands wait
	batch := makeBatch(t, "x")
	var senders, opens sync.WaitGroup
	var started atomic.Int64
	var acked, unknown, refused atomic.Int64
	for range 4 {
		senders.Go(func() {
			for i := range 2000 {
				opens.Add(1)
				var calls atomic.Int32
				n.Produce(t.Context(), &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{
					{TopicPartition: api.TopicPartition{Topic: "t", Partition: int32(i % 2)}, Batch: batch},
				}}, func(resp *api.ProduceResponse, err error) {
					if calls.Add(1) != 1 {
						t.Error("a request was answered twice")
					}
					if err == nil {
						err = resp.Partitions[0].Err
					}
					switch {
					case err == nil:
						acked.Add(1)
					case mqerr.OutcomeUnknown(err):
						unknown.Add(1)
					case errors.Is(err, mqerr.ErrLeaderNotAvailable), errors.Is(err, mqerr.ErrBusy):
						refused.Add(1)
					default:
						t.Errorf("a request was answered %v", err)
					}
					opens.Done()
				})
				started.Add(1)
			}
		})
	}
	waitFor(t, "thousands to be on their way", func() bool { return started.Load() > 4000 })
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	<-n.closing.Done()
	release()
	senders.Wait()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	opens.Wait() // hangs if one is not answered
	if n.inflight.used.Load() != 0 {
		t.Errorf("%d bytes are counted as on their way", n.inflight.used.Load())
	}
	t.Logf("acknowledged %d, unknown %d, refused %d", acked.Load(), unknown.Load(), refused.Load())
}

func TestAnAnswerMayProduceAgain(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	batch := makeBatch(t, "x")
	done := make(chan struct{})
	left := 200
	var next func(*api.ProduceResponse, error)
	next = func(resp *api.ProduceResponse, err error) {
		if err != nil || resp.Partitions[0].Err != nil || left == 0 {
			close(done)
			return
		}
		left--
		n.Produce(t.Context(), &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
			TopicPartition: api.TopicPartition{Topic: "t"}, Batch: batch,
		}}}, next)
	}
	next(&api.ProduceResponse{Partitions: make([]api.ProduceResult, 1)}, nil)
	select {
	case <-done:
	case <-timeout(t).Done():
		t.Fatal("stuck")
	}
	if left != 0 {
		t.Errorf("%d were left", left)
	}
}

func TestBatchesOfOneCallerKeepTheirOrder(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	var open sync.WaitGroup
	const batches = 2000
	for i := range batches {
		open.Add(1)
		n.Produce(t.Context(), &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
			TopicPartition: api.TopicPartition{Topic: "t"}, Batch: makeBatch(t, fmt.Sprint(i)),
		}}}, func(resp *api.ProduceResponse, err error) {
			if err != nil || resp.Partitions[0].Err != nil || resp.Partitions[0].BaseOffset != int64(i) {
				t.Errorf("batch %d: %+v, %v", i, resp, err)
			}
			open.Done()
		})
	}
	open.Wait()
	for i, v := range readAll(t, n, "t", 0, 0) {
		if v != fmt.Sprint(i) {
			t.Fatalf("offset %d holds %s", i, v)
		}
	}
}

func TestADuplicateGetsTheOffsetOfTheOriginal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var n *Node
	batches := make([][]byte, 40)
	for round := range 3 {
		n = openNode(t, Config{Dir: dir})
		if round == 0 {
			newTopic(t, n, "t", 1, nil)
			mustProduce(t, n, "t", 0, "somebody else's")
			for i := range batches {
				batches[i] = makeBatchFor(t, record.BuildOptions{ProducerID: 5, BaseSequence: int32(2 * i)}, fmt.Sprint(i), "b")
				if res, err := produce(timeout(t), n, "t", 0, batches[i]); err != nil || res.BaseOffset != int64(1+2*i) {
					t.Fatalf("batch %d: %+v, %v", i, res, err)
				}
			}
		}
		for i, b := range batches {
			want := int64(1 + 2*i)
			if i < len(batches)-producerWindow {
				want = -1 // older than is remembered, but there
			}
			if res, err := produce(timeout(t), n, "t", 0, b); err != nil || res.BaseOffset != want {
				t.Errorf("round %d: batch %d again: %+v, %v, want offset %d", round, i, res, err, want)
			}
		}
		gap := makeBatchFor(t, record.BuildOptions{ProducerID: 5, BaseSequence: 82}, "gap")
		if _, err := produce(timeout(t), n, "t", 0, gap); !errors.Is(err, mqerr.ErrOutOfOrderSequence) {
			t.Errorf("round %d: a gap: %v", round, err)
		}
		if got := len(readAll(t, n, "t", 0, 0)); got != 81 {
			t.Errorf("round %d: %d records, want 81", round, got)
		}
		if got := n.Stats().Partitions[0].Duplicates; got != 40 {
			t.Errorf("round %d: %d duplicates are counted", round, got)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n = openNode(t, Config{Dir: dir})
	newer := makeBatchFor(t, record.BuildOptions{ProducerID: 5, ProducerEpoch: 1}, "newer epoch")
	if res, err := produce(timeout(t), n, "t", 0, newer); err != nil || res.BaseOffset != 81 {
		t.Errorf("a new epoch: %+v, %v", res, err)
	}
	if _, err := produce(timeout(t), n, "t", 0, batches[39]); !errors.Is(err, mqerr.ErrProducerFenced) {
		t.Errorf("an old epoch: %v", err)
	}
}

func TestAProposalThatRaftDropsIsAnsweredAsNotAppended(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	f, err := n.find(api.TopicPartition{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	// The replica is stopped below us; nobody tells the proposals.
	if err := n.host.StopReplica(f.rep.id.Shard, f.rep.id.Replica); err != nil {
		t.Fatal(err)
	}
	mustProduceFail(t, n, "t", mqerr.ErrLeaderNotAvailable)
}

func TestAProposalThatIsNotAppliedInTimeHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	release := n.stall(t, "t", 0)
	resp, err := produceAll(t, n, &api.ProduceRequest{Acks: api.AcksAll, Timeout: time.Millisecond, Partitions: []api.ProducePartition{{
		TopicPartition: api.TopicPartition{Topic: "t"}, Batch: makeBatch(t, "x"),
	}}})
	if err != nil || !errors.Is(resp.Partitions[0].Err, mqerr.ErrTimeout) || !mqerr.OutcomeUnknown(resp.Partitions[0].Err) {
		t.Errorf("%+v, %v", resp, err)
	}
	release()
	waitFor(t, "the record to come all the same", func() bool { return len(readAll(t, n, "t", 0, 0)) == 1 })
	mustProduce(t, n, "t", 0, "and on")
}
