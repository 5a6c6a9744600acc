package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/raftmq/mq"
)

// filter says which records are printed: those that all its conditions hold
// for. It is empty when everything is.
type filter []func(*mq.Record) bool

func (f filter) match(r *mq.Record) bool {
	for _, holds := range f {
		if !holds(r) {
			return false
		}
	}
	return true
}

// filterFlags are the conditions as they were typed.
type filterFlags struct {
	keys, values, headers []string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.keys, "filter-key", nil, "`regexp` that the key matches")
	cmd.Flags().StringArrayVar(&f.values, "filter-value", nil, "`regexp` that the value matches")
	cmd.Flags().StringArrayVar(&f.headers, "filter-header", nil, "`NAME[=REGEXP]` of a header")
}

func (f *filterFlags) parse() (filter, error) {
	var all filter
	add := func(flag, pattern string, holds func(*regexp.Regexp, *mq.Record) bool) error {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return fmt.Errorf("--filter-%s: %w", flag, err)
		}
		all = append(all, func(r *mq.Record) bool { return holds(re, r) })
		return nil
	}
	for _, pattern := range f.keys {
		if err := add("key", pattern, func(re *regexp.Regexp, r *mq.Record) bool { return re.Match(r.Key) }); err != nil {
			return nil, err
		}
	}
	for _, pattern := range f.values {
		if err := add("value", pattern, func(re *regexp.Regexp, r *mq.Record) bool { return re.Match(r.Value) }); err != nil {
			return nil, err
		}
	}
	for _, header := range f.headers {
		name, pattern, _ := strings.Cut(header, "=") // without one, any value will do
		if name == "" {
			return nil, fmt.Errorf("--filter-header %q: want NAME or NAME=REGEXP", header)
		}
		err := add("header", pattern, func(re *regexp.Regexp, r *mq.Record) bool {
			for _, h := range r.Headers {
				if h.Key == name && re.Match(h.Value) {
					return true
				}
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
