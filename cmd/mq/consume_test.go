package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"testing"
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
