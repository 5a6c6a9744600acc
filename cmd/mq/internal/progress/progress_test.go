package progress_test

import (
	"testing"
	"time"

	"github.com/raftmq/mq/cmd/mq/internal/progress"
)

func TestLineTellsTheRateOfTheLastSeconds(t *testing.T) {
	t.Parallel()
	var m progress.Meter
	if got := m.Line(80); got != "" {
		t.Errorf("without samples: %q", got)
	}
	began := time.Unix(1000, 0)
	m.Add(progress.Sample{At: began})
	if got := m.Line(80); got != "0 records  0 B" {
		t.Errorf("at the start: %q", got)
	}
	for second := 1; second <= 20; second++ { // 1,000/s for ten seconds, then 3,000/s
		n := int64(second * 1000)
		if second > 10 {
			n = int64(10_000 + (second-10)*3000)
		}
		m.Add(progress.Sample{At: began.Add(time.Duration(second) * time.Second), Records: n, Bytes: n * 100, Part: float64(n) / 100_000})
	}
	for columns, want := range map[int]string{
		80: "40,000 records  3,000/s  40%  ETA 20s  4.0 MB",
		45: "40,000 records  3,000/s  40%  ETA 20s  4.0 MB",
		44: "40,000 records  3,000/s  40%  ETA 20s",
		30: "40,000 records  3,000/s  40%",
		14: "40,000 records",
		13: "",
		-1: "",
	} {
		if got := m.Line(columns); got != want {
			t.Errorf("%d columns: got %q, want %q", columns, got, want)
		}
	}
}

func TestNothingIsForetoldOfWhatStandsStillOrHasNoEnd(t *testing.T) {
	t.Parallel()
	var m progress.Meter
	for second := range 10 {
		m.Add(progress.Sample{At: time.Unix(int64(second), 0), Records: 500, Bytes: 1, Part: 0.5})
	}
	if got := m.Line(80); got != "500 records  0/s  50%  1 B" {
		t.Errorf("standing still: %q", got)
	}
	m = progress.Meter{}
	m.Add(progress.Sample{At: time.Unix(0, 0)})
	m.Add(progress.Sample{At: time.Unix(1, 0), Records: 500, Bytes: 1500})
	if got := m.Line(80); got != "500 records  500/s  1.5 kB" {
		t.Errorf("without an end: %q", got)
	}
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := progress.Count(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 records", 1: "1 record", 2000: "2,000 records"} {
		if got := progress.Records(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 12_345_678: "12.3 MB", 1 << 62: "4611.7 PB"} {
		if got := progress.Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
