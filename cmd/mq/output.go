package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// output is how a describing command answers: the flags -o and --no-headers.
type output struct {
	form      form
	noHeaders bool
}

// outputFlag adds -o, for what is no table with headings.
func outputFlag(cmd *cobra.Command) *output {
	o := &output{form: formTable}
	cmd.Flags().VarP(&o.form, "output", "o", "table, json or yaml")
	return o
}

func outputFlags(cmd *cobra.Command) *output {
	o := outputFlag(cmd)
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "leave out the headings of tables")
	return o
}

// form is a pflag.Value.
type form string

const (
	formTable form = "table"
	formJSON  form = "json"
	formYAML  form = "yaml"
)

func (f *form) String() string { return string(*f) }
func (f *form) Type() string   { return "form" }

func (f *form) Set(s string) error {
	switch form(s) {
	case formTable, formJSON, formYAML:
		*f = form(s)
		return nil
	}
	return errors.New("want table, json or yaml")
}

// show writes v to stdout, as JSON or YAML with the same keys, or as the table
// that fill makes of it.
func (p *program) show(o *output, v any, fill func(*table)) error {
	switch o.form {
	case formJSON:
		return writeJSON(p.out, v)
	case formYAML:
		return writeYAML(p.out, v)
	default:
		t := &table{w: tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0), noHeaders: o.noHeaders}
		fill(t)
		return t.w.Flush()
	}
}

// answered is what a command ends with whose answer is written and may itself be
// a failure. That comes first, and a reader that went away changes nothing.
func answered(written, verdict error) error {
	if errors.Is(written, syscall.EPIPE) {
		written = nil
	}
	return errors.Join(verdict, written)
}

// table is text in columns.
type table struct {
	w         *tabwriter.Writer
	noHeaders bool
}

// head adds the headings.
func (t *table) head(cells ...string) {
	if !t.noHeaders {
		fmt.Fprintln(t.w, strings.Join(cells, "\t"))
	}
}

// row adds a line.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, c)
	}
	fmt.Fprintln(t.w)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML goes by way of JSON, which is YAML, so that both have the same keys
// in the same order.
func writeYAML(w io.Writer, v any) error {
	var text bytes.Buffer
	if err := writeJSON(&text, v); err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &doc); err != nil {
		return err
	}
	block(&doc)
	return encodeYAML(w, &doc)
}

// encodeYAML writes v, and returns the error of the write as it is, which yaml
// does not.
func encodeYAML(w io.Writer, v any) error {
	var text bytes.Buffer
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(v), enc.Close()); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// block gives a node that was written in JSON the style of YAML.
func block(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		block(c)
	}
}
