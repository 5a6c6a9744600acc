package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mq": main})
}

// TestScripts runs the command line as a shell would: real processes, real
// pipes, exit codes. Scripts learn a broker's address with `address FILE`,
// which sets $BROKER.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Deadline:            time.Now().Add(5 * time.Minute),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error { // whoever runs the tests may have profiles
			env.Setenv("MQ_CONFIG_HOME", filepath.Join(env.WorkDir, "home"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"address": address,
			"code":    code,
			"lines":   hasLines,
			"scrape":  scrape,
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

// waitFor waits until the whole lines of a file satisfy ok.
func waitFor(ts *testscript.TestScript, file string, ok func(text []byte) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		text, err := os.ReadFile(ts.MkAbs(file))
		if err == nil && ok(text[:bytes.LastIndexByte(text, '\n')+1]) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s never had what was waited for", file)
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
