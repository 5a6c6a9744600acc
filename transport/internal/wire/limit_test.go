package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

// Not parallel: it counts allocations.
func TestEntriesAboveTheLimitCostNoMemory(t *testing.T) {
	data := append(bytes.Repeat([]byte("\x22\x00"), 1_000_000), "\x08\x07"...) // partitions, correlation id
	var m mqpb.ProduceRequest
	allocs := testing.AllocsPerRun(1, func() {
		m.Reset()
		if err := wire.UnmarshalRequest(data, &m); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 100 {
		t.Errorf("a million entries took %v allocations", allocs)
	}
	if m.GetCorrelationId() != 7 {
		t.Errorf("correlation id %d", m.GetCorrelationId())
	}
	if _, err := wire.Produce.DecodeRequest(&m); !errors.Is(err, mqerr.ErrInvalidRequest) {
		t.Errorf("got %v", err)
	}
}

func TestRequestsUpToTheLimitAreTakenWhole(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, wire.MaxEntries} {
		data := append(bytes.Repeat([]byte("\x22\x02\x12\x00"), n), "\x10\x01"...) // partitions, acks
		var m mqpb.ProduceRequest
		if err := wire.UnmarshalRequest(data, &m); err != nil {
			t.Fatal(err)
		}
		q, err := wire.Produce.DecodeRequest(&m)
		if err != nil || len(q.Partitions) != n || q.Acks != 1 {
			t.Errorf("%d entries: got %v", n, err)
		}
	}
}
