package bench

import (
	"context"
	"sync"
	"time"

	"github.com/raftmq/mq"
)

// schedule tells when the records of one client are due.
type schedule struct {
	start    time.Time
	rate     float64 // of all clients; 0: whenever the client gets to it
	client   int
	clients  int
	records  int64         // of this client; 0: until duration is over
	duration time.Duration // from start
}

// each calls send for each record when it is due, or at once if that is over,
// with when it was due, until the schedule or ctx ends.
func (s schedule) each(ctx context.Context, send func(n int64, due time.Time)) {
	for n := int64(0); (s.records == 0 || n < s.records) && ctx.Err() == nil; n++ {
		due := time.Now()
		if s.rate > 0 {
			due = s.due(n)
		}
		if s.records == 0 && due.Sub(s.start) >= s.duration {
			return
		}
		if s.rate > 0 && !sleepUntil(ctx, due) {
			return
		}
		send(n, due)
	}
}

// farAhead is later than any run is long, and a time.Duration.
const farAhead = float64(100 * 365 * 24 * time.Hour)

// due tells when the n-th record is. Clients take turns.
func (s schedule) due(n int64) time.Time {
	turn := float64(n)*float64(s.clients) + float64(s.client)
	after := turn / s.rate * float64(time.Second)
	return s.start.Add(time.Duration(min(after, farAhead)))
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// share is a client's part of n.
func share(n int64, client, clients int) int64 {
	part := n / int64(clients)
	if int64(client) < n%int64(clients) {
		part++
	}
	return part
}

// tally counts what became of one client's records.
type tally struct {
	mu           sync.Mutex // a record may be settled where it is sent, too
	done, failed int64
	last         time.Time // when the last one was done
	err          error     // the first failure
	took         histogram
}

// settle counts a record that was due at some time.
func (t *tally) settle(due time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed++
		if t.err == nil {
			t.err = err
		}
		return
	}
	t.done++
	t.last = time.Now()
	t.took.add(t.last.Sub(due))
}

// total sums up tallies.
func total(start time.Time, tallies []*tally) Result {
	var r Result
	var took histogram
	for _, t := range tallies {
		r.Records += t.done
		r.Failed += t.failed
		r.Elapsed = max(r.Elapsed, t.last.Sub(start))
		if r.Err == nil {
			r.Err = t.err
		}
		took.merge(&t.took)
	}
	r.Latency = took.latency()
	return r
}

// produce sends records until the schedule ends, and waits for their
// acknowledgements. stamp, if set, gets each value's own copy.
func (r *run) produce(ctx context.Context, rate float64, stamp func(value []byte, due time.Time)) (Result, error) {
	producers := make([]*mq.Producer, r.Clients)
	for i := range producers {
		p, err := mq.NewProducer(r.endpoints[i], mq.ProducerConfig{
			Topic: r.topic, Acks: r.Acks, Compression: r.Compression,
			MaxBufferedRecords: max(buffered/r.Clients, 100),
			MaxBufferedBytes:   max(bufferedBytes/r.Clients, 2*r.Size+1024),
			DeliveryTimeout:    patience,
			CloseTimeout:       time.Second, // after Flush there is nothing left
		})
		if err != nil {
			return Result{}, err
		}
		defer func() { _ = p.Close() }()
		producers[i] = p
	}
	tallies := make([]*tally, r.Clients)
	start := time.Now()
	var clients sync.WaitGroup
	for i, p := range producers {
		t := &tally{}
		tallies[i] = t
		s := schedule{
			start: start, rate: rate, client: i, clients: r.Clients,
			records: share(r.Records, i, r.Clients), duration: r.Duration,
		}
		if r.Records > 0 && s.records == 0 {
			continue // more clients than records
		}
		clients.Go(func() { // ends with the schedule
			s.each(ctx, func(n int64, due time.Time) {
				value := r.payload.at(n, r.Size)
				if stamp != nil {
					value = append(make([]byte, 0, len(value)), value...)
					stamp(value, due)
				}
				p.SendAsync(ctx, &mq.Record{Value: value}, func(_ *mq.Record, err error) {
					if err == nil || ctx.Err() == nil {
						t.settle(due, err)
					}
				})
			})
			_ = p.Flush(ctx) // the tally knows
			_ = p.Close()    // no callback runs after it
		})
	}
	clients.Wait()
	result := total(start, tallies)
	if result.Records == 0 && result.Err != nil {
		return result, result.Err
	}
	return result, nil
}
