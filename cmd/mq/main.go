// Command mq runs a broker, moves records in and out, and looks after topics.
// It parses flags and files and talks to terminals; everything else is in the
// library.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	// The first signal asks for a clean end, which commands see as the end of
	// ctx. From then on signals do what they always do, so a second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// A closed stdout, as in `mq consume t | head`, is an error to handle, not a death.
	signal.Ignore(syscall.SIGPIPE)

	err := newRoot(os.Stdin, os.Stdout, os.Stderr).ExecuteContext(ctx)
	code := exitCode(err)
	if code != exitOK {
		fmt.Fprintln(os.Stderr, "mq: "+oneLine(err))
	}
	return code
}

// oneLine tells an error in one line and names the program once.
func oneLine(err error) string {
	text := strings.ReplaceAll(err.Error(), "mq: ", "")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
