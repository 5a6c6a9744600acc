package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/raftmq/mq/cmd/mq/internal/bench"
)

// benchReport is what `mq bench` answers: what was measured, and how it went.
type benchReport struct {
	Bench       string  `json:"bench"`
	Broker      string  `json:"broker"`
	Fsync       string  `json:"fsync"`
	Acks        string  `json:"acks"`
	Compression string  `json:"compression"`
	Clients     int     `json:"clients"`
	Partitions  int     `json:"partitions"`
	Size        int     `json:"size"` // bytes of a value
	Rate        float64 `json:"rate"` // wanted, records per second; 0: as fast as possible
	Version     string  `json:"version"`
	Platform    string  `json:"platform"`

	Records          int64        `json:"records"`
	Failed           int64        `json:"failed"`
	Missing          int64        `json:"missing"` // acknowledged and not received
	Seconds          float64      `json:"seconds"`
	RecordsPerSecond float64      `json:"records_per_second"`
	MiBPerSecond     float64      `json:"mib_per_second"` // of values
	LatencyOf        string       `json:"latency_of"`
	Latency          benchLatency `json:"latency_ms"`

	firstFailure error
	latency      bench.Latency
	elapsed      time.Duration
	closers      []func() error
}

type benchLatency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// take adds what was measured.
func (r *benchReport) take(result bench.Result) {
	r.Records, r.Failed, r.Missing = result.Records, result.Failed, result.Missing
	r.elapsed, r.latency, r.firstFailure = result.Elapsed, result.Latency, result.Err
	if s := r.elapsed.Seconds(); s > 0 {
		perSecond := float64(r.Records) / s
		r.Seconds, r.RecordsPerSecond = digits(s), digits(perSecond)
		r.MiBPerSecond = digits(perSecond * float64(r.Size) / (1 << 20))
	}
	from, to, after := "was due", "was acknowledged", ""
	if r.Rate == 0 {
		from, after = "was handed over", ", most of it behind those before"
	}
	if r.Bench == string(bench.EndToEnd) {
		to = "was received"
	}
	r.LatencyOf = "from when a record " + from + " until it " + to + after
	if r.Bench == string(bench.Consume) {
		r.LatencyOf = "of one Poll, which returns up to 1000 records"
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	l := r.latency
	r.Latency = benchLatency{P50: ms(l.P50), P90: ms(l.P90), P99: ms(l.P99), P999: ms(l.P999), Max: ms(l.Max)}
}

// digits rounds to three digits behind the point.
func digits(f float64) float64 { return math.Round(f*1000) / 1000 }

// table tells it to a person.
func (r *benchReport) table(t *table) {
	pace := "as fast as they get through"
	switch {
	case r.Bench == string(bench.Consume):
		pace = "that are there already"
	case r.Rate > 0:
		pace = strconv.FormatFloat(r.Rate, 'f', -1, 64) + " per second"
	}
	t.row("measured", fmt.Sprintf("%s: records of %s, %s", r.Bench, count(r.Size, "byte"), pace))
	t.row("broker", r.Broker)
	t.row("fsync", r.Fsync)
	t.row("settings", fmt.Sprintf("acks %s, compression %s, clients %d, partitions %d", r.Acks, r.Compression, r.Clients, r.Partitions))
	t.row("machine", fmt.Sprintf("%s, mq %s", r.Platform, r.Version))
	t.row("throughput", fmt.Sprintf("%.0f records/s, %.1f MiB/s: %d in %v", r.RecordsPerSecond, r.MiBPerSecond, r.Records, round(r.elapsed)))
	l := r.latency
	t.row("latency", fmt.Sprintf("p50 %v, p90 %v, p99 %v, p99.9 %v, max %v", round(l.P50), round(l.P90), round(l.P99), round(l.P999), round(l.Max)))
	t.row("", r.LatencyOf)
	if r.Failed > 0 {
		t.row("failed", fmt.Sprintf("%d, the first: %s", r.Failed, oneLine(r.firstFailure)))
	}
	if r.Missing > 0 {
		t.row("missing", fmt.Sprintf("%d, acknowledged and not received", r.Missing))
	}
}

// err says that not everything got through.
func (r *benchReport) err() error {
	if r.Failed+r.Missing == 0 {
		return nil
	}
	return &exitError{exitPartly, fmt.Errorf("of %s %d failed and %d %s not received", count(r.Records+r.Failed+r.Missing, "record"), r.Failed, r.Missing, were(r.Missing))}
}

// close ends the connections that were measured.
func (r *benchReport) close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
