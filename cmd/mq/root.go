package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/topic"
)

// program is what the subcommands share: the streams and the root's flags.
type program struct {
	in          io.Reader
	out, errOut io.Writer
	configFile  string
	broker      string   // --broker, above the file's
	profile     string   // --profile
	overrides   []string // -X
	tls         tlsOptions
}

func newRoot(in io.Reader, out, errOut io.Writer) *cobra.Command {
	p := &program{in: in, out: out, errOut: errOut}
	var mode string
	root := &cobra.Command{
		Use:   "mq",
		Short: "A durable message queue: broker, producer, consumer and topic tools in one program",
		Long: `mq is a durable message queue with Kafka's model: topics, partitions, offsets.

  mq demo                                    see it run, without a server
  mq broker --data-dir ./data                start a broker
  mq produce events < lines.txt              send each line as a record
  mq consume events -o start:end             print the records

MQ_LOG=error|warn|info|debug|trace sets the level of the log on stderr. "mq config
--help" tells of configuration files, variables and profiles.`,
		Args:          noArgs,
		Version:       thisBuild().line(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return usage(notEmpty(cmd))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("mode") {
				return cmd.Help()
			}
			return p.runMode(cmd.Context(), mode)
		},
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version of this program")
	root.Flags().StringVarP(&mode, "mode", "m", "", "broker, producer or consumer, set up by --config")
	flags := root.PersistentFlags()
	flags.StringVarP(&p.configFile, "config", "c", "", "YAML `file` with sections broker, producer, consumer")
	flags.StringVar(&p.broker, "broker", "", "broker `address`, above the config's (default localhost:50051)")
	flags.StringVar(&p.profile, "profile", "", "`name` of the profile to use")
	flags.StringArrayVarP(&p.overrides, "override", "X", nil, "set any `key=value` of the config, as in producer.linger=10ms")
	tlsFlags(p, flags)
	root.AddCommand(newBroker(p), newProduce(p), newConsume(p), newTopic(p), newGroup(p), newCluster(p), newDoctor(p), newBench(p), newDemo(p), newDev(p), newVersion(p))
	root.AddCommand(newConfig(p), newProfile(p), newCompletion(), newMan())
	root.SetHelpCommand(newHelp())
	root.CompletionOptions.DisableDefaultCmd = true // there is newCompletion
	_ = root.RegisterFlagCompletionFunc("profile", p.completeProfiles)
	_ = root.RegisterFlagCompletionFunc("override", completeSettings)
	_ = root.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(modes, cobra.ShellCompDirectiveNoFileComp))
	return root
}

// noArgs, atMostOne and exactArgs are cobra's, as usage errors.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		return noCommand(cmd, args[0])
	}
	return usage(fmt.Errorf("%s wants no arguments, got %.60q (see %[1]s --help)", cmd.CommandPath(), args[0]))
}

func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return usage(fmt.Errorf("%s wants one argument at most, got %d (see %[1]s --help)", cmd.CommandPath(), len(args)))
}

// exactArgs wants arguments with these names. One that is called TOPIC, FROM or TO
// must be fit for a topic, and GROUP for a group.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usage(fmt.Errorf("%s wants %s, got %s (see %[1]s --help)", cmd.CommandPath(), strings.Join(names, " and "), count(len(args), "argument")))
		}
		for i, name := range names {
			var err error
			switch name {
			case "TOPIC", "FROM", "TO":
				err = topic.CheckName(args[i])
			case "GROUP":
				err = checkGroup(args[i])
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// checkGroup refuses what can't even be asked for; a broker knows the rest.
func checkGroup(id string) error {
	if !utf8.ValidString(id) {
		return fmt.Errorf("%w: %.60q is not UTF-8", mq.ErrInvalidGroupID, id)
	}
	return nil
}

// notEmpty refuses flags whose value is empty, as that of a variable is that a
// script forgot to set: an empty --data-dir would mean memory. Some may be empty.
func notEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		mayBe := f.Name == "key" || f.Name == "null" || f.Name == "format"
		if err == nil && !mayBe && f.Value.Type() == "string" && f.Value.String() == "" {
			err = fmt.Errorf("--%s is empty: give it a value or leave it out (see %s --help)", f.Name, cmd.CommandPath())
		}
	})
	return err
}

// logger writes to stderr at the level of MQ_LOG, or at the one given.
func (p *program) logger(level slog.Level) (*slog.Logger, error) {
	switch name := os.Getenv("MQ_LOG"); strings.ToLower(name) {
	case "":
	case "trace":
		level = slog.LevelDebug - 4
	default:
		if err := level.UnmarshalText([]byte(name)); err != nil {
			return nil, usage(fmt.Errorf("MQ_LOG=%s: want error, warn, info, debug or trace", name))
		}
	}
	log := slog.New(slog.NewTextHandler(p.errOut, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log) // and what dependencies write with package log
	return log, nil
}

// say tells a person something; data goes to p.out.
func (p *program) say(format string, args ...any) {
	fmt.Fprintln(p.errOut, "mq: "+printable(fmt.Sprintf(format, args...)))
}
