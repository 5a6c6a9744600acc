// Command mq runs a broker, moves records in and out, and looks after topics.
// It parses flags and files and talks to terminals; everything else is in the
// library.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
)

func main() { os.Exit(run()) }

func run() int {
	// The first signal asks for a clean end, which commands see as the end of
	// ctx. Before that, signals do again what they always do, so a second one
	// kills, however soon it comes.
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		s := <-signals
		signal.Stop(signals)
		cancel(interruption{s})
	}()
	// A closed stdout, as in `mq consume t | head`, is an error to handle, not a death.
	signal.Ignore(syscall.SIGPIPE)

	out := &stdout{file: os.Stdout}
	err := newRoot(os.Stdin, out, os.Stderr).ExecuteContext(ctx)
	if err == nil {
		err = out.err()
	}
	code := exitCode(err)
	if code != exitOK {
		fmt.Fprintln(os.Stderr, "mq: "+oneLine(err))
	}
	return code
}

// interruption is why a ctx ended that a signal ended. It counts as
// context.Canceled.
type interruption struct{ os.Signal }

func (i interruption) Error() string      { return i.String() + " signal received" }
func (interruption) Is(target error) bool { return target == context.Canceled }

// oneLine tells an error in one line and names the program once.
func oneLine(err error) string {
	text := strings.ReplaceAll(err.Error(), "mq: ", "")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return printable(text)
}

// printable does not let what somebody has typed, or stored, change a terminal,
// or fill it.
func printable(text string) string {
	const most = 2000
	if len(text) > most {
		text = text[:most/2] + " … " + text[len(text)-most/2:]
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(r)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case !strconv.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
