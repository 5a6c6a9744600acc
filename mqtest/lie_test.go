package mqtest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/raftmq/mq"
)

// witness is a test that may fail.
type witness struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (w *witness) Error(args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range args {
		if s, ok := a.(string); ok {
			w.said = append(w.said, s)
		}
	}
}

func TestTheCheckerNoticesDisksThatLie(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, 3, Topics(1, "t"))
	for _, s := range c.seats {
		s.disk.(interface{ Lie() }).Lie()
	}
	c.unsynced = []int{0}
	w := &witness{TB: t}
	k := NewChecker(w)
	p := k.Producer(c.Endpoint(), mq.ProducerConfig{Topic: "t"})
	for range 10 {
		if err := p.Send(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	c.PowerCut()
	c.Restart()
	c.WaitReady()
	k.Check(c.Endpoint(), c.Brokers()...)
	if len(w.said) != 10 || !strings.HasPrefix(w.said[9], "lost: p1#9 was acknowledged at t/0@9") {
		t.Errorf("the checker said %q", w.said)
	}
}
