package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq/cmd/mq/internal/nearest"
)

// addressName and what it is the default of.
const (
	addressName = "broker.address"
	brokersName = "broker.brokers"
	listenName  = "broker.listen"
)

// Variable returns the name of the variable of a setting: that of
// producer.linger is MQ_PRODUCER_LINGER.
func Variable(name string) string {
	return "MQ_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// shortVariable is a second name of broker.address's.
const shortVariable = "MQ_BROKER"

// variables maps every variable to the name of its setting.
func variables() map[string]string {
	all := map[string]string{shortVariable: addressName}
	for _, name := range Names() {
		all[Variable(name)] = name
	}
	return all
}

// FromEnv takes what variables set, each an entry NAME=value. One that is empty
// sets nothing, and others than ours are ignored, those that look like ours as
// well: platforms make up names such as MQ_BROKER_PORT.
func FromEnv(environ []string) (Layer, error) {
	l := Layer{kind: ofEnv}
	ours := variables()
	var faults Faults
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		if name := ours[variable]; name != "" && value != "" {
			if err := l.add(given(name, value, variable)); err != nil {
				faults = append(faults, err.Error())
			}
		}
	}
	return l, faults.err()
}

// Strays tells about variables that set nothing and look as if they were
// meant to.
func Strays(environ []string) []string {
	ours := variables()
	var known []string
	for variable := range ours {
		known = append(known, variable)
	}
	slices.Sort(known)
	var strays []string
	for _, entry := range environ {
		variable, _, _ := strings.Cut(entry, "=")
		_, isKnown := ours[variable]
		if hint := nearest.Hint(variable, known); strings.HasPrefix(variable, "MQ_") && !isKnown && hint != "" && !reserved[variable] {
			strays = append(strays, variable+" sets nothing"+hint)
		}
	}
	return strays
}

// reserved are the variables that are no settings.
var reserved = map[string]bool{"MQ_LOG": true, "MQ_CONFIG": true, "MQ_PROFILE": true, "MQ_CONFIG_HOME": true}

// FromFlags takes --broker, empty when it was not given, and what -X sets, each
// an entry KEY=value, of which the last counts.
func FromFlags(broker string, overrides []string) (Layer, error) {
	l := Layer{kind: ofFlags}
	for _, entry := range overrides {
		name, value, ok := strings.Cut(entry, "=")
		if k, _ := find(name); k == nil || !ok {
			section, rest, _ := strings.Cut(name, ".")
			switch {
			case ok && slices.Contains(sections(), section):
				return l, Faults{fmt.Sprintf("-X %s: %s", entry, unknown(section, rest))}
			case ok:
				return l, Faults{fmt.Sprintf("-X %s: unknown key%s", entry, nearest.Hint(name, Names()))}
			}
			return l, Faults{fmt.Sprintf("-X %s: want KEY=VALUE, as in producer.linger=10ms", entry)}
		}
		s := given(name, value, "-X "+name)
		l.settings = slices.DeleteFunc(l.settings, func(o setting) bool { return o.key == s.key })
		l.settings = append(l.settings, s)
	}
	if broker == "" {
		return l, nil
	}
	// The flag serves both sides: whom to reach, and where to listen.
	if err := l.add(given(addressName, broker, "--broker")); err != nil {
		return l, Faults{err.Error()}
	}
	_ = l.add(given(listenName, hostPort(broker), "--broker")) // -X may say it better
	return l, nil
}

// given is a setting of one text.
func given(name, value, from string) setting {
	k, unit := find(name)
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	return setting{key: k, name: name, unit: unit, node: node, from: from, at: from}
}
