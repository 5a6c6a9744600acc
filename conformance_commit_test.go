package mq_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// A consumer begins where the group's last commit was: not before what was
// stored for certain, and not behind what was at least tried, so that nothing
// finished is forgotten and nothing unfinished skipped. Here the network and the
// broker come and go, and commits get little time.
func TestCommitsAreTrue(t *testing.T) {
	eachDoor(t, overGRPC, func(t *testing.T, d door) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 3))
		proxy := newProxy(t)
		s := proxy.openBehind(t, d)
		name := s.topic(t, 1)
		const records = 300
		p := newProducer(t, s.broker, mq.ProducerConfig{Topic: name, BatchSize: 7})
		for range records {
			p.SendAsync(t.Context(), &mq.Record{Value: []byte("v")}, nil)
		}
		if err := p.Flush(soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}

		var stored, tried int64 // offsets
		var uncertain int
		for life := 0; tried < records; life++ {
			c := newConsumer(t, s.client, mq.ConsumerConfig{
				Topics: []string{name}, Partitions: []int32{0}, GroupID: name, AutoCommitInterval: -1, MaxBytes: 2000, CloseTimeout: time.Second,
			})
			next := take(t, c, 1)[0].Offset
			if next < stored || next > tried {
				t.Fatalf("life %d begins at %d, stored was %d, tried %d", life, next, stored, tried)
			}
			next++
			for range 1 + random.IntN(5) {
				for _, r := range take(t, c, min(random.IntN(8), int(records-next))) {
					if r.Offset != next {
						t.Fatalf("life %d: %d came, want %d", life, r.Offset, next)
					}
					next++
				}
				switch random.IntN(12) {
				case 0:
					proxy.cutAtRandom(random, 1)
				case 1:
					s.restartIfDurable(t)
					proxy.forward(s.broker.Addr())
				}
			}
			switch random.IntN(4) {
			case 0: // it dies
			case 1: // in a hurry, and not everything
				proxy.cutAtRandom(random, 1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(4000))*time.Microsecond)
				err := c.Commit(ctx, &mq.Record{Topic: name, Offset: next - 1, LeaderEpoch: -1})
				cancel()
				tried = max(tried, next)
				if err == nil {
					stored = next
				} else {
					uncertain++
				}
			default:
				if err := c.Commit(soon(t), &mq.Record{Topic: name, Offset: next - 1, LeaderEpoch: -1}); err != nil {
					t.Fatal(err)
				}
				stored, tried = next, next
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d commits of unknown outcome", uncertain)
	})
}
