package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq/cmd/mq/internal/config"
)

// Files that are handed out must load.
func TestExampleFilesLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../config/*.yaml")
	if err != nil || len(files) != 7 {
		t.Fatalf("example files: %v, %v", files, err)
	}
	for _, path := range files {
		l, err := config.FromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Resolve(l)
		if err != nil {
			t.Error(err)
		} else if strings.Contains(path, "broker") && c.Broker.DataDir == "" {
			t.Errorf("%s runs a broker in memory", path)
		}
	}
}

var (
	exampleLine = regexp.MustCompile(`^  (# )?((?:  )*)([a-z_]+):(?: (.*?))?(?:\s+# (.*))?$`)
	defaultIs   = regexp.MustCompile(`^default: ([^,;]*)`)
	formerlyIs  = regexp.MustCompile(`formerly ([a-z_]+): (\S+)$`)
	sectionLine = regexp.MustCompile(`^([a-z]+):$`)
)

// The full example has a line for every key of the library's structs and of
// ours, and its defaults are the true ones.
func TestFullExampleHasEveryKeyAndItsDefault(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../config/example-full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documented, section, nested := map[string]string{}, "", []string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			section = m[1] + "."
		} else if m := exampleLine.FindStringSubmatch(line); m != nil {
			commented, name, value, remark := m[1] != "", m[3], m[4], m[5]
			nested = append(nested[:len(m[2])/2], name)
			name = strings.Join(nested, ".")
			if value == "" { // has keys below it
				continue
			}
			if d := defaultIs.FindStringSubmatch(remark); d != nil {
				value = d[1]
			} else if !commented {
				t.Errorf("%s%s is set, and its default is not told", section, name)
			}
			documented[section+name] = value
			if f := formerlyIs.FindStringSubmatch(remark); f != nil {
				documented[section+f[1]] = f[2]
				mustLoad(t, section[:len(section)-1]+": {"+f[1]+": "+f[2]+"}")
			}
		}
	}
	for _, name := range config.Names() {
		if _, ok := documented[name]; !ok {
			t.Errorf("%s is not in the full example", name)
		}
	}
	for _, s := range mustLoad(t, "").Settings() {
		want := documented[s.Key]
		switch s.Key {
		case "broker.brokers": // is the address then
			continue
		case "producer.partition": // has none
			want = "null"
		}
		var value any
		if err := yaml.Unmarshal([]byte(want), &value); err != nil {
			t.Errorf("%s: %v", s.Key, err)
		}
		if fmt.Sprint(value) != fmt.Sprint(s.Value) {
			t.Errorf("%s: the full example says %s, the default is %v", s.Key, want, s.Value)
		}
	}
}
