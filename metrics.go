package mq

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/raftmq/mq/cluster"
	"github.com/raftmq/mq/internal/mqerr"
)

// metrics exports a broker's numbers to Prometheus from a registry of its own.
// Names begin with mq_, have base units, and counters end in _total.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	errors   *prometheus.CounterVec
	fsyncs   *prometheus.HistogramVec
	applies  prometheus.Histogram
}

// upTo6s are buckets from 100 µs to 6.5 s.
var upTo6s = prometheus.ExponentialBuckets(0.0001, 4, 9)

// newMetrics makes the metrics that are counted as things happen. Those that are
// read at a scrape come with the broker, see watch.
func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mq_request_duration_seconds", Help: "Time to answer a gRPC request, by method.",
			Buckets: upTo6s,
		}, []string{"method"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mq_request_errors_total", Help: "gRPC requests that failed as a whole, by method and reason.",
		}, []string{"method", "reason"}),
		fsyncs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mq_storage_fsync_duration_seconds", Help: "Time of an fsync: of the raft log, which an acknowledgement waits for, or of the store.",
			Buckets: upTo6s,
		}, []string{"file"}),
		applies: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mq_raft_apply_duration_seconds", Help: "Time to apply a batch of commands to the store.",
			Buckets: upTo6s,
		}),
	}
	// Registering can only fail for a name given twice, which is a fault here.
	m.registry.MustRegister(m.requests, m.errors, m.fsyncs, m.applies)
	return m
}

func (m *metrics) watch(b *Broker) {
	m.registry.MustRegister(&brokerCollector{b: b, started: time.Now()})
}

func (m *metrics) observer() cluster.Observer {
	seconds := func(o prometheus.Observer) func(time.Duration) {
		return func(took time.Duration) { o.Observe(took.Seconds()) }
	}
	return cluster.Observer{
		LogSync:   seconds(m.fsyncs.WithLabelValues("log")),
		StoreSync: seconds(m.fsyncs.WithLabelValues("store")),
		Apply:     seconds(m.applies),
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// observe implements transport.ServerConfig.Observe.
func (m *metrics) observe(method string, took time.Duration, err error) {
	m.requests.WithLabelValues(method).Observe(took.Seconds())
	if err != nil {
		reason := "OTHER"
		if e := mqerr.Of(err); e != nil && e.Reason() != "" {
			reason = e.Reason()
		}
		m.errors.WithLabelValues(method, reason).Inc()
	}
}

// brokerCollector turns Stats into metrics at each scrape.
type brokerCollector struct {
	b       *Broker
	started time.Time
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	partitionLabels = []string{"topic", "partition"}
	groupLabels     = []string{"group", "topic", "partition"}
)

var (
	descInfo            = desc("mq_build_info", "Version of mq and Go; always 1.", "version", "revision", "goversion")
	descStart           = desc("mq_start_time_seconds", "When the broker was opened, in seconds since 1970.")
	descBrokers         = desc("mq_cluster_brokers", "Brokers of the cluster.")
	descTopics          = desc("mq_cluster_topics", "Topics of the cluster.")
	descPartitions      = desc("mq_cluster_partitions", "Partitions of the cluster.")
	descTopicPartitions = desc("mq_topic_partitions", "Partitions of a topic of the cluster.", "topic")
	descLeaderless      = desc("mq_cluster_leaderless_partitions", "Partitions of this broker that nobody is known to lead.")
	descUnder           = desc("mq_cluster_under_replicated_partitions", "Partitions this broker leads, of which it reaches fewer voting replicas than there should be.")
	descEnd             = desc("mq_partition_end_offset", "Next offset of this broker's copy of a partition: behind the leader's high watermark by the lag of the copy.", partitionLabels...)
	descHigh            = desc("mq_partition_high_watermark", "Next offset of a partition.", partitionLabels...)
	descLow             = desc("mq_partition_start_offset", "Oldest readable offset of a partition.", partitionLabels...)
	descSize            = desc("mq_partition_size_bytes", "Bytes of a partition's records.", partitionLabels...)
	descLeader          = desc("mq_partition_leader", "1 when this broker leads the partition.", partitionLabels...)
	descProduced        = desc("mq_produce_records_total", "Records appended.", "topic")
	descProducedBytes   = desc("mq_produce_bytes_total", "Bytes of record batches appended.", "topic")
	descFetched         = desc("mq_fetch_records_total", "Records fetched.", "topic")
	descFetchedBytes    = desc("mq_fetch_bytes_total", "Bytes of record batches fetched.", "topic")
	descDuplicates      = desc("mq_produce_duplicates_total", "Batches sent again and not appended twice.", "topic")
	descFailed          = desc("mq_produce_errors_total", "Batches not acknowledged; topic is empty for those that do not exist.", "topic", "reason")
	descMembers         = desc("mq_group_members", "Members of a group that this broker coordinates.", "group")
	descRebalances      = desc("mq_group_rebalances_total", "Times it was decided anew who reads what in a group.", "group")
	descCommitted       = desc("mq_group_committed_offset", "Next offset that a group reads in a partition.", groupLabels...)
	descLag             = desc("mq_group_lag", "Records of a partition that a group has not committed; only where this broker has a copy.", groupLabels...)
	descLagSum          = desc("mq_group_lag_sum", "Sum of mq_group_lag over the partitions.", "group")
	descLagMax          = desc("mq_group_lag_max", "Largest mq_group_lag of the partitions.", "group")
	descRefused         = desc("mq_produce_refused_total", "Batches refused before they were replicated.")
	descInFlight        = desc("mq_requests_in_flight", "gRPC requests not answered yet.", "method")
	descInFlightBytes   = desc("mq_produce_in_flight_bytes", "Bytes on their way to the raft log.")
	descConnections     = desc("mq_connections", "Open gRPC connections.")
	descLeaderChanges   = desc("mq_raft_leader_changes_total", "Partitions that lost their leader.")
	descDropped         = desc("mq_raft_proposals_dropped_total", "Commands that raft gave up.")
	descSnapshots       = desc("mq_raft_snapshots_total", "Snapshots: the raft log was cut, or one was sent to a broker far behind, or received.", "kind")
	descRaftLog         = desc("mq_raft_log_bytes", "Raft log that a restart would read again.")
	descStorage         = desc("mq_storage_bytes", "Bytes used by the store.")
	descL0              = desc("mq_storage_l0_files", "Store files not sorted into levels yet.")
	descDiskFree        = desc("mq_storage_disk_free_bytes", "Free bytes on the disk of the data directory.")
	descDiverged        = desc("mq_cluster_diverged_replicas", "Replicas that do not hold the records that those do which this broker leads. Must be 0.")
	descDamaged         = desc("mq_storage_damaged_replicas", "Replicas that the broker can't read. They are replaced by other brokers if there are other replicas.")
	descReplaced        = desc("mq_storage_replaced_replicas_total", "Replicas that were damaged and given up, for other brokers to replace.")
	descReadOnly        = desc("mq_storage_read_only", "1 while the broker refuses to append for lack of space.")
)

// Describe implements prometheus.Collector. It sends nothing: which topics there
// are is not known in advance, so the collector is unchecked.
func (c *brokerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *brokerCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descInfo, 1, Version(), revision(), runtime.Version())
	gauge(descStart, float64(c.started.UnixMilli())/1000)
	s := c.b.Stats()
	partitions := 0
	for _, t := range s.Topics {
		partitions += t.Partitions
		gauge(descTopicPartitions, float64(t.Partitions), t.Name)
	}
	gauge(descBrokers, float64(s.Brokers))
	gauge(descTopics, float64(len(s.Topics)))
	gauge(descPartitions, float64(partitions))
	gauge(descLeaderless, float64(s.Leaderless))
	gauge(descUnder, float64(s.UnderReplicated))
	type sums struct{ records, bytes, outRecords, outBytes, duplicates int64 }
	topics := map[string]*sums{}
	each := len(s.Partitions) <= maxPartitionSeries
	for _, p := range s.Partitions {
		t := topics[p.Topic]
		if t == nil {
			t = &sums{}
			topics[p.Topic] = t
		}
		t.records += p.RecordsIn
		t.bytes += p.BytesIn
		t.outRecords += p.RecordsOut
		t.outBytes += p.BytesOut
		t.duplicates += p.Duplicates
		if !each {
			continue
		}
		labels := []string{p.Topic, strconv.Itoa(int(p.Partition))}
		gauge(descEnd, float64(p.EndOffset), labels...)
		leads := 0.0
		if p.Leader {
			leads = 1
			gauge(descHigh, float64(p.HighWatermark), labels...)
			gauge(descLow, float64(p.LogStart), labels...)
			gauge(descSize, float64(p.SizeBytes), labels...)
		}
		gauge(descLeader, leads, labels...)
	}
	for name, t := range topics {
		counter(descProduced, t.records, name)
		counter(descProducedBytes, t.bytes, name)
		counter(descFetched, t.outRecords, name)
		counter(descFetchedBytes, t.outBytes, name)
		counter(descDuplicates, t.duplicates, name)
	}
	series := 0
	for _, g := range s.Groups {
		gauge(descMembers, float64(g.Members), g.Group)
		counter(descRebalances, g.Rebalances, g.Group)
		var sum, most int64
		for _, p := range g.Partitions {
			sum, most = sum+max(p.Lag, 0), max(most, p.Lag)
			if series++; series > maxPartitionSeries {
				continue
			}
			labels := []string{g.Group, p.Topic, strconv.Itoa(int(p.Partition))}
			gauge(descCommitted, float64(p.Committed), labels...)
			if p.Lag >= 0 {
				gauge(descLag, float64(p.Lag), labels...)
			}
		}
		gauge(descLagSum, float64(sum), g.Group)
		gauge(descLagMax, float64(most), g.Group)
	}
	for _, f := range s.ProduceFailures {
		counter(descFailed, f.Batches, f.Topic, f.Reason)
	}
	counter(descRefused, s.ProduceRefused)
	for method, open := range c.b.requestsInFlight() {
		gauge(descInFlight, float64(open), method)
	}
	gauge(descInFlightBytes, float64(s.InFlightBytes))
	gauge(descConnections, float64(s.Connections))
	counter(descLeaderChanges, s.LeaderChanges)
	counter(descDropped, s.ProposalsDropped)
	counter(descSnapshots, s.RaftSnapshots, "cut")
	counter(descSnapshots, s.SnapshotsSent, "sent")
	counter(descSnapshots, s.SnapshotsReceived, "received")
	gauge(descRaftLog, float64(s.RaftLogBytes))
	gauge(descStorage, float64(s.StorageBytes))
	gauge(descDiverged, float64(s.DivergedReplicas))
	gauge(descDamaged, float64(s.DamagedReplicas))
	counter(descReplaced, s.ReplacedReplicas)
	gauge(descL0, float64(s.StorageL0Files))
	if s.DiskFreeBytes >= 0 {
		gauge(descDiskFree, float64(s.DiskFreeBytes))
	}
	fenced := 0.0
	if s.Fenced != nil {
		fenced = 1
	}
	gauge(descReadOnly, fenced)
}

// maxPartitionSeries is how many partitions a broker may have before it stops to
// export each of them: monitoring systems pay by the series.
const maxPartitionSeries = 1000

// revision is the commit that the program was built from, if the build knew.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

// Version is this module's version as the build recorded it, "devel" when it
// was built from a working copy.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if info.Main.Path == modulePath && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			return dep.Version
		}
	}
	return "devel"
}

const modulePath = "github.com/raftmq/mq"
