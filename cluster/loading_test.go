package cluster

import (
	"errors"
	"testing"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

func TestABrokerWithoutMetadataDoesNotDenyWhatMayExist(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{Network: &network.Mem{}, PeerListen: "here", Seeds: []string{"nobody"}})
	for _, create := range []bool{false, true} {
		if resp, err := n.Metadata(t.Context(), &api.MetadataRequest{Topics: []string{"t"}, AutoCreate: create}); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("asked for a topic (create: %v) it answers %+v, %v", create, resp, err)
		}
	}
	if _, err := n.CreateTopic(t.Context(), &api.CreateTopicRequest{Name: "t"}); !mqerr.Retriable(err) {
		t.Errorf("asked to create a topic it answers %v", err)
	}
}
