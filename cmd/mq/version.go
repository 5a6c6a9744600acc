package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

func newVersion(p *program) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := thisBuild()
			return p.show(out, v, func(t *table) { t.row(v.line()) })
		},
	}
	out = outputFlag(cmd)
	return cmd
}

// build is what the Go toolchain recorded in the binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the sources; empty when unknown
	Time     string `json:"time,omitempty"`     // of the revision, RFC 3339
	Modified bool   `json:"modified"`           // the sources were changed since
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func thisBuild() build {
	b := build{Version: mq.Version(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// line tells it to a person.
func (b build) line() string {
	line := "mq " + b.Version
	if b.Revision != "" {
		line += " " + b.Revision
		if b.Modified {
			line += " (modified)"
		}
	}
	return line + " " + b.Go + " " + b.OS + "/" + b.Arch
}
