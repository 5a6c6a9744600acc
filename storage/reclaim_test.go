package storage_test

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/storage"
)

// Logs that share files are dropped one after the other. A pass after the
// first frees few of them; what the last drop leaves must be worth another.
func TestDroppedLogsThatSharedFilesFreeTheirSpace(t *testing.T) {
	s, err := storage.Open("store", storage.Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	const batches, size = 40, 64 << 10
	ids := []storage.ReplicaID{{Shard: 1024, Replica: 1}, {Shard: 1025, Replica: 1}, {Shard: 1026, Replica: 1}}
	for i := range batches * len(ids) {
		l := mustOpenLog(t, s, ids[i%len(ids)])
		lb := l.NewBatch()
		end := lb.State().End
		must(t, lb.Append(bytes.Repeat([]byte{byte(i)}, size), end, end, 1, 1))
		must(t, lb.Commit(l.Applied()+1))
		if i == batches*len(ids)-1 {
			must(t, l.Sync())
		}
	}
	if live := s.Metrics().LiveBytes; live < batches*size*3 {
		t.Fatalf("%d bytes are in %d bytes of files", batches*size*3, live)
	}
	for _, id := range ids {
		must(t, s.Drop(id))
		storage.AwaitReclaim(s)
	}
	if live := s.Metrics().LiveBytes; live > size {
		t.Errorf("nothing is left, in %d bytes of files", live)
	}
}
