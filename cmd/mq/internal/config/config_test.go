package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

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

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "mq.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads a text as if it was the only source.
func load(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	return config.Load(write(t, text))
}

func mustLoad(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPublishedKeysMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, published).File
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
	for _, text := range []string{`
broker: {max_retries: 0, min_free_bytes: 0}
producer: {required_acks: 0, partition: 0, flush_interval_ms: 0}
consumer: {partition: 0, offset: 0, auto_commit: false, max_wait_ms: 0}
`, `
broker: {max_retries: 0, min_free_bytes: 0}
producer: {required_acks: none, partition: 0, linger: 0s}
consumer: {partitions: [0], start: 0, auto_commit: no, max_wait: 0}
`} {
		f := mustLoad(t, text)
		if f.Client.MaxRetries != mq.NoRetries || f.Broker.MinFreeBytes >= 0 {
			t.Errorf("broker %+v %+v", f.Client, f.Broker)
		}
		if f.Producer.Acks != mq.AcksNone || f.Producer.Partitioner != mq.FixedPartition(0) || f.Producer.Linger >= 0 {
			t.Errorf("producer %+v", f.Producer)
		}
		c := f.Consumer
		if !slices.Equal(c.Partitions, []int32{0}) || c.Start != mq.StartAt(0) || c.AutoCommitInterval >= 0 || c.MaxWait > time.Millisecond || c.MaxWait <= 0 {
			t.Errorf("consumer %+v", c)
		}
	}
}

func TestWhatAFileLeavesOutIsTheLibrarysDefault(t *testing.T) {
	t.Parallel()
	want := config.File{
		Broker: mq.BrokerConfig{Listen: config.DefaultAddress},
		Client: mq.ClientConfig{Brokers: []string{config.DefaultAddress}},
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "producer:\n", "{}", "producer: {topic: ~}", "broker: {address: '', brokers: []}"} {
		if got, err := load(t, text); err != nil || !reflect.DeepEqual(got.File, want) && text != "broker: {address: '', brokers: []}" {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestKeysOfTheLibraryWork(t *testing.T) {
	t.Parallel()
	f := mustLoad(t, `
broker: {id: 3, data_dir: d, listen: ":9", advertise: "h:9", brokers: ["a:1", "b:2"], timeout: 2s, max_memory: 1_000_000_000}
producer: {required_acks: all, compression: zstd, linger: 10ms, delivery_timeout: 1m}
consumer: {topics: [a, b], partitions: [1, 2], start: "@2026-05-04T00:00:00Z", reset: latest, auto_commit_interval: -1s}
`)
	if f.Broker.ID != 3 || f.Broker.Listen != ":9" || len(f.Client.Brokers) != 2 || f.Client.Timeout != 2*time.Second || f.Broker.MaxMemory != 1e9 {
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

func TestAnchorsAndMergesWork(t *testing.T) {
	t.Parallel()
	f := mustLoad(t, `
producer: &p {topic: a, timeout: &t 3s}
consumer:
  <<: {topics: [x, y], group_id: g}
  topics: [z]
  timeout: *t
`)
	if f.Consumer.Timeout != 3*time.Second || f.Consumer.GroupID != "g" || !slices.Equal(f.Consumer.Topics, []string{"z"}) {
		t.Errorf("%+v", f.Consumer)
	}
}

func TestBadFilesAreToldByFileLineAndKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"producer:\n  topik: x\n":                              "mq.yaml:2: producer.topik: unknown key; did you mean topic?",
		"producer:\n  group_id: x\n":                           "mq.yaml:2: producer.group_id: unknown key; it belongs under consumer",
		"producer:\n  colour: x\n":                             "mq.yaml:2: producer.colour: unknown key",
		"brokers: {}\n":                                        "mq.yaml:1: brokers: unknown key; it belongs under broker",
		"producers: {}\n":                                      "mq.yaml:1: producers: unknown key; did you mean producer?",
		"\nbatch_size: 1\n":                                    "mq.yaml:2: batch_size: unknown key; it belongs under producer",
		"producer:\n  batch_size: many\n":                      `mq.yaml:2: producer.batch_size: "many" is not a whole number`,
		"producer:\n  timeout_ms: 5s\n":                        `mq.yaml:2: producer.timeout_ms: "5s" is not a whole number`,
		"producer:\n  timeout: 5\n":                            "mq.yaml:2: producer.timeout: 5 wants a unit, as in 5ms or 5s",
		"producer:\n  timeout: soon\n":                         `mq.yaml:2: producer.timeout: "soon" is not a duration`,
		"producer:\n  partition: 99999999999\n":                `producer.partition: "99999999999" is not a whole number of at most 32 bits`,
		"producer:\n  required_acks: 7\n":                      `mq.yaml:2: producer.required_acks: acks "7" is none of`,
		"producer:\n  topic: [a]\n":                            "mq.yaml:2: producer.topic: want one value",
		"producer:\n  topic: no spaces\n":                      "mq.yaml:2: producer.topic: topic name not allowed",
		"producer:\n  flush_interval_ms: 900000\n":             "mq.yaml:2: producer.flush_interval_ms: 15m0s is not below delivery_timeout",
		"producer:\n  partition: -1\n":                         "mq.yaml:2: producer.partition: -1 is negative",
		"consumer:\n  topics: {a: b}\n":                        "mq.yaml:2: consumer.topics: want a list",
		"consumer:\n  auto_commit: maybe\n":                    `mq.yaml:2: consumer.auto_commit: "maybe" is neither true nor false`,
		"consumer:\n  offset: yesterday\n":                     `mq.yaml:2: consumer.offset: "yesterday" is none of committed`,
		"consumer:\n  topic: a\n  topics: [b]\n":               "mq.yaml:2: consumer.topic: keep one",
		"consumer:\n  topic: a\n  topic: b\n":                  "mq.yaml:3: consumer.topic: is there already, on line 2",
		"consumer: {}\nconsumer: {}\n":                         "mq.yaml:2: consumer: is there already, on line 1",
		"broker:\n  id: -1\n":                                  "mq.yaml:2: broker.id: -1 is below 1",
		"broker:\n  address: here\n":                           `mq.yaml:2: broker.address: "here" is not host:port`,
		"broker:\n  brokers: [here]\n":                         `mq.yaml:2: broker.brokers: "here" is not host:port`,
		"broker:\n  cluster:\n    seed: []\n":                  "mq.yaml:3: broker.cluster.seed: unknown key; did you mean seeds?",
		"broker:\n  cluster: yes\n":                            "mq.yaml:2: broker.cluster: want keys under it",
		"broker:\n  cluster:\n    seeds: [here]\n":             "mq.yaml:3: broker.cluster.seeds: ",
		"broker: localhost:50051\n":                            "mq.yaml:1: broker: want keys under it",
		"- broker\n":                                           "mq.yaml:1: want the sections broker, producer, consumer",
		"? [a]\n: b\n":                                         "mq.yaml:1: a key that is no word; want the sections",
		"broker:\n  ? {a: b}\n  : c\n":                         "mq.yaml:2: a key that is no word; broker: want keys",
		"just text":                                            "mq.yaml:1: want the sections",
		"producer: [\n":                                        "not YAML: ",
		"a: b: c\n":                                            "mq.yaml: not YAML: mapping values",
		"producer: {topic: a}\n---\nbroker: {}":                "mq.yaml:2: a second YAML document: want one",
		"\x00":                                                 "mq.yaml: not YAML: control characters",
		"consumer: &c\n  <<: *c\n":                             "want keys under it",
		"producer: *nowhere\n":                                 "not YAML: ",
		"producer: {topik: a}\nconsumer: {topik: b, huh: c}\n": "(and 2 more)",
		strings.Repeat("#", 1<<20) + "\n":                      "mq.yaml: larger than 1 MiB",
	} {
		_, err := load(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: got %v, want one line with %q", text, err, want)
		}
	}
}

func TestFilesThatCannotBeReadAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]error{dir: errors.New("is a directory"), filepath.Join(dir, "absent"): os.ErrNotExist} {
		if _, err := config.FromFile(path); err == nil || !strings.Contains(err.Error(), path) ||
			!errors.Is(err, want) && !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// layers are the sources as text, lowest first.
func layers(t *testing.T, file, profile string, env []string, broker string, overrides ...string) (*config.Config, error) {
	t.Helper()
	f, err1 := config.FromFile(write(t, file))
	p, err2 := config.FromProfile(write(t, profile), "prod")
	e, err3 := config.FromEnv(env)
	o, err4 := config.FromFlags(broker, overrides)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	return config.Resolve(o, e, p, f) // in any order
}

func TestEveryKeyComesFromTheHighestSource(t *testing.T) {
	t.Parallel()
	for _, name := range config.Names() {
		section, key, _ := strings.Cut(name, ".")
		if strings.HasPrefix(key, "cluster.") && key != "cluster.listen" {
			continue // refused without cluster.listen
		}
		if strings.Contains(key, "tls.") && key != "client_tls.ca_file" && key != "client_tls.insecure_skip_verify" {
			continue // refused without the others
		}
		if key == "topic_pattern" {
			continue // refused without group_id
		}
		value := map[string]string{
			"topic": "t", "topics": "t", "address": "h:1", "brokers": "h:1", "listen": "h:1", "advertise": "h:1",
			"required_acks": "leader", "compression": "zstd", "offset": "7", "start": "7", "reset": "latest", "read_from": "nearest", "isolation": "read_committed",
			"data_dir": "d", "group_id": "g", "auto_commit": "false", "disable_auto_create": "true", "client_tls.insecure_skip_verify": "true",
			"cluster.listen": "h:1",
			"max_memory":     "99999999", "max_in_flight": "3",
			"retry.backoff": "77ms", "retry.max_backoff": "777ms",
		}[key]
		switch {
		case value != "":
		case strings.HasSuffix(key, "timeout"), strings.HasSuffix(key, "interval"), strings.HasSuffix(key, "retention"), key == "linger", key == "max_wait":
			value = "77ms"
		default:
			value = "77"
		}
		text := section + ": {" + strings.ReplaceAll(key, ".", ": {") + ": '" + value + "'" + strings.Repeat("}", strings.Count(name, "."))
		variable := config.Variable(name) + "=" + value
		source := func(c *config.Config, err error) string {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var sources []string
			for _, s := range c.Settings() {
				if s.Source != "default" && s.Source != "broker.address" {
					sources = append(sources, s.Source)
				}
			}
			return strings.Join(sources, ", ")
		}
		got := []string{
			source(layers(t, text, "", nil, "")),
			source(layers(t, text, text, nil, "")),
			source(layers(t, text, text, []string{variable}, "")),
			source(layers(t, text, text, []string{variable}, "", name+"="+value)),
		}
		wants := []string{"mq.yaml:1", "profile prod", config.Variable(name), "-X " + name}
		for i, want := range wants {
			if !strings.Contains(got[i], want) || strings.Contains(got[i], ", ") {
				t.Errorf("%s: got %q, want %q", name, got[i], want)
			}
		}
	}
}

func TestAHigherSourceHidesTheSameUnderAnotherName(t *testing.T) {
	t.Parallel()
	c, err := layers(t, "producer: {linger: 1s}\nconsumer: {topics: [a, b], auto_commit: false}", "producer: {flush_interval_ms: 20}",
		[]string{"MQ_CONSUMER_TOPIC=c", "MQ_CONSUMER_AUTO_COMMIT=true", "MQ_CONSUMER_GROUP_ID=", "HOME=/x", "MQ_BROKER_PORT=tcp://1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Producer.Linger != 20*time.Millisecond || !slices.Equal(c.Consumer.Topics, []string{"c"}) || c.Consumer.AutoCommitInterval < 0 {
		t.Errorf("%+v %+v", c.Producer, c.Consumer)
	}
}

func TestTheAddressServesBothSides(t *testing.T) {
	t.Parallel()
	const none = ""
	for _, tt := range []struct {
		file, profile string
		env           []string
		broker        string
		listen, reach string
	}{
		{"broker: {address: 'http://a:1/'}", none, nil, none, "a:1", "http://a:1/"},
		{"broker: {address: 'a:1', listen: ':2', brokers: ['b:3']}", none, nil, none, ":2", "b:3"},
		{"broker: {listen: ':2', brokers: ['b:3']}", none, []string{"MQ_BROKER=c:4"}, none, ":2", "c:4"},
		{"broker: {listen: ':2', brokers: ['b:3']}", none, []string{"MQ_BROKER_ADDRESS=c:4"}, "https://d:5", "d:5", "https://d:5"},
		{"broker: {address: 'a:1'}", none, []string{"MQ_BROKER_BROKERS=c:4, d:5"}, none, "a:1", "c:4 d:5"},
		// A profile says whom to reach, which is no place to listen at.
		{none, "broker: {address: 'p:1'}", nil, none, config.DefaultAddress, "p:1"},
		{"broker: {listen: ':2'}", "broker: {address: 'p:1'}", nil, none, ":2", "p:1"},
	} {
		c, err := layers(t, tt.file, tt.profile, tt.env, tt.broker)
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		if c.Broker.Listen != tt.listen || strings.Join(c.Client.Brokers, " ") != tt.reach {
			t.Errorf("%+v: listens at %s, reaches %s", tt, c.Broker.Listen, c.Client.Brokers)
		}
	}
}

func TestWrongValuesNameTheirVariableOrFlag(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env, overrides []string
		broker, want   string
	}{
		{env: []string{"MQ_PRODUCER_LINGER=soon"}, want: `MQ_PRODUCER_LINGER: "soon" is not a duration`},
		{env: []string{"MQ_PRODUCER_MAX_IN_FLIGHT=99"}, want: "MQ_PRODUCER_MAX_IN_FLIGHT: 99 is not in 1 to 32"},
		{env: []string{"MQ_BROKER=nonsense"}, want: `MQ_BROKER: "nonsense" is not host:port`},
		{env: []string{"MQ_BROKER=a:1", "MQ_BROKER_ADDRESS=b:2"}, want: "MQ_BROKER_ADDRESS: says the same as MQ_BROKER: keep one"},
		{broker: "nonsense", want: `--broker: "nonsense" is not host:port`},
		{overrides: []string{"producer.lingr=1s"}, want: "-X producer.lingr=1s: unknown key; did you mean linger?"},
		{overrides: []string{"linger=1s"}, want: "-X linger=1s: unknown key; did you mean producer.linger?"},
		{overrides: []string{"producer.linger"}, want: "-X producer.linger: want KEY=VALUE"},
		{overrides: []string{"producer.linger=x"}, want: `-X producer.linger: "x" is not a duration`},
	} {
		_, err := layers(t, "", "", tt.env, tt.broker, tt.overrides...)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "more)") {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestVariablesThatLookLikeOursAreTold(t *testing.T) {
	t.Parallel()
	got := config.Strays([]string{"MQ_BROKER_ADDR=x", "MQ_LOG=info", "MQ_BROKER=a", "MQ_SERVICE_HOST=1", "OTHER=1"})
	if !slices.Equal(got, []string{"MQ_BROKER_ADDR sets nothing; did you mean MQ_BROKER_ADDRESS?"}) {
		t.Error(got)
	}
}

// What is printed, loaded again, is the same configuration.
func TestPrintedSettingsConfigureTheSame(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", published,
		"broker: {max_retries: 0, min_free_bytes: 0, address: 'https://a:1'}\nproducer: {linger: 0, topic: '123'}\nconsumer: {max_wait: 0, auto_commit: false}",
		"broker: {brokers: ['a:1', 'b:2'], listen: ':1', max_retries: -1, cluster: {listen: 'a:3', seeds: ['c:4']}}\nconsumer: {start: '@5', topics: [x, y], partitions: [3]}",
	} {
		c := mustLoad(t, text)
		printed, err := yaml.Marshal(config.Document(c.Settings()))
		if err != nil {
			t.Fatal(err)
		}
		again := mustLoad(t, string(printed))
		if !reflect.DeepEqual(again.Settings(), withSource(c.Settings(), again.Settings())) {
			t.Errorf("%s\nprinted as\n%s", text, printed)
		}
		if b, _ := c.Broker.Complete(); !reflect.DeepEqual(again.Broker, withoutLogger(b)) {
			t.Errorf("%+v\nbecame\n%+v", b, again.Broker)
		}
		if !slices.Equal(again.Client.Brokers, c.Client.Brokers) || again.Consumer.Start != c.Consumer.Start ||
			again.Producer.Partitioner != c.Producer.Partitioner || again.Producer.Topic != c.Producer.Topic {
			t.Errorf("%+v\nbecame\n%+v", c.File, again.File)
		}
	}
}

func withSource(settings, sources []config.Setting) []config.Setting {
	for i := range settings {
		settings[i].Source = sources[i].Source
	}
	return settings
}

func withoutLogger(b mq.BrokerConfig) mq.BrokerConfig {
	b.Logger, b.Cluster.Network = nil, nil
	return b
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	got := config.Hidden([]config.Setting{{Key: "broker.password", Value: "x"}, {Key: "broker.auth_token", Value: "x"}, {Key: "producer.topic", Value: "x"}})
	if got[0].Value != "***" || got[1].Value != "***" || got[2].Value != "x" {
		t.Error(got)
	}
}

// Nothing that somebody writes into a file makes it panic.
func FuzzFilesNeverPanic(f *testing.F) {
	f.Add(published)
	f.Add("a: &a [*a]\n")
	f.Add("consumer: {<<: [{a: b}], topics: [[x]]}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(t, text)
		if err != nil {
			return
		}
		if len(c.Settings()) == 0 {
			t.Error("no settings")
		}
	})
}
