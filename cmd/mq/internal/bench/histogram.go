package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram counts durations from a microsecond to an hour with three digits.
// The zero value is empty.
type histogram struct {
	hdr *hdrhistogram.Histogram // in microseconds
}

const longest = int64(time.Hour / time.Microsecond)

func (h *histogram) add(d time.Duration) {
	if h.hdr == nil {
		h.hdr = hdrhistogram.New(1, longest, 3)
	}
	_ = h.hdr.RecordValue(min(max(d.Microseconds(), 0), longest)) // which is in range
}

func (h *histogram) merge(other *histogram) {
	if other.hdr == nil {
		return
	}
	if h.hdr == nil {
		h.hdr = hdrhistogram.New(1, longest, 3)
	}
	h.hdr.Merge(other.hdr)
}

func (h *histogram) latency() Latency {
	if h.hdr == nil {
		return Latency{}
	}
	at := func(quantile float64) time.Duration {
		return time.Duration(h.hdr.ValueAtQuantile(quantile)) * time.Microsecond
	}
	return Latency{
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: time.Duration(h.hdr.Max()) * time.Microsecond,
	}
}
