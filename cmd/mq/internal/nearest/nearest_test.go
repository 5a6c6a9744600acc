package nearest_test

import (
	"strings"
	"testing"

	"github.com/raftmq/mq/cmd/mq/internal/nearest"
)

func TestWhatWasMeantIsFound(t *testing.T) {
	t.Parallel()
	names := []string{"address", "batch_size", "batch_bytes", "max_retries", "required_acks", "topic", "id"}
	for typed, want := range map[string]string{
		"addrss": "address", "addresss": "address", "address": "address", "ADDRESS": "address",
		"batchSize": "batch_size", "batch-bytes": "batch_bytes", "batch.size": "batch_size",
		"retries": "max_retries", "acks": "required_acks", "topik": "topic", "topics": "topic", "di": "id",
		"": "", "-": "", "zzz": "", "colour": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest.Of(typed, names); got != want {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
	if got := nearest.Hint("topik", names); got != "; did you mean topic?" {
		t.Error(got)
	}
	if got := nearest.Hint("zzz", names) + nearest.Hint("topic", nil); got != "" {
		t.Error(got)
	}
}
