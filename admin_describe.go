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

// DescribeTopic returns a topic and the state of its partitions' logs as their
// leaders tell it. Leaders that do not answer within two seconds leave that
// unknown. Errors: ErrUnknownTopicOrPartition.
func (a *Admin) DescribeTopic(ctx context.Context, name string) (TopicInfo, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	t, err := a.topic(ctx, name)
	if err != nil {
		return TopicInfo{}, fmt.Errorf("describe topic %q: %w", name, err)
	}
	info := topicInfo(t)
	patient, cancel := context.WithTimeout(ctx, describePatience)
	defer cancel()
	_ = repeat(patient, describePatience, mayReadAgain, func(ctx context.Context) error { // what fails stays unknown
		t, err := a.topic(ctx, name)
		if err != nil {
			return err
		}
		info = topicInfo(t)
		return a.addLogs(ctx, &info)
	})
	return info, nil
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

// addLogs asks the leaders, one after the other, for the state of their logs.
func (a *Admin) addLogs(ctx context.Context, info *TopicInfo) error {
	var errs []error
	var asked []int32
	for _, p := range info.Partitions {
		if slices.Contains(asked, p.Leader) {
			continue
		}
		asked = append(asked, p.Leader)
		b, err := a.router.Broker(ctx, p.Leader)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		resp, err := b.DescribeLogs(ctx, &api.DescribeLogsRequest{Topics: []string{info.Name}})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, l := range resp.Logs {
			info.addLog(l)
		}
	}
	for _, p := range info.Partitions {
		if p.HighWatermark < 0 {
			errs = append(errs, fmt.Errorf("%s/%d: %w", info.Name, p.Partition, ErrLeaderNotAvailable))
		}
	}
	return errors.Join(errs...)
}

// addLog takes the state of a log if the partition's leader tells it.
func (t *TopicInfo) addLog(l api.LogInfo) {
	if !l.Leader || l.Err != nil || l.Topic != t.Name || l.Partition < 0 || int(l.Partition) >= len(t.Partitions) {
		return
	}
	if p := &t.Partitions[l.Partition]; l.LeaderEpoch >= p.LeaderEpoch {
		p.LeaderEpoch, p.LogStart, p.HighWatermark, p.SizeBytes = l.LeaderEpoch, l.LogStart, l.HighWatermark, l.SizeBytes
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

// DescribeCluster returns the cluster's brokers.
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
