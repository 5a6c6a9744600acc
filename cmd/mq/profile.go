package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/profile"
)

func newProfile(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "profile",
		Short: "Keep named configurations, and switch between them",
		Long: `A profile is a configuration with a name, such as the address of a cluster.
What it says is above the config file and below variables and flags.

  mq profile add prod --broker https://mq.example.com:50051 -X consumer.group_id=me
  mq profile use prod                    from now on
  mq topic list --profile prod           once; so does MQ_PROFILE=prod

Profiles are files in mq/profiles in the user's configuration directory, or in
profiles in $MQ_CONFIG_HOME. Only their owner may read them.`,
	}, newProfileList(p), newProfileAdd(p), newProfileUse(p), newProfileShow(p), newProfileRemove(p))
}

func newProfileList(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List profiles; a * is at the one in use",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			type row struct {
				Name    string   `json:"name"`
				Current bool     `json:"current"`
				Brokers []string `json:"brokers"`
			}
			rows := []row{}
			store, err := profile.Open()
			if err != nil {
				return err
			}
			names, err := store.List()
			if err != nil {
				return err
			}
			current, err := store.Current()
			if err != nil {
				return err
			}
			for _, name := range names {
				r := row{Name: name, Current: name == current}
				if c, err := readProfile(store, name); err != nil {
					p.say("%v", err) // the others are still worth seeing
				} else {
					r.Brokers = c.Client.Brokers
				}
				rows = append(rows, r)
			}
			return p.show(out, rows, func(t *table) {
				t.head("", "NAME", "BROKERS")
				for _, r := range rows {
					mark := ""
					if r.Current {
						mark = "*"
					}
					t.row(mark, r.Name, strings.Join(r.Brokers, " "))
				}
			})
		},
	}
	out = outputFlags(cmd)
	return cmd
}

func readProfile(store profile.Store, name string) (*config.Config, error) {
	path, err := store.Path(name)
	if err != nil {
		return nil, err
	}
	l, err := config.FromProfile(path, name)
	if err != nil {
		return nil, err
	}
	return config.Resolve(l)
}

func newProfileAdd(p *program) *cobra.Command {
	var replace, use bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Keep --broker, -X and --config under a name",
		Args:  exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := p.profileText()
			if err != nil {
				return usage(err)
			}
			store, err := profile.Open()
			if err != nil {
				return err
			}
			err = store.Add(args[0], text, replace)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("profile %s is there already; --force replaces it", args[0])
			}
			if err != nil {
				return profileError(err)
			}
			if use {
				err = store.Use(args[0])
			}
			return p.done(err, "added profile %s", args[0])
		},
	}
	cmd.Flags().BoolVar(&replace, "force", false, "replace a profile of that name")
	cmd.Flags().BoolVar(&use, "use", false, "use it from now on")
	return cmd
}

// profileText is a file of what the flags say, and no other source.
func (p *program) profileText() ([]byte, error) {
	overrides := p.overrides
	if p.broker != "" { // as an address alone: a profile does not say where to listen
		overrides = append([]string{"broker.address=" + p.broker}, overrides...)
	}
	flags, err := config.FromFlags("", overrides)
	if err != nil {
		return nil, err
	}
	layers := []config.Layer{flags}
	if p.configFile != "" {
		l, err := config.FromFile(p.configFile)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	c, err := config.Resolve(layers...)
	if err != nil {
		return nil, err
	}
	given := c.Given()
	if len(given) == 0 {
		return nil, errors.New("nothing to keep: say --broker, -X or --config")
	}
	var text bytes.Buffer
	err = encodeYAML(&text, config.Document(given))
	return text.Bytes(), err
}

func newProfileUse(p *program) *cobra.Command {
	var none bool
	cmd := &cobra.Command{
		Use:               "use NAME",
		Short:             "Use a profile from now on",
		ValidArgsFunction: p.completeProfiles,
		Args: func(cmd *cobra.Command, args []string) error {
			if none {
				return noArgs(cmd, args)
			}
			return exactArgs("NAME")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := profile.Open()
			if err != nil {
				return err
			}
			if none {
				return p.done(store.Use(""), "no profile is in use")
			}
			return p.done(profileError(store.Use(args[0])), "profile %s is in use", args[0])
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "use no profile from now on")
	return cmd
}

func newProfileShow(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show what a profile says, by default the one in use",
		ValidArgsFunction: p.completeProfiles,
		Args:              atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := profile.Open()
			if err != nil {
				return err
			}
			_, name, err := p.profileInUse()
			if len(args) > 0 {
				name, err = args[0], nil
			}
			switch {
			case err != nil:
				return profileError(err)
			case name == "":
				return errors.New("no profile is in use (see mq profile list)")
			}
			c, err := readProfile(store, name)
			if err != nil {
				return profileError(err)
			}
			return p.showSettings(cmd, out, config.Hidden(c.Given()))
		},
	}
	out = outputFlag(cmd)
	return cmd
}

func newProfileRemove(p *program) *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Aliases:           []string{"remove", "delete"},
		Short:             "Forget a profile",
		ValidArgsFunction: p.completeProfiles,
		Args:              exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := profile.Open()
			if err != nil {
				return err
			}
			return p.done(profileError(store.Remove(args[0])), "removed profile %s", args[0])
		},
	}
}

// profileError is a usage error if a name or what a file says is wrong.
func profileError(err error) error {
	if errors.As(err, new(*profile.NotFoundError)) || errors.Is(err, profile.ErrName) || errors.As(err, new(config.Faults)) {
		return usage(err)
	}
	return err
}
