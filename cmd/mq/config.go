package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/nearest"
	"github.com/raftmq/mq/cmd/mq/internal/whole"
)

func newConfig(p *program) *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Write, check and show configuration",
		Long: `A setting comes from the first of these that has it:

  1. a flag: --broker for the address, -X KEY=VALUE for any key
  2. a variable: MQ_ and the key, so producer.linger is MQ_PRODUCER_LINGER;
     MQ_BROKER is short for MQ_BROKER_ADDRESS
  3. the profile: --profile, MQ_PROFILE, or the one of "mq profile use"
  4. the file: --config or MQ_CONFIG
  5. the default

"mq config print --explain" shows which it was, and "mq config init full"
writes a file with every key.`,
	}, newConfigInit(p), newConfigPrint(p), newConfigValidate(p))
}

//go:embed config/*.yaml
var configFiles embed.FS

// initFiles are the embedded files that init writes.
var initFiles = map[string]string{
	"broker": "broker.yaml", "broker-1": "broker-1.yaml", "broker-2": "broker-2.yaml", "broker-3": "broker-3.yaml", "producer": "producer.yaml", "consumer": "consumer.yaml", "full": "example-full.yaml",
}

func newConfigInit(p *program) *cobra.Command {
	var out string
	var force bool
	kinds := []string{"broker", "broker-1", "broker-2", "broker-3", "producer", "consumer", "full"}
	cmd := &cobra.Command{
		Use:   "init [broker|broker-1|broker-2|broker-3|producer|consumer|full]",
		Short: "Write a configuration file to start from",
		Long: `Write a configuration file to start from: one for a broker, a producer or a
consumer, or, by default, the full one, with every key and its default. The
numbered ones are for three brokers on one machine, as one cluster.`,
		ValidArgs: kinds,
		Args:      atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			kind := "full"
			if len(args) > 0 {
				kind = args[0]
			}
			name := initFiles[kind]
			if name == "" {
				return usage(fmt.Errorf("no file %.40q: want %s or full%s", kind, strings.Join(kinds[:len(kinds)-1], ", "), nearest.Hint(kind, kinds)))
			}
			text, err := configFiles.ReadFile("config/" + name)
			if err != nil {
				return err
			}
			switch out {
			case "-":
				_, err = p.out.Write(text)
				return err
			case "":
				out = kind + ".yaml"
			}
			return p.done(writeNew(out, text, force), "wrote %s", out)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write, - for stdout (default: its name and .yaml)")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return cmd
}

// writeNew writes a file that is not there yet, or replaces it.
func writeNew(path string, text []byte, replace bool) error {
	if replace {
		return whole.Write(path, text, 0o644)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; --force replaces it", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func newConfigPrint(p *program) *cobra.Command {
	var explain bool
	var out *output
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration that counts, and where it comes from",
		Long: `Print the configuration that counts as YAML, of which a file can be made.
Secrets are hidden. With --explain print each setting with its value and where
it comes from: a flag, a variable, a profile, a line of the file, the default.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.settings()
			if err != nil {
				return err
			}
			for _, text := range config.Strays(os.Environ()) {
				p.say("%s", text)
			}
			settings := config.Hidden(c.Settings())
			if !explain {
				return p.showSettings(cmd, out, settings)
			}
			return p.show(out, settings, func(t *table) {
				t.head("KEY", "VALUE", "SOURCE")
				for _, s := range settings {
					t.row(s.Key, flowText(s.Value), s.Source)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&explain, "explain", false, "tell where each setting comes from")
	out = outputFlags(cmd)
	return cmd
}

// showSettings writes settings as a file has them: as YAML, or as JSON.
func (p *program) showSettings(cmd *cobra.Command, out *output, settings []config.Setting) error {
	doc := config.Document(settings)
	switch {
	case out.form == formJSON:
		var v any
		if err := doc.Decode(&v); err != nil {
			return err
		}
		return writeJSON(p.out, v)
	case out.form == formTable && cmd.Flags().Changed("output"):
		return usage(errors.New("-o table: want json or yaml"))
	}
	return encodeYAML(p.out, doc)
}

// flowText is a value in one line.
func flowText(v any) string {
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return "-"
		}
		return fmt.Sprint(v)
	}
	items := make([]string, len(list))
	for i, item := range list {
		items[i] = fmt.Sprint(item)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func newConfigValidate(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check configuration files",
		Long:  `Check configuration files, each alone, and print one line for each fault.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(fmt.Errorf("%s wants FILE, got none (see %[1]s --help)", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			bad := 0
			var text bytes.Buffer
			for _, path := range args {
				faults := faultsOf(path)
				if len(faults) == 0 {
					faults = []string{path + ": ok"}
				} else {
					bad++
				}
				for _, line := range faults {
					fmt.Fprintln(&text, line)
				}
			}
			var verdict error
			if bad > 0 {
				verdict = usage(fmt.Errorf("%d of %s can't be used", bad, count(len(args), "file")))
			}
			_, written := p.out.Write(text.Bytes())
			return answered(written, verdict)
		},
	}
}

// faultsOf returns what is wrong with a file, one line each.
func faultsOf(path string) []string {
	l, err := config.FromFile(path)
	var unread, unfit config.Faults
	if err != nil && !errors.As(err, &unread) {
		return []string{oneLine(err)}
	}
	_, err = config.Resolve(l)
	errors.As(err, &unfit) // there is no other error
	return append(slices.Clone(unread), unfit...)
}
