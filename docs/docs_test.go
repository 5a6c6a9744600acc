// Package docs_test compares the documents with the code. It holds what can be
// told without reading prose: that names, defaults and links are right.
package docs_test

import (
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each field of a config has a row: | `Field` | `yaml` | default | … |
func TestSettingsHaveTheirDefaults(t *testing.T) {
	t.Parallel()
	brokerDefaults, _ := mq.BrokerConfig{}.Complete()
	clientDefaults, _ := mq.ClientConfig{}.Complete()
	producerDefaults, _ := mq.ProducerConfig{}.Complete()
	consumerDefaults, _ := mq.ConsumerConfig{}.Complete()
	for _, c := range []struct {
		file   string
		config any
	}{
		{"BROKER.md", brokerDefaults},
		{"CLIENT_LIBRARY.md", clientDefaults},
		{"CLIENT_LIBRARY.md", producerDefaults},
		{"CLIENT_LIBRARY.md", consumerDefaults},
	} {
		text := read(t, c.file)
		if c.file == "CLIENT_LIBRARY.md" { // three tables: fields have the same names
			var found bool
			if _, text, found = strings.Cut(text, fmt.Sprintf("**`%s`**", reflect.TypeOf(c.config).Name())); !found {
				t.Fatalf("%s has no table of %T", c.file, c.config)
			}
			text, _, _ = strings.Cut(text, "\n\n**`")
		}
		for _, row := range rows(reflect.ValueOf(c.config), "", "") {
			if !strings.Contains(text, "\n"+row) {
				t.Errorf("%s: no row %s", c.file, row)
			}
		}
	}
}

// rows are how the rows of a config begin.
func rows(config reflect.Value, name, key string) []string {
	var all []string
	for i := range config.NumField() {
		field, value := config.Type().Field(i), config.Field(i)
		tag := field.Tag.Get("yaml")
		switch _, text := value.Interface().(encoding.TextMarshaler); {
		case tag == "-":
			all = append(all, fmt.Sprintf("| `%s` | ", name+field.Name))
		case value.Kind() == reflect.Struct && !text:
			all = append(all, rows(value, name+field.Name+".", key+tag+".")...)
		default:
			all = append(all, fmt.Sprintf("| `%s` | `%s` | %s |", name+field.Name, key+tag, written(field.Name, value)))
		}
	}
	return all
}

// written is a value as a person writes it.
func written(field string, v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		text := value.String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	case encoding.TextMarshaler:
		text, _ := value.MarshalText()
		return string(text)
	}
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		if v.Kind() == reflect.Bool {
			return "false"
		}
		return "none"
	}
	if !strings.Contains(field, "Bytes") && !strings.Contains(field, "Memory") {
		return fmt.Sprint(v)
	}
	switch n := v.Int(); {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprint(n)
	}
}

func TestEveryErrorIsExplained(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, "TROUBLESHOOTING.md")
	named := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Err") {
			named++
			if !strings.Contains(text, "`"+spec.Names[0].Name+"`") {
				t.Errorf("TROUBLESHOOTING.md does not say what to do about %s", spec.Names[0].Name)
			}
		}
		return true
	})
	if named < 20 {
		t.Errorf("only %d errors in errors.go", named)
	}
	for _, name := range regexp.MustCompile("`(Err[A-Za-z]+)`").FindAllStringSubmatch(text, -1) {
		if src := read(t, "../errors.go"); !strings.Contains(src, "\t"+name[1]+" ") {
			t.Errorf("TROUBLESHOOTING.md: there is no %s", name[1])
		}
	}
}

func TestMetricsAreThoseThatABrokerHas(t *testing.T) {
	t.Parallel()
	broker, err := mq.OpenBroker(t.Context(), mq.BrokerConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	client, err := mq.Dial(t.Context(), mq.ClientConfig{Brokers: []string{broker.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, err := mq.NewProducer(client, mq.ProducerConfig{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.Send(t.Context(), &mq.Record{}); err != nil {
		t.Fatal(err)
	}
	consumer, err := mq.NewConsumer(client, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	records, err := consumer.Poll(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := consumer.Commit(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	if _, err := mq.NewAdmin(client).DescribeTopic(t.Context(), "none"); err == nil {
		t.Fatal("a topic that is not there is described")
	}
	w := httptest.NewRecorder()
	broker.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	has := names(w.Body.String(), `(?m)^# TYPE (mq_\w+)`)
	told := names(read(t, "BROKER.md"), "`(mq_\\w+)`")
	for _, name := range has {
		if !slices.Contains(told, name) {
			t.Errorf("BROKER.md does not tell of %s", name)
		}
	}
	for _, name := range told {
		// These come with the first failure.
		if !slices.Contains(has, name) && name != "mq_request_errors_total" && name != "mq_produce_errors_total" {
			t.Errorf("BROKER.md tells of %s, which there is not", name)
		}
	}
}

func names(text, pattern string) []string {
	var found []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notID   = regexp.MustCompile(`[^\w\- ]`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range append(documents, more...) {
		for _, m := range link.FindAllStringSubmatch(read(t, from), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			to := filepath.Join(filepath.Dir(from), path)
			if path == "" {
				to = from
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", from, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, to)), anchor) {
				t.Errorf("%s links to %s: no such heading", from, m[1])
			}
		}
	}
}

// anchors are the headings of a document as GitHub names them.
func anchors(text string) []string {
	var ids []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		ids = append(ids, strings.ReplaceAll(notID.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return ids
}
