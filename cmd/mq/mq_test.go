package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/raftmq/mq/internal/pemtls/certtest"
)

// scriptTime is what all scripts together may take, and processTime what one
// process of a test may; both, one after the other, less than go test's limit.
const (
	scriptTime  = 5 * time.Minute
	processTime = 4 * time.Minute
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"mq": func() {
			dieInTime()
			completeTime = time.Minute // the machine may be busy
			main()
		},
		"member": func() {
			dieInTime()
			memberMain()
		},
	})
}

// dieInTime bounds a process of a test: whoever started it may be gone, or wait for
// ever. It tells what it hangs in, and dies.
func dieInTime() {
	limit := processTime
	if os.Getenv("MQ_TEST_LONG") != "" {
		limit *= 10
	}
	time.AfterFunc(limit, func() {
		debug.SetTraceback("all")
		panic("runs for too long")
	})
}

// TestScripts runs the command line as a shell would: real processes, real
// pipes, exit codes. Scripts learn a broker's address with `address FILE`,
// which sets $BROKER.
func TestScripts(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	cert, key := ca.Issue(t, t.TempDir(), "mq", time.Now().Add(time.Hour))
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Deadline:            time.Now().Add(scriptTime),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error { // whoever runs the tests may have profiles
			env.Setenv("MQ_CONFIG_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("CA", ca.File)
			env.Setenv("CERT", cert)
			env.Setenv("KEY", key)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"address":   address,
			"await":     await,
			"code":      code,
			"interrupt": interrupt,
			"lines":     hasLines,
			"scrape":    scrape,
		},
	})
}

var serving = regexp.MustCompile(`127\.0\.0\.1:\d+\b`)

// address waits until a broker has written its address to a file, by
// --addr-file or in its log, and sets $BROKER to it.
func address(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: address FILE")
	}
	waitFor(ts, args[0], func(text []byte) bool {
		addr := serving.Find(text)
		ts.Setenv("BROKER", string(addr))
		return addr != nil
	})
}

// hasLines waits until a file has so many: `lines 3 got`.
func hasLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines N FILE")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	waitFor(ts, args[1], func(text []byte) bool { return bytes.Count(text, []byte("\n")) >= want })
}

// await waits until a file has what matches: `await '^ready$' log`.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await REGEXP FILE")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	waitFor(ts, args[1], want.Match)
}

// waitFor waits until the whole lines of a file satisfy ok.
func waitFor(ts *testscript.TestScript, file string, ok func(text []byte) bool) {
	until(ts, func() (string, bool) {
		text, err := os.ReadFile(ts.MkAbs(file))
		return file + " never had what was waited for", err == nil && ok(text[:bytes.LastIndexByte(text, '\n')+1])
	})
}

// until waits for something, or fails with what is missing.
func until(ts *testscript.TestScript, ok func() (missing string, ok bool)) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		missing, done := ok()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s", missing)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// code runs a program and wants a certain exit code: `code 2 mq produce`.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// interrupt runs a program until it has written so many lines in all, to the
// files out and err, sends it SIGINT, and wants a certain exit code:
// `interrupt 130 6 mq consume t -n 7`.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt CODE LINES PROGRAM ARGS...")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	lines, err := strconv.Atoi(args[1])
	ts.Check(err)
	cmd := exec.Command(args[2], args[3:]...) // TestMain bounds it
	cmd.Env = append(os.Environ(), "MQ_CONFIG_HOME="+ts.Getenv("MQ_CONFIG_HOME"))
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	errOut, err := os.Create(ts.MkAbs("err"))
	ts.Check(err)
	defer errOut.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), out, errOut
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = cmd.Process.Kill() }) // no more than a bad test needs it
	until(ts, func() (string, bool) {
		text := ts.ReadFile("out") + ts.ReadFile("err")
		return fmt.Sprintf("it wrote only %q", text), strings.Count(text, "\n") >= lines
	})
	ts.Check(cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait() // the code tells
	if got := cmd.ProcessState.ExitCode(); got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
}
