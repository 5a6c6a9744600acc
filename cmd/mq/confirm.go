package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// risk are the flags of a command that can't be undone.
type risk struct{ yes, dryRun bool }

func (r *risk) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	dryRunFlag(cmd, &r.dryRun)
}

func dryRunFlag(cmd *cobra.Command, dryRun *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "say what would be done, and do nothing")
}

// mayAsk fails, before anything is done, when goAhead could not ask.
func (p *program) mayAsk(r risk, what string) error {
	if r.yes || r.dryRun || isTerminal(p.in) {
		return nil
	}
	return usage(fmt.Errorf("to %s without a terminal say --yes", what))
}

// goAhead says what is about to be done, in detail, and asks. Without an error and without
// consent it was a dry run.
func (p *program) goAhead(ctx context.Context, r risk, what string, details ...string) (bool, error) {
	if r.yes && !r.dryRun {
		return true, nil
	}
	p.say("would %s", what)
	for _, line := range details {
		p.say("  %s", line)
	}
	if r.dryRun {
		return false, nil
	}
	fmt.Fprint(p.errOut, "Go ahead? [y/N] ")
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process
		line, _ := bufio.NewReader(p.in).ReadString('\n') // no answer is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		if line == "y" || line == "yes" {
			return true, nil
		}
		return false, errors.New("not done")
	case <-ctx.Done():
		fmt.Fprintln(p.errOut)
		return false, &exitError{exitInterrupted, errors.New("interrupted: nothing was done")}
	}
}

// count says how many there are of something.
func count[N int | int64](n N, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// thereAre is count as a sentence.
func thereAre(n int, what string) string {
	return word(n == 1, "there is ", "there are ") + count(n, what)
}

// were is the past of what so many are.
func were[N int | int64](n N) string { return word(n == 1, "was", "were") }
