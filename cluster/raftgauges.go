package cluster

import (
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// takeRaftGauges keeps dragonboat from holding the first host of the process
// for good, and with it everything that its node has: in memory, all records.
// It registers two process-wide gauges whose functions hold the host, unless
// they are there; so now they are, and hold nothing.
var takeRaftGauges = sync.OnceFunc(func() {
	for _, name := range []string{
		"dragonboat_transport_message_connections",
		"dragonboat_transport_snapshot_connections",
	} {
		metrics.GetOrCreateGauge(name, func() float64 { return 0 })
	}
})
