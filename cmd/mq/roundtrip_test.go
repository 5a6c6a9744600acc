package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// copies are the pairs of flags of consume and produce that lose nothing.
var copies = map[string][2][]string{
	"json": {{"-f", "json"}, {"--input", "json"}},
	"format": {
		{"-f", `%p %d %K %V %H %k%v%h{%K %V %k%v}\n`},
		{"-f", `%p %d %K %V %H %k%v%h{%K %V %k%v}\n`},
	},
}

// What consume prints in a form that loses nothing, produce makes the same
// records of: binary keys and values, null and empty ones, headers that repeat,
// times and partitions.
func TestCopyThroughAPipeIsEqual(t *testing.T) {
	t.Parallel()
	const partitions = 3
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	client, err := mq.Dial(t.Context(), mq.ClientConfig{Brokers: []string{broker.addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	create := func(topic string) {
		if _, err := mq.NewAdmin(client).CreateTopic(t.Context(), mq.TopicSpec{Name: topic, Partitions: partitions}); err != nil {
			t.Fatal(err)
		}
	}
	create("original")
	producer, err := mq.NewProducer(client, mq.ProducerConfig{Topic: "original", Partitioner: ownPartition{}})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		producer.SendAsync(t.Context(), oddRecord(rnd, int32(i%partitions)), nil)
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	original := readTopic(t, client, "original", partitions, n)
	for name, flags := range copies {
		t.Run(name, func(t *testing.T) {
			topic := "copy-" + name
			create(topic)
			began := time.Now()
			consume := exec.CommandContext(t.Context(), "mq", append([]string{"consume", "original", "-o", ":end", "--broker", broker.addr}, flags[0]...)...)
			produce := exec.CommandContext(t.Context(), "mq", append([]string{"produce", topic, "--broker", broker.addr}, flags[1]...)...)
			var said bytes.Buffer
			produce.Stderr = &said
			if produce.Stdin, err = consume.StdoutPipe(); err != nil {
				t.Fatal(err)
			}
			if err := consume.Start(); err != nil {
				t.Fatal(err)
			}
			if err := produce.Run(); err != nil {
				t.Fatalf("produce: %v: %s", err, &said)
			}
			if err := consume.Wait(); err != nil {
				t.Fatalf("consume: %v", err)
			}
			t.Logf("%d records in %v; %s", n, time.Since(began), &said)
			copied := readTopic(t, client, topic, partitions, n)
			for p, want := range original {
				got := copied[p]
				if len(got) != len(want) {
					t.Fatalf("partition %d: %d records, want %d", p, len(got), len(want))
				}
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("partition %d, record %d:\ngot  %.300s\nwant %.300s", p, i, got[i], want[i])
					}
				}
			}
		})
	}
}

// oddRecord has bytes of every kind in every place.
func oddRecord(rnd *rand.Rand, partition int32) *mq.Record {
	odd := func(most int) []byte {
		switch rnd.IntN(5) {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return []byte("text \"é\"\t\n"[:rnd.IntN(12)])
		}
		b := make([]byte, rnd.IntN(most))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	r := &mq.Record{Partition: partition, Key: odd(20), Value: odd(150), Timestamp: time.UnixMilli(rnd.Int64N(1 << 42))}
	for range rnd.IntN(4) {
		r.Headers = append(r.Headers, mq.Header{Key: string(odd(8)), Value: odd(16)})
	}
	return r
}

// readTopic returns all that is in n records, by partition, in their order.
func readTopic(t *testing.T, e mq.Endpoint, topic string, partitions, n int) [][]string {
	t.Helper()
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	all := make([][]string, partitions)
	for got := 0; got < n; {
		records, err := consumer.Poll(t.Context(), pollRecords)
		if err != nil {
			t.Fatal(err)
		}
		got += len(records)
		for _, r := range records {
			all[r.Partition] = append(all[r.Partition], fmt.Sprintf("%d %#v %#v %#v", r.Timestamp.UnixMilli(), r.Key, r.Value, r.Headers))
		}
	}
	return all
}
