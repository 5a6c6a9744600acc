package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/nearest"
	"github.com/raftmq/mq/cmd/mq/internal/profile"
)

// completeTime bounds how long a shell waits for names from a broker.
var completeTime = time.Second // longer in tests

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands in a shell",
		Long: `Print a script that completes commands, flags, and the names of topics, groups
and profiles, which the broker and the profile in use are asked for.

  bash        source <(mq completion bash)                   in ~/.bashrc
  zsh         source <(mq completion zsh)                    in ~/.zshrc, after compinit
  fish        mq completion fish | source                    in ~/.config/fish/config.fish
  powershell  mq completion powershell | Out-String | Invoke-Expression     in $PROFILE`,
		ValidArgs: shells,
		Args:      exactArgs("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usage(fmt.Errorf("no script for shell %.40q: want %s%s", args[0], strings.Join(shells, ", "), nearest.Hint(args[0], shells)))
		},
	}
}

// completion is what cobra asks for the words that may stand somewhere.
type completion = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// completeTopics offers the topics that are not there already, for up to limit
// arguments; 0 means any number.
func (p *program) completeTopics(limit int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.completeNames(cmd.Context(), args, func(ctx context.Context, a *mq.Admin) (names []string, err error) {
			topics, err := a.ListTopics(ctx)
			for _, t := range topics {
				names = append(names, t.Name)
			}
			return names, err
		})
	}
}

// completeTopicAndFiles offers a topic first, and files after it.
func (p *program) completeTopicAndFiles(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return p.completeTopics(1)(cmd, args, typed)
}

// completeGroups is completeTopics for groups.
func (p *program) completeGroups(limit int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.completeNames(cmd.Context(), args, func(ctx context.Context, a *mq.Admin) (names []string, err error) {
			groups, err := a.ListGroups(ctx)
			for _, g := range groups {
				names = append(names, g.GroupID)
			}
			return names, err
		})
	}
}

// completeNames asks the broker. When it does not answer soon there are no
// names, and nothing is said.
func (p *program) completeNames(ctx context.Context, args []string, list func(context.Context, *mq.Admin) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	p.errOut = io.Discard
	f, err := p.load()
	if err != nil {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	f.Client.MaxRetries = mq.NoRetries
	c, err := mq.Dial(ctx, f.Client)
	if err != nil {
		return nil, none
	}
	defer func() { _ = c.Close() }()
	names, err := list(ctx, mq.NewAdmin(c))
	if err != nil {
		return nil, none
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) }), none
}

// completeProfiles offers the profiles.
func (p *program) completeProfiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	store, err := profile.Open()
	if err != nil || len(args) > 0 {
		return nil, none
	}
	names, err := store.List()
	if err != nil {
		return nil, none
	}
	return names, none
}

// completeSettings offers the keys of -X.
func completeSettings(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var words []string
	for _, name := range config.Names() {
		words = append(words, name+"=")
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
