package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// answers are commands that write something, with their exit code.
var answers = map[string]int{
	"--help":                         exitOK,
	"help topic":                     exitOK,
	"topic":                          exitOK,
	"consume --help":                 exitOK,
	"--version":                      exitOK,
	"version":                        exitOK,
	"completion bash":                exitOK,
	"completion fish":                exitOK,
	"config init -o -":               exitOK,
	"config print":                   exitOK,
	"config print --explain":         exitOK,
	"config validate absent.yaml":    exitUsage,
	"doctor --broker 127.0.0.1:1":    exitUnhealthy,
	"demo":                           exitOK,
	"bench produce --records 1":      exitOK,
	"topic list":                     exitOK,
	"topic describe t -o json":       exitOK,
	"group list -o yaml":             exitOK,
	"group describe g":               exitOK,
	"group peek g":                   exitOK,
	"group lag g":                    exitOK,
	"group lag g --fail-above 0":     exitUnhealthy,
	"cluster info":                   exitOK,
	"cluster health --min-brokers 2": exitUnhealthy,
	"consume t --exit":               exitOK,
	"consume t -n 1":                 exitOK,
	"consume t -n 9 --timeout 10m":   exitOK,
}

// A reader that goes away is no error, and takes nothing from one.
func TestAnswerThatNobodyReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	answerTo(t, w, func(t *testing.T, code, got int, stderr string) {
		if got != code || strings.Contains(stderr, "pipe") || code == exitOK && stderr != "" && !strings.HasPrefix(stderr, "mq: produce, ") {
			t.Errorf("exit code %d, want %d; stderr %q", got, code, stderr)
		}
	})
}

// An answer that does not fit on the disk is a failure, but not above another.
func TestAnswerThatIsNotWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no /dev/full here")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	answerTo(t, full, func(t *testing.T, code, got int, stderr string) {
		if code == exitOK {
			code = exitFailed
		}
		last := stderr[strings.LastIndex(strings.TrimSuffix(stderr, "\n"), "\n")+1:]
		if got != code || !strings.HasPrefix(last, "mq: ") || !strings.Contains(last, "no space left on device") {
			t.Errorf("exit code %d, want %d; stderr %q", got, code, stderr)
		}
	})
}

// answerTo runs all answers with a stdout.
func answerTo(t *testing.T, stdout *os.File, check func(t *testing.T, code, got int, stderr string)) {
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	for _, args := range [][]string{{"produce", "t"}, {"consume", "t", "-g", "g", "-n", "1"}} {
		if _, stderr, code := runMQ(t, "a\nb\n", append(args, "--broker", broker.addr)...); code != exitOK {
			t.Fatalf("%v: exit code %d, stderr %q", args, code, stderr)
		}
	}
	for line, code := range answers {
		args := strings.Fields(line)
		if args[0] == "topic" && len(args) > 1 || args[0] == "group" || args[0] == "cluster" || args[0] == "consume" {
			args = append(args, "--broker", broker.addr)
		}
		cmd := exec.CommandContext(t.Context(), "mq", args...)
		cmd.Env = append(os.Environ(), "MQ_CONFIG_HOME="+t.TempDir())
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = stdout, &stderr
		got := exitOf(t, cmd.Run())
		t.Run(line, func(t *testing.T) { check(t, code, got, stderr.String()) })
	}
}
