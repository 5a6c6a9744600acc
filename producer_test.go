package mq_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// memoryBroker opens a broker in memory for the time of a test.
func memoryBroker(t *testing.T) *mq.Broker {
	t.Helper()
	b, err := mq.OpenBroker(t.Context(), mq.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestProducerConfigFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := mq.NewProducer(memoryBroker(t), mq.ProducerConfig{
		Topic: "a/b", Partitioner: mq.FixedPartition(-1), Acks: 9, Compression: 9,
		BatchSize: -1, BatchBytes: 1 << 30, MaxRecordBytes: -1, MaxInFlight: 33,
		MaxBufferedRecords: -1, MaxBufferedBytes: -1, Timeout: -1, Linger: time.Hour,
	})
	if !errors.Is(err, mq.ErrInvalidConfig) {
		t.Fatal(err)
	}
	for _, key := range []string{
		"topic", "partition", "required_acks", "compression", "batch_size", "batch_bytes", "max_record_bytes",
		"max_in_flight", "max_buffered_records", "max_buffered_bytes", "timeout", "linger",
	} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is not named in %q", key, err)
		}
	}
}

func TestNegativeSettingsOfAProducerTurnThingsOff(t *testing.T) {
	t.Parallel()
	p, err := mq.NewProducer(memoryBroker(t), mq.ProducerConfig{
		Topic: "t", Linger: -1, DeliveryTimeout: -1, CloseTimeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	p.SendAsync(t.Context(), &mq.Record{}, func(_ *mq.Record, err error) { done <- err })
	if err := errors.Join(<-done, p.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordThatCanNotBeSentIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	p, err := mq.NewProducer(memoryBroker(t), mq.ProducerConfig{MaxRecordBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		r    *mq.Record
		want error
	}{
		"nil":              {t.Context(), nil, mq.ErrInvalidRecord},
		"no topic":         {t.Context(), &mq.Record{}, mq.ErrInvalidTopic},
		"topic name":       {t.Context(), &mq.Record{Topic: "a b"}, mq.ErrInvalidTopic},
		"too large":        {t.Context(), &mq.Record{Topic: "t", Value: make([]byte, 1000)}, mq.ErrRecordTooLarge},
		"large headers":    {t.Context(), &mq.Record{Topic: "t", Headers: []mq.Header{{Value: make([]byte, 1000)}}}, mq.ErrRecordTooLarge},
		"context is ended": {ended, &mq.Record{Topic: "t"}, context.Canceled},
	} {
		if err := p.Send(c.ctx, c.r); !errors.Is(err, c.want) || mq.OutcomeUnknown(err) {
			t.Errorf("%s: Send: %v", name, err)
		}
		var got error
		p.SendAsync(c.ctx, c.r, func(_ *mq.Record, err error) { got = err })
		if !errors.Is(got, c.want) {
			t.Errorf("%s: SendAsync: %v", name, got)
		}
		var batch *mq.BatchError
		if err := p.SendBatch(c.ctx, c.r); !errors.Is(err, c.want) || !errors.As(err, &batch) || len(batch.Errs) != 1 {
			t.Errorf("%s: SendBatch: %v", name, err)
		}
		if c.ctx == ended {
			continue
		}
		if err := p.TrySend(c.r, func(*mq.Record, error) { t.Errorf("%s: TrySend failed and called back", name) }); !errors.Is(err, c.want) {
			t.Errorf("%s: TrySend: %v", name, err)
		}
	}
}

func TestSettledRecordSaysWhereItIs(t *testing.T) {
	t.Parallel()
	p, err := mq.NewProducer(memoryBroker(t), mq.ProducerConfig{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	before := time.Now().Add(-time.Millisecond)
	r := &mq.Record{Partition: 7, Offset: 7}
	if err := p.Send(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if r.Topic != "t" || r.Partition != 0 || r.Offset != 0 || r.LeaderEpoch < 0 || r.Timestamp.Before(before) {
		t.Fatalf("%+v", r)
	}
	if err := p.Send(t.Context(), r); err != nil || r.Offset != 1 {
		t.Fatalf("the same record again: %+v, %v", r, err)
	}
}

func TestBatchErrorTellsWhichAndWhy(t *testing.T) {
	t.Parallel()
	err := error(&mq.BatchError{Errs: []error{nil, mq.ErrBusy, nil, mq.ErrTimeout}})
	if want := "mq: 2 of 4 records failed, the first with: mq: busy: a limit of the broker is reached"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if !errors.Is(err, mq.ErrBusy) || !errors.Is(err, mq.ErrTimeout) {
		t.Error("causes are lost")
	}
}

func TestAcksHaveATextForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]mq.Acks{
		"all": mq.AcksAll, "-1": mq.AcksAll, "leader": mq.AcksLeader, "1": mq.AcksLeader, "none": mq.AcksNone, "0": mq.AcksNone,
	} {
		var a mq.Acks
		if err := a.UnmarshalText([]byte(text)); err != nil || a != want {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
	var a mq.Acks
	if err := a.UnmarshalText([]byte("2")); !errors.Is(err, mq.ErrInvalidConfig) {
		t.Error(err)
	}
	for _, a := range []mq.Acks{mq.AcksAll, mq.AcksLeader, mq.AcksNone} {
		text, err := a.MarshalText()
		var back mq.Acks
		if err := errors.Join(err, back.UnmarshalText(text)); err != nil || back != a {
			t.Errorf("%v: %v, %v", a, back, err)
		}
	}
}
