package cluster_test

import (
	"bytes"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/raftmq/mq/cluster"
)

// The process-wide gauges would hold the first node, and all of its records,
// until the process ends. In processes of many tests it is one of another test,
// so this looks at the registry.
func TestNothingProcessWideHoldsANode(t *testing.T) {
	n, err := cluster.Open(t.Context(), cluster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var registered bytes.Buffer
	metrics.WritePrometheus(&registered, false)
	for line := range bytes.Lines(registered.Bytes()) {
		if bytes.Contains(line, []byte("_connections")) {
			t.Errorf("registered for good: %s", line)
		}
	}
}
