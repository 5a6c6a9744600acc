package main

import (
	"bufio"
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A broker on disk is killed three times while lines stream in. The producer
// waits for it and sends again what had no answer; what is read at the end is
// the input, byte for byte: nothing lost, nothing twice, in order.
func TestKilledBrokerLosesNothing(t *testing.T) {
	t.Parallel()
	const kills = 3
	lines := 1_000_000
	if testing.Short() {
		lines = 150_000 // more than a producer buffers
	}
	input := realText(t, lines)
	dir := t.TempDir()
	broker := startBroker(t, dir, "127.0.0.1:0")

	produce := exec.CommandContext(t.Context(), "mq", "produce", "text", "--broker", broker.addr)
	var stderr bytes.Buffer
	produce.Stderr = &stderr
	stdin, err := produce.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := produce.Start(); err != nil {
		t.Fatal(err)
	}
	var written [kills + 1]chan error // one part of the input each
	for i := range written {
		written[i] = make(chan error, 1)
	}
	go func() { // ends with the input, or when the producer is gone
		for i := range written {
			from, to := i*len(input)/len(written), (i+1)*len(input)/len(written)
			_, err := stdin.Write(input[from:to])
			written[i] <- err
		}
		_ = stdin.Close()
	}()
	for i := range written {
		if err := <-written[i]; err != nil {
			t.Fatalf("part %d: %v; producer: %s", i, err, &stderr)
		}
		if i < kills {
			broker.kill()
			broker = startBroker(t, dir, broker.addr)
		}
	}
	if err := produce.Wait(); err != nil {
		t.Fatalf("produce: %v: %s", err, &stderr)
	}

	began := time.Now()
	output, err := exec.CommandContext(t.Context(), "mq", "consume", "text", "-o", "start:end", "--broker", broker.addr).Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines, %d bytes, %d kills; read back in %v", lines, len(input), kills, time.Since(began))
	if !bytes.Equal(output, input) {
		at := 0
		for at < min(len(input), len(output)) && input[at] == output[at] {
			at++
		}
		t.Errorf("%d bytes came back of %d; they differ from byte %d, line %d",
			len(output), len(input), at, 1+bytes.Count(input[:at], []byte("\n")))
	}
}

// realText returns n lines of the Go library's source, from the start again
// when that is not enough.
func realText(t *testing.T, n int) []byte {
	t.Helper()
	var text []byte
	for have := 0; have < n; {
		before := have
		err := filepath.WalkDir(filepath.Join(runtime.GOROOT(), "src"), func(path string, d fs.DirEntry, err error) error { //nolint:staticcheck // the tests run where Go is
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for line := range bytes.Lines(file) {
				if have == n {
					return filepath.SkipAll
				}
				text = append(append(text, bytes.TrimSuffix(line, []byte("\n"))...), '\n')
				have++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if have == before {
			t.Fatal("no Go source to take lines from")
		}
	}
	return text
}

// brokerProcess is `mq broker` as a process of its own.
type brokerProcess struct {
	addr string
	cmd  *exec.Cmd
	said *lockedBuffer // on stderr
}

var servesAddr = regexp.MustCompile(`broker serves (127\.0\.0\.1:\d+)\b`)

// startBroker returns when the broker serves. It is killed when the test ends.
func startBroker(t *testing.T, dir, listen string) *brokerProcess {
	t.Helper()
	return startBrokerProcess(t, "--data-dir", dir, "--listen", listen)
}

func startBrokerProcess(t *testing.T, args ...string) *brokerProcess {
	t.Helper()
	return startBrokerOf(t, "mq", args...)
}

// startBrokerOf does so with a certain build of the program.
func startBrokerOf(t *testing.T, program string, args ...string) *brokerProcess {
	t.Helper()
	b := &brokerProcess{cmd: exec.CommandContext(t.Context(), program, append([]string{"broker"}, args...)...), said: &lockedBuffer{}}
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.kill)
	for r := bufio.NewReader(stderr); b.addr == ""; {
		line, err := r.ReadString('\n')
		_, _ = b.said.Write([]byte(line))
		if found := servesAddr.FindStringSubmatch(line); found != nil {
			b.addr = found[1]
			go func() { _, _ = io.Copy(b.said, r) }() // ends with the process
		} else if err != nil {
			t.Fatalf("the broker said %q and ended", b.said)
		}
	}
	return b
}

// lockedBuffer is what a process said so far.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// kill ends the process without a warning, as kill -9 does.
func (b *brokerProcess) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}
