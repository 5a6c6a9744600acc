package mq_test

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestClientConfigFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := mq.Dial(t.Context(), mq.ClientConfig{Brokers: []string{"localhost", ":1", "ok:1"}, Timeout: -1})
	if !errors.Is(err, mq.ErrInvalidConfig) {
		t.Fatal(err)
	}
	for _, want := range []string{`brokers: "localhost"`, `brokers: ":1"`, "timeout: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if _, err := mq.Dial(t.Context(), mq.ClientConfig{}); !errors.Is(err, mq.ErrInvalidConfig) {
		t.Errorf("without brokers: %v", err)
	}
}

// absent returns an address where nobody listens.
func absent(t *testing.T) string {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestBrokersAbsentAtStartAreNamedWithTheCause(t *testing.T) {
	t.Parallel()
	a, b := absent(t), absent(t)
	_, err := mq.Dial(t.Context(), mq.ClientConfig{Brokers: []string{a, "http://" + b + "/"}, MaxRetries: 1})
	if !errors.Is(err, mq.ErrLeaderNotAvailable) || !mq.Retriable(err) {
		t.Fatal(err)
	}
	for _, want := range []string{a, b, "refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestDialWithoutRetriesGivesUpBeforeItsContext(t *testing.T) {
	t.Parallel()
	_, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{absent(t)}, MaxRetries: mq.NoRetries})
	if !errors.Is(err, mq.ErrLeaderNotAvailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	addr := absent(t)
	_, err := mq.Dial(ctx, mq.ClientConfig{Brokers: []string{addr}, MaxRetries: -1})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), addr) {
		t.Fatal(err)
	}
}

func TestClientClosesOnceAndForAll(t *testing.T) {
	t.Parallel()
	b, err := mq.OpenBroker(t.Context(), mq.BrokerConfig{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c, err := mq.Dial(t.Context(), mq.ClientConfig{Brokers: []string{b.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := mq.NewProducer(c, mq.ProducerConfig{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Send(t.Context(), &mq.Record{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if err := p.Send(t.Context(), &mq.Record{}); !errors.Is(err, mq.ErrClosed) {
		t.Errorf("send through a closed client: %v", err)
	}
}

func TestEveryErrorOfTheTableIsExported(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?m)^\t(Err\w+)\s+=`)
	sentinels, err := os.ReadFile("internal/mqerr/mqerr.go")
	if err != nil {
		t.Fatal(err)
	}
	exported, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	found := names.FindAllSubmatch(sentinels, -1)
	if len(found) < len(mqerr.Table()) {
		t.Fatalf("found %d of at least %d", len(found), len(mqerr.Table()))
	}
	for _, m := range found {
		if name := string(m[1]); !strings.Contains(string(exported), "= mqerr."+name+" ") {
			t.Errorf("%s is not exported", name)
		}
	}
}

func TestErrorsCarryHints(t *testing.T) {
	t.Parallel()
	err := error(&mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: 3, LeaderAddr: "b3:1"})
	if id, addr, ok := mq.LeaderHint(err); !ok || id != 3 || addr != "b3:1" {
		t.Errorf("%d %s %v", id, addr, ok)
	}
	for _, err := range []error{
		nil, mq.ErrNotLeader, mq.ErrOffsetOutOfRange,
		&mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: -1}, &mqerr.Detail{Err: mqerr.ErrOffsetOutOfRange, Leader: 1},
	} {
		if _, _, ok := mq.LeaderHint(err); ok {
			t.Errorf("%v has a hint", err)
		}
	}
	err = &mqerr.Detail{Err: mqerr.ErrOffsetOutOfRange, LogStart: 5, HighWatermark: 9}
	if start, end, ok := mq.OffsetRange(err); !ok || start != 5 || end != 9 {
		t.Errorf("%d %d %v", start, end, ok)
	}
	if _, _, ok := mq.OffsetRange(mq.ErrOffsetOutOfRange); ok {
		t.Error("a range from nowhere")
	}
}
