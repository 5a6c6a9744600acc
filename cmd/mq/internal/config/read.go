package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq/cmd/mq/internal/nearest"
)

// maxFile bounds a file; larger is a mistake.
const maxFile = 1 << 20

// maxMerge is how deep << may be nested.
const maxMerge = 8

// setting is a value that somebody gave.
type setting struct {
	key  *key
	name string // the key's, or one that it had formerly
	unit string
	node *yaml.Node
	from string // for people: mq.yaml:3, profile prod, MQ_PRODUCER_LINGER, --broker
	at   string // for errors: the same with the key
}

// Layer is what one file, the environment, or the flags say.
type Layer struct {
	kind     kind
	settings []setting
}

// kind orders layers: the settings of a later one are above those before it.
type kind int

const (
	ofFile kind = iota + 1
	ofProfile
	ofEnv
	ofFlags
)

// add takes a setting, unless the key was set before.
func (l *Layer) add(s setting) error {
	if i := slices.IndexFunc(l.settings, func(o setting) bool { return o.key == s.key }); i >= 0 {
		return fmt.Errorf("%s: says the same as %s: keep one", s.at, l.settings[i].at)
	}
	l.settings = append(l.settings, s)
	return nil
}

// Faults is what is wrong with settings, one line each. As an error it is one
// line: the first, and how many more there are.
type Faults []string

func (f Faults) Error() string {
	if len(f) == 1 {
		return f[0]
	}
	return fmt.Sprintf("%s (and %d more)", f[0], len(f)-1)
}

// err is nil without faults.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// FromFile reads a YAML file. The error is Faults when the file could be read.
func FromFile(path string) (Layer, error) { return fromFile(path, ofFile, "") }

// FromProfile reads the file of a profile.
func FromProfile(path, name string) (Layer, error) { return fromFile(path, ofProfile, "profile "+name) }

func fromFile(path string, kind kind, from string) (Layer, error) {
	f, err := os.Open(path)
	if err != nil {
		return Layer{}, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return Layer{}, err
	case len(text) > maxFile:
		return Layer{}, Faults{path + ": larger than 1 MiB: not a configuration"}
	}
	r := reader{Layer: Layer{kind: kind}, path: path, from: from}
	r.document(text)
	return r.Layer, r.faults.err()
}

// reader turns a file into settings.
type reader struct {
	Layer
	path, from string
	faults     Faults
}

func (r *reader) fault(n *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf("%s:%d: ", r.path, n.Line)+fmt.Sprintf(format, args...))
}

var lineOfError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (r *reader) document(text []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return
	}
	if err == nil {
		err = dec.Decode(&next)
		if err == nil {
			r.fault(&next, "a second YAML document: want one")
			return
		}
	}
	if !errors.Is(err, io.EOF) {
		where := r.path
		if found := lineOfError.FindStringSubmatch(err.Error()); found != nil && found[1] != "" {
			where += ":" + found[1]
		}
		r.faults = append(r.faults, where+": not YAML: "+lineOfError.ReplaceAllString(err.Error(), ""))
		return
	}
	root := doc.Content[0]
	r.pairs(root, "", 0, func(k, value *yaml.Node) {
		if !slices.Contains(sections(), k.Value) {
			text := unknown("", k.Value)
			if text == unknownKey {
				text += nearest.Hint(k.Value, sections())
			}
			r.fault(k, "%.60s: %s", k.Value, text)
			return
		}
		r.pairs(value, k.Value, 0, func(name, value *yaml.Node) { r.setting(k.Value, name, value) })
	})
}

// pairs calls each with the keys and values of a section's mapping; what <<
// merges into it comes after its own and gives way to it. Null is fine.
func (r *reader) pairs(n *yaml.Node, section string, depth int, each func(k, value *yaml.Node)) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if isNull(n) {
		return
	}
	prefix, want := section+".", section+": want keys under it"
	if section == "" {
		prefix, want = "", "want the sections "+strings.Join(sections(), ", ")
	}
	if n.Kind != yaml.MappingNode || depth > maxMerge {
		r.fault(n, "%s", want)
		return
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			r.fault(k, "a key that is no word; %s", want)
			continue
		}
		if first, again := seen[k.Value]; again {
			r.fault(k, "%s%.60s: is there already, on line %d", prefix, k.Value, first)
			continue
		}
		seen[k.Value] = k.Line
		if k.Tag != "!!merge" {
			each(k, n.Content[i+1])
		}
	}
	for i := 0; i < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Tag == "!!merge" {
			r.pairs(n.Content[i+1], section, depth+1, func(k, value *yaml.Node) {
				if _, own := seen[k.Value]; !own {
					each(k, value)
				}
			})
		}
	}
}

func (r *reader) setting(section string, name, value *yaml.Node) {
	full := section + "." + name.Value
	key, unit := find(full)
	switch {
	case key == nil && isSection(full):
		r.pairs(value, full, 0, func(name, value *yaml.Node) { r.setting(full, name, value) })
		return
	case key == nil:
		r.fault(name, "%.60s: %s", full, unknown(section, name.Value))
		return
	case isNull(value):
		return
	}
	at := fmt.Sprintf("%s:%d", r.path, name.Line)
	from := r.from
	if from == "" {
		from = at
	}
	if err := r.add(setting{key: key, name: full, unit: unit, node: value, from: from, at: at + ": " + full}); err != nil {
		r.faults = append(r.faults, err.Error())
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
