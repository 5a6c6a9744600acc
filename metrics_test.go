package mq_test

import (
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// A line of the Prometheus text format: a name, labels, a value.
var sampleLine = regexp.MustCompile(`^(mq_[a-z0-9_]+)(\{[a-z_]+="[^"\\]*"(?:,[a-z_]+="[^"\\]*")*\})? (\S+)$`)

// scrape reads the broker's metrics as a monitoring system would: by name and
// labels. A line that can't be read is an error.
func scrape(t testing.TB, b *mq.Broker) map[string]float64 {
	t.Helper()
	answer := httptest.NewRecorder()
	b.MetricsHandler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 || !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("answer %d of type %q: %s", answer.Code, answer.Header().Get("Content-Type"), answer.Body)
	}
	found, types, helps := map[string]float64{}, map[string]string{}, map[string]bool{}
	for line := range strings.Lines(answer.Body.String()) {
		line = strings.TrimSuffix(line, "\n")
		if words := strings.Fields(line); words[0] == "#" {
			switch words[1] {
			case "TYPE":
				types[words[2]] = words[3]
			case "HELP":
				helps[words[2]] = len(words) > 4
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("unreadable line %q", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("unreadable value in %q", line)
		}
		if _, twice := found[m[1]+m[2]]; twice {
			t.Errorf("%s%s is there twice", m[1], m[2])
		}
		found[m[1]+m[2]] = value
		name := m[1]
		if types[name] == "" { // the parts of a histogram
			name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		}
		if !helps[name] {
			t.Errorf("%s has no help", name)
		}
		if counter := types[name] == "counter"; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, types[name])
		}
	}
	return found
}

func TestMetricsMove(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{RetentionInterval: time.Hour})
		name := "metrics"
		if _, err := s.admin().CreateTopic(soon(t), mq.TopicSpec{Name: name, Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		before := scrape(t, s.broker)
		p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(1)})
		send(t, p, "0", "1", "2", "3", "4")
		take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 5)
		if _, err := s.admin().TrimTopic(soon(t), name, mq.StartAt(2), 1); err != nil {
			t.Fatal(err)
		}
		after := scrape(t, s.broker)
		for sample, want := range map[string]float64{
			`mq_cluster_brokers`:                                         1,
			`mq_cluster_topics`:                                          1,
			`mq_topic_partitions{topic="metrics"}`:                       2,
			`mq_cluster_under_replicated_partitions`:                     0,
			`mq_raft_proposals_dropped_total`:                            0,
			`mq_raft_snapshots_total{kind="sent"}`:                       0,
			`mq_raft_snapshots_total{kind="received"}`:                   0,
			`mq_cluster_partitions`:                                      2,
			`mq_cluster_leaderless_partitions`:                           0,
			`mq_partition_leader{partition="0",topic="metrics"}`:         1,
			`mq_partition_leader{partition="1",topic="metrics"}`:         1,
			`mq_partition_high_watermark{partition="0",topic="metrics"}`: 0,
			`mq_partition_high_watermark{partition="1",topic="metrics"}`: 5,
			`mq_partition_start_offset{partition="1",topic="metrics"}`:   2,
			`mq_produce_records_total{topic="metrics"}`:                  5,
			`mq_fetch_records_total{topic="metrics"}`:                    5,
			`mq_produce_duplicates_total{topic="metrics"}`:               0,
			`mq_produce_refused_total`:                                   0,
			`mq_produce_in_flight_bytes`:                                 0,
			`mq_storage_read_only`:                                       0,
			`mq_cluster_diverged_replicas`:                               0,
			`mq_storage_damaged_replicas`:                                0,
			`mq_storage_replaced_replicas_total`:                         0,
			`mq_build_info{goversion="` + runtime.Version() + `",revision="",version="` + mq.Version() + `"}`: 1,
		} {
			if got, ok := after[sample]; !ok || got != want {
				t.Errorf("%s is %v (%v), want %v", sample, got, ok, want)
			}
		}
		for _, sample := range []string{
			`mq_produce_bytes_total{topic="metrics"}`, `mq_fetch_bytes_total{topic="metrics"}`,
			`mq_partition_size_bytes{partition="1",topic="metrics"}`,
		} {
			if after[sample] < 3*61 || before[sample] != 0 {
				t.Errorf("%s went from %v to %v", sample, before[sample], after[sample])
			}
		}
		for _, sample := range []string{
			"mq_start_time_seconds", "mq_connections", "mq_raft_leader_changes_total", `mq_raft_snapshots_total{kind="cut"}`,
			"mq_raft_log_bytes", "mq_storage_bytes", "mq_storage_l0_files",
		} {
			if _, ok := after[sample]; !ok {
				t.Errorf("there is no %s", sample)
			}
		}
		for _, sample := range []string{"mq_raft_apply_duration_seconds_count", `mq_storage_fsync_duration_seconds_count{file="log"}`} {
			if after[sample] <= before[sample] {
				t.Errorf("%s went from %v to %v", sample, before[sample], after[sample])
			}
		}
		if _, ok := after[`mq_requests_in_flight{method="Produce"}`]; ok != d.remote {
			t.Errorf("requests in flight are there: %v", ok)
		}
		if _, ok := after["mq_storage_disk_free_bytes"]; ok != d.disk {
			t.Errorf("mq_storage_disk_free_bytes is there: %v", ok)
		}
		if got := after["mq_raft_log_bytes"]; got <= 0 {
			t.Errorf("mq_raft_log_bytes is %v", got)
		}

		// Over gRPC there are connections and requests, in process there are none.
		produced := after[`mq_request_duration_seconds_count{method="Produce"}`]
		if got := after["mq_connections"]; (got == 1) != d.remote || (produced == 5) != d.remote {
			t.Errorf("%v connections, %v produce requests", got, produced)
		}
		if d.remote {
			_, err := s.admin().DescribeTopic(soon(t), "none")
			wantError(t, err, mq.ErrUnknownTopicOrPartition)
			_, err = s.admin().AddPartitions(soon(t), name, 1)
			wantError(t, err, mq.ErrInvalidPartitions)
			failed := `mq_request_errors_total{method="AddPartitions",reason="INVALID_PARTITIONS"}`
			if got := scrape(t, s.broker)[failed]; got != 1 {
				t.Errorf("%s is %v", failed, got)
			}
		}
	})
}

func TestMetricsTellHowFarGroupsAre(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		if _, err := s.admin().CreateTopic(soon(t), mq.TopicSpec{Name: "topic", Partitions: 2}); err != nil {
			t.Fatal(err)
		}
		send(t, s.producer(t, mq.ProducerConfig{Topic: "topic", Partitioner: mq.FixedPartition(1)}), "0", "1", "2", "3", "4")
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{"topic"}, GroupID: "readers"})
		records := take(t, c, 2)
		if err := c.Commit(soon(t), records...); err != nil {
			t.Fatal(err)
		}
		samples := scrape(t, s.broker)
		for sample, want := range map[string]float64{
			`mq_group_members{group="readers"}`:                                      1,
			`mq_group_committed_offset{group="readers",partition="1",topic="topic"}`: 2,
			`mq_group_lag{group="readers",partition="1",topic="topic"}`:              3,
			`mq_group_lag_sum{group="readers"}`:                                      3,
			`mq_group_lag_max{group="readers"}`:                                      3,
		} {
			if got, ok := samples[sample]; !ok || got != want {
				t.Errorf("%s is %v (%v), want %v", sample, got, ok, want)
			}
		}
		if samples[`mq_group_rebalances_total{group="readers"}`] < 1 {
			t.Error("nobody ever decided who reads")
		}
	})
}

func TestBatchesThatAreNotAcknowledgedAreCounted(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := "narrow"
		spec := mq.TopicSpec{Name: name, Partitions: 1, Configs: map[string]string{"max.message.bytes": "1000"}}
		if _, err := s.admin().CreateTopic(soon(t), spec); err != nil {
			t.Fatal(err)
		}
		p := s.producer(t, mq.ProducerConfig{Topic: name})
		wantError(t, p.Send(soon(t), &mq.Record{Value: make([]byte, 5000)}), mq.ErrRecordTooLarge)
		refused := `mq_produce_errors_total{reason="MESSAGE_TOO_LARGE",topic="narrow"}`
		if got := scrape(t, s.broker)[refused]; got != 1 {
			t.Errorf("%s is %v", refused, got)
		}
		if err := s.admin().DeleteTopic(soon(t), name); err != nil {
			t.Fatal(err)
		}
		if got, there := scrape(t, s.broker)[refused]; there {
			t.Errorf("%s is %v though the topic is gone", refused, got)
		}
	})
}

func TestStatsTellWhatMetricsTell(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 1)
		send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "0", "1", "2")
		take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 3)
		stats := s.broker.Stats()
		if len(stats.Partitions) != 1 {
			t.Fatalf("%d partitions", len(stats.Partitions))
		}
		p := stats.Partitions[0]
		if p.Topic != name || !p.Leader || p.LeaderEpoch < 1 || p.LogStart != 0 || p.HighWatermark != 3 || p.SizeBytes < 3*61 ||
			p.RecordsIn != 3 || p.RecordsOut != 3 || p.BytesIn != p.SizeBytes || p.BytesOut != p.SizeBytes || p.Duplicates != 0 {
			t.Errorf("the partition is %+v", p)
		}
		if (stats.Connections == 1) != d.remote || (stats.DiskFreeBytes > 0) != d.disk || stats.HeldBytes != p.SizeBytes || stats.Fenced != nil {
			t.Errorf("stats are %+v", stats)
		}
	})
}

// Names are the broker's own: neither another broker in the process nor another
// scrape at the same time is in the way.
func TestMetricsOfTwoBrokersDoNotClash(t *testing.T) {
	t.Parallel()
	a, b := door{}.open(t, mq.BrokerConfig{}), door{remote: true}.open(t, mq.BrokerConfig{})
	send(t, a.producer(t, mq.ProducerConfig{Topic: "only-a"}), "v")
	var wg sync.WaitGroup
	for _, s := range []*site{a, b, a, b} {
		wg.Go(func() {
			_, there := scrape(t, s.broker)[`mq_produce_records_total{topic="only-a"}`]
			if there != (s == a) {
				t.Errorf("the topic of one broker shows at the other")
			}
		})
	}
	wg.Wait()
	names := func(s *site) (ns []string) {
		for sample := range scrape(t, s.broker) {
			if name, labels, _ := strings.Cut(sample, "{"); labels == "" {
				ns = append(ns, name)
			}
		}
		slices.Sort(ns)
		return ns
	}
	if x, y := names(a), names(b); !slices.Equal(x, y) {
		t.Errorf("one broker has %v, the other %v", x, y)
	}
}
