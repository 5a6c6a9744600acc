package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
)

// published is the configuration that users of older versions have.
const published = `
broker:
  address: "http://localhost:50051"
  timeout_secs: 30
  max_retries: 3

producer:
  topic: "events"
  partition: 0
  required_acks: 1
  timeout_ms: 5000
  batch_size: 100
  flush_interval_ms: 100

consumer:
  topic: "events"
  partition: 0
  group_id: "my-consumer-group"
  offset: -2  # -2=earliest, -1=latest, 0+=specific
  max_bytes: 1048576
  max_wait_ms: 1000
  min_bytes: 1
  auto_commit: true
  auto_commit_interval_ms: 5000
  poll_interval_ms: 1000
`

func load(t *testing.T, text string) (config.File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mq.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

func TestPublishedKeysMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	got, err := load(t, published)
	if err != nil {
		t.Fatal(err)
	}
	want := config.File{
		Broker: mq.BrokerConfig{Listen: "localhost:50051"},
		Client: mq.ClientConfig{Brokers: []string{"http://localhost:50051"}, Timeout: 30 * time.Second, MaxRetries: 3},
		Producer: mq.ProducerConfig{
			Topic: "events", Partitioner: mq.FixedPartition(0), Acks: mq.AcksLeader,
			Timeout: 5 * time.Second, BatchSize: 100, Linger: 100 * time.Millisecond,
		},
		Consumer: mq.ConsumerConfig{
			Topics: []string{"events"}, Partitions: []int32{0}, GroupID: "my-consumer-group", Start: mq.StartEarliest,
			MaxBytes: 1 << 20, MaxWait: time.Second, MinBytes: 1, AutoCommitInterval: 5 * time.Second, PollInterval: time.Second,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestZeroAndFalseInAFileAreNotDefaults(t *testing.T) {
	t.Parallel()
	f, err := load(t, `
producer: {required_acks: 0, partition: 0, flush_interval_ms: 0}
consumer: {partition: 0, offset: 0, auto_commit: false, max_wait_ms: 0}
`)
	if err != nil {
		t.Fatal(err)
	}
	if f.Producer.Acks != mq.AcksNone || f.Producer.Partitioner != mq.FixedPartition(0) || f.Producer.Linger >= 0 {
		t.Errorf("producer %+v", f.Producer)
	}
	c := f.Consumer
	if len(c.Partitions) != 1 || c.Start != mq.StartAt(0) || c.AutoCommitInterval >= 0 || c.MaxWait > time.Millisecond {
		t.Errorf("consumer %+v", c)
	}
}

func TestWhatAFileLeavesOutIsTheLibrarysDefault(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "producer:\n", "{}"} {
		if f, err := load(t, text); err != nil || !reflect.DeepEqual(f, config.Default()) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
}

func TestKeysOfTheLibraryWork(t *testing.T) {
	t.Parallel()
	f, err := load(t, `
broker: {id: 3, data_dir: d, listen: ":9", advertise: "h:9", brokers: ["a:1", "b:2"], timeout: 2s}
producer: {required_acks: all, compression: zstd, linger: 10ms, delivery_timeout: 1m}
consumer: {topics: [a, b], partitions: [1, 2], start: "@2026-05-04T00:00:00Z", reset: latest, auto_commit_interval: -1s}
`)
	if err != nil {
		t.Fatal(err)
	}
	if f.Broker.ID != 3 || f.Broker.Listen != ":9" || len(f.Client.Brokers) != 2 || f.Client.Timeout != 2*time.Second {
		t.Errorf("broker %+v %+v", f.Broker, f.Client)
	}
	if f.Producer.Acks != mq.AcksAll || f.Producer.Compression != mq.CompressionZstd || f.Producer.Linger != 10*time.Millisecond {
		t.Errorf("producer %+v", f.Producer)
	}
	if len(f.Consumer.Topics) != 2 || f.Consumer.Reset != mq.ResetLatest ||
		f.Consumer.Start != mq.StartAtTime(time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("consumer %+v", f.Consumer)
	}
}

func TestBadFilesAreToldByLineAndKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"producer:\n  topik: x\n":               "mq.yaml: line 2: unknown key topik",
		"brokers: {}\n":                         "line 1: unknown key brokers",
		"producer:\n  batch_size: many\n":       "line 2: cannot unmarshal !!str `many` into int",
		"producer:\n  required_acks: 7\n":       `acks "7" is none of`,
		"consumer:\n  offset: yesterday\n":      `"yesterday" is none of committed`,
		"producer: [\n":                         "line",
		"producer: {topic: a}\n---\nbroker: {}": "more than one YAML document",
		"\x00":                                  "control characters",
	} {
		_, err := load(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line with %q", text, err, want)
		}
	}
	if _, err := config.Load(t.TempDir()); err == nil {
		t.Error("a directory was read as a file")
	}
}

// Files that are handed out must load, also with every comment that shows a
// default taken off.
func TestExampleFilesLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../config/*.yaml")
	if err != nil || len(files) != 4 {
		t.Fatalf("example files: %v, %v", files, err)
	}
	shown := regexp.MustCompile(`(?m)^(  )# ([a-z_]+: )`)
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := load(t, string(text)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := load(t, shown.ReplaceAllString(string(text), "$1$2")); err != nil {
			t.Errorf("%s with its defaults: %v", path, err)
		}
	}
}

// Who looks for a setting finds it in the full example.
func TestFullExampleNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../config/example-full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []any{mq.BrokerConfig{}, mq.ClientConfig{}, mq.ProducerConfig{}, mq.ConsumerConfig{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(cfg)) {
			key := field.Tag.Get("yaml")
			if key == "" {
				t.Errorf("%T.%s has no YAML key", cfg, field.Name)
			}
			if key != "-" && !regexp.MustCompile(`\b`+key+`\b`).Match(text) {
				t.Errorf("%T.%s: no %s in the full example", cfg, field.Name, key)
			}
		}
	}
}
