package mqtest_test

import (
	"testing"

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
	l.check(t, c)
}

func TestNothingIsLostWhenLeadersAreCutOff(t *testing.T) {
	t.Parallel()
	c := mqtest.NewCluster(t, 3, mqtest.Topics(3, "t"))
	l := newLoad(t, "t", 3, c.Endpoint())
	l.goesOn(t)
	c.Isolate(c.Leader("t", 0))
	l.goesOn(t)
	c.Heal()
	c.WaitReady()
	leader := c.Leader("t", 1)
	c.Partition(leader, leader%3+1)
	l.goesOn(t)
	c.Heal()
	c.WaitReady()
	leader = c.Leader("t", 2)
	c.Pause(leader)
	l.goesOn(t)
	c.Resume(leader)
	c.WaitReady()
	l.goesOn(t)
	l.check(t, c)
}
