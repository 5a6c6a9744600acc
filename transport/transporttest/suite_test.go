package transporttest_test

import (
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/transporttest"
)

// In process the broker is its own door.
func TestInProcess(t *testing.T) {
	transporttest.Run(t, func(_ *testing.T, backend api.Broker) api.Broker { return backend })
}
