package mqtest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

func TestTmp(t *testing.T) {
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	l := newLoad(t, "t", 3, c.Endpoint())
	var mu sync.Mutex
	start := time.Now()
	seen := map[string]bool{}
	note = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && !seen[err.Error()] && len(seen) < 8 {
			seen[err.Error()] = true
			t.Log(time.Since(start), mq.OutcomeUnknown(err), err)
		}
	}
	for range 2 {
		l.goesOn(t)
		t.Log(time.Since(start), "went on")
		c.PowerCut()
		c.Restart()
		c.WaitReady()
		t.Log(time.Since(start), "ready")
	}
	l.goesOn(t)
	t.Log(time.Since(start), "went on")
	l.check(t, c)
}
