package mq

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/fetch"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/route"
	"github.com/raftmq/mq/internal/topic"
)

// Names of topic configs, which are Kafka's.
const (
	ConfigRetentionMs     = topic.RetentionMs     // age after which records are deleted, in ms; -1 never. Default 7 days
	ConfigRetentionBytes  = topic.RetentionBytes  // size of a partition above which its oldest records are deleted; -1 unlimited, the default
	ConfigMaxMessageBytes = topic.MaxMessageBytes // largest record batch. Default 1 MiB
	ConfigTimestampType   = topic.TimestampType   // CreateTime, the default, or LogAppendTime
)

// Admin creates, describes and changes topics, and looks at groups and the
// cluster. It holds nothing that needs closing.
//
// Methods repeat attempts that had no effect and may succeed later, such as
// while a leader is elected, until ctx ends; a ctx without a deadline gets one
// of 30 seconds. A change whose answer got lost is not repeated: the error
// then is OutcomeUnknown.
//
// All methods are safe for concurrent use.
type Admin struct {
	router *route.Router
}

const (
	adminDeadline = 30 * time.Second // of calls whose ctx has none
	adminAttempt  = 10 * time.Second // of one attempt to read
)

// NewAdmin returns an Admin of the endpoint's cluster.
func NewAdmin(e Endpoint) *Admin { return &Admin{router: e.router()} }

// TopicSpec is a topic to be created.
type TopicSpec struct {
	Name string `json:"name" yaml:"name"` // 1 to 249 letters, digits, dots, underscores, hyphens

	// Partitions is their number. Default 0: as the brokers are configured.
	Partitions int `json:"partitions,omitempty" yaml:"partitions"`

	// ReplicationFactor is the number of brokers that store each partition.
	// Default 0: as the brokers are configured.
	ReplicationFactor int `json:"replication_factor,omitempty" yaml:"replication_factor"`

	// Configs are settings by name, such as ConfigRetentionMs. What is not
	// named has its default.
	Configs map[string]string `json:"configs,omitempty" yaml:"configs"`
}

// TopicInfo is a topic.
type TopicInfo struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`         // UUID; a topic created anew has another
	Partitions []PartitionInfo   `json:"partitions"` // by number
	Configs    map[string]string `json:"configs"`    // what was set; everything else has its default
}

// PartitionInfo is a partition. What is not known is -1; LogStart,
// HighWatermark, SizeBytes and ReplicaLogs are known to DescribeTopic only.
type PartitionInfo struct {
	Partition     int32   `json:"partition"`
	Leader        int32   `json:"leader"` // broker id
	LeaderEpoch   int32   `json:"leader_epoch"`
	Replicas      []int32 `json:"replicas"`       // broker ids
	LogStart      int64   `json:"log_start"`      // first offset that can be read
	HighWatermark int64   `json:"high_watermark"` // offset of the record that comes next
	SizeBytes     int64   `json:"size_bytes"`     // of the log on its leader

	ReplicaLogs []ReplicaLog `json:"replica_logs,omitempty"` // in the order of Replicas
}

// ReplicaLog is what one broker has of a partition. What is not known is -1.
type ReplicaLog struct {
	Broker        int32 `json:"broker"`
	Learner       bool  `json:"learner"`        // still catching up, does not count for the majority
	HighWatermark int64 `json:"high_watermark"` // offset of the record that comes next
	Lag           int64 `json:"lag"`            // how many records it lacks that the leader has
}

// CreateTopic creates a topic and returns it. Errors: ErrTopicExists,
// ErrInvalidTopic, ErrInvalidPartitions, ErrInvalidReplicationFactor,
// ErrInvalidConfig.
func (a *Admin) CreateTopic(ctx context.Context, spec TopicSpec) (TopicInfo, error) {
	if err := topic.CheckName(spec.Name); err != nil {
		return TopicInfo{}, fmt.Errorf("create topic: %w", err)
	}
	if spec.Partitions != 0 {
		if err := checkPartitions(spec.Partitions); err != nil {
			return TopicInfo{}, fmt.Errorf("create topic %q: %w", spec.Name, err)
		}
	}
	if spec.ReplicationFactor < 0 || spec.ReplicationFactor > math.MaxInt16 {
		return TopicInfo{}, fmt.Errorf("create topic %q: %w: %d", spec.Name, ErrInvalidReplicationFactor, spec.ReplicationFactor)
	}
	req := &api.CreateTopicRequest{
		Name:              spec.Name,
		Partitions:        int32(spec.Partitions),
		ReplicationFactor: int16(spec.ReplicationFactor),
		Configs:           maps.Clone(spec.Configs),
	}
	var made api.TopicInfo
	err := a.change(ctx, spec.Name, func(ctx context.Context, b api.Broker) error {
		resp, err := b.CreateTopic(ctx, req)
		if err == nil {
			made = resp.Topic
		}
		return err
	})
	if err != nil {
		return TopicInfo{}, fmt.Errorf("create topic %q: %w", spec.Name, err)
	}
	return topicInfo(made), nil
}

// DeleteTopic deletes a topic, its records and what groups committed for it.
// Errors: ErrUnknownTopicOrPartition.
func (a *Admin) DeleteTopic(ctx context.Context, name string) error {
	err := a.change(ctx, name, func(ctx context.Context, b api.Broker) error {
		_, err := b.DeleteTopic(ctx, &api.DeleteTopicRequest{Name: name})
		return err
	})
	if err != nil {
		return fmt.Errorf("delete topic %q: %w", name, err)
	}
	return nil
}

// AlterTopic sets topic configs and returns others, named in reset, to their
// defaults. What is not named stays as it is. KIP-339. Errors:
// ErrUnknownTopicOrPartition, ErrInvalidConfig.
func (a *Admin) AlterTopic(ctx context.Context, name string, set map[string]string, reset ...string) (TopicInfo, error) {
	req := &api.AlterTopicRequest{Name: name, Set: maps.Clone(set), Reset: slices.Clone(reset)}
	var altered api.TopicInfo
	err := a.change(ctx, name, func(ctx context.Context, b api.Broker) error {
		resp, err := b.AlterTopic(ctx, req)
		if err == nil {
			altered = resp.Topic
		}
		return err
	})
	if err != nil {
		return TopicInfo{}, fmt.Errorf("alter topic %q: %w", name, err)
	}
	return topicInfo(altered), nil
}

// AddPartitions raises the number of a topic's partitions to total. Records
// that are there stay where they are, so the partition of a key may change.
// Errors: ErrUnknownTopicOrPartition, ErrInvalidPartitions when total is not
// more than there are.
func (a *Admin) AddPartitions(ctx context.Context, name string, total int) (TopicInfo, error) {
	if err := checkPartitions(total); err != nil {
		return TopicInfo{}, fmt.Errorf("add partitions to %q: %w", name, err)
	}
	var grown api.TopicInfo
	err := a.change(ctx, name, func(ctx context.Context, b api.Broker) error {
		resp, err := b.AddPartitions(ctx, &api.AddPartitionsRequest{Name: name, Total: int32(total)})
		if err == nil {
			grown = resp.Topic
		}
		return err
	})
	if err != nil {
		return TopicInfo{}, fmt.Errorf("add partitions to %q: %w", name, err)
	}
	return topicInfo(grown), nil
}

func checkPartitions(n int) error {
	if n < 1 || n > topic.MaxPartitions {
		return fmt.Errorf("%w: %d is not 1 to %d", ErrInvalidPartitions, n, topic.MaxPartitions)
	}
	return nil
}

// change sends a change to whichever broker takes it. Who uses the topic on
// this endpoint learns of it at once.
func (a *Admin) change(ctx context.Context, name string, fn func(context.Context, api.Broker) error) error {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	asked := false
	err := repeat(ctx, adminDeadline, mayChangeAgain, func(ctx context.Context) error {
		_, err := askHinted(ctx, a.router, route.SeedID, func(b api.Broker) error {
			asked = true
			return outcome(fn(ctx, b))
		})
		return err
	})
	if _, used := a.router.Cached(name); used && asked {
		a.router.Want(name, false)
		_, _ = a.router.Topic(ctx, name, false) // waits for it; if it fails, who needs it asks again
	}
	return err
}

// read sends a question to any broker.
func (a *Admin) read(ctx context.Context, fn func(context.Context, api.Broker) error) error {
	return repeat(ctx, adminAttempt, mayReadAgain, func(ctx context.Context) error {
		_, err := askHinted(ctx, a.router, route.SeedID, func(b api.Broker) error { return fn(ctx, b) })
		return err
	})
}

// adminContext gives a ctx without a deadline one.
func adminContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, adminDeadline)
}

// A topic that is not there will not come by asking again.
func mayChangeAgain(err error) bool { return mqerr.Retriable(err) && !unknownTopic(err) }
func mayReadAgain(err error) bool   { return fetch.MayPass(err) && !unknownTopic(err) }

// outcome says of the error of a change that was sent that its outcome is
// unknown, unless a broker told.
func outcome(err error) error {
	if err == nil || mqerr.Of(err) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrTimeout, err)
}

func topicInfo(t api.TopicInfo) TopicInfo {
	info := TopicInfo{Name: t.Name, ID: t.ID.String(), Configs: t.Configs, Partitions: make([]PartitionInfo, len(t.Partitions))}
	for i, p := range t.Partitions {
		info.Partitions[i] = PartitionInfo{
			Partition: p.Index, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas,
			LogStart: -1, HighWatermark: -1, SizeBytes: -1,
		}
	}
	return info
}
