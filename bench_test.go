package mq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// Through every door, with records of 100 bytes and 1 KiB. Brokers on disk sync
// every batch to it. One producer, one consumer, one partition.

var benchSizes = []int{100, 1 << 10}

// benchDoors runs a benchmark for each door and size with a broker of its own,
// whose topic keeps little, so that it runs for as long as is asked.
func benchDoors(b *testing.B, run func(b *testing.B, s *site, topic string, size int)) {
	for _, d := range doors {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/size=%d", d.name, size), func(b *testing.B) {
				s := d.open(b, mq.BrokerConfig{})
				topic := "bench"
				spec := mq.TopicSpec{Name: topic, Configs: map[string]string{mq.ConfigRetentionBytes: fmt.Sprint(64 << 20)}}
				if _, err := s.admin().CreateTopic(soon(b), spec); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				run(b, s, topic, size)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkProduce sends records asynchronously, as fast as they are
// acknowledged.
func BenchmarkProduce(b *testing.B) {
	benchDoors(b, func(b *testing.B, s *site, topic string, size int) {
		// What is still on its way when the clock stops should not count for much.
		p := s.producer(b, mq.ProducerConfig{Topic: topic, MaxBufferedRecords: 20_000, MaxBufferedBytes: 8 << 20})
		value := noise(size)
		ctx := b.Context()
		failed := func(_ *mq.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		}
		for b.Loop() {
			p.SendAsync(ctx, &mq.Record{Value: value}, failed)
		}
		if err := p.Flush(soon(b)); err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkSend sends records one after the other and waits for each.
func BenchmarkSend(b *testing.B) {
	benchDoors(b, func(b *testing.B, s *site, topic string, size int) {
		p := s.producer(b, mq.ProducerConfig{Topic: topic})
		value := noise(size)
		ctx := b.Context()
		for b.Loop() {
			if err := p.Send(ctx, &mq.Record{Value: value}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFetch reads 32 MiB again and again, by Poll.
func BenchmarkFetch(b *testing.B) {
	benchDoors(b, func(b *testing.B, s *site, topic string, size int) {
		p := s.producer(b, mq.ProducerConfig{Topic: topic})
		value := noise(size)
		ctx := b.Context()
		stored := (32 << 20) / size
		for range stored {
			p.SendAsync(ctx, &mq.Record{Value: value}, nil)
		}
		if err := p.Flush(soon(b)); err != nil {
			b.Fatal(err)
		}
		c := s.consumer(b, mq.ConsumerConfig{Topics: []string{topic}})
		var have, read int
		for b.Loop() {
			if have == 0 {
				if read == stored {
					read = 0
					if err := c.Seek(ctx, mq.StartEarliest); err != nil {
						b.Fatal(err)
					}
				}
				rs, err := c.Poll(ctx, 10_000)
				if err != nil {
					b.Fatal(err)
				}
				have = len(rs)
				read += have
			}
			have--
		}
	})
}

// BenchmarkOpenToFirstAck opens a broker, sends a record to a topic that is made
// for it, and closes everything; only until the acknowledgement is timed.
func BenchmarkOpenToFirstAck(b *testing.B) {
	for _, d := range doors {
		b.Run(d.name, func(b *testing.B) {
			var took time.Duration
			for b.Loop() {
				dir := ""
				if d.disk {
					dir = b.TempDir()
				}
				began := time.Now()
				broker, err := mq.OpenBroker(b.Context(), mq.BrokerConfig{DataDir: dir, MinFreeBytes: -1, Listen: listenOf(d)})
				if err != nil {
					b.Fatal(err)
				}
				var e mq.Endpoint = broker
				if d.remote {
					if e, err = mq.Dial(b.Context(), mq.ClientConfig{Brokers: []string{broker.Addr()}}); err != nil {
						b.Fatal(err)
					}
				}
				p, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "t"})
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Send(b.Context(), &mq.Record{Value: []byte("v")}); err != nil {
					b.Fatal(err)
				}
				took += time.Since(began)
				p.Close()
				if c, ok := e.(*mq.Client); ok {
					c.Close()
				}
				broker.Close()
			}
			b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "ms/first-ack")
		})
	}
}

func listenOf(d door) string {
	if d.remote {
		return "127.0.0.1:0"
	}
	return ""
}
