package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/raftmq/mq"
)

// A signal ends what follows cleanly, and fails what has an end that it did
// not come to. A reader that goes away has got all it wanted.
func TestInterruptedConsumer(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	if _, stderr, code := runMQ(t, "a\n", "produce", "t", "--broker", broker.addr); code != exitOK {
		t.Fatalf("produce: exit code %d, stderr %q", code, stderr)
	}
	signal := func(c *exec.Cmd, _ *os.File) error { return c.Process.Signal(os.Interrupt) }
	hangUp := func(_ *exec.Cmd, stdout *os.File) error { return stdout.Close() }
	const cut = "mq: interrupted: not all that was asked for is printed\n"
	for _, c := range []struct {
		name   string
		args   []string
		end    func(*exec.Cmd, *os.File) error
		code   int
		stderr string
	}{
		{"signal while it follows", nil, signal, exitOK, ""},
		{"signal before so many", []string{"-n", "2"}, signal, exitInterrupted, cut},
		{"signal before so many of a group", []string{"-n", "2", "-g", "g"}, signal, exitInterrupted, cut},
		{"reader gone before so many", []string{"-n", "2"}, hangUp, exitOK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stdout, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdout.Close()
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "mq", append([]string{"consume", "t", "--broker", broker.addr}, c.args...)...)
			cmd.Stdout, cmd.Stderr = w, &stderr
			err = cmd.Start()
			_ = w.Close() // the child has its own
			if err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil || line != "a\n" {
				t.Fatalf("printed %q, %v; stderr %q", line, err, &stderr)
			}
			if err := c.end(cmd, stdout); err != nil {
				t.Fatal(err)
			}
			if code := exitOf(t, cmd.Wait()); code != c.code || stderr.String() != c.stderr {
				t.Errorf("exit code %d, want %d; stderr %q, want %q", code, c.code, &stderr, c.stderr)
			}
		})
	}
}

// However far an interrupted consumer came, its group is behind the last record
// that it wrote of each partition.
func TestInterruptedConsumerCommitsWhatItWrote(t *testing.T) {
	t.Parallel()
	const each = 20_000
	ctx := t.Context()
	broker := openFilled(t, 3, each)
	cmd := exec.CommandContext(ctx, "mq", "consume", "t", "-g", "g", "-f", `%p %o\n`, "--broker", broker.Addr())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next := make(map[int32]int64)
	lines := bufio.NewScanner(stdout)
	for n := 1; lines.Scan(); n++ {
		var r mq.PartitionOffset
		if _, err := fmt.Sscan(lines.Text(), &r.Partition, &r.Offset); err != nil {
			t.Fatalf("line %d, %q: %v", n, lines.Text(), err)
		}
		if r.Offset != next[r.Partition] {
			t.Fatalf("line %d is offset %d of partition %d, want %d", n, r.Offset, r.Partition, next[r.Partition])
		}
		next[r.Partition]++
		if n == each/2 { // it has written more than that, or is about to
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code := exitOf(t, cmd.Wait()); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	committed, err := mq.NewAdmin(broker).CommittedOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range committed {
		if c.Offset != next[c.Partition] {
			t.Errorf("partition %d is committed up to %d, printed up to %d", c.Partition, c.Offset, next[c.Partition])
		}
		delete(next, c.Partition)
	}
	if len(next) > 0 {
		t.Errorf("not committed: %v", next)
	}
}

// A partition that comes to its end before the others has often been read
// beyond it, which does not count.
func TestRangeOfAGroupCommitsItsEnds(t *testing.T) {
	t.Parallel()
	broker := openFilled(t, 3, 20_000)
	if _, stderr, code := runMQ(t, "", "consume", "t", "-g", "g", "-o", "10:15000", "--broker", broker.Addr()); code != exitOK {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	committed, err := mq.NewAdmin(broker).CommittedOffsets(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) != 3 {
		t.Errorf("%d partitions are committed, want 3", len(committed))
	}
	for _, c := range committed {
		if c.Offset != 15000 {
			t.Errorf("partition %d is committed up to %d, want 15000", c.Partition, c.Offset)
		}
	}
}

// openFilled opens a broker in memory with empty records in each partition of t.
func openFilled(t *testing.T, partitions, each int) *mq.Broker {
	t.Helper()
	ctx := t.Context()
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	if _, err := mq.NewAdmin(broker).CreateTopic(ctx, mq.TopicSpec{Name: "t", Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{Topic: "t", Partitioner: mq.RoundRobin()})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for range partitions * each {
		producer.SendAsync(ctx, &mq.Record{}, nil)
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	return broker
}

// Time that is up while nobody takes the output is told as such.
func TestTimeUpWhileTheReaderStalls(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTimeUp)
	r, w := io.Pipe() // of which nobody reads
	defer r.Close()
	out := recordWriter{w: impatient{w, ctx.Done()}, format: values{}}
	if err := out.add(&mq.Record{Value: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	c := &consumption{opt: consumeOptions{limit: 2}, failed: true}
	err := c.ended(ctx, out.flush())
	if exitCode(err) != exitTimeout || len(out.handled()) != 0 || err.Error() != "time is up: the output was not taken, and may end within a record" {
		t.Errorf("got %v, with %d records handled", err, len(out.handled()))
	}
}

// Offsets that can't be stored at the end are told.
func TestInterruptedConsumerWhoseBrokerIsGone(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	if _, stderr, code := runMQ(t, "a\n", "produce", "t", "--broker", broker.addr); code != exitOK {
		t.Fatalf("produce: exit code %d, stderr %q", code, stderr)
	}
	cmd := exec.CommandContext(t.Context(), "mq", "consume", "t", "-g", "g", "-X", "consumer.close_timeout=1s", "--broker", broker.addr)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "a\n" {
		t.Fatalf("printed %q, %v", line, err)
	}
	broker.kill()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := exitOf(t, cmd.Wait()); code != exitTimeout || !strings.Contains(stderr.String(), "mq: the last offsets are not stored: ") {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}
