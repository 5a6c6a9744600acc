package mqtest_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

func TestNothingIsLostWhenEachBrokerInTurnIsKilled(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	l := newLoad(t, "t", 3, c.Endpoint(), c.Broker(1))
	for id := range int32(3) {
		l.goesOn(t)
		c.Kill(id + 1)
		l.goesOn(t)
		c.Restart(id + 1)
		c.WaitReady()
	}
	l.goesOn(t)
	l.check(t, c)
}

func TestNothingIsLostWhenAllBrokersLosePower(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	l := newLoad(t, "t", 3, c.Endpoint())
	for range 2 {
		l.goesOn(t)
		c.PowerCut()
		c.Restart()
		c.WaitReady()
	}
	l.goesOn(t)
	if tally := l.check(t, c); tally.Refused > 201 { // which is what the end of the load may leave unsent
		t.Errorf("a power cut is no reason to refuse records: %v", tally)
	}
}

func TestNothingIsLostWhenALeaderIsCutOff(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	l := newLoad(t, "t", 3, c.Endpoint())
	l.goesOn(t)
	leader := c.Leader("t", 0)
	c.Partition(leader, leader%3+1)
	l.goesOn(t)
	c.Isolate(leader)
	l.goesOn(t)
	if c.Leader("t", 0) == leader {
		t.Error("a broker leads that nobody can reach")
	}
	c.Heal()
	c.WaitReady()
	l.goesOn(t)
	l.check(t, c)
}

func TestNothingIsLostWhenALeaderStandsStill(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(1, "t"))
	l := newLoad(t, "t", 1, c.Endpoint())
	l.goesOn(t)
	leader := c.Leader("t", 0)
	c.Pause(leader)
	l.goesOn(t)
	c.Resume(leader)
	c.WaitReady()
	l.goesOn(t)
	l.check(t, c)
}

// What the broker with the slow disk leads gets slow, or is led by another one; what
// others lead does not wait for it.
func TestNothingIsLostWhenALeadersDiskIsSlow(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	l := newLoad(t, "t", 3, c.Endpoint())
	l.goesOn(t)
	c.SlowDisk(c.Leader("t", 0), 200*time.Millisecond)
	l.goesOn(t)
	c.SlowDisk(c.Leader("t", 0), 0)
	l.goesOn(t)
	l.check(t, c)
}

func TestABrokerGrowsToThreeUnderLoad(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 1, mqtest.Topics(2, "t"))
	l := newLoad(t, "t", 2, c.Endpoint(), c.Broker(1))
	l.goesOn(t)
	c.Grow()
	l.goesOn(t)
	c.Grow()
	c.Kill(1)
	l.goesOn(t)
	c.Restart()
	c.WaitReady()
	l.check(t, c)
}

func TestABrokerAloneKeepsWhatItHasAcknowledged(t *testing.T) {
	t.Parallel()
	var seen []int32
	c := mqtest.NewCluster(t, 1, mqtest.Topics(3, "a", "b"), mqtest.Config(func(cfg *mq.BrokerConfig) {
		seen = append(seen, cfg.ID)
		cfg.DisableAutoCreate = true
	}))
	b := c.Broker(1)
	if !b.Durable() || b.ID() != 1 || b.Addr() != "" || c.Leader("b", 2) != 1 {
		t.Errorf("broker %d: durable %v, address %q", b.ID(), b.Durable(), b.Addr())
	}
	k := mqtest.NewChecker(t)
	p := k.Producer(b, mq.ProducerConfig{Topic: "a"})
	for range 10 {
		if err := p.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.Kill(1)
	if err := p.Send(t.Context()); !errors.Is(err, mq.ErrClosed) {
		t.Errorf("sending through a dead broker: %v", err)
	}
	c.Restart(1)
	c.WaitReady()
	if got := k.Check(c.Broker(1), c.Brokers()...); got != (mqtest.Tally{Acknowledged: 10, Refused: 1, Stored: 10, Copies: 10}) {
		t.Error(got)
	}
	if len(seen) != 2 {
		t.Errorf("the configuration was asked for %d times", len(seen))
	}
}

// Anything may go wrong at any time, as long as a majority is left now and then.
func TestNothingIsLostWhateverHappens(t *testing.T) {
	if os.Getenv("MQ_TEST_LONG") == "" {
		t.Skip("takes minutes: set MQ_TEST_LONG=1")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"), mqtest.Seed(seed))
	l := newLoad(t, "t", 3, c.Endpoint())
	end := time.After(2 * time.Minute)
	for {
		select {
		case <-end:
			l.check(t, c)
			return
		default:
		}
		id := rng.Int32N(3) + 1
		switch what := rng.IntN(6); what {
		case 0:
			c.Kill(id)
		case 1:
			c.PowerCut(id)
		case 2:
			c.PowerCut()
		case 3:
			c.Isolate(id)
		case 4:
			c.Partition(id, id%3+1)
		case 5:
			c.Pause(id)
			l.goesOn(t)
			c.Resume(id)
		}
		if len(c.Brokers()) > 1 && rng.IntN(2) == 0 {
			l.goesOn(t)
		}
		c.Heal()
		c.Restart()
		c.WaitReady()
		l.goesOn(t)
	}
}
