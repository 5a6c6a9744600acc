package cluster

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/raftmq/mq/cluster/network"
)

func newSeveralOnDisk(b *testing.B) *several {
	b.Helper()
	c := &several{tb: b, onDisk: true, net: &network.Mem{}, faults: network.NewFaults(1), cfgs: map[int32]Config{}, nodes: map[int32]*Node{}}
	for id := int32(1); id <= 3; id++ {
		c.add(id)
	}
	c.ready()
	return c
}

// reportTimes gives the median and the worst of what was measured.
func reportTimes(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "worst-ms")
}

// BenchmarkFailover measures from the death of a broker, the leader of the
// metadata if it is that one's turn, to an acknowledgement by each of 100
// partitions. Three brokers on disk; those that live see the connections end.
func BenchmarkFailover(b *testing.B) {
	const partitions = 100
	c := newSeveralOnDisk(b)
	c.create("t", partitions)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		c.ready()
		victim := c.nodes[int32(1+len(took)%3)]
		b.StartTimer()
		start := time.Now()
		closed := make(chan error, 1)
		go func() { closed <- victim.link.Close() }() // what it does from now on reaches nobody
		for p := range int32(partitions) {
			c.putAt("t", p, victim)
		}
		took = append(took, time.Since(start))
		b.StopTimer()
		if err := errors.Join(<-closed, victim.Close()); err != nil {
			b.Fatal(err)
		}
		c.open(victim.cfg.BrokerID)
		b.StartTimer()
	}
	reportTimes(b, took)
}

// BenchmarkHandOver measures how long a broker takes to hand over what it leads
// of 100 partitions, until each acknowledges a record elsewhere.
func BenchmarkHandOver(b *testing.B) {
	const partitions = 100
	c := newSeveralOnDisk(b)
	c.create("t", partitions)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		c.ready()
		leaves := c.nodes[int32(1+len(took)%3)]
		b.StartTimer()
		start := time.Now()
		if err := leaves.HandOver(b.Context()); err != nil {
			b.Fatal(err)
		}
		for p := range int32(partitions) {
			c.putAt("t", p, leaves)
		}
		took = append(took, time.Since(start))
		b.StopTimer()
		leaves.stopping.Store(false)
		waitFor(b, "the leaders to be spread again", func() bool {
			for _, n := range c.nodes {
				n.eachReplica(func(r *replica) { r.ledSince.Store(0) })
				n.membership.nudge()
			}
			return c.ledBy("t", partitions)[leaves.cfg.BrokerID] >= partitions/3
		})
		b.StartTimer()
	}
	reportTimes(b, took)
}

// BenchmarkThousandPartitions makes 1,000 partitions with three replicas each on
// three brokers in this process, lets them be idle, and opens the brokers again.
func BenchmarkThousandPartitions(b *testing.B) {
	const partitions, idle = 1000, 5 * time.Second
	for b.Loop() {
		b.StopTimer()
		c := newSeveralOnDisk(b)
		before := heap()
		b.StartTimer()
		start := time.Now()
		c.create("t", partitions)
		c.ready()
		b.ReportMetric(time.Since(start).Seconds(), "s-to-create")
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/(3*partitions)/1024, "KiB/replica")
		cpu := cpuTime()
		time.Sleep(idle) // what is measured
		b.ReportMetric(100*(cpuTime()-cpu).Seconds()/idle.Seconds(), "%CPU-idle")
		for id, n := range c.nodes {
			if err := n.Close(); err != nil {
				b.Fatal(id, err)
			}
		}
		start = time.Now()
		for id := range c.nodes {
			c.open(id)
		}
		for p := range int32(partitions) {
			c.leader("t", p)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s-to-reopen")
		for _, n := range c.nodes {
			if err := n.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// putAt produces to a partition, not at one broker.
func (c *several) putAt(topic string, partition int32, not *Node) {
	c.tb.Helper()
	waitFor(c.tb, fmt.Sprintf("partition %d to take a record", partition), func() bool {
		for _, n := range c.nodes {
			if n == not {
				continue
			}
			if _, err := produce(c.tb.Context(), n, topic, partition, makeBatch(c.tb, "x")); err == nil {
				return true
			}
		}
		return false
	})
}
