package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
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

// Each broker of three is killed in turn while numbered lines stream in and out.
// Who produces and who reads notices nothing: every line comes once, those of a
// partition in the order they were sent, to the one that reads along as well as
// to one that reads it all afterwards.
func TestKilledBrokersOfAClusterLoseNothing(t *testing.T) {
	t.Parallel()
	lines := 100_000
	if os.Getenv("MQ_TEST_LONG") != "" {
		lines = 1_000_000
	}
	c := startCluster(t)
	c.run("topic", "create", "t", "-p", "6", "-r", "3")

	consume := c.command("consume", "t", "-f", `%p %v\n`, "-n", strconv.Itoa(lines), "--timeout", "10m")
	output, err := consume.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	produce := c.command("produce", "t")
	input, err := produce.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{consume, produce} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	const parts = 10
	came := make(chan struct{}, parts) // a token for each part that is read
	fed := make(chan error, 1)
	go func() { // ends with the input, the test, or when the producer is gone
		fed <- errors.Join(feed(t.Context(), input, lines, parts, came), input.Close())
	}()

	seen := newLineCheck(lines)
	r := bufio.NewReader(output)
	next := 0
	for i := range lines {
		line, err := r.ReadString('\n')
		if err != nil {
			break // seen tells what is missing
		}
		seen.add(line)
		if (i+1)%(lines/parts) != 0 {
			continue
		}
		came <- struct{}{}
		if part := (i + 1) / (lines / parts); part%3 == 1 && next < len(c.brokers) {
			c.kill(next)
			c.start(next)
			next++
		}
	}
	c.wait(consume)
	if err := <-fed; err != nil {
		t.Errorf("producer: %v", err)
	}
	c.wait(produce)
	if next != len(c.brokers) {
		t.Errorf("%d brokers were killed", next)
	}
	if err := seen.err(); err != nil {
		t.Errorf("read along: %v", err)
	}

	all := newLineCheck(lines)
	for line := range strings.Lines(c.run("consume", "t", "-f", `%p %v\n`, "-o", "start:end")) {
		all.add(line)
	}
	if err := all.err(); err != nil {
		t.Errorf("read afterwards: %v", err)
	}
}

// feed writes the numbers from 0 on, one a line, three parts ahead of those that
// came back.
func feed(ctx context.Context, w io.Writer, lines, parts int, came <-chan struct{}) error {
	var text []byte
	for part := range parts {
		if part >= 3 {
			select {
			case <-came:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		text = text[:0]
		for i := part * lines / parts; i < (part+1)*lines/parts; i++ {
			text = append(strconv.AppendInt(text, int64(i), 10), '\n')
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// lineCheck checks lines "PARTITION NUMBER": each number below want once, and
// rising in each partition.
type lineCheck struct {
	want   int
	times  []uint8
	last   map[string]int
	faults []error
}

func newLineCheck(want int) *lineCheck {
	return &lineCheck{want: want, times: make([]uint8, want), last: make(map[string]int)}
}

func (c *lineCheck) add(line string) {
	partition, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= c.want {
		c.fault("%q was never sent", line)
		return
	}
	if c.times[n]++; c.times[n] > 1 {
		c.fault("%d came %d times", n, c.times[n])
	}
	if last, ok := c.last[partition]; ok && n <= last {
		c.fault("partition %s: %d came after %d", partition, n, last)
	}
	c.last[partition] = n
}

func (c *lineCheck) fault(format string, args ...any) {
	if len(c.faults) < 10 {
		c.faults = append(c.faults, fmt.Errorf(format, args...))
	}
}

func (c *lineCheck) err() error {
	if missing := bytes.Count(c.times, []byte{0}); missing > 0 {
		c.fault("%d of %d are missing, the first is %d", missing, c.want, bytes.IndexByte(c.times, 0))
	}
	if len(c.last) < 2 {
		c.fault("all went to %d partition", len(c.last))
	}
	return errors.Join(c.faults...)
}

// Each broker of three is told to stop and started again, in turn, while four
// goroutines send one record after the other: no Send fails.
func TestRollingRestartFailsNoSend(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.run("topic", "create", "t", "-p", "6", "-r", "3")
	load := c.load("t")
	for i := range c.brokers {
		load.goesOn()
		c.terminate(i)
		load.goesOn()
		c.start(i)
		c.run("cluster", "health", "--watch", "--exit-when-healthy")
	}
	load.goesOn()
	load.end()
}

// load are four goroutines that send one record after the other.
type load struct {
	c      *clusterProcess
	client *mq.Client
	topic  string
	stop   context.CancelFunc
	sent   atomic.Int64
	pauses chan time.Duration // the longest Send of each, when it has ended
}

const senders = 4

// load sends to a topic until end is called.
func (c *clusterProcess) load(topic string) *load {
	c.Helper()
	client, err := mq.Dial(c.Context(), mq.ClientConfig{Brokers: c.addrs[:]})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = client.Close() })
	ctx, stop := context.WithCancel(c.Context())
	l := &load{c: c, client: client, topic: topic, stop: stop, pauses: make(chan time.Duration, senders)}
	for range senders {
		go func() { l.pauses <- l.send(ctx) }() // ends with ctx, or when it fails
	}
	return l
}

func (l *load) send(ctx context.Context) (worst time.Duration) {
	p, err := mq.NewProducer(l.client, mq.ProducerConfig{Topic: l.topic, Partitioner: mq.RoundRobin()})
	if err != nil {
		l.c.Error(err)
		return 0
	}
	for ctx.Err() == nil {
		began := time.Now()
		if err := p.Send(l.c.Context(), &mq.Record{Value: []byte("x")}); err != nil {
			l.c.Errorf("after %v: %v", time.Since(began), err)
			break
		}
		worst = max(worst, time.Since(began))
		l.sent.Add(1)
	}
	if err := p.Close(); err != nil {
		l.c.Error(err)
	}
	return worst
}

// goesOn waits until more was sent.
func (l *load) goesOn() {
	l.c.Helper()
	ctx, cancel := context.WithTimeout(l.c.Context(), time.Minute)
	defer cancel()
	for from := l.sent.Load(); l.sent.Load() <= from+200; {
		select {
		case <-ctx.Done():
			l.c.Fatal("nothing moves")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end stops sending, tells the worst pause, and wants as many records in the topic
// as were sent.
func (l *load) end() {
	l.c.Helper()
	l.stop()
	var worst time.Duration
	for range senders {
		worst = max(worst, <-l.pauses)
	}
	l.c.Logf("%d records, worst pause %v", l.sent.Load(), worst)
	if os.Getenv("MQ_TEST_LONG") != "" && worst > 5*time.Second {
		l.c.Errorf("a Send took %v", worst)
	}
	var there int64
	offsets, err := mq.NewAdmin(l.client).ListOffsets(l.c.Context(), l.topic, mq.StartLatest)
	if err != nil {
		l.c.Fatal(err)
	}
	for _, o := range offsets {
		there += o.Offset
	}
	if there != l.sent.Load() {
		l.c.Errorf("%d records are there, %d were sent", there, l.sent.Load())
	}
}

// clusterProcess is three brokers as processes of their own, set up by files
// like those of package config.
type clusterProcess struct {
	*testing.T
	program string // of the brokers; "" is this one
	configs [3]string
	client  string // config of those that connect
	addrs   [3]string
	brokers [3]*brokerProcess
}

// startCluster returns when three brokers have found each other.
func startCluster(t *testing.T) *clusterProcess {
	t.Helper()
	return startClusterOf(t, "")
}

// startClusterOf does so with brokers of a certain build.
func startClusterOf(t *testing.T, program string) *clusterProcess {
	t.Helper()
	c := &clusterProcess{T: t, program: program}
	dir := t.TempDir()
	var peers [3]string
	for i := range peers {
		c.addrs[i], peers[i] = freeAddr(t), freeAddr(t)
	}
	for i := range c.configs {
		c.configs[i] = filepath.Join(dir, fmt.Sprintf("broker-%d.yaml", i+1))
		text := fmt.Sprintf("broker: {id: %d, listen: %q, data_dir: %q, min_free_bytes: -1, cluster: {listen: %q, seeds: [%q, %q, %q], bootstrap: %t}}\n",
			i+1, c.addrs[i], filepath.Join(dir, fmt.Sprint("data-", i+1)), peers[i], peers[0], peers[1], peers[2], i == 0)
		if err := os.WriteFile(c.configs[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.client = filepath.Join(dir, "client.yaml")
	if err := os.WriteFile(c.client, fmt.Appendf(nil, "broker: {brokers: [%q, %q, %q]}\n", c.addrs[0], c.addrs[1], c.addrs[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range c.brokers {
		c.start(i)
	}
	c.run("cluster", "health", "--watch", "--exit-when-healthy", "--min-brokers", "3")
	return c
}

func (c *clusterProcess) start(i int) {
	c.Helper()
	c.brokers[i] = startBrokerOf(c.T, cmp.Or(c.program, "mq"), "-c", c.configs[i])
}

func (c *clusterProcess) kill(i int) { c.brokers[i].kill() }

// terminate ends a broker as a service manager does, and waits for it.
func (c *clusterProcess) terminate(i int) {
	c.Helper()
	cmd := c.brokers[i].cmd
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		c.Errorf("broker %d: %v: %s", i+1, err, c.brokers[i].said.String())
	}
}

func (c *clusterProcess) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.Context(), "mq", append(args, "-c", c.client)...)
	cmd.Stderr = &lockedBuffer{}
	return cmd
}

// run runs a command and returns what it printed.
func (c *clusterProcess) run(args ...string) string {
	c.Helper()
	cmd := c.command(args...)
	out, err := cmd.Output()
	if err != nil {
		c.Fatalf("mq %s: %v: %s", strings.Join(args, " "), err, cmd.Stderr)
	}
	return string(out)
}

func (c *clusterProcess) wait(cmd *exec.Cmd) {
	c.Helper()
	if err := cmd.Wait(); err != nil {
		c.Fatalf("%v: %v: %s", cmd.Args, err, cmd.Stderr)
	}
}

// freeAddr returns an address below the ports that the system gives to whoever
// connects, so that nobody takes it while its broker is down.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no port is free")
	return ""
}
