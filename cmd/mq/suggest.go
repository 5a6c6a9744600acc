package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/raftmq/mq/cmd/mq/internal/nearest"
)

// flagError says what is wrong with a flag, and which one may be meant.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &invalid):
		return usage(fmt.Errorf("--%s %q: %v (see %s --help)", invalid.GetFlag().Name, invalid.GetValue(), wants(invalid), cmd.CommandPath()))
	case !errors.As(err, &unknown):
		return usage(fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
	}
	name := unknown.GetSpecifiedName()
	if cmd.HasParent() && (name == "mode" || name == "m") {
		return usage(fmt.Errorf("--mode can't be combined with a command, here %q (see mq --help)", cmd.CommandPath()))
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	hint := ""
	if len(name) > 1 {
		hint = nearest.Hint(name, names)
	}
	return usage(fmt.Errorf("%w%s (see %s --help)", err, hint, cmd.CommandPath()))
}

// wants says what a flag's value should have been, in the words of the command
// line where the parser has those of Go.
func wants(err *pflag.InvalidValueError) string {
	switch kind := err.GetFlag().Value.Type(); kind {
	case "int", "int32", "int64", "int32Slice":
		if errors.Is(err, strconv.ErrRange) {
			return "is too large"
		}
		return "want a whole number"
	case "bool":
		return "want true or false"
	case "float64":
		return "want a number"
	case "duration":
		return "want a duration such as 10s or 1h30m"
	case "stringToString":
		return "want name=value"
	}
	return oneLine(errors.Unwrap(err))
}

// noCommand says that a command has no such subcommand, and which one may be meant.
func noCommand(cmd *cobra.Command, name string) error {
	return usage(fmt.Errorf("no command %.60q%s (see %s --help)", name, nearest.Hint(name, commandNames(cmd)), cmd.CommandPath()))
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// group makes a command of subcommands.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subs...)
	return cmd
}

// newHelp is cobra's, with an error for a command that there is not.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			parent, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return commandNames(parent), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return noCommand(about, strings.Join(rest, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
