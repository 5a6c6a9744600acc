package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
)

func TestManPageTakesEveryCharacterAsItIs(t *testing.T) {
	t.Parallel()
	root := &cobra.Command{Use: "mq", Run: func(*cobra.Command, []string) {}}
	cmd := &cobra.Command{
		Use: "dots ARG", Short: `Print '%v\n'`, Run: func(*cobra.Command, []string) {},
		Long: ".a line that begins with a dot\n\n  mq dots -x\n'an apostrophe",
	}
	root.AddCommand(cmd)
	const want = `.TH MQ-DOTS 1 "" mq mq
.SH NAME
mq\-dots \- Print \(aq%v\en\(aq
.SH SYNOPSIS
.nf
mq dots ARG [flags]
.fi
.SH DESCRIPTION
.nf
\&.a line that begins with a dot

  mq dots \-x
\(aqan apostrophe
.fi
.SH OPTIONS
.nf
  \-h, \-\-help   help for dots
.fi
.SH SEE ALSO
.BR mq (1)
`
	if got := manPage(cmd); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEveryCommandHasAManPage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man")
	root := newRoot(nil, io.Discard, io.Discard)
	root.SetArgs([]string{"man", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages (%v)", len(pages), err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("no groff to read them with")
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tascii", "-k", "-ww", page)
		var warnings bytes.Buffer
		cmd.Stderr = &warnings
		out, err := cmd.Output()
		if err != nil || warnings.Len() > 0 || len(out) == 0 {
			t.Errorf("%s: %v %s\n%s", page, err, &warnings, text)
		}
	}
}
