// Package bench measures how many records a broker takes and hands out, and how
// long they take.
//
// Load is open: with a rate, records are due at times that are fixed in advance,
// and a record's latency counts from when it was due. A broker that stalls for a
// second thereby has a second of late records, not one slow answer; see
// "coordinated omission". Memory is bounded whatever the run's length: payloads
// are cut from one buffer, latencies are counted in histograms, and what is not
// acknowledged is limited.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/raftmq/mq"
)

// Kind is what is measured.
type Kind string

// The kinds.
const (
	Produce  Kind = "produce" // latency: from when a record was due until it is acknowledged
	Consume  Kind = "consume" // records that are there already; latency: of one Poll
	EndToEnd Kind = "e2e"     // latency: from when a record was due until a consumer has it
)

// Config says what to measure. All numbers but Records, Duration and Rate are
// required.
type Config struct {
	Kind       Kind
	Clients    int // producers, and consumers, but no more of those than partitions
	Partitions int
	Size       int // of a value, in bytes; at least StampBytes for EndToEnd

	// Records ends the run after so many; 0 means after Duration.
	Records  int64
	Duration time.Duration

	// Rate is records per second, over all clients; 0 means as many as get
	// through, and then a record is due when it is handed over.
	Rate float64

	Acks        mq.Acks
	Compression mq.Compression

	// KeepBytes is how much the topic keeps for consumers that are behind; 0
	// means everything.
	KeepBytes int64

	// Connect returns an endpoint for one more client. Run closes none.
	Connect func(context.Context) (mq.Endpoint, error)
}

// StampBytes is how much of a value EndToEnd needs for itself.
const StampBytes = 8

// Result is what was measured.
type Result struct {
	Records int64         // acknowledged, or received
	Failed  int64         // refused or given up
	Missing int64         // acknowledged and not received
	Elapsed time.Duration // from the first record due to the last one counted
	Latency Latency
	Err     error // the first failure of a record
}

// Latency tells how long records took. Of so many the given part took no longer.
type Latency struct{ P50, P90, P99, P999, Max time.Duration }

// Limits of what is on its way, over all clients.
const (
	buffered      = 20_000
	bufferedBytes = 16 << 20
	pollRecords   = 1000
	patience      = 30 * time.Second // with a record, and with a consumer that gets nothing
	topicPatience = 10 * time.Second // with its creation, and its deletion
)

// Run makes a topic, measures, and deletes the topic. When ctx ends the result
// is what there was so far, and the error is ctx's cause.
func Run(ctx context.Context, cfg Config) (result Result, err error) {
	first, err := cfg.Connect(ctx)
	if err != nil {
		return Result{}, err
	}
	r := &run{Config: cfg, topic: fmt.Sprintf("mq-bench-%016x", rand.Uint64()), admin: mq.NewAdmin(first)}
	r.endpoints = append(r.endpoints, first)
	for len(r.endpoints) < cfg.Clients {
		e, err := cfg.Connect(ctx)
		if err != nil {
			return Result{}, err
		}
		r.endpoints = append(r.endpoints, e)
	}
	spec := mq.TopicSpec{Name: r.topic, Partitions: cfg.Partitions, Configs: map[string]string{mq.ConfigRetentionMs: "-1"}}
	if cfg.KeepBytes > 0 {
		spec.Configs[mq.ConfigRetentionBytes] = strconv.FormatInt(max(cfg.KeepBytes/int64(cfg.Partitions), 1), 10)
	}
	// A creation that is interrupted may or may not have been one: it is not.
	setUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), topicPatience)
	defer cancel()
	_, createErr := r.admin.CreateTopic(setUp, spec)
	defer func() {
		cleanUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), topicPatience)
		defer cancel()
		if deleteErr := r.admin.DeleteTopic(cleanUp, r.topic); createErr == nil { // else it may not be there
			err = errors.Join(err, deleteErr)
		}
	}()
	if createErr != nil {
		return Result{}, createErr
	}
	r.payload = newPayload(cfg.Size)
	switch cfg.Kind {
	case Consume:
		result, err = r.consume(ctx)
	case EndToEnd:
		result, err = r.endToEnd(ctx)
	default:
		result, err = r.produce(ctx, cfg.Rate, nil)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return result, err
}

// run is a run under way.
type run struct {
	Config
	topic     string
	admin     *mq.Admin
	endpoints []mq.Endpoint // one per client
	payload   payload
}

// payload is text that values are cut from. It compresses to about a third, as
// logs and JSON do.
type payload []byte

func newPayload(size int) payload {
	rng := rand.New(rand.NewPCG(1, 2)) // the same in every run
	words := make([][]byte, 2000)
	for i := range words {
		words[i] = make([]byte, 2+rng.IntN(9))
		for j := range words[i] {
			words[i][j] = byte('a' + rng.IntN(26))
		}
	}
	var p payload
	for len(p) < 1<<20+size {
		p = append(append(p, words[rng.IntN(len(words))]...), ' ')
	}
	return p
}

// at returns the value of a client's n-th record.
func (p payload) at(n int64, size int) []byte {
	from := int(uint64(n) * uint64(size) % uint64(len(p)-size+1))
	return p[from : from+size : from+size]
}
