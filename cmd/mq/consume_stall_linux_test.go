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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftmq/mq"
)

// Whoever is told to end while its reader takes nothing ends nevertheless, and
// stores as read only what went out as a whole.
func TestConsumerWhoseReaderStalls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		args   []string
		signal os.Signal
		code   int // when the signal comes just between two writes
		stderr string
	}{
		{"SIGTERM", nil, syscall.SIGTERM, exitOK, ""},
		{"SIGINT in a range", []string{"-o", "start:end"}, os.Interrupt, exitInterrupted, "mq: interrupted: not all that was asked for is printed\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			broker := openFilled(t, 3, 60_000)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			var stderr bytes.Buffer
			cmd := exec.CommandContext(ctx, "mq", append([]string{"consume", "t", "-g", "g", "-f", `%p %o\n`, "--broker", broker.Addr()}, c.args...)...)
			cmd.Stdout, cmd.Stderr = w, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			some := make([]byte, 200_000)
			if _, err := io.ReadFull(r, some); err != nil {
				t.Fatal(err)
			}
			waitFull(ctx, t, w)
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			const want = "mq: interrupted: the output was not taken, and may end within a record\n"
			code := exitOf(t, cmd.Wait())
			said := strings.TrimPrefix(stderr.String(), "mq: waiting up to 5s for offsets to be stored; a second signal gives up\n") // on a slow machine
			if (code != exitInterrupted || said != want) && (code != c.code || said != c.stderr) {
				t.Errorf("exit code %d, want %d; stderr %q, want %q", code, exitInterrupted, said, want)
			}
			_ = w.Close()
			rest, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			next := make(map[int32]int64) // per partition, behind its last whole line
			for lines := bufio.NewReader(io.MultiReader(bytes.NewReader(some), bytes.NewReader(rest))); ; {
				line, err := lines.ReadString('\n')
				if err != nil {
					break
				}
				var at mq.PartitionOffset
				if _, err := fmt.Sscan(line, &at.Partition, &at.Offset); err != nil || at.Offset != next[at.Partition] {
					t.Fatalf("line %q: %v, want offset %d", line, err, next[at.Partition])
				}
				next[at.Partition]++
			}
			committed, err := mq.NewAdmin(broker).CommittedOffsets(ctx, "g")
			if err != nil {
				t.Fatal(err)
			}
			if len(committed) == 0 {
				t.Error("nothing is committed of what was read")
			}
			for _, o := range committed {
				if o.Offset > next[o.Partition] {
					t.Errorf("partition %d is committed up to %d, printed up to %d", o.Partition, o.Offset, next[o.Partition])
				}
			}
		})
	}
}

// waitFull waits until a pipe takes no more.
func waitFull(ctx context.Context, t *testing.T, pipe *os.File) {
	t.Helper()
	for {
		fds := []unix.PollFd{{Fd: int32(pipe.Fd()), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		switch {
		case err != nil && err != unix.EINTR:
			t.Fatal(err)
		case n == 0 && err == nil:
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the pipe always took more")
		case <-time.After(time.Millisecond):
		}
	}
}
