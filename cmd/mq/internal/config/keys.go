package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/nearest"
)

// document is the form of a file: the library's configs, and the keys that
// only files have.
type document struct {
	Broker struct {
		Address string `yaml:"address"`
		mq.ClientConfig
		ClientTLS ClientTLS `yaml:"client_tls"`
		mq.BrokerConfig
		TLS     ServerTLS `yaml:"tls"`
		PeerTLS PeerTLS   `yaml:"cluster.tls"`
	} `yaml:"broker"`
	Producer struct {
		Partition *int32 `yaml:"partition"`
		mq.ProducerConfig
	} `yaml:"producer"`
	Consumer struct {
		AutoCommit *bool `yaml:"auto_commit"`
		mq.ConsumerConfig
	} `yaml:"consumer"`
}

// key is a setting's name and its field in a document.
type key struct {
	section, name string
	field         []int
}

func (k *key) String() string { return k.section + "." + k.name }

// in is the field of d.
func (k *key) in(d *document) reflect.Value { return reflect.ValueOf(d).Elem().FieldByIndex(k.field) }

// keys are all there are, in the order of the document.
var keys = func() (all []*key) {
	for _, section := range reflect.VisibleFields(reflect.TypeFor[document]()) {
		all = append(all, keysOf(section.Type, section.Tag.Get("yaml"), "", section.Index)...)
	}
	return all
}()

// keysOf returns the keys of a struct, and those of structs in it, whose names
// are put together with dots.
func keysOf(t reflect.Type, section, prefix string, field []int) (all []*key) {
	for _, f := range reflect.VisibleFields(t) {
		name, index := f.Tag.Get("yaml"), append(slices.Clone(field), f.Index...)
		switch {
		case name == "-" || f.Anonymous:
		case f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
			all = append(all, keysOf(f.Type, section, prefix+name+".", index)...)
		default:
			all = append(all, &key{section, prefix + name, index})
		}
	}
	return all
}

// formerly are names that files had first, and what they are names of: a key,
// and the unit of its whole numbers.
var formerly = map[string]struct{ key, unit string }{
	"broker.timeout_secs":              {"broker.timeout", "s"},
	"producer.timeout_ms":              {"producer.timeout", "ms"},
	"producer.flush_interval_ms":       {"producer.linger", "ms"},
	"consumer.topic":                   {"consumer.topics", ""},
	"consumer.partition":               {"consumer.partitions", ""},
	"consumer.offset":                  {"consumer.start", ""},
	"consumer.max_wait_ms":             {"consumer.max_wait", "ms"},
	"consumer.auto_commit_interval_ms": {"consumer.auto_commit_interval", "ms"},
	"consumer.poll_interval_ms":        {"consumer.poll_interval", "ms"},
}

// zeros are what 0 means where it is not the default, although the zero value
// of the library's field is. Where 0 makes no sense it is the default.
var zeros = map[string]int64{
	"broker.max_retries":            mq.NoRetries,
	"broker.min_free_bytes":         -1,
	"producer.linger":               -1,
	"consumer.max_wait":             int64(time.Millisecond), // as good as not at all
	"consumer.auto_commit_interval": int64(time.Millisecond),
}

// find returns the key of a name such as producer.linger, or nil, and the unit
// that its whole numbers have under this name.
func find(name string) (*key, string) {
	former, ok := formerly[name]
	if ok {
		name = former.key
	}
	i := slices.IndexFunc(keys, func(k *key) bool { return k.String() == name })
	if i < 0 {
		return nil, ""
	}
	return keys[i], former.unit
}

// keyOf is find for a name that exists.
func keyOf(name string) *key {
	k, _ := find(name)
	return k
}

// Names returns every name that a setting has, such as producer.linger.
func Names() []string {
	var names []string
	for _, k := range keys {
		names = append(names, k.String())
	}
	for name := range formerly {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sections are the names of the document's.
func sections() []string {
	var names []string
	for _, k := range keys {
		if !slices.Contains(names, k.section) {
			names = append(names, k.section)
		}
	}
	return names
}

// isSection reports whether a name is one of keys that have names below it.
func isSection(name string) bool { return len(namesIn(name)) > 0 }

// namesIn returns the names below a section, without it.
func namesIn(section string) []string {
	var names []string
	for _, name := range Names() {
		if rest, ok := strings.CutPrefix(name, section+"."); ok {
			names = append(names, rest)
		}
	}
	return names
}

const unknownKey = "unknown key"

// unknown says of a key that there is none, and which one may be meant: one of
// its section, or one of another section that has this name.
func unknown(section, name string) string {
	if hint := nearest.Hint(name, namesIn(section)); hint != "" {
		return unknownKey + hint
	}
	var others []string
	for _, other := range sections() {
		if slices.Contains(namesIn(other), name) {
			others = append(others, other)
		}
	}
	if len(others) == 0 {
		return unknownKey
	}
	return fmt.Sprintf("%s; it belongs under %s", unknownKey, strings.Join(others, " or "))
}
