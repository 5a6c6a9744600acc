package mq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/raftmq/mq/internal/api"
)

// ListTopics returns all topics by name.
func (a *Admin) ListTopics(ctx context.Context) ([]TopicInfo, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	answer, err := a.metadata(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	topics := make([]TopicInfo, len(answer.Topics))
	for i, t := range answer.Topics {
		topics[i] = topicInfo(t)
	}
	slices.SortFunc(topics, func(a, b TopicInfo) int { return cmp.Compare(a.Name, b.Name) })
	return topics, nil
}

// describePatience is how long DescribeTopic waits for leaders.
const describePatience = 2 * time.Second

// DescribeTopic returns a topic and the state of its partitions' logs as the
// brokers that have them tell it. Those that do not answer within two seconds
// leave that unknown. Errors: ErrUnknownTopicOrPartition.
func (a *Admin) DescribeTopic(ctx context.Context, name string) (TopicInfo, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	t, err := a.topic(ctx, name)
	if err != nil {
		return TopicInfo{}, fmt.Errorf("describe topic %q: %w", name, err)
	}
	info := described(t)
	patient, cancel := context.WithTimeout(ctx, describePatience)
	defer cancel()
	_ = repeat(patient, describePatience, mayReadAgain, func(ctx context.Context) error { // what fails stays unknown
		t, err := a.topic(ctx, name)
		if err != nil {
			return err
		}
		info = described(t)
		return a.addLogs(ctx, &info)
	})
	return info, nil
}

// described is a topic of whose logs nothing is known yet.
func described(t api.TopicInfo) TopicInfo {
	info := topicInfo(t)
	for i, p := range t.Partitions {
		for _, id := range p.Replicas {
			log := ReplicaLog{Broker: id, Learner: slices.Contains(p.Learners, id), HighWatermark: -1, Lag: -1}
			info.Partitions[i].ReplicaLogs = append(info.Partitions[i].ReplicaLogs, log)
		}
	}
	return info
}

// topic returns fresh metadata of a topic. The Router's is for those who send
// and read, and who asks it again and again has to wait.
func (a *Admin) topic(ctx context.Context, name string) (api.TopicInfo, error) {
	answer, err := a.metadata(ctx, []string{name})
	if err != nil {
		return api.TopicInfo{}, err
	}
	if len(answer.Topics) != 1 {
		return api.TopicInfo{}, fmt.Errorf("%w: %d answers about one topic", ErrInternal, len(answer.Topics))
	}
	return answer.Topics[0], answer.Topics[0].Err
}

// addLogs asks the brokers that have the topic, all at once, for the state of
// their logs. It fails while a leader has not told.
func (a *Admin) addLogs(ctx context.Context, info *TopicInfo) error {
	var ids []int32
	for _, p := range info.Partitions {
		ids = append(append(ids, p.Leader), p.Replicas...)
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id int32) bool { return id < 0 })
	type answer struct {
		broker int32
		logs   []api.LogInfo
		err    error
	}
	answers := make(chan answer, len(ids)) // takes all, also when nobody waits any more
	for _, id := range ids {
		go func() { // ends with ctx
			logs, err := a.logsOf(ctx, id, info.Name)
			answers <- answer{id, logs, err}
		}()
	}
	var errs []error
	for range ids {
		select {
		case got := <-answers:
			errs = append(errs, got.err)
			for _, l := range got.logs {
				info.addLog(got.broker, l)
			}
		case <-ctx.Done():
			errs = append(errs, context.Cause(ctx))
		}
	}
	info.sumLags()
	for _, p := range info.Partitions {
		if p.HighWatermark < 0 {
			errs = append(errs, fmt.Errorf("%s/%d: %w", info.Name, p.Partition, ErrLeaderNotAvailable))
			return errors.Join(errs...)
		}
	}
	return nil // what others did not tell stays unknown
}

func (a *Admin) logsOf(ctx context.Context, broker int32, topic string) ([]api.LogInfo, error) {
	b, err := a.router.Broker(ctx, broker)
	if err != nil {
		return nil, err
	}
	resp, err := b.DescribeLogs(ctx, &api.DescribeLogsRequest{Topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	return resp.Logs, nil
}

// addLog takes the state of a log as a broker that has it tells it.
func (t *TopicInfo) addLog(broker int32, l api.LogInfo) {
	if l.Err != nil || l.Topic != t.Name || l.Partition < 0 || int(l.Partition) >= len(t.Partitions) {
		return
	}
	p := &t.Partitions[l.Partition]
	if i := slices.IndexFunc(p.ReplicaLogs, func(r ReplicaLog) bool { return r.Broker == broker }); i >= 0 {
		p.ReplicaLogs[i].HighWatermark = l.HighWatermark
	}
	if l.Leader && l.LeaderEpoch >= p.LeaderEpoch {
		p.LeaderEpoch, p.LogStart, p.HighWatermark, p.SizeBytes = l.LeaderEpoch, l.LogStart, l.HighWatermark, l.SizeBytes
	}
}

// sumLags compares the replicas with their leaders. One that answered later may
// be ahead of what its leader had.
func (t *TopicInfo) sumLags() {
	for _, p := range t.Partitions {
		for i := range p.ReplicaLogs {
			if r := &p.ReplicaLogs[i]; p.HighWatermark >= 0 && r.HighWatermark >= 0 {
				r.Lag = max(0, p.HighWatermark-r.HighWatermark)
			}
		}
	}
}

// metadata asks for topics, all when names is nil, and the brokers.
func (a *Admin) metadata(ctx context.Context, names []string) (answer *api.MetadataResponse, err error) {
	err = a.read(ctx, func(ctx context.Context, b api.Broker) error {
		answer, err = b.Metadata(ctx, &api.MetadataRequest{Topics: names})
		return err
	})
	return answer, err
}

// ClusterInfo is the cluster as one of its brokers knows it.
type ClusterInfo struct {
	ID         string       `json:"id"`
	Controller int32        `json:"controller"` // id of the broker that leads the metadata; -1 when unknown
	Brokers    []BrokerInfo `json:"brokers"`    // by id
}

// BrokerInfo is a broker of a cluster.
type BrokerInfo struct {
	ID   int32  `json:"id"`
	Addr string `json:"addr"` // for clients, host:port; empty for one without a listener
	Rack string `json:"rack,omitempty"`
}

// DescribeCluster returns the cluster's brokers. How they are tells
// ClusterHealth.
func (a *Admin) DescribeCluster(ctx context.Context) (ClusterInfo, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	answer, err := a.metadata(ctx, []string{})
	if err != nil {
		return ClusterInfo{}, fmt.Errorf("describe cluster: %w", err)
	}
	info := ClusterInfo{ID: answer.ClusterID, Controller: answer.Controller, Brokers: make([]BrokerInfo, len(answer.Brokers))}
	for i, b := range answer.Brokers {
		info.Brokers[i] = BrokerInfo(b)
	}
	slices.SortFunc(info.Brokers, func(a, b BrokerInfo) int { return cmp.Compare(a.ID, b.ID) })
	return info, nil
}
