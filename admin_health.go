package mq

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/backoff"
)

// ClusterHealth is how a cluster is, by what its brokers told the one that was
// asked.
type ClusterHealth struct {
	ID         string         `json:"id"`
	Controller int32          `json:"controller"` // id of the broker that leads the metadata; -1 when unknown
	Brokers    []BrokerHealth `json:"brokers"`    // by id
	// FeatureLevel is that of what brokers write, for which all of them must know
	// it. It rises by itself when the last broker was upgraded. 0 when unknown.
	FeatureLevel int `json:"feature_level"`

	// Partitions as topic/N, and what the cluster keeps in the same way: metadata,
	// and what groups stored, as groups/N. There may be more than are named.
	Leaderless      []string `json:"leaderless"`       // nobody leads them
	UnderReplicated []string `json:"under_replicated"` // fewer replicas vote than there should be; they are being added
	// Diverged are replicas that do not hold the records that their leader does, which
	// must not be: "topic/0 on broker 2 below offset 7". It is looked for each minute.
	Diverged []string `json:"diverged,omitempty"`
}

// BrokerHealth is how a broker is. Of one that is not Reachable the fields from
// Leaders on are zero.
type BrokerHealth struct {
	BrokerInfo
	PeerAddr      string `json:"peer_addr"`    // for other brokers
	DirectoryID   string `json:"directory_id"` // names its data for good
	Reachable     bool   `json:"reachable"`    // by the broker that answers
	MetadataVoter bool   `json:"metadata_voter"`
	Replicas      int    `json:"replicas"`          // that it should have: of partitions, groups and metadata
	Leaders       int    `json:"leaders"`           // how many of them lead
	Behind        int    `json:"behind"`            // how many lack what their leaders have
	Waiting       string `json:"waiting,omitempty"` // what it waits for, empty when it is ready
	Fenced        string `json:"fenced,omitempty"`  // why it refuses to append, empty when it does not
	Leaving       bool   `json:"leaving,omitempty"` // it was told to leave the cluster
	FeatureLevel  int    `json:"feature_level"`     // the newest that it knows; 0 when unknown

	// Damaged are the replicas of it that can't be read, as in "topic/0: why". There
	// may be more than are named. They are replaced by the other brokers, unless there
	// is no other replica.
	Damaged []string `json:"damaged,omitempty"`
}

// Problems tells, each in a line, what keeps the cluster from being healthy: all
// of its brokers can be reached and follow, everything has a leader and as many
// replicas as it should.
func (c ClusterHealth) Problems() []string {
	var out []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for _, b := range c.Brokers {
		add(!b.Reachable, "broker %d is not reachable", b.ID)
		add(b.Waiting != "", "broker %d is not ready: %s", b.ID, b.Waiting)
		add(b.Fenced != "", "broker %d refuses to append: %s", b.ID, b.Fenced)
		for _, d := range b.Damaged {
			add(true, "broker %d has a damaged replica: %s", b.ID, d)
		}
		add(b.Behind > 0, "broker %d is behind with %d of %d replicas", b.ID, b.Behind, b.Replicas)
	}
	add(len(c.Leaderless) > 0, "nobody leads %s", some(c.Leaderless))
	add(len(c.UnderReplicated) > 0, "too few replicas of %s", some(c.UnderReplicated))
	add(len(c.Diverged) > 0, "not the records that the leader has in %s", some(c.Diverged))
	return out
}

// some names the first of many.
func some(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// ClusterHealth asks a broker how the cluster is. That one asks the others, and
// waits for one that does not answer for a second.
func (a *Admin) ClusterHealth(ctx context.Context) (ClusterHealth, error) {
	ctx, cancel := adminContext(ctx)
	defer cancel()
	var answer *api.DescribeClusterResponse
	err := a.read(ctx, func(ctx context.Context, b api.Broker) (err error) {
		answer, err = b.DescribeCluster(ctx, &api.DescribeClusterRequest{})
		return err
	})
	if err != nil {
		return ClusterHealth{}, fmt.Errorf("cluster health: %w", err)
	}
	health := ClusterHealth{
		ID: answer.ClusterID, Controller: answer.Controller, FeatureLevel: int(answer.FeatureLevel), Brokers: make([]BrokerHealth, len(answer.Brokers)),
		Leaderless: append([]string{}, answer.Leaderless...), UnderReplicated: append([]string{}, answer.UnderReplicated...),
		Diverged: answer.Diverged,
	}
	for i, b := range answer.Brokers {
		health.Brokers[i] = BrokerHealth{
			BrokerInfo: BrokerInfo(b.BrokerInfo), PeerAddr: b.PeerAddr, DirectoryID: b.DirectoryID, Reachable: b.Err == nil,
			MetadataVoter: b.MetadataVoter, Replicas: int(b.Replicas), Leaders: int(b.Leaders), Behind: int(b.Behind),
			Waiting: b.Waiting, Fenced: b.Fenced, Damaged: b.Damaged, Leaving: b.Leaving, FeatureLevel: int(b.FeatureLevel),
		}
	}
	slices.SortFunc(health.Brokers, func(a, b BrokerHealth) int { return cmp.Compare(a.ID, b.ID) })
	return health, nil
}

// RemoveBroker makes a broker leave the cluster for good: what it has goes to
// brokers that lack it, as far as there are any, without stopping producers, and
// then the cluster forgets it. It may be dead. RemoveBroker returns when that is
// done; when ctx ends before, it goes on all the same. Stop the broker then: it
// comes back only with an empty data directory.
//
// Errors: ErrInvalidRequest for a broker that is not there, or is the last one.
// Kafka: kafka-reassign-partitions and unregisterBroker in one.
func (a *Admin) RemoveBroker(ctx context.Context, id int32) error {
	begin, cancel := adminContext(ctx)
	defer cancel()
	err := repeat(begin, adminDeadline, mayChangeAgain, func(ctx context.Context) error {
		b, err := a.router.Any(ctx)
		if err != nil {
			return err
		}
		_, err = b.RemoveBroker(ctx, &api.RemoveBrokerRequest{ID: id})
		return outcome(err)
	})
	for err == nil {
		var c ClusterHealth
		if c, err = a.ClusterHealth(ctx); err == nil {
			if !slices.ContainsFunc(c.Brokers, func(b BrokerHealth) bool { return b.ID == id }) {
				return nil
			}
			err = backoff.Sleep(ctx, removeLook)
		}
	}
	return fmt.Errorf("remove broker %d: %w", id, err)
}

// removeLook is how often RemoveBroker looks whether the broker is gone.
const removeLook = 500 * time.Millisecond
