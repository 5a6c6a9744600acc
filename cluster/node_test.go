package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/record"
)

// openNode opens a node that the test closes.
func openNode(tb testing.TB, cfg Config) *Node {
	tb.Helper()
	n, err := Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return n
}

func newTopic(tb testing.TB, n *Node, name string, partitions int32, configs map[string]string) {
	tb.Helper()
	_, err := n.CreateTopic(tb.Context(), &api.CreateTopicRequest{Name: name, Partitions: partitions, Configs: configs})
	if err != nil {
		tb.Fatalf("create topic %s: %v", name, err)
	}
}

// makeBatch builds a batch without a producer id.
func makeBatch(tb testing.TB, values ...string) []byte {
	tb.Helper()
	return makeBatchFor(tb, record.BuildOptions{ProducerID: -1, BaseSequence: -1, ProducerEpoch: -1}, values...)
}

func makeBatchFor(tb testing.TB, opts record.BuildOptions, values ...string) []byte {
	tb.Helper()
	out, err := buildBatch(opts, values)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// makeBatchOf is makeBatch for code without a test at hand.
func makeBatchOf(values []string) []byte {
	out, _ := buildBatch(record.BuildOptions{ProducerID: -1, BaseSequence: -1, ProducerEpoch: -1}, values)
	return out
}

func buildBatch(opts record.BuildOptions, values []string) ([]byte, error) {
	var b record.Builder
	for i, v := range values {
		b.Append(nil, []byte(v), nil, int64(1000+i))
	}
	return b.Build(nil, opts)
}

// produce sends one batch and waits for the answer.
func produce(ctx context.Context, n api.Broker, topic string, partition int32, batch []byte) (api.ProduceResult, error) {
	type answer struct {
		resp *api.ProduceResponse
		err  error
	}
	got := make(chan answer, 1)
	n.Produce(ctx, &api.ProduceRequest{Acks: api.AcksAll, Partitions: []api.ProducePartition{{
		TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Batch: batch,
	}}}, func(resp *api.ProduceResponse, err error) { got <- answer{resp, err} })
	select {
	case a := <-got:
		if a.err != nil {
			return api.ProduceResult{}, a.err
		}
		return a.resp.Partitions[0], a.resp.Partitions[0].Err
	case <-ctx.Done():
		return api.ProduceResult{}, errors.New("no answer to a produce request")
	}
}

func mustProduce(tb testing.TB, n api.Broker, topic string, partition int32, values ...string) int64 {
	tb.Helper()
	res, err := produce(timeout(tb), n, topic, partition, makeBatch(tb, values...))
	if err != nil {
		tb.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
	return res.BaseOffset
}

// readAll returns the values of a partition from offset to its end.
func readAll(tb testing.TB, n api.Broker, topic string, partition int32, offset int64) []string {
	tb.Helper()
	var values []string
	for {
		resp, err := n.Fetch(tb.Context(), &api.FetchRequest{Partitions: []api.FetchPartition{{
			TopicPartition: api.TopicPartition{Topic: topic, Partition: partition}, Offset: offset, LeaderEpoch: api.NoEpoch,
		}}})
		if err != nil {
			tb.Fatal(err)
		}
		p := resp.Partitions[0]
		if p.Err != nil {
			tb.Fatalf("fetch %s/%d at %d: %v", topic, partition, offset, p.Err)
		}
		if len(p.Batches) == 0 {
			return values
		}
		for rest := p.Batches; len(rest) > 0; {
			batch, tail, err := record.Next(rest)
			if err != nil {
				tb.Fatal(err)
			}
			for rec, err := range record.Records(batch, record.ReadOptions{}) {
				if err != nil {
					tb.Fatal(err)
				}
				if rec.Offset < offset {
					continue
				}
				if rec.Offset != offset {
					tb.Fatalf("%s/%d: offset %d follows %d", topic, partition, rec.Offset, offset-1)
				}
				values = append(values, string(rec.Value))
				offset++
			}
			rest = tail
		}
	}
}

func TestRecordsComeBackInOrder(t *testing.T) {
	n := openNode(t, Config{})
	newTopic(t, n, "orders", 2, nil)
	for i := range 10 {
		if got, want := mustProduce(t, n, "orders", 1, fmt.Sprint("a", i), fmt.Sprint("b", i)), int64(2*i); got != want {
			t.Fatalf("base offset %d, want %d", got, want)
		}
	}
	got := readAll(t, n, "orders", 1, 0)
	if len(got) != 20 || got[0] != "a0" || got[19] != "b9" {
		t.Fatalf("read %q", got)
	}
	if got := readAll(t, n, "orders", 0, 0); len(got) != 0 {
		t.Fatalf("the other partition has %q", got)
	}
}

func TestRecordsSurviveCloseAndReopen(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for round := range 3 {
		n, err := Open(t.Context(), Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			newTopic(t, n, "orders", 1, nil)
		}
		v := fmt.Sprint("round", round)
		mustProduce(t, n, "orders", 0, v)
		want = append(want, v)
		if got := readAll(t, n, "orders", 0, 0); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d read %q, want %q", round, got, want)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
