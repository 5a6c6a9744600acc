package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Setting is a value that counts, and who said so.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`  // of a YAML scalar or sequence, nil for none
	Source string `json:"source"` // default, or a file and its line, profile NAME, a variable, a flag
}

// Settings returns every setting in the order of the document. As a file they
// configure the same.
func (c *Config) Settings() []Setting {
	settings := make([]Setting, 0, len(keys))
	for _, k := range keys {
		settings = append(settings, Setting{k.String(), c.value(k), c.source(k)})
	}
	return settings
}

// Given is Settings without what is only there by default.
func (c *Config) Given() []Setting {
	return slices.DeleteFunc(c.Settings(), func(s Setting) bool { return c.get(s.Key).kind == 0 })
}

// value is what yaml makes of a field: a scalar, a list, or nil.
func (c *Config) value(k *key) (value any) {
	if c.set[k].zero {
		return 0
	}
	text, err := yaml.Marshal(k.in(&c.doc).Interface())
	if err == nil {
		err = yaml.Unmarshal(text, &value)
	}
	if err != nil {
		return fmt.Sprint(k.in(&c.doc).Interface())
	}
	return value
}

func (c *Config) source(k *key) string {
	s, isSet := c.set[k]
	switch {
	case isSet && s.name != k.String() && (s.kind == ofFile || s.kind == ofProfile):
		return s.from + " (" + strings.TrimPrefix(s.name, k.section+".") + ")"
	case isSet:
		return s.from
	case k.String() == brokersName, k.String() == listenName && c.get(addressName).kind != ofProfile:
		return addressName
	}
	return "default"
}

var secretName = regexp.MustCompile(`password|secret|token|private`)

// Hidden returns settings without the values of secrets.
func Hidden(settings []Setting) []Setting {
	settings = slices.Clone(settings)
	for i, s := range settings {
		if secretName.MatchString(s.Key) && s.Value != "" {
			settings[i].Value = "***"
		}
	}
	return settings
}

// Document returns settings as the nested maps of a file, without those that
// the address is the default of: who changes it there changes them.
func Document(settings []Setting) *yaml.Node {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range settings {
		if s.Source == addressName {
			continue
		}
		in, path := root, strings.Split(s.Key, ".")
		for _, section := range path[:len(path)-1] {
			in = below(in, section)
		}
		var value yaml.Node
		if err := value.Encode(s.Value); err != nil {
			value.SetString(fmt.Sprint(s.Value))
		}
		if value.Kind == yaml.SequenceNode {
			value.Style = yaml.FlowStyle
		}
		in.Content = append(in.Content, scalar(path[len(path)-1]), &value)
	}
	return root
}

// below returns the mapping of a name in another, which gets it last if it has
// none.
func below(in *yaml.Node, name string) *yaml.Node {
	for i := 0; i < len(in.Content); i += 2 {
		if in.Content[i].Value == name {
			return in.Content[i+1]
		}
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	in.Content = append(in.Content, scalar(name), m)
	return m
}

func scalar(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }
