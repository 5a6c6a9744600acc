package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
	"github.com/raftmq/mq/storage"
)

// waitFor waits until a condition holds.
func waitFor(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	for look := time.NewTicker(2 * time.Millisecond); !holds(); {
		select {
		case <-look.C:
		case <-ctx.Done():
			tb.Fatalf("waited in vain for: %s", what)
		}
	}
}

// topicOf describes one topic; its Err says if it is not there.
func topicOf(tb testing.TB, n api.Broker, name string) api.TopicInfo {
	tb.Helper()
	resp, err := n.Metadata(tb.Context(), &api.MetadataRequest{Topics: []string{name}})
	if err != nil {
		tb.Fatal(err)
	}
	if len(resp.Topics) != 1 || resp.Topics[0].Name != name {
		tb.Fatalf("metadata of %q: %+v", name, resp)
	}
	return resp.Topics[0]
}

func deleteTopicNamed(tb testing.TB, n api.Broker, name string) {
	tb.Helper()
	if _, err := n.DeleteTopic(tb.Context(), &api.DeleteTopicRequest{Name: name}); err != nil {
		tb.Fatalf("delete topic %s: %v", name, err)
	}
}

func (n *Node) topicNames(tb testing.TB) []string {
	tb.Helper()
	resp, err := n.Metadata(tb.Context(), &api.MetadataRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, t := range resp.Topics {
		names = append(names, t.Name)
	}
	return names
}

func TestATopicIsMadeChangedAndDeleted(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{BrokerID: 4, Addr: "here:1"})
	made, err := n.CreateTopic(t.Context(), &api.CreateTopicRequest{Name: "b", Partitions: 3, Configs: map[string]string{topic.RetentionBytes: "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	newTopic(t, n, "a", 0, nil)
	if got := n.topicNames(t); fmt.Sprint(got) != "[a b]" {
		t.Errorf("topics are %v", got)
	}

	info := topicOf(t, n, "b")
	if fmt.Sprint(info) != fmt.Sprint(made.Topic) {
		t.Errorf("made was %+v, described is %+v", made.Topic, info)
	}
	if info.ID == uuid.Nil || len(info.Partitions) != 3 || info.Configs[topic.RetentionBytes] != "1000" || info.Configs[topic.MaxMessageBytes] != "1048576" {
		t.Errorf("described as %+v", info)
	}
	for i, p := range info.Partitions {
		if p.Index != int32(i) || p.Leader != 4 || p.LeaderEpoch < 1 || fmt.Sprint(p.Replicas) != "[4]" || p.Err != nil {
			t.Errorf("partition %d is %+v", i, p)
		}
	}

	altered, err := n.AlterTopic(t.Context(), &api.AlterTopicRequest{
		Name: "b", Set: map[string]string{topic.MaxMessageBytes: "2000"}, Reset: []string{topic.RetentionBytes},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := altered.Topic.Configs; c[topic.MaxMessageBytes] != "2000" || c[topic.RetentionBytes] != "-1" {
		t.Errorf("configs after the change: %v", c)
	}

	mustProduce(t, n, "b", 2, "stays")
	if _, err := n.AddPartitions(t.Context(), &api.AddPartitionsRequest{Name: "b", Total: 5}); err != nil {
		t.Fatal(err)
	}
	mustProduce(t, n, "b", 4, "new")
	if got := readAll(t, n, "b", 2, 0); fmt.Sprint(got) != "[stays]" {
		t.Errorf("after adding partitions the old ones hold %q", got)
	}
	logs, err := n.DescribeLogs(t.Context(), &api.DescribeLogsRequest{Topics: []string{"b"}})
	if err != nil || len(logs.Logs) != 5 {
		t.Fatalf("logs: %+v, %v", logs, err)
	}
	if l := logs.Logs[4]; l.Partition != 4 || l.TopicID != info.ID || l.HighWatermark != 1 || l.SizeBytes == 0 || !l.Leader || l.Err != nil {
		t.Errorf("log of the new partition: %+v", l)
	}
	if all, err := n.DescribeLogs(t.Context(), &api.DescribeLogsRequest{}); err != nil || len(all.Logs) != 6 {
		t.Errorf("logs of all topics: %+v, %v", all, err)
	}

	version := n.meta.state.Load().version
	deleteTopicNamed(t, n, "b")
	if got := n.topicNames(t); fmt.Sprint(got) != "[a]" {
		t.Errorf("topics after the deletion: %v", got)
	}
	if err := topicOf(t, n, "b").Err; !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
		t.Errorf("a deleted topic: %v", err)
	}
	if now := n.meta.state.Load().version; now <= version {
		t.Errorf("metadata has version %d after a deletion, %d before", now, version)
	}
}

func TestTopicRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "there", 2, nil)
	create := func(r api.CreateTopicRequest) error { _, err := n.CreateTopic(t.Context(), &r); return err }
	alter := func(r api.AlterTopicRequest) error { _, err := n.AlterTopic(t.Context(), &r); return err }
	add := func(r api.AddPartitionsRequest) error { _, err := n.AddPartitions(t.Context(), &r); return err }
	remove := func(r api.DeleteTopicRequest) error { _, err := n.DeleteTopic(t.Context(), &r); return err }
	before := n.meta.state.Load().version
	for name, c := range map[string]struct{ got, want error }{
		"no name":              {create(api.CreateTopicRequest{}), mqerr.ErrInvalidTopic},
		"a slash":              {create(api.CreateTopicRequest{Name: "a/b"}), mqerr.ErrInvalidTopic},
		"a long name":          {create(api.CreateTopicRequest{Name: strings.Repeat("x", 250)}), mqerr.ErrInvalidTopic},
		"no more":              {create(api.CreateTopicRequest{Name: "there"}), mqerr.ErrTopicExists},
		"negative partitions":  {create(api.CreateTopicRequest{Name: "n", Partitions: -1}), mqerr.ErrInvalidPartitions},
		"too many partitions":  {create(api.CreateTopicRequest{Name: "n", Partitions: topic.MaxPartitions + 1}), mqerr.ErrInvalidPartitions},
		"too many replicas":    {create(api.CreateTopicRequest{Name: "n", ReplicationFactor: 2}), mqerr.ErrInvalidReplicationFactor},
		"negative replicas":    {create(api.CreateTopicRequest{Name: "n", ReplicationFactor: -1}), mqerr.ErrInvalidReplicationFactor},
		"unknown config":       {create(api.CreateTopicRequest{Name: "n", Configs: map[string]string{"x": "1"}}), mqerr.ErrInvalidConfig},
		"bad config":           {create(api.CreateTopicRequest{Name: "n", Configs: map[string]string{topic.RetentionMs: "soon"}}), mqerr.ErrInvalidConfig},
		"alter unknown topic":  {alter(api.AlterTopicRequest{Name: "n"}), mqerr.ErrUnknownTopicOrPartition},
		"alter unknown config": {alter(api.AlterTopicRequest{Name: "there", Set: map[string]string{"x": "1"}}), mqerr.ErrInvalidConfig},
		"alter bad config":     {alter(api.AlterTopicRequest{Name: "there", Set: map[string]string{topic.MaxMessageBytes: "0"}}), mqerr.ErrInvalidConfig},
		"reset unknown config": {alter(api.AlterTopicRequest{Name: "there", Reset: []string{"x"}}), mqerr.ErrInvalidConfig},
		"add to unknown topic": {add(api.AddPartitionsRequest{Name: "n", Total: 3}), mqerr.ErrUnknownTopicOrPartition},
		"add nothing":          {add(api.AddPartitionsRequest{Name: "there", Total: 2}), mqerr.ErrInvalidPartitions},
		"add too many":         {add(api.AddPartitionsRequest{Name: "there", Total: topic.MaxPartitions + 1}), mqerr.ErrInvalidPartitions},
		"delete unknown":       {remove(api.DeleteTopicRequest{Name: "n"}), mqerr.ErrUnknownTopicOrPartition},
		"delete another id":    {remove(api.DeleteTopicRequest{Name: "there", ID: uuid.New()}), mqerr.ErrUnknownTopicID},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if _, err := n.DescribeLogs(t.Context(), &api.DescribeLogsRequest{Topics: []string{"n"}}); !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
		t.Errorf("logs of an unknown topic: %v", err)
	}
	if err := topicOf(t, n, "a/b").Err; !errors.Is(err, mqerr.ErrInvalidTopic) {
		t.Errorf("metadata of a topic whose name is not allowed: %v", err)
	}
	if after := n.meta.state.Load().version; after != before {
		t.Errorf("refused requests changed the metadata from version %d to %d", before, after)
	}
}

func TestValidateOnlyChangesNothing(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "there", 1, nil)
	before := n.meta.state.Load().version
	made, err := n.CreateTopic(t.Context(), &api.CreateTopicRequest{Name: "new", Partitions: 2, ValidateOnly: true})
	if err != nil || len(made.Topic.Partitions) != 2 || made.Topic.Configs[topic.RetentionMs] != "604800000" {
		t.Errorf("create: %+v, %v", made, err)
	}
	if _, err := n.AlterTopic(t.Context(), &api.AlterTopicRequest{Name: "there", Set: map[string]string{topic.RetentionMs: "1"}, ValidateOnly: true}); err != nil {
		t.Errorf("alter: %v", err)
	}
	if _, err := n.AddPartitions(t.Context(), &api.AddPartitionsRequest{Name: "there", Total: 4, ValidateOnly: true}); err != nil {
		t.Errorf("add partitions: %v", err)
	}
	if after := n.meta.state.Load().version; after != before || fmt.Sprint(n.topicNames(t)) != "[there]" {
		t.Errorf("the metadata changed: %v", n.topicNames(t))
	}
}

func TestOneOfTenCallersMakesTheTopic(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	var all sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		all.Go(func() {
			_, errs[i] = n.CreateTopic(t.Context(), &api.CreateTopicRequest{Name: "t", Partitions: 2})
		})
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, mqerr.ErrTopicExists):
			t.Errorf("a caller that came late: %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d callers made the topic", made)
	}
	mustProduce(t, n, "t", 1, "x")
	if got := len(n.meta.state.Load().topics); got != 1 {
		t.Errorf("there are %d topics", got)
	}
}

func TestTopicsAreMadeOnFirstUseIfAllowed(t *testing.T) {
	t.Parallel()
	ask := func(n *Node, name string) api.TopicInfo {
		resp, err := n.Metadata(t.Context(), &api.MetadataRequest{Topics: []string{name}, AutoCreate: true})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Topics[0]
	}
	on := openNode(t, Config{DefaultPartitions: 3})
	if err := topicOf(t, on, "x").Err; !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
		t.Errorf("a topic was made by asking for it: %v", err)
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if got := ask(on, "x"); got.Err != nil || len(got.Partitions) != 3 {
				t.Errorf("first use: %+v", got)
			}
		})
	}
	all.Wait()
	if err := ask(on, "not allowed").Err; !errors.Is(err, mqerr.ErrInvalidTopic) {
		t.Errorf("a name that is not allowed: %v", err)
	}
	off := openNode(t, Config{DisableAutoCreate: true})
	if err := ask(off, "x").Err; !errors.Is(err, mqerr.ErrUnknownTopicOrPartition) {
		t.Errorf("with auto-create off: %v", err)
	}
}

// shardOf is where a partition lives on this node.
func (n *Node) shardOf(tb testing.TB, name string, partition int) storage.ReplicaID {
	tb.Helper()
	s := n.meta.state.Load().topics[name].Partitions[partition]
	return storage.ReplicaID{Shard: s.Shard, Replica: s.Replicas[0].Replica}
}

// traces tells what there is of a replica.
func (n *Node) traces(tb testing.TB, id storage.ReplicaID) (stored, logged bool) {
	tb.Helper()
	ids, err := n.store.Replicas()
	if err != nil {
		tb.Fatal(err)
	}
	for _, other := range ids {
		stored = stored || other == id
	}
	return stored, n.host.HasNodeInfo(id.Shard, id.Replica)
}

func TestADeletedTopicLeavesNothingToItsSuccessor(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{Dir: t.TempDir()})
	newTopic(t, n, "t", 2, nil)
	old := topicOf(t, n, "t").ID
	for range 20 {
		mustProduce(t, n, "t", 1, strings.Repeat("x", 100_000))
	}
	commitAt(t, n, "g", "t", 1, 7)
	id := n.shardOf(t, "t", 1)
	if stored, logged := n.traces(t, id); !stored || !logged {
		t.Fatalf("before the deletion: stored %v, logged %v", stored, logged)
	}
	held := n.Stats().HeldBytes
	deleteTopicNamed(t, n, "t")
	if stored, logged := n.traces(t, id); stored || logged {
		t.Errorf("after the deletion: stored %v, logged %v", stored, logged)
	}
	if after := n.Stats().HeldBytes; held < 2_000_000 || after != 0 {
		t.Errorf("%d bytes are held after the deletion, %d before", after, held)
	}

	newTopic(t, n, "t", 2, nil)
	if now := n.shardOf(t, "t", 1); now == id {
		t.Errorf("the new topic lives in the old one's shard %v", id)
	}
	if got := readAll(t, n, "t", 1, 0); len(got) != 0 {
		t.Errorf("the new topic has the old one's records: %d", len(got))
	}
	offsets, err := n.FetchOffsets(t.Context(), &api.FetchOffsetsRequest{Group: "g"})
	if err != nil || len(offsets.Offsets) != 0 {
		t.Errorf("the new topic has the old one's offsets: %+v, %v", offsets, err)
	}
	if got := mustProduce(t, n, "t", 1, "first"); got != 0 {
		t.Errorf("the new topic begins at offset %d", got)
	}
	stale := api.TopicPartition{Topic: "t", TopicID: old, Partition: 1}
	if _, err := n.find(stale); !errors.Is(err, mqerr.ErrUnknownTopicID) {
		t.Errorf("the old topic's id: %v", err)
	}
}

func TestADeletedTopicFreesItsSpace(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{MaxMemory: 1 << 30}) // the store in memory is one of small steps
	newTopic(t, n, "t", 2, nil)
	value := strings.Repeat("x", 200_000)
	for i := range 200 {
		mustProduce(t, n, "t", int32(i%2), value)
	}
	if err := n.replica(n.shardOf(t, "t", 0).Shard).machine.app.sync(); err != nil {
		t.Fatal(err)
	}
	if live := n.Stats().Storage.LiveBytes; live < 40_000_000 {
		t.Fatalf("40 MB take %d bytes", live)
	}
	deleteTopicNamed(t, n, "t")
	waitFor(t, "the space to be free", func() bool { return n.Stats().Storage.LiveBytes < 4_000_000 })
}

// What a crash leaves of a deleted topic goes at the next start.
func TestOrphansAreRemovedAtTheNextStart(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*testing.T, *Node, storage.ReplicaID){
		"before anything was removed": func(*testing.T, *Node, storage.ReplicaID) {},
		"with the raft log removed": func(t *testing.T, n *Node, id storage.ReplicaID) {
			if err := errors.Join(n.host.StopReplica(id.Shard, id.Replica), n.host.SyncRemoveData(timeout(t), id.Shard, id.Replica)); err != nil {
				t.Fatal(err)
			}
		},
		"with the records removed": func(t *testing.T, n *Node, id storage.ReplicaID) {
			if err := errors.Join(n.host.StopReplica(id.Shard, id.Replica), n.store.Drop(id)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			n := openNode(t, Config{Dir: dir})
			newTopic(t, n, "gone", 1, nil)
			newTopic(t, n, "stays", 1, nil)
			mustProduce(t, n, "gone", 0, "x")
			mustProduce(t, n, "stays", 0, "y")
			id := n.shardOf(t, "gone", 0)
			n.registered.Store(false) // the loop that would remove it looks away
			if err := n.proposeMeta(t.Context(), &metaCommand{DeleteTopic: &deleteTopic{Name: "gone"}}, nil); err != nil {
				t.Fatal(err)
			}
			crash(t, n, id)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}

			n = openNode(t, Config{Dir: dir})
			if stored, logged := n.traces(t, id); stored || logged {
				t.Errorf("after the restart: stored %v, logged %v", stored, logged)
			}
			if got := readAll(t, n, "stays", 0, 0); fmt.Sprint(got) != "[y]" {
				t.Errorf("the other topic holds %q", got)
			}
			newTopic(t, n, "gone", 1, nil)
			if got := readAll(t, n, "gone", 0, 0); len(got) != 0 {
				t.Errorf("the new topic holds %q", got)
			}
		})
	}
}

func timeout(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func TestTopicsComeAndGoWhileUsed(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	ctx, stop := context.WithCancel(t.Context())
	var users sync.WaitGroup
	for range 2 {
		users.Go(func() {
			for ctx.Err() == nil {
				_, _ = produce(timeout(t), n, "t", 0, makeBatch(t, "x"))
				_, _ = n.Fetch(ctx, &api.FetchRequest{MaxWait: 5 * time.Millisecond, MinBytes: 1, Partitions: []api.FetchPartition{{
					TopicPartition: api.TopicPartition{Topic: "t"}, Offset: 1000, LeaderEpoch: api.NoEpoch,
				}}})
				n.Stats()
			}
		})
	}
	for range 8 {
		newTopic(t, n, "t", 2, nil)
		mustProduce(t, n, "t", 1, "y")
		commitAt(t, n, "g", "t", 0, 1)
		deleteTopicNamed(t, n, "t")
	}
	stop()
	users.Wait()
	if s := n.Stats(); s.HeldBytes != 0 || len(s.Partitions) != 0 {
		t.Errorf("after all topics are gone: %+v", s)
	}
}

func TestADeletionIsNotAnsweredBeforeTheFilesAreGone(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "t", 1, nil)
	mustProduce(t, n, "t", 0, "x")
	id := n.shardOf(t, "t", 0)
	release := n.stall(t, "t", 0)
	n.Produce(t.Context(), &api.ProduceRequest{Acks: api.AcksNone, Partitions: []api.ProducePartition{{
		TopicPartition: api.TopicPartition{Topic: "t"}, Batch: makeBatch(t, "y"),
	}}}, func(*api.ProduceResponse, error) {})
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := n.DeleteTopic(ctx, &api.DeleteTopicRequest{Name: "t"})
		answer <- err
	}()
	waitFor(t, "the topic to go", func() bool { return len(n.topicNames(t)) == 0 })
	cancel()
	if err := <-answer; !mqerr.OutcomeUnknown(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("its replica is held up: %v", err)
	}
	if stored, _ := n.traces(t, id); !stored {
		t.Error("the records are gone while their replica is held up")
	}
	release()
	waitFor(t, "the files to go", func() bool { stored, logged := n.traces(t, id); return !stored && !logged })
	waitFor(t, "the memory to be free", func() bool { return n.Stats().HeldBytes == 0 })
}

func TestAllPartitionsOfADeletedTopicGo(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	const parts = 3*removeAtOnce + 1
	newTopic(t, n, "t", parts, nil)
	newTopic(t, n, "stays", 1, nil)
	var ids []storage.ReplicaID
	for p := range parts {
		mustProduce(t, n, "t", int32(p), "x")
		ids = append(ids, n.shardOf(t, "t", p))
	}
	deleteTopicNamed(t, n, "t")
	for _, id := range ids {
		if stored, logged := n.traces(t, id); stored || logged || n.replica(id.Shard) != nil {
			t.Errorf("of %v something is left: stored %v, logged %v", id, stored, logged)
		}
	}
	mustProduce(t, n, "stays", 0, "x")
}

func TestWhatWasDoneWhenTheBrokerClosedIsNotCalledUndone(t *testing.T) {
	t.Parallel()
	n := openNode(t, Config{})
	newTopic(t, n, "old", 1, nil)
	n.registered.Store(false) // nobody starts or removes replicas
	answers := make(chan error, 2)
	go func() {
		_, err := n.CreateTopic(t.Context(), &api.CreateTopicRequest{Name: "new"})
		answers <- err
	}()
	go func() {
		_, err := n.DeleteTopic(t.Context(), &api.DeleteTopicRequest{Name: "old"})
		answers <- err
	}()
	waitFor(t, "both to be decided", func() bool { return fmt.Sprint(n.topicNames(t)) == "[new]" })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-answers; !mqerr.OutcomeUnknown(err) {
			t.Errorf("answer: %v", err)
		}
	}
}

func TestDeletedTopicsLeaveNoFilesBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folders := func() (of []string) {
		err := filepath.WalkDir(filepath.Join(dir, raftDir), func(path string, _ fs.DirEntry, err error) error {
			if strings.HasPrefix(filepath.Base(filepath.Dir(path)), "snapshot-part") {
				of = append(of, filepath.Base(path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return of
	}
	n := openNode(t, Config{Dir: dir})
	newTopic(t, n, "stays", 1, nil)
	mustProduce(t, n, "stays", 0, "x")
	before := folders()
	for range 5 {
		newTopic(t, n, "t", 3, nil)
		deleteTopicNamed(t, n, "t")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, Config{Dir: dir})
	if after := folders(); len(before) != 2 || len(after) != 2 {
		t.Errorf("folders %v are there after topics came and went, %v before", after, before)
	}
	if got := readAll(t, n, "stays", 0, 0); len(got) != 1 {
		t.Errorf("the topic that stays holds %q", got)
	}
}
