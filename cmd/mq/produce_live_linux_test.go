package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On a terminal a line tells how far produce is, as wide as the terminal is
// now. The first ctrl-C says that it finishes, the second one kills.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	stderr := openTerminal(t, 80)
	produce, stdin := startProduceOn(t, stderr, "--broker", broker.addr)
	send(t, stdin, "a\n")
	stderr.waitFor(t, "\r\x1b[K1 record  ")
	stderr.waitFor(t, "/s  1 B")
	stderr.resize(t, 12)
	stderr.waitFor(t, "\r\x1b[K1 record\r") // and the rate does not fit
	stderr.resize(t, 80)
	broker.kill()
	// More than a pipe holds, so that some lines are on their way to nobody.
	send(t, stdin, strings.Repeat(strings.Repeat("b", 1000)+"\n", 200))
	if err := produce.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	stderr.waitFor(t, "finishing, ctrl-C again kills  1 record")
	if err := produce.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := produce.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("the second signal did not kill: %v", err)
	}
}

func TestProgressEndsWithAClearLine(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(strings.Repeat("line\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr := openTerminal(t, 80)
	produce, _ := startProduceOn(t, stderr, "--broker", broker.addr, "--rate", "20", file)
	stderr.waitFor(t, "%  ETA ")
	if err := produce.Wait(); err != nil {
		t.Fatal(err)
	}
	stderr.waitFor(t, "\r\x1b[Kmq: sent 100 records (400 B) to t in ")
}

// Who can't have a line, or does not want it, gets none.
func TestProgressIsLeftOut(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	for name, c := range map[string]struct {
		env, flag, want string
	}{
		"dumb terminal": {"TERM=dumb", "--rate=20", "mq: sent 10 records (10 B) to t in "},
		"quiet":         {"TERM=xterm", "--quiet", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stderr := openTerminal(t, 80)
			cmd := exec.CommandContext(t.Context(), "mq", "produce", "t", "--broker", broker.addr, "--rate", "20", c.flag)
			cmd.Env = append(os.Environ(), c.env)
			cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Repeat("x\n", 10)), stderr.slave
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(stderr.slave, "end")
			stderr.waitFor(t, "end")
			if said := string(stderr.said); strings.Contains(said, "\x1b") || !strings.HasPrefix(said, c.want) {
				t.Errorf("said %q", said)
			}
		})
	}
}

// Who types is told how to end, and has sent all whole lines however it ends.
func TestTypedLines(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	for name, end := range map[string]func(t *testing.T, stdin *terminal, produce *exec.Cmd){
		"ctrl-D": func(t *testing.T, stdin *terminal, _ *exec.Cmd) {
			send(t, stdin.master, "\x04")
		},
		"ctrl-C": func(t *testing.T, _ *terminal, produce *exec.Cmd) {
			if err := produce.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := openTerminal(t, 80)
			cmd := exec.CommandContext(t.Context(), "mq", "produce", name, "--broker", broker.addr)
			cmd.Stdin, cmd.Stderr = term.slave, term.slave
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			term.waitFor(t, "mq: type a line for "+name+", and so on; ctrl-D ends\r\n")
			send(t, term.master, "a\nb\n")
			if stdout, _, _ := runMQ(t, "", "consume", name, "-n", "2", "--broker", broker.addr); stdout != "a\nb\n" {
				t.Fatalf("stored: %q", stdout)
			}
			end(t, term, cmd)
			if code := exitOf(t, cmd.Wait()); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			term.waitFor(t, "\nmq: sent 2 records (2 B) to "+name+" in ")
		})
	}
}

// startProduceOn is startProduce with stderr on a terminal.
func startProduceOn(t *testing.T, stderr *terminal, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "mq", append([]string{"produce", "t"}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdin, cmd.Stderr = r, stderr.slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = r.Close(), w.Close()
		_ = cmd.Process.Kill() // no more than a bad test needs it
	})
	return cmd, w
}

// terminal is a pseudo terminal.
type terminal struct {
	master, slave *os.File
	said          []byte // so far
	at            int    // behind what was waited for last
}

func openTerminal(t *testing.T, columns int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminal here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	term := &terminal{master: master}
	var number int
	term.control(t, func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0) })
	term.control(t, func(fd int) error { number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); return err })
	term.resize(t, columns)
	term.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.slave.Close() })
	return term
}

func (term *terminal) resize(t *testing.T, columns int) {
	t.Helper()
	size := unix.Winsize{Row: 24, Col: uint16(columns)}
	term.control(t, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &size) })
}

// control lets do something to the terminal without making its reads block for ever.
func (term *terminal) control(t *testing.T, do func(fd int) error) {
	t.Helper()
	conn, err := term.master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// waitFor reads what is written to the terminal until text comes.
func (term *terminal) waitFor(t *testing.T, text string) {
	t.Helper()
	if err := term.master.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if i := bytes.Index(term.said[term.at:], []byte(text)); i >= 0 {
			term.at += i + len(text)
			return
		}
		n, err := term.master.Read(buf)
		term.said = append(term.said, buf[:n]...)
		if err != nil {
			t.Fatalf("%q never came; what came: %q: %v", text, term.said, err)
		}
	}
}

// Who is asked can also end the command.
func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	if _, stderr, code := runMQ(t, "a\n", "produce", "t", "--broker", broker.addr); code != exitOK {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	term := openTerminal(t, 80)
	cmd := exec.CommandContext(t.Context(), "mq", "topic", "delete", "t", "--broker", broker.addr)
	cmd.Stdin, cmd.Stderr = term.slave, term.slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term.waitFor(t, "Go ahead? [y/N] ")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	term.waitFor(t, "\r\nmq: interrupted: nothing was done\r\n")
	if code := exitOf(t, cmd.Wait()); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if stdout, _, _ := runMQ(t, "", "consume", "t", "--exit", "--broker", broker.addr); stdout != "a\n" {
		t.Errorf("stored: %q", stdout)
	}
}
