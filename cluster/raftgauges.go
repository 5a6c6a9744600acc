package cluster

import (
	"bytes"

	"github.com/VictoriaMetrics/metrics"
	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
)

// raftGauges are what dragonboat registers for the first host of a process, for
// good. Their functions hold that host, and with it everything its node has: in
// memory, all records.
var raftGauges = [...]string{
	"dragonboat_transport_message_connections",
	"dragonboat_transport_snapshot_connections",
}

// newCollectableHost is dragonboat.NewNodeHost for hosts that can be forgotten
// when they are closed. Gauges that were there before are not ours: the program
// uses dragonboat itself.
func newCollectableHost(c config.NodeHostConfig) (*dragonboat.NodeHost, error) {
	var before bytes.Buffer
	metrics.WritePrometheus(&before, false)
	defer func() {
		for _, name := range raftGauges {
			if !bytes.Contains(before.Bytes(), []byte(name)) {
				metrics.UnregisterMetric(name)
			}
		}
	}()
	return dragonboat.NewNodeHost(c)
}
