package mq_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// outcome is what a producer said of a record.
type outcome struct {
	told   bool
	offset int64 // of one that was acknowledged
	err    error
}

// What a producer says about a record is true, whatever happens: acknowledged
// ones are stored once, where it said; those of unknown outcome once or not at
// all; all others never. And what is stored is in the order of the calls. Here
// the network comes and goes, deadlines are so short that many records miss
// them, and contexts end at any time.
func TestOutcomesAreTrue(t *testing.T) {
	eachDoor(t, overGRPC, func(t *testing.T, d door) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 2))
		proxy := newProxy(t)
		s := proxy.openBehind(t, d)
		name := s.topic(t, 1)

		const producers, each = 3, 600
		var mu sync.Mutex
		said := make([][]outcome, producers)
		var open []*mq.Producer
		for id := range producers {
			said[id] = make([]outcome, each)
			open = append(open, s.producer(t, mq.ProducerConfig{
				Topic: name, DeliveryTimeout: 100 * time.Millisecond, Linger: -1, BatchSize: 1 + 3*id, MaxInFlight: []int{1, 5, 32}[id],
			}))
		}
		var told sync.WaitGroup
		for i := range each {
			switch random.IntN(40) {
			case 0:
				proxy.mute()
			case 1:
				proxy.forward(s.broker.Addr())
				proxy.cutAll()
			case 2:
				proxy.cutAtRandom(random, 2)
			case 3:
				s.restartIfDurable(t)
				proxy.forward(s.broker.Addr())
			case 4, 5, 6:
				// Let the producers get somewhere, or run into their deadlines.
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(150))*time.Millisecond)
				_ = open[0].Flush(ctx)
				cancel()
			}
			for id, p := range open {
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(5) == 0 {
					time.AfterFunc(time.Duration(random.IntN(20))*time.Millisecond, cancel)
				}
				told.Add(1)
				p.SendAsync(ctx, &mq.Record{Key: []byte{byte(id)}, Value: []byte(strconv.Itoa(i))}, func(r *mq.Record, err error) {
					defer told.Done()
					defer cancel()
					mu.Lock()
					defer mu.Unlock()
					if said[id][i].told {
						t.Errorf("the outcome of %d of producer %d is told twice", i, id)
					}
					said[id][i] = outcome{told: true, offset: r.Offset, err: err}
				})
			}
		}
		proxy.forward(s.broker.Addr())
		proxy.cutAll()
		told.Wait()
		// What is still on its way comes before this.
		for id, p := range open {
			eventually(t, "the producer gets through again", func() bool {
				return p.Send(soon(t), &mq.Record{Key: []byte{byte(id)}, Value: []byte("end")}) == nil
			})
		}

		stored := make([]map[int]int64, producers) // offsets by number
		last := make([]int, producers)
		for id := range stored {
			stored[id], last[id] = map[int]int64{}, -1
		}
		direct := newConsumer(t, s.broker, mq.ConsumerConfig{Topics: []string{name}})
		for ends := 0; ends < producers; {
			r := take(t, direct, 1)[0]
			id := int(r.Key[0])
			if string(r.Value) == "end" {
				ends++
				continue
			}
			i, err := strconv.Atoi(string(r.Value))
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := stored[id][i]; twice {
				t.Errorf("producer %d: %d is stored twice", id, i)
			}
			if i < last[id] {
				t.Errorf("producer %d: %d comes behind %d", id, i, last[id])
			}
			stored[id][i], last[id] = r.Offset, i
		}
		counts := map[string]int{}
		for id := range said {
			for i, o := range said[id] {
				at, is := stored[id][i]
				switch {
				case !o.told:
					t.Errorf("producer %d: the outcome of %d is not told", id, i)
				case o.err == nil:
					counts["acknowledged"]++
					if !is || at != o.offset && o.offset != -1 {
						t.Errorf("producer %d: %d was acknowledged at %d, and is at %d (%v)", id, i, o.offset, at, is)
					}
				case mq.OutcomeUnknown(o.err):
					counts["unknown"]++
				default:
					counts["failed"]++
					if is {
						t.Errorf("producer %d: %d failed with %v, and is at %d", id, i, o.err, at)
					}
				}
			}
		}
		t.Log(counts)
	})
}

// restartIfDurable restarts a broker that has its records afterwards. Its
// address changes, so whoever is in front of it has to be told.
func (s *site) restartIfDurable(t *testing.T) {
	t.Helper()
	if s.disk {
		s.restart(t, false)
	}
}
