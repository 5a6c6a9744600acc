package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/group"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

// driven is a replica whose commands come from the test, not from raft.
type driven struct {
	*replica
	store *storage.Store
	index uint64
}

const drivenNonce = 77

func openStore(tb testing.TB, fs storage.FS) *storage.Store {
	tb.Helper()
	s, err := storage.Open("/store", storage.Options{FS: fs})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func drive(tb testing.TB, s *storage.Store, shard uint64, app func(*replica) application) *driven {
	tb.Helper()
	n := &Node{cfg: Config{}.withDefaults(), log: slog.New(slog.DiscardHandler), nonce: drivenNonce, store: s}
	n.meta = &metadata{}
	n.meta.state.Store(newMetaState())
	n.failed.c = make(chan struct{})
	n.released = make(chan struct{})
	n.snapshots.init()
	n.upkeep.init()
	r := &replica{node: n, id: storage.ReplicaID{Shard: shard, Replica: 1}, name: "driven"}
	r.shard.Store(&shardRecord{Shard: shard, Replicas: []replicaRecord{{Broker: 1, Replica: 1}}})
	r.machine = &machine{r: r}
	r.machine.app = app(r)
	index, err := r.machine.app.open()
	if err != nil {
		tb.Fatal(err)
	}
	return &driven{replica: r, store: s, index: index}
}

func drivePartition(tb testing.TB, s *storage.Store, shard uint64) *driven {
	tb.Helper()
	return drive(tb, s, shard, func(r *replica) application { return r.node.newPartition(r, topicPartition{Topic: "t"}) })
}

func driveGroups(tb testing.TB, s *storage.Store, shard uint64) *driven {
	tb.Helper()
	return drive(tb, s, shard, func(r *replica) application { return &groupStore{store: s, id: r.id} })
}

func driveMetadata(tb testing.TB, s *storage.Store, shard uint64) *driven {
	tb.Helper()
	return drive(tb, s, shard, func(r *replica) application {
		m := &metadata{store: s, id: r.id, changed: func() {}}
		m.state.Store(newMetaState())
		return m
	})
}

func (d *driven) log() *storage.Log { return d.machine.app.(*partition).log }

// update applies entries and checks that they stay as they are: their memory is
// that of raft's log.
func (d *driven) update(tb testing.TB, entries ...sm.Entry) {
	tb.Helper()
	before := make([]sm.Entry, len(entries))
	for i, e := range entries {
		before[i] = sm.Entry{Index: e.Index, Cmd: bytes.Clone(e.Cmd)}
	}
	after, err := d.machine.Update(entries)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range before {
		if after[i].Index != before[i].Index || !bytes.Equal(after[i].Cmd, before[i].Cmd) || !bytes.Equal(entries[i].Cmd, before[i].Cmd) {
			tb.Fatalf("Update changed the entry of index %d", before[i].Index)
		}
	}
}

// run applies one command as if this process had proposed it, and returns the result.
func (d *driven) run(tb testing.TB, k kind, epoch int32, body []byte) result {
	tb.Helper()
	seq := d.seq.Add(1)
	var got []result
	err := d.pend.add(seq, &proposal{epoch: epoch, done: func(r result) { got = append(got, r) }}, 1<<30)
	if err != nil {
		tb.Fatal(err)
	}
	d.index++
	h := header{feature: featureLevel, kind: k, epoch: epoch, id: proposalID{drivenNonce, seq}, time: int64(d.index)}
	d.update(tb, sm.Entry{Index: d.index, Cmd: append(appendHeader(nil, h), body...)})
	if len(got) != 1 {
		tb.Fatalf("%d answers to one command", len(got))
	}
	return got[0]
}

// content is everything a replica holds, by what it is.
func (d *driven) content(tb testing.TB) map[string]string {
	tb.Helper()
	out := map[string]string{}
	switch app := d.machine.app.(type) {
	case *partition:
		app.describe(tb, out)
	case *groupStore:
		out["epoch"] = fmt.Sprint(app.epoch)
		describePairs(tb, app.kv, out)
	case *metadata:
		out["epoch"] = fmt.Sprint(app.epoch)
		s := app.state.Load()
		out["state"] = fmt.Sprint(s.version, s.clusterID, s.brokers, s.groups, s.nextShard, s.nextProducer, len(s.topics), len(s.byID))
		for _, t := range s.sortedTopics() {
			out["topic "+t.Name] = fmt.Sprint(*t)
		}
		describePairs(tb, app.kv, out)
	}
	return out
}

func (p *partition) describe(tb testing.TB, out map[string]string) {
	tb.Helper()
	st := p.log.State()
	out["state"] = fmt.Sprintf("%+v", st)
	for next := st.Start; next < st.End; {
		at := next
		batch, after, err := p.log.Read(nil, next, 1)
		if err != nil {
			tb.Fatal(err)
		}
		out[fmt.Sprint("batch at ", at)] = fmt.Sprintf("%x", batch)
		next = after
	}
	err := p.log.Producers(func(e storage.ProducerEntry) error {
		out[fmt.Sprint("producer ", e.ID, " slot ", e.Slot)] = fmt.Sprintf("%+v", e)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	for id, pr := range p.producers.byID {
		out[fmt.Sprint("producer ", id)] = fmt.Sprintf("%+v", *pr)
	}
	for e := range st.Epoch + 2 {
		found, end, err := p.log.EpochEnd(e)
		if err != nil {
			tb.Fatal(err)
		}
		if end > st.Start { // what is known of those that were trimmed away may differ
			out[fmt.Sprint("epoch ", e)] = fmt.Sprint(found, end)
		}
	}
}

func describePairs(tb testing.TB, kv *storage.KV, out map[string]string) {
	tb.Helper()
	out["applied"] = fmt.Sprint(kv.Applied())
	err := kv.Scan(nil, func(k, v []byte) error {
		out[fmt.Sprintf("pair %q", k)] = fmt.Sprintf("%q", v)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// difference tells where two contents differ, "" if nowhere.
func difference(got, want map[string]string) string {
	var out strings.Builder
	both := maps.Clone(got)
	maps.Copy(both, want)
	for _, k := range slices.Sorted(maps.Keys(both)) {
		if got[k] != want[k] {
			fmt.Fprintf(&out, "%s:\n\t%.400s\nwant\n\t%.400s\n", k, got[k], want[k])
		}
	}
	return out.String()
}

// commands is a log of one shard.
type commands struct{ entries []sm.Entry }

func (c *commands) add(k kind, epoch int32, at int64, body []byte) {
	h := header{feature: featureLevel, kind: k, epoch: epoch, id: proposalID{1, uint64(len(c.entries))}, time: at}
	c.entries = append(c.entries, sm.Entry{Index: uint64(10 + len(c.entries)*2), Cmd: append(appendHeader(nil, h), body...)})
}

// partitionLog is a log with everything in it that can happen to a partition.
func partitionLog(tb testing.TB, rng *rand.Rand, length int) *commands {
	c := &commands{}
	epoch, now, end := int32(0), int64(1_000_000), int64(0)
	next := map[int64]int32{}
	for range length {
		now += rng.Int64N(40) - 10 // clocks of leaders differ
		switch roll := rng.IntN(20); {
		case roll == 0 || epoch == 0:
			epoch += 1 + rng.Int32N(2)
			c.add(kindBeginEpoch, epoch, now, nil)
		case roll == 1:
			c.add(kindAppend, epoch-1, now, makeBatch(tb, "too late"))
		case roll == 2:
			c.add(kindTrim, epoch, now, trimBody(rng.Int64N(end+5)))
		case roll == 3:
			c.add(kindExpireProducers, epoch, now, trimBody(now-rng.Int64N(300)))
		case roll < 8:
			values := make([]string, 1+rng.IntN(4))
			for i := range values {
				values[i] = fmt.Sprint(rng.Uint64())
			}
			c.add(kindAppend, epoch, now, makeBatch(tb, values...))
			end += int64(len(values))
		default:
			id := rng.Int64N(4)
			opts := record.BuildOptions{ProducerID: id, ProducerEpoch: 0, BaseSequence: next[id]}
			if rng.IntN(4) > 0 {
				next[id] += 2 // else it comes again
			}
			if rng.IntN(30) == 0 {
				next[id] = 0
			}
			c.add(kindAppend, epoch, now, makeBatchFor(tb, opts, fmt.Sprint(id), fmt.Sprint(opts.BaseSequence)))
			end += 2
		}
	}
	return c
}

// groupLog is a log with everything in it that can happen to groups. What members
// do is computed as the coordinator does, from what was applied before.
func groupLog(tb testing.TB, rng *rand.Rand, length int) *commands {
	c := &commands{}
	scout := driveGroups(tb, openStore(tb, storage.NewMemFS()), 2)
	store := scout.machine.app.(*groupStore)
	epoch := int32(0)
	topics := []uuid.UUID{{1}, {2}, {3}}
	add := func(k kind, epoch int32, at int, cmd any) {
		body, ok := cmd.([]byte)
		if !ok {
			var err error
			if body, err = json.Marshal(cmd); err != nil {
				tb.Fatal(err)
			}
		}
		c.add(k, epoch, int64(at), body)
		scout.update(tb, c.entries[len(c.entries)-1])
	}
	offsets := func(i int) (out []commitRecord) {
		for range 1 + rng.IntN(3) {
			out = append(out, commitRecord{TopicID: topics[rng.IntN(len(topics))], Partition: rng.Int32N(3), Offset: int64(i)})
		}
		return out
	}
	for i := range length {
		name := fmt.Sprint("g", rng.IntN(4))
		state, err := store.state(name)
		if err != nil {
			tb.Fatal(err)
		}
		forget := forgetCommand{Group: name, Revision: state.Revision - uint64(rng.IntN(2)), Before: int64(i - 10)}
		switch roll := rng.IntN(20); {
		case roll == 0 || epoch == 0:
			epoch++
			add(kindBeginEpoch, epoch, i, []byte(nil))
		case roll < 3:
			id := topics[rng.IntN(len(topics))]
			add(kindPurgeTopic, epoch-rng.Int32N(2), i, id[:])
		case roll < 10 && name != "g3": // which never has members
			id := fmt.Sprint("m", rng.IntN(3))
			h := &group.Heartbeat{MemberID: id, Epoch: state.Epoch, Subscription: group.Subscription{Topics: []string{"1", "2"}}}
			if state.Members[id] == nil {
				h.Epoch = api.JoinEpoch
			} else if rng.IntN(3) == 0 {
				h.Epoch = api.LeaveEpoch
			}
			next, out := state.Next(group.Input{
				Topics:     group.NewTopics([]group.Topic{{Name: "1", ID: topics[0], Partitions: 3}, {Name: "2", ID: topics[1], Partitions: 2}}),
				Heartbeats: []*group.Heartbeat{h}, MaxMembers: 3, Now: int64(i),
			})
			cmd := groupCommand{Group: name, Revision: forget.Revision, Header: next.EncodeHeader(), Deleted: out.Deleted}
			for _, m := range out.Put {
				cmd.Put = append(cmd.Put, memberRecord{m.ID, m.Encode()})
			}
			add(kindGroup, epoch, i, cmd)
		case roll < 11:
			add(kindDeleteGroup, epoch, i, forget)
		case roll < 12:
			forget.Offsets = offsets(i)
			add(kindDeleteOffsets, epoch, i, forget)
		case roll < 14:
			add(kindExpireGroup, epoch, i, forget)
		case roll < 17:
			add(kindCommitOffsets, epoch, i, commitCommand{Group: name, MemberID: fmt.Sprint("m", rng.IntN(3)), MemberEpoch: state.Epoch - rng.Int32N(3), Offsets: offsets(i)})
		default:
			add(kindCommitOffsets, epoch, i, commitCommand{Group: name, MemberEpoch: -1, Force: rng.IntN(4) == 0, Offsets: offsets(i)})
		}
	}
	return c
}

func metadataLog(tb testing.TB, rng *rand.Rand, length int) *commands {
	c := &commands{}
	epoch := int32(0)
	name := func() string { return fmt.Sprint("t", rng.IntN(4)) }
	for i := range length {
		var cmd metaCommand
		switch roll := rng.IntN(12); {
		case roll == 0 || epoch == 0:
			epoch++
			c.add(kindBeginEpoch, epoch, int64(i), nil)
			continue
		case roll < 4:
			cmd.CreateTopic = &createTopic{Name: name(), ID: uuid.UUID{byte(i), byte(i >> 8), 1}, Partitions: [][]int32{{1}, {1}}}
		case roll < 6:
			cmd.DeleteTopic = &deleteTopic{Name: name()}
		case roll < 8:
			cmd.AlterTopic = &alterTopic{Name: name(), Set: map[string]string{"retention.ms": fmt.Sprint(i)}, Reset: []string{"retention.bytes"}}
		case roll < 9:
			cmd.AddPartitions = &addPartitions{Name: name(), Total: 3, Added: [][]int32{{1}}}
		case roll < 10:
			cmd.CreateGroupSlot = &createGroupSlot{Slot: rng.IntN(18), Brokers: []int32{1}}
		case roll < 11:
			cmd.AllocProducers = &allocProducers{Count: 10}
		default:
			cmd.RegisterBroker = &brokerRecord{ID: rng.Int32N(3), DirID: fmt.Sprint(rng.IntN(2))}
		}
		body, err := json.Marshal(cmd)
		if err != nil {
			tb.Fatal(err)
		}
		c.add(kindMeta, epoch, int64(i), body)
	}
	return c
}

// shardKinds are the applications and logs for them.
var shardKinds = map[string]struct {
	log   func(testing.TB, *rand.Rand, int) *commands
	drive func(testing.TB, *storage.Store, uint64) *driven
}{
	"partition": {partitionLog, drivePartition},
	"groups":    {groupLog, driveGroups},
	"metadata":  {metadataLog, driveMetadata},
}

// feed applies the log in random cuts.
func (c *commands) feed(tb testing.TB, rng *rand.Rand, d *driven, longest int) {
	tb.Helper()
	for rest := c.entries; len(rest) > 0; {
		n := min(len(rest), 1+rng.IntN(longest))
		d.update(tb, rest[:n]...)
		rest = rest[n:]
	}
}
