package mq_test

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// noise makes a value that no codec and no file system makes smaller.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return b
}

func TestFullMemoryRefusesUntilSpaceIsFreed(t *testing.T) {
	eachDoor(t, inMemory, func(t *testing.T, d door) {
		const maxMemory = 16 << 20
		s := d.open(t, mq.BrokerConfig{MaxMemory: maxMemory})
		name := s.topic(t, 1)
		p := s.producer(t, mq.ProducerConfig{Topic: name, DeliveryTimeout: 300 * time.Millisecond})
		stored := 0
		for s.broker.Stats().Fenced == nil && stored < 4*maxMemory {
			r := &mq.Record{Value: noise(100 << 10)}
			if err := p.Send(soon(t), r); err == nil {
				stored += len(r.Value)
			} else if !mq.Retriable(err) && !mq.OutcomeUnknown(err) { // the latter of a slow machine
				t.Fatal(err)
			}
		}
		if stored < maxMemory/4 || stored > maxMemory {
			t.Errorf("%d bytes fit into a MaxMemory of %d", stored, maxMemory)
		}
		wantError(t, s.broker.Stats().Fenced, mq.ErrBusy)
		eventually(t, "a record is refused for lack of memory", func() bool {
			return errors.Is(p.Send(soon(t), &mq.Record{}), mq.ErrBusy) // else it came too late to be refused
		})
		take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), stored/(100<<10)) // it serves

		if _, err := s.admin().TrimTopic(soon(t), name, mq.StartLatest); err != nil {
			t.Fatal(err)
		}
		patient := s.producer(t, mq.ProducerConfig{Topic: name})
		if err := patient.Send(soon(t), &mq.Record{Value: noise(100 << 10)}); err != nil {
			t.Errorf("after a trim: %v", err)
		}
	})
}

// Retention keeps a topic inside of a small memory, whatever is sent to it.
func TestRetentionKeepsMemoryFree(t *testing.T) {
	eachDoor(t, inMemory, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{MaxMemory: 16 << 20, RetentionInterval: 50 * time.Millisecond})
		name := s.topic(t, 1, mq.ConfigRetentionBytes+"=2000000")
		p := s.producer(t, mq.ProducerConfig{Topic: name})
		for range 250 { // 25 MB
			p.SendAsync(soon(t), &mq.Record{Value: noise(100 << 10)}, func(_ *mq.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := p.Flush(soon(t)); err != nil {
			t.Error(err)
		}
	})
}

// heap is what the program holds, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Who sends more than the broker can take, and who does not read what is sent,
// must not make memory grow beyond the sum of the limits:
//
//	records at rest        MaxMemory of a broker in memory, its raft log included
//	records on their way   MaxInFlightBytes, and as much at the transport
//	raft's recent past     32 MiB of its log on disk; up to 512 batches of each busy
//	                       partition, which here is as much and mostly the same
//	records to be sent     MaxBufferedBytes of the producer
//	records to be read     MaxBufferedBytes of the consumer
//	the store              on disk a cache of 32 MiB and tables of 64 MiB, in memory 28,
//	                       where they are on the heap at all
//	and the rest           32 MiB for connections and buffers
//
// Not parallel: it looks at the memory of the process.
func TestOverloadStaysInsideTheMemoryBudget(t *testing.T) {
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			const (
				maxMemory  = 64 << 20
				inFlight   = 4 << 20
				partitions = 2
				batch      = 32 << 10
				raft       = partitions * 512 * batch
				sending    = 8 << 20
				reading    = 4 << 20
				rest       = 32 << 20
			)
			budget := int64(2*inFlight + raft + sending + reading + rest)
			store := int64(96 << 20)
			if !d.disk {
				budget += maxMemory
				store = 28 << 20
			}
			if engineOnHeap {
				budget += store
			}
			before := heap()
			s := d.open(t, mq.BrokerConfig{MaxMemory: maxMemory, MaxInFlightBytes: inFlight})
			name := s.topic(t, partitions)
			p := s.producer(t, mq.ProducerConfig{
				Topic: name, BatchBytes: batch, MaxBufferedBytes: sending, Partitioner: mq.RoundRobin(), DeliveryTimeout: -1, CloseTimeout: time.Millisecond,
			})
			c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, MaxBufferedBytes: reading})
			ctx, stop := context.WithCancel(soon(t))
			defer stop()
			var wg sync.WaitGroup
			stalled := make(chan struct{})
			wg.Go(func() {
				_ = c.Run(ctx, mq.HandlerFunc(func(ctx context.Context, _ *mq.Record) error {
					close(stalled)
					<-ctx.Done()
					return ctx.Err()
				}))
			})
			var sent atomic.Int64
			value := noise(10 << 10)
			for range 2 {
				wg.Go(func() {
					for ctx.Err() == nil {
						p.SendAsync(ctx, &mq.Record{Value: value}, func(_ *mq.Record, err error) {
							if err == nil {
								sent.Add(int64(len(value)))
							}
						})
					}
				})
			}
			<-stalled
			var most int64
			look := time.NewTicker(100 * time.Millisecond) // for it stops the world
			defer look.Stop()
			for full := false; !full; {
				<-look.C
				most = max(most, heap()-before)
				full = sent.Load() > 96<<20 || s.broker.Stats().Fenced != nil
				if ctx.Err() != nil {
					t.Fatalf("only %d bytes were stored", sent.Load())
				}
			}
			stop()
			wg.Wait()
			t.Logf("%d MiB were stored while at most %d MiB were held", sent.Load()>>20, most>>20)
			if most > budget {
				t.Errorf("%d MiB are held, the limits allow %d", most>>20, budget>>20)
			}
		})
	}
}
