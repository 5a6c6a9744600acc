package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq/cmd/mq/internal/config"
	"github.com/raftmq/mq/cmd/mq/internal/machine"
)

// diagnosis is what `mq doctor` answers.
type diagnosis struct {
	Healthy bool    `json:"healthy"` // nothing failed
	Checks  []check `json:"checks"`
}

type check struct {
	Check  string `json:"check"`
	Status status `json:"status"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"` // what to do
}

type status string

const (
	statusOK   status = "ok"
	statusWarn status = "warn" // works, and may not be meant
	statusFail status = "fail"
)

func (d *diagnosis) add(name string, s status, advice, format string, args ...any) {
	detail := strings.ReplaceAll(fmt.Sprintf(format, args...), "mq: ", "")
	d.Checks = append(d.Checks, check{Check: name, Status: s, Detail: strings.ReplaceAll(detail, "\n", "; "), Advice: advice})
}

func (d *diagnosis) ok(name, format string, args ...any) { d.add(name, statusOK, "", format, args...) }

func (d *diagnosis) warn(name, advice, format string, args ...any) {
	d.add(name, statusWarn, advice, format, args...)
}

func (d *diagnosis) fail(name, advice, format string, args ...any) {
	d.add(name, statusFail, advice, format, args...)
}

// err returns what the program ends with.
func (d *diagnosis) err() error {
	failed := 0
	for _, c := range d.Checks {
		if c.Status == statusFail {
			failed++
		}
	}
	if d.Healthy = failed == 0; d.Healthy {
		return nil
	}
	return &exitError{exitUnhealthy, fmt.Errorf("%d of %d checks failed", failed, len(d.Checks))}
}

func newDoctor(p *program) *cobra.Command {
	var out *output
	var opts doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what could be wrong: configuration, machine, data directory, broker",
		Long: `Check the configuration, this machine, the data directory if there is one, and
the broker. One line for each check: ok, warn or FAIL, what was found, and what
to do. The exit code is 5 when a check fails.

It only looks: a broker may be running on the data directory.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.timeout <= 0 {
				return usage(fmt.Errorf("--timeout %v: want more than 0", opts.timeout))
			}
			opts.dataDirSet = cmd.Flags().Changed("data-dir")
			d := &diagnosis{}
			p.examine(cmd.Context(), d, opts)
			if ctx := cmd.Context(); ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := d.err()
			return answered(p.show(out, d, func(t *table) {
				for _, c := range d.Checks {
					t.row(c.line()...)
				}
			}), err)
		},
	}
	cmd.Flags().StringVar(&opts.dataDir, "data-dir", "", "`directory` to look at (default: the configuration's)")
	cmd.Flags().BoolVar(&opts.offline, "offline", false, "leave out what asks the broker, before it is started")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 5*time.Second, "how long to wait for each answer")
	out = outputFlag(cmd)
	return cmd
}

type doctorOptions struct {
	dataDir    string
	dataDirSet bool
	offline    bool
	timeout    time.Duration
}

// line tells a check to a person.
func (c check) line() []any {
	status, detail := string(c.Status), c.Detail
	if c.Status == statusFail {
		status = "FAIL"
	}
	if c.Advice != "" {
		detail += " -> " + c.Advice
	}
	return []any{status, c.Check, detail}
}

// examine makes all checks.
func (p *program) examine(ctx context.Context, d *diagnosis, opts doctorOptions) {
	b := thisBuild()
	d.ok("version", "%s", strings.TrimPrefix(b.line(), "mq "))
	f, configured := p.examineConfig(d)
	d.clock(b.Time)
	d.fileLimit()
	if opts.dataDirSet {
		f.Broker.DataDir = opts.dataDir
	}
	if configured || opts.dataDirSet {
		d.dataDir(ctx, f.Broker, opts.timeout)
	}
	if (configured || p.broker != "") && !opts.offline {
		d.broker(ctx, f.Client, opts.timeout)
	}
}

// examineConfig returns what is configured, and whether that can be relied on.
func (p *program) examineConfig(d *diagnosis) (config.File, bool) {
	const name = "config"
	for _, text := range config.Strays(os.Environ()) {
		d.warn(name, "unset it, or give it the name that was meant", "%s", text)
	}
	f, err := p.load()
	if err != nil {
		d.fail(name, "correct it; mq config print --explain tells what counts and why", "%v", err)
		only, err := config.FromFlags(p.broker, nil)
		if c, resolveErr := config.Resolve(only); err == nil && resolveErr == nil {
			f = c.File
		}
		return f, false
	}
	c, err := p.settings() // as load has it
	if err != nil {
		return f, false
	}
	d.ok(name, "%s", strings.Join(sources(c), ", "))
	return f, true
}

// line matches where in a file a setting is, and under which name.
var line = regexp.MustCompile(`(:\d+)?( \(\w+\))?$`)

// sources tells where settings are from, each place once.
func sources(c *config.Config) (all []string) {
	for _, s := range c.Given() {
		if from := line.ReplaceAllString(s.Source, ""); !slices.Contains(all, from) {
			all = append(all, from)
		}
	}
	if len(all) == 0 {
		return []string{"nothing is set, defaults"}
	}
	return all
}

// clock checks what retention and timestamps depend on. built is when the
// program's sources were committed, if that is known.
func (d *diagnosis) clock(built string) {
	const advice = "set it, and let NTP keep it: retention and timestamps go by it"
	now := time.Now()
	if t, err := time.Parse(time.RFC3339, built); err == nil && now.Before(t) {
		d.fail("clock", advice, "%s is before this program was written, %s", now.UTC().Format(time.RFC3339), built)
		return
	}
	kept, err := machine.ClockSynchronised()
	switch {
	case err != nil:
		d.ok("clock", "%s; whether something keeps it is not known here", now.UTC().Format(time.RFC3339))
	case !kept:
		d.warn("clock", advice, "%s, and nothing keeps it", now.UTC().Format(time.RFC3339))
	default:
		d.ok("clock", "%s, synchronised", now.UTC().Format(time.RFC3339))
	}
}

// A broker has about 600 files open for its store and log, and one for each
// connection.
const (
	fewFiles    = 1024
	enoughFiles = 4096
)

func (d *diagnosis) fileLimit() {
	const name, advice = "open files", "raise the limit (ulimit -n, LimitNOFILE in a systemd unit)"
	limit, err := machine.FileLimit()
	switch {
	case err != nil:
		d.ok(name, "%v", err)
	case limit < fewFiles:
		d.fail(name, advice, "at most %d, a broker needs %d", limit, fewFiles)
	case limit < enoughFiles:
		d.warn(name, advice, "at most %d, of which a broker takes about 600 and one for each connection", limit)
	default:
		d.ok(name, "at most %d", limit)
	}
}
