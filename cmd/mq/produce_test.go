package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// runMQ runs the program and returns what it wrote and its exit code.
func runMQ(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mq", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	code = exitOf(t, cmd.Run())
	return out.String(), errOut.String(), code
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return exitOK
}

func TestTooLargeLineDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	input := "a\n" + strings.Repeat("x", 3<<20) + "\nb\n"
	stdout, stderr, code := runMQ(t, input, "produce", "t", "--broker", broker.addr)
	if code != exitPartly || stdout != "" || !strings.HasPrefix(stderr, "mq: 1 of 3 records was not sent; the first is line 2: ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if stdout, _, _ := runMQ(t, "", "consume", "t", "-o", ":end", "--broker", broker.addr); stdout != "a\nb\n" {
		t.Errorf("stored: %q", stdout)
	}
}

func TestBrokerThatStaysAwayFailsTheRecordsInTheirTime(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	config := filepath.Join(t.TempDir(), "mq.yaml")
	if err := os.WriteFile(config, []byte("producer: {delivery_timeout: 5s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	produce, stdin := startProduce(t, "-c", config, "--broker", broker.addr)
	send(t, stdin, "a\n")
	if stdout, _, _ := runMQ(t, "", "consume", "t", "-n", "1", "--broker", broker.addr); stdout != "a\n" {
		t.Fatalf("stored: %q", stdout)
	}
	broker.kill()
	send(t, stdin, "b\n")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	code := exitOf(t, produce.Wait())
	if stderr := produce.Stderr.(*bytes.Buffer).String(); code != exitPartly || !strings.Contains(stderr, "1 of 2 records was not sent; the first is line 2") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

func TestInterruptedProducerHasSentWhatItRead(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	produce, stdin := startProduce(t, "--broker", broker.addr)
	send(t, stdin, "a\nb\nhalf a line")
	if stdout, _, _ := runMQ(t, "", "consume", "t", "-n", "2", "--broker", broker.addr); stdout != "a\nb\n" {
		t.Fatalf("stored: %q", stdout)
	}
	if err := produce.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	code := exitOf(t, produce.Wait())
	if stderr := produce.Stderr.(*bytes.Buffer).String(); code != exitInterrupted || !strings.Contains(stderr, "the rest of the input was not read") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

// Who is told to end and has to wait for a broker says so, and how not to wait.
func TestInterruptedProducerSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	produce, stdin := startProduceTo(t, w, "--quiet", "--broker", broker.addr)
	_ = w.Close() // the child has its own
	send(t, stdin, "a\n")
	if stdout, _, _ := runMQ(t, "", "consume", "t", "-n", "1", "--broker", broker.addr); stdout != "a\n" {
		t.Fatalf("stored: %q", stdout)
	}
	broker.kill()
	// More than a pipe holds, so that some lines are on their way to nobody.
	send(t, stdin, strings.Repeat(strings.Repeat("b", 1000)+"\n", 200))
	if err := produce.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if !regexp.MustCompile(`^mq: waiting for [1-9]\d* records? to be acknowledged; a second signal gives up\n$`).MatchString(line) {
		t.Errorf("said %q, %v", line, err)
	}
	if err := produce.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = produce.Wait()
	if status := produce.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGINT {
		t.Errorf("the second signal did not kill: %v", status)
	}
}

// A port that somebody listens on is not a broker that answers.
func TestBrokerThatSaysNothing(t *testing.T) {
	t.Parallel()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, stderr, code := runMQ(t, "", "topic", "list", "--broker", silent.Addr().String(), "-X", "broker.max_retries=0")
	if want := fmt.Sprintf("mq: no broker answered: %s: takes connections and says nothing\n", silent.Addr()); code != exitConnect || stderr != want {
		t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
	}
}

// startProduce runs `mq produce t` with a stdin that stays open.
func startProduce(t *testing.T, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	return startProduceTo(t, &bytes.Buffer{}, args...)
}

func startProduceTo(t *testing.T, stderr io.Writer, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	// A pipe of our own: Cmd.StdinPipe would be closed by Wait.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "mq", append([]string{"produce", "t"}, args...)...)
	cmd.Stdin, cmd.Stderr = r, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = r.Close(), w.Close()
		_ = cmd.Process.Kill() // no more than a bad test needs it
	})
	return cmd, w
}

func send(t *testing.T, w *os.File, text string) {
	t.Helper()
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// An input that never ends does not hide that nothing of it can be sent.
func TestHopelessProducerDoesNotWaitForItsInput(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	produce, stdin := startProduce(t, "--broker", broker.addr, "-f", "json")
	send(t, stdin, `{"value":"a","partition":9}`+"\n")
	code := exitOf(t, produce.Wait())
	if stderr := produce.Stderr.(*bytes.Buffer).String(); code != exitFailed || !strings.Contains(stderr, "the first is record 1: ") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

func TestLineOfTenMegabytes(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	line := strings.Repeat("0123456789", 1_000_000) // no newline behind it
	_, stderr, code := runMQ(t, line, "produce", "t", "--broker", broker.addr)
	if code != exitFailed || !strings.Contains(stderr, "limit 1048576") || !strings.Contains(stderr, "mq topic alter t --set max.message.bytes=N, up to 16777216") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if _, stderr, code := runMQ(t, "", "topic", "alter", "t", "--set", "max.message.bytes=11000000", "--broker", broker.addr); code != exitOK {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	if _, stderr, code := runMQ(t, line, "produce", "t", "--broker", broker.addr); code != exitOK {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if stdout, _, _ := runMQ(t, "", "consume", "t", "-o", ":end", "--broker", broker.addr); stdout != line+"\n" {
		t.Errorf("%d bytes came back", len(stdout))
	}
}

// Bytes that are no text go through lines unchanged.
func TestBinaryLines(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	input := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(input)
	input[len(input)-1] = '\n'
	if _, stderr, code := runMQ(t, string(input), "produce", "t", "--broker", broker.addr); code != exitOK {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if stdout, _, _ := runMQ(t, "", "consume", "t", "-o", ":end", "--broker", broker.addr); stdout != string(input) {
		t.Errorf("%d bytes came back, not the %d that were sent", len(stdout), len(input))
	}
}
