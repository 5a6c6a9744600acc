package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// Members of a group and brokers are killed at random while numbered records
// stream through it. Every record is handled, those of a partition in order, and
// one is handled twice only if who handled it first was killed before it was
// committed.
func TestKilledMembersOfAGroupLoseNothing(t *testing.T) {
	t.Parallel()
	deadline, kills := time.Minute, 6
	if os.Getenv("MQ_TEST_LONG") != "" {
		deadline, kills = 5*time.Minute, 1_000_000
	}
	g := startGroup(t)
	for range 3 {
		g.join()
	}
	sent := make(chan int, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { sent <- g.produce(ctx) }() // ends with ctx

	g.progress(500)
	for end := time.Now().Add(deadline); kills > 0 && time.Now().Before(end); kills-- {
		if i := rand.IntN(len(g.live) + 1); i < len(g.live) {
			g.killMember(i)
			g.join()
		} else {
			broker := rand.IntN(len(g.brokers))
			g.kill(broker)
			g.progress(100) // the others do without
			g.start(broker)
		}
		g.progress(500)
	}
	stop()
	total := <-sent
	g.until("everything to be committed", func(int) bool { return g.committed() == int64(total) })
	for len(g.live) > 0 {
		g.leave(0)
	}
	g.check(total)
	g.peekWithoutALeader()
}

// peekWithoutALeader wants what can be told of a group, and exit code 6, when a
// partition has no leader.
func (g *groupProcess) peekWithoutALeader() {
	g.Helper()
	g.run("topic", "create", "alone", "-p", "3", "-r", "1")
	produce := g.command("produce", "alone", "-p", "0")
	produce.Stdin = strings.NewReader("x\n")
	if err := produce.Run(); err != nil {
		g.Fatalf("%v: %s", err, produce.Stderr)
	}
	g.run("group", "seek", "peeker", "--topic", "alone", "--to", "start", "--yes")
	var victim int32 // does not lead partition 0
	g.until("leaders on several brokers", func(int) bool {
		info, err := mq.NewAdmin(g.client).DescribeTopic(g.Context(), "alone")
		if err != nil {
			return false
		}
		for _, p := range info.Partitions {
			if p.Leader > 0 && p.Leader != info.Partitions[0].Leader {
				victim = p.Leader
			}
		}
		return victim > 0 && info.Partitions[0].Leader > 0
	})
	g.kill(int(victim) - 1)
	peek := g.command("group", "peek", "peeker", "-f", `%p %v\n`)
	out, _ := peek.Output() // the code tells
	if code := peek.ProcessState.ExitCode(); code != 6 || string(out) != "0 x\n" {
		g.Errorf("peek ended with %d and printed %q: %s", code, out, peek.Stderr)
	}
}

// groupProcess is a group of `mq consume` processes that read from three brokers.
type groupProcess struct {
	*clusterProcess
	client  *mq.Client
	config  string
	made    atomic.Int64 // records acknowledged
	members []*memberProcess
	live    []*memberProcess
}

type memberProcess struct {
	cmd    *exec.Cmd
	output string
	killed map[int32]int64 // by partition, what was committed before it was killed; nil when it was not
}

func startGroup(t *testing.T) *groupProcess {
	t.Helper()
	g := &groupProcess{clusterProcess: startCluster(t), config: filepath.Join(t.TempDir(), "member.yaml")}
	text := fmt.Appendf(nil, "broker: {brokers: [%q, %q, %q]}\nconsumer: {session_timeout: 10s, auto_commit_interval: 200ms}\n",
		g.addrs[0], g.addrs[1], g.addrs[2])
	if err := os.WriteFile(g.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	g.run("topic", "create", "t", "-p", "6", "-r", "3")
	var err error
	if g.client, err = mq.Dial(t.Context(), mq.ClientConfig{Brokers: g.addrs[:]}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.client.Close() })
	return g
}

// produce sends numbers until ctx ends, about 1,000 a second, and returns how
// many it sent.
func (g *groupProcess) produce(ctx context.Context) int {
	p, err := mq.NewProducer(g.client, mq.ProducerConfig{Topic: "t", Partitioner: mq.RoundRobin()})
	if err != nil {
		g.Error(err)
		return 0
	}
	defer func() {
		if err := p.Close(); err != nil {
			g.Error(err)
		}
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	n := 0
	for {
		for range 10 {
			p.SendAsync(g.Context(), &mq.Record{Value: strconv.AppendInt(nil, int64(n), 10)}, func(_ *mq.Record, err error) {
				if err != nil {
					g.Error(err)
				}
				g.made.Add(1)
			})
			n++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n
		}
	}
}

// member is a consumer that prints what it handles: see handledLine.
func (g *groupProcess) member() *exec.Cmd {
	cmd := exec.CommandContext(g.Context(), "mq", "consume", "t", "-g", "g", "-f", `%p %o %v\n`, "-c", g.config)
	cmd.Env, cmd.Stderr = append(cmd.Environ(), "MQ_LOG=warn"), &lockedBuffer{}
	return cmd
}

// handledLine takes a line of a member apart.
func handledLine(line string) (partition int32, offset int64, n int, ok bool) {
	_, err := fmt.Sscanf(line, "%d %d %d", &partition, &offset, &n)
	return partition, offset, n, err == nil && n >= 0
}

func (g *groupProcess) join() {
	g.Helper()
	m := &memberProcess{cmd: g.member(), output: filepath.Join(g.TempDir(), "out")}
	out, err := os.Create(m.output)
	if err != nil {
		g.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	m.cmd.Stdout = out
	if err := m.cmd.Start(); err != nil {
		g.Fatal(err)
	}
	g.members, g.live = append(g.members, m), append(g.live, m)
}

func (g *groupProcess) killMember(i int) {
	g.Helper()
	m := g.live[i]
	g.live = append(g.live[:i:i], g.live[i+1:]...)
	m.killed = make(map[int32]int64)
	committed, err := mq.NewAdmin(g.client).CommittedOffsets(g.Context(), "g")
	if err != nil {
		g.Fatal(err)
	}
	for _, c := range committed {
		m.killed[c.Partition] = c.Offset
	}
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// leave ends a member as ctrl-C does.
func (g *groupProcess) leave(i int) {
	g.Helper()
	m := g.live[i]
	g.live = append(g.live[:i:i], g.live[i+1:]...)
	g.interrupt(m.cmd)
}

func (g *groupProcess) interrupt(member *exec.Cmd) {
	g.Helper()
	if err := member.Process.Signal(syscall.SIGINT); err != nil {
		g.Fatal(err)
	}
	if err := member.Wait(); err != nil {
		g.Errorf("member: %v: %s", err, member.Stderr)
	}
}

// handled counts the lines of all members.
func (g *groupProcess) handled() (n int) {
	g.Helper()
	for _, m := range g.members {
		text, err := os.ReadFile(m.output)
		if err != nil {
			g.Fatal(err)
		}
		n += strings.Count(string(text), "\n")
	}
	return n
}

// progress waits until the group has handled more than n records more.
func (g *groupProcess) progress(n int) {
	g.Helper()
	g.until("records to be handled", func(from int) bool { return g.handled() > from+n })
}

// committed sums up the group's offsets; -1 when nobody tells.
func (g *groupProcess) committed() (sum int64) {
	committed, err := mq.NewAdmin(g.client).CommittedOffsets(g.Context(), "g")
	if err != nil {
		return -1
	}
	for _, c := range committed {
		sum += c.Offset
	}
	return sum
}

func (g *groupProcess) until(what string, holds func(from int) bool) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), time.Minute)
	defer cancel()
	for from := g.handled(); !holds(from); {
		select {
		case <-ctx.Done():
			for i, m := range g.live {
				g.Logf("member %d: %s", i, m.cmd.Stderr)
			}
			g.Fatalf("waited in vain for %s: %d handled, %d acknowledged", what, g.handled(), g.made.Load())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (g *groupProcess) check(total int) {
	g.Helper()
	times := make([]int, total)
	mayRepeat := make([]int, total) // by members that were killed before they had committed it
	var faults []error
	fault := func(format string, args ...any) {
		if len(faults) < 20 {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	for i, m := range g.members {
		text, err := os.ReadFile(m.output)
		if err != nil {
			g.Fatal(err)
		}
		last := make(map[int32]int64)
		for line := range strings.Lines(string(text)) {
			partition, offset, n, ok := handledLine(line)
			if ok = ok && n < total && strings.HasSuffix(line, "\n"); !ok {
				if m.killed == nil || strings.HasSuffix(line, "\n") {
					fault("member %d printed %q", i, line)
				}
				continue // killed in the middle of a line
			}
			if before, ok := last[partition]; ok && offset <= before {
				fault("member %d: partition %d: %d came after %d; it said %q", i, partition, offset, before, m.cmd.Stderr)
			}
			last[partition] = offset
			times[n]++
			if m.killed != nil && offset >= m.killed[partition] {
				mayRepeat[n]++
			}
		}
	}
	twice := 0
	for n, k := range times {
		if k > 1 {
			twice++
		}
		switch {
		case k == 0:
			fault("record %d was never handled", n)
		case k > 1 && k-1 > mayRepeat[n]:
			fault("record %d was handled %d times, by %d members that were killed before they had committed it", n, k, mayRepeat[n])
		}
	}
	if err := errors.Join(faults...); err != nil {
		g.Error(err)
	}
	g.Logf("%d records, %d members, %d handled twice or more", total, len(g.members), twice)
}
