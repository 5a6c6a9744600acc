package bench

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A send that blocks for a second, in time that is not the wall's, makes all
// records late that were due meanwhile, not only the one that it held.
func TestStallCountsForEveryRecordDueMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule{start: time.Now(), rate: 100, clients: 1, records: 300}
		var late []time.Duration
		s.each(t.Context(), func(n int64, due time.Time) {
			if n == 100 {
				time.Sleep(time.Second)
			}
			late = append(late, time.Since(due))
		})
		if len(late) != 300 {
			t.Fatalf("%d records", len(late))
		}
		for n, got := range late {
			want := time.Duration(0)
			if n >= 100 && n < 200 { // due before the stall was over
				want = time.Second - time.Duration(n-100)*10*time.Millisecond
			}
			if got != want {
				t.Fatalf("record %d was sent %v late, want %v", n, got, want)
			}
		}
	})
}

// Nothing is waited for that is due when all is over, however far that is.
func TestRateOfLessThanOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule{start: time.Now(), rate: 1e-10, clients: 1, duration: 10 * time.Second}
		sent := 0
		s.each(t.Context(), func(int64, time.Time) { sent++ })
		if waited := time.Since(s.start); sent != 1 || waited != 0 {
			t.Errorf("%d records in %v", sent, waited)
		}
		if due := s.due(1 << 62); !due.After(s.start) {
			t.Errorf("a record far ahead is due at %v", due)
		}
	})
}

func TestClientsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var due []time.Duration
		for client := range 3 {
			s := schedule{start: start, rate: 1000, client: client, clients: 3, duration: 10 * time.Millisecond}
			s.each(t.Context(), func(_ int64, at time.Time) { due = append(due, at.Sub(start)) })
		}
		slices.Sort(due)
		for n, got := range due {
			if want := time.Duration(n) * time.Millisecond; got != want {
				t.Errorf("record %d is due at %v, want %v", n, got, want)
			}
		}
		if len(due) != 10 {
			t.Errorf("%d records are due in 10 ms", len(due))
		}
	})
}

func TestScheduleEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		schedule{start: time.Now(), rate: 0.4, clients: 1, records: 9}.each(ctx, func(int64, time.Time) { n++ })
		if n != 1 {
			t.Errorf("%d records, the second is due after the end", n)
		}
	})
}

func TestSharesAddUp(t *testing.T) {
	for _, n := range []int64{0, 1, 7, 100} {
		for clients := 1; clients < 12; clients++ {
			sum := int64(0)
			for c := range clients {
				sum += share(n, c, clients)
			}
			if sum != n {
				t.Errorf("%d records over %d clients are %d", n, clients, sum)
			}
		}
	}
}

func TestTallyTellsTheFirstFailure(t *testing.T) {
	first := errors.New("first")
	a, b := &tally{}, &tally{}
	now := time.Now()
	a.settle(now, nil)
	b.settle(now, first)
	b.settle(now, errors.New("second"))
	b.settle(now, nil)
	r := total(now, []*tally{a, b})
	if r.Records != 2 || r.Failed != 2 || !errors.Is(r.Err, first) {
		t.Errorf("%+v", r)
	}
}

func TestLatencyIsThatOfThePart(t *testing.T) {
	var even, odd histogram
	for i := 1; i <= 1000; i++ {
		h := &even
		if i%2 == 1 {
			h = &odd
		}
		h.add(time.Duration(i) * time.Millisecond)
	}
	even.merge(&odd)
	even.merge(&histogram{})
	l := even.latency()
	for got, want := range map[time.Duration]time.Duration{
		l.P50: 500 * time.Millisecond, l.P90: 900 * time.Millisecond, l.P99: 990 * time.Millisecond,
		l.P999: 999 * time.Millisecond, l.Max: time.Second,
	} {
		if diff := (got - want).Abs(); diff > want/500 {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	even.add(100 * time.Hour) // longer than it counts
	even.add(-time.Second)
	if got := even.latency().Max; got < 59*time.Minute {
		t.Errorf("the longest is %v", got)
	}
	if (&histogram{}).latency() != (Latency{}) {
		t.Error("an empty histogram has latencies")
	}
}

func TestPayloadIsLongEnoughAnywhere(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 1 << 20} {
		p := newPayload(size)
		for _, n := range []int64{0, 1, 1023, 1 << 40} {
			if v := p.at(n, size); len(v) != size || cap(v) != size {
				t.Errorf("record %d of %d bytes has %d", n, size, len(v))
			}
		}
	}
}
