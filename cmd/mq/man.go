package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// newMan is for packagers: it writes what --help shows as manual pages. cobra
// can do that, too, with a module for Markdown that nothing else here needs.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write a manual page for each command",
		Hidden: true,
		Args:   exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeMan(args[0], cmd.Root())
		},
	}
}

// writeMan writes the pages of a command and those below it.
func writeMan(dir string, cmd *cobra.Command) error {
	path := filepath.Join(dir, pageName(cmd)+".1")
	if err := os.WriteFile(path, []byte(manPage(cmd)), 0o644); err != nil {
		return err
	}
	for _, sub := range subcommands(cmd) {
		if err := writeMan(dir, sub); err != nil {
			return err
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func subcommands(cmd *cobra.Command) []*cobra.Command {
	var subs []*cobra.Command
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			subs = append(subs, sub)
		}
	}
	return subs
}

// manPage is a command's page in the man macros of roff. It has no date, so
// that the same program makes the same bytes.
func manPage(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	section := func(title, body string) {
		if body = strings.Trim(body, "\n"); body != "" {
			fmt.Fprintf(&b, ".SH %s\n%s\n", title, body)
		}
	}
	fmt.Fprintf(&b, ".TH %s 1 \"\" mq mq\n", strings.ToUpper(pageName(cmd)))
	section("NAME", roff(pageName(cmd)+" - "+cmd.Short))
	section("SYNOPSIS", verbatim(cmd.UseLine()))
	section("DESCRIPTION", verbatim(cmd.Long)) // its lines are broken with care
	section("OPTIONS", verbatim(cmd.LocalFlags().FlagUsagesWrapped(76)))
	section("OPTIONS OF EVERY COMMAND", verbatim(cmd.InheritedFlags().FlagUsagesWrapped(76)))
	section("EXAMPLES", verbatim(cmd.Example))
	var also []string
	if cmd.HasParent() {
		also = append(also, pageName(cmd.Parent()))
	}
	for _, sub := range subcommands(cmd) {
		also = append(also, pageName(sub))
	}
	for i, name := range also {
		also[i] = ".BR " + roff(name) + " (1)"
	}
	section("SEE ALSO", strings.Join(also, "\n"))
	return b.String()
}

func verbatim(text string) string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return ""
	}
	return ".nf\n" + roff(text) + "\n.fi"
}

// roff is text as roff takes it: no backslash, hyphen or leading dot or
// apostrophe means more than itself.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
