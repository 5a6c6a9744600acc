package record_test

import (
	"testing"

	"github.com/raftmq/mq/internal/record"
)

func TestRecordsReadBackAsAppended(t *testing.T) {
	var b record.Builder
	b.Append([]byte("k"), []byte("v"), []record.Header{{Key: "h", Value: nil}}, 5)
	b.Append(nil, []byte{}, nil, 3)
	batch, err := b.Build(nil, record.BuildOptions{ProducerID: record.NoProducerID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := record.Validate(batch, len(batch)); err != nil {
		t.Fatal(err)
	}
	record.Patch(batch, 100, 7)
	for r, err := range record.Records(batch, record.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", r)
	}
}
