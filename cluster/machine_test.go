package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/raftmq/mq/internal/mqerr"
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
	n.failed.c = make(chan struct{})
	n.released = make(chan struct{})
	n.snapshots.init()
	n.upkeep.init()
	r := &replica{node: n, id: storage.ReplicaID{Shard: shard, Replica: 1}, name: "driven"}
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

func TestACommandOfAnotherEpochChangesNothing(t *testing.T) {
	t.Parallel()
	d := drivePartition(t, openStore(t, storage.NewMemFS()), 1024)
	if res := d.run(t, kindAppend, 5, makeBatch(t, "before any epoch")); !errors.Is(res.err, mqerr.ErrNotLeader) {
		t.Fatalf("an append before any epoch: %+v", res)
	}
	d.run(t, kindBeginEpoch, 5, nil)
	if res := d.run(t, kindAppend, 5, makeBatch(t, "a", "b")); res.err != nil || res.offset != 0 || res.epoch != 5 {
		t.Fatalf("an append in its epoch: %+v", res)
	}
	before := d.content(t)
	applied := d.log().Applied()
	for _, epoch := range []int32{0, 4, 6, -1} {
		for k, body := range map[kind][]byte{kindAppend: makeBatch(t, "c"), kindTrim: trimBody(1), kindExpireProducers: trimBody(1 << 40)} {
			if res := d.run(t, k, epoch, body); !errors.Is(res.err, mqerr.ErrNotLeader) {
				t.Errorf("kind %d of epoch %d in epoch 5: %+v", k, epoch, res)
			}
		}
	}
	before["state"] = strings.Replace(before["state"], fmt.Sprintf("Applied:%d ", applied), fmt.Sprintf("Applied:%d ", d.index), 1)
	if diff := difference(d.content(t), before); diff != "" {
		t.Errorf("refused commands changed the replica: %s", diff)
	}
}

func TestEpochsOnlyGrow(t *testing.T) {
	t.Parallel()
	s := openStore(t, storage.NewMemFS())
	for name, d := range map[string]*driven{
		"partition": drivePartition(t, s, 1024), "groups": driveGroups(t, s, 2), "metadata": driveMetadata(t, s, 1),
	} {
		for _, step := range []struct {
			epoch int32
			begun bool
		}{{3, true}, {3, false}, {2, false}, {4, true}, {3, false}, {9, true}} {
			res := d.run(t, kindBeginEpoch, step.epoch, nil)
			if begun := res.err == nil; begun != step.begun || !begun && !errors.Is(res.err, mqerr.ErrNotLeader) {
				t.Errorf("%s: epoch %d: %v, want begun %v", name, step.epoch, res.err, step.begun)
			}
		}
	}
}

func TestANewerEpochFailsWhatWaitsAsNotAppended(t *testing.T) {
	t.Parallel()
	d := drivePartition(t, openStore(t, storage.NewMemFS()), 1024)
	d.run(t, kindBeginEpoch, 1, nil)
	answers := make([][]result, 4)
	for i, epoch := range []int32{1, 1, 2, 3} {
		pr := &proposal{epoch: epoch, size: 10, done: func(r result) { answers[i] = append(answers[i], r) }}
		if err := d.pend.add(d.seq.Add(1), pr, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if res := d.run(t, kindBeginEpoch, 2, nil); res.err != nil {
		t.Fatal(res.err)
	}
	for i, a := range answers {
		if older := i < 2; older && (len(a) != 1 || !errors.Is(a[0].err, mqerr.ErrNotLeader) || mqerr.OutcomeUnknown(a[0].err)) || !older && len(a) != 0 {
			t.Errorf("proposal %d was answered %+v", i, a)
		}
	}
	if d.pend.mu.bytes != 20 {
		t.Errorf("%d bytes are counted as on their way, want 20", d.pend.mu.bytes)
	}
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

func groupLog(tb testing.TB, rng *rand.Rand, length int) *commands {
	c := &commands{}
	epoch := int32(0)
	topics := []uuid.UUID{{1}, {2}, {3}}
	for i := range length {
		switch roll := rng.IntN(12); {
		case roll == 0 || epoch == 0:
			epoch++
			c.add(kindBeginEpoch, epoch, int64(i), nil)
		case roll < 3:
			id := topics[rng.IntN(len(topics))]
			c.add(kindPurgeTopic, epoch-rng.Int32N(2), int64(i), id[:])
		default:
			cmd := commitCommand{Group: fmt.Sprint("g", rng.IntN(3)), MemberEpoch: -1}
			for range 1 + rng.IntN(3) {
				cmd.Offsets = append(cmd.Offsets, commitRecord{TopicID: topics[rng.IntN(len(topics))], Partition: rng.Int32N(3), Offset: int64(i)})
			}
			body, err := json.Marshal(cmd)
			if err != nil {
				tb.Fatal(err)
			}
			c.add(kindCommitOffsets, epoch, int64(i), body)
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

func TestALogGivesTheSameStateHoweverItIsCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s := openStore(t, storage.NewMemFS())
		for name, kind := range shardKinds {
			log := kind.log(t, rng, 300)
			var first map[string]string
			for i, longest := range []int{1, 3, 40, 1000} {
				d := kind.drive(t, s, uint64(len(name)*100+i))
				log.feed(t, rng, d, longest)
				got := d.content(t)
				if first == nil {
					first = got
				}
				if diff := difference(got, first); diff != "" {
					t.Fatalf("seed %d: %s, in cuts of up to %d commands: %s", seed, name, longest, diff)
				}
			}
		}
	}
}

func TestStateIsWholeAfterReopening(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4, 4))
	fs := storage.NewMemFS()
	log := partitionLog(t, rng, 300)
	half := len(log.entries) / 2

	s := openStore(t, fs)
	whole := drivePartition(t, s, 2000)
	log.feed(t, rng, whole, 20)
	d := drivePartition(t, s, 1024)
	(&commands{log.entries[:half]}).feed(t, rng, d, 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, fs)
	d = drivePartition(t, s, 1024)
	if want := log.entries[half-1].Index; d.index != want {
		t.Fatalf("Open tells index %d, %d was applied", d.index, want)
	}
	(&commands{log.entries[half:]}).feed(t, rng, d, 20)
	whole = drivePartition(t, s, 2000)
	if diff := difference(d.content(t), whole.content(t)); diff != "" {
		t.Fatalf("a restart half-way makes a difference: %s", diff)
	}
}

func TestASnapshotMakesAnEqualReplica(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 5))
	from, to := openStore(t, storage.NewMemFS()), openStore(t, storage.NewMemFS())
	shard := uint64(100)
	for name, kind := range shardKinds {
		shard++
		log := kind.log(t, rng, 300)
		a, b := kind.drive(t, from, shard), kind.drive(t, to, shard)
		half := len(log.entries) / 2
		(&commands{log.entries[:half]}).feed(t, rng, a, 20)
		(&commands{log.entries[:10]}).feed(t, rng, b, 20) // it is behind
		prepared, err := a.machine.PrepareSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		want := a.content(t)
		(&commands{log.entries[half:]}).feed(t, rng, a, 20) // later than the snapshot
		var stream bytes.Buffer
		if err := a.machine.SaveSnapshot(prepared, &stream, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.machine.RecoverFromSnapshot(&stream, nil); err != nil {
			t.Fatal(err)
		}
		if diff := difference(b.content(t), want); diff != "" {
			t.Fatalf("%s is restored with a difference: %s", name, diff)
		}
		(&commands{log.entries[half:]}).feed(t, rng, b, 20)
		if diff := difference(b.content(t), a.content(t)); diff != "" {
			t.Fatalf("%s differs with the rest of the log: %s", name, diff)
		}
	}
}

func TestASnapshotThatIsStoppedSaysSo(t *testing.T) {
	t.Parallel()
	s := openStore(t, storage.NewMemFS())
	d := drivePartition(t, s, 1024)
	d.run(t, kindBeginEpoch, 1, nil)
	d.run(t, kindAppend, 1, makeBatch(t, "a"))
	stop := make(chan struct{})
	close(stop)
	prepared, err := d.machine.PrepareSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := d.machine.SaveSnapshot(prepared, &stream, stop); !errors.Is(err, sm.ErrSnapshotStopped) {
		t.Errorf("a stopped save: %v", err)
	}
	before := d.content(t)
	if err := d.machine.RecoverFromSnapshot(&stream, stop); !errors.Is(err, sm.ErrSnapshotStopped) {
		t.Errorf("a stopped recovery: %v", err)
	}
	if diff := difference(d.content(t), before); diff != "" {
		t.Errorf("a stopped recovery changed the replica: %s", diff)
	}
}

func TestACommandOfAnUnknownLevelParksTheReplica(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 6))
	fs := storage.NewMemFS()
	s := openStore(t, fs)
	log := partitionLog(t, rng, 100)
	half := len(log.entries) / 2
	known := drivePartition(t, s, 2000)
	log.feed(t, rng, known, 10)

	// The second half is of a newer build, all but the last commands.
	newer := make([]sm.Entry, len(log.entries))
	for i, e := range log.entries {
		newer[i] = sm.Entry{Index: e.Index, Cmd: bytes.Clone(e.Cmd)}
		if i >= half && i < len(newer)-3 {
			newer[i].Cmd[0] = featureLevel + 1
		}
	}
	d := drivePartition(t, s, 1024)
	d.lead.Store(&leadership{leader: 1, term: 100, self: true, serving: true})
	var waiting []result
	if err := d.pend.add(1, &proposal{epoch: 100, done: func(r result) { waiting = append(waiting, r) }}, 1000); err != nil {
		t.Fatal(err)
	}
	d.update(t, newer[:half-5]...)
	d.update(t, newer[half-5:half+5]...) // in the midst of one call
	d.update(t, newer[half+5:]...)

	if got, want := d.log().Applied(), newer[half-1].Index; got != want {
		t.Errorf("applied up to index %d, the last known command is %d", got, want)
	}
	if _, err := d.epochServed(); !errors.Is(err, mqerr.ErrLeaderNotAvailable) || !errors.Is(err, errParked) {
		t.Errorf("a parked replica serves: %v", err)
	}
	if len(waiting) != 1 || !mqerr.OutcomeUnknown(waiting[0].err) {
		t.Errorf("what waited was answered %+v", waiting)
	}
	if _, err := d.machine.PrepareSnapshot(); !errors.Is(err, errParked) || !errors.Is(err, sm.ErrSnapshotAborted) {
		t.Errorf("a parked replica takes a snapshot: %v", err)
	}
	var refused []result
	d.propose(kindAppend, makeBatch(t, "x"), 0, func(r result) { refused = append(refused, r) })
	if len(refused) != 1 || !errors.Is(refused[0].err, mqerr.ErrLeaderNotAvailable) {
		t.Errorf("a proposal to a parked replica was answered %+v", refused)
	}
	d.leaderUpdated(1, 101) // raft goes on electing
	if _, err := d.epochServed(); !errors.Is(err, errParked) {
		t.Errorf("a parked replica serves after an election: %v", err)
	}

	// A build that knows them finds the whole rest.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, fs)
	d = drivePartition(t, s, 1024)
	rest := slices.IndexFunc(log.entries, func(e sm.Entry) bool { return e.Index > d.index })
	(&commands{log.entries[rest:]}).feed(t, rng, d, 10)
	if diff := difference(d.content(t), drivePartition(t, s, 2000).content(t)); diff != "" {
		t.Errorf("the upgrade made a difference: %s", diff)
	}
}

// An error would end the process, so what can't be applied parks the replica and
// fails the node.
func TestWhatCannotBeAppliedFailsTheNode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		breakIt func(*storage.Store)
		cmd     []byte
		want    error
	}{
		"a command cut off": {func(*storage.Store) {}, []byte("short"), mqerr.ErrCorruptLog},
		"a closed store":    {func(s *storage.Store) { _ = s.Close() }, nil, mqerr.ErrClosed},
	} {
		s := openStore(t, storage.NewMemFS())
		d := drivePartition(t, s, 1024)
		d.run(t, kindBeginEpoch, 1, nil)
		d.lead.Store(&leadership{leader: 1, term: 1, self: true, serving: true})
		d.node.replicas.byShard = map[uint64]*replica{1024: d.replica}
		var answers []result
		if err := d.pend.add(5, &proposal{epoch: 1, done: func(r result) { answers = append(answers, r) }}, 1000); err != nil {
			t.Fatal(err)
		}
		c.breakIt(s)
		if c.cmd == nil {
			c.cmd = append(appendHeader(nil, header{feature: featureLevel, kind: kindAppend, epoch: 1, id: proposalID{drivenNonce, 5}}), makeBatch(t, "x")...)
		}
		if _, err := d.machine.Update([]sm.Entry{{Index: 10, Cmd: c.cmd}}); err != nil {
			t.Errorf("%s: Update gives %v", name, err)
		}
		if err := d.node.Failure(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "driven") {
			t.Errorf("%s: the node failed with %v", name, err)
		}
		if len(answers) != 1 || !mqerr.OutcomeUnknown(answers[0].err) {
			t.Errorf("%s: what waited was answered %+v", name, answers)
		}
		if _, err := d.epochServed(); !errors.Is(err, mqerr.ErrLeaderNotAvailable) || !errors.Is(err, c.want) {
			t.Errorf("%s: the replica serves: %v", name, err)
		}
		if _, err := d.machine.PrepareSnapshot(); !errors.Is(err, sm.ErrSnapshotAborted) {
			t.Errorf("%s: a snapshot: %v", name, err)
		}
		// A raft snapshot must not get through before the raft log was given up.
		synced := make(chan error, 1)
		go func() { synced <- d.machine.Sync() }()
		select {
		case err := <-synced:
			t.Errorf("%s: Sync returned %v", name, err)
		default:
		}
		close(d.node.released)
		if err := <-synced; err != nil {
			t.Errorf("%s: Sync gives %v", name, err)
		}
	}
}

func TestADamagedSnapshotFailsTheNode(t *testing.T) {
	t.Parallel()
	s := openStore(t, storage.NewMemFS())
	shard := uint64(100)
	for name, kind := range shardKinds {
		shard++
		rng := rand.New(rand.NewPCG(1, 1))
		d := kind.drive(t, s, shard)
		kind.log(t, rng, 50).feed(t, rng, d, 10)
		before := d.content(t)
		prepared, err := d.machine.PrepareSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		var stream bytes.Buffer
		if err := d.machine.SaveSnapshot(prepared, &stream, nil); err != nil {
			t.Fatal(err)
		}
		stream.Bytes()[stream.Len()/2] ^= 1
		if err := d.machine.RecoverFromSnapshot(&stream, nil); !errors.Is(err, sm.ErrSnapshotStopped) {
			t.Errorf("%s: raft is told %v", name, err)
		}
		if err := d.node.Failure(); !errors.Is(err, mqerr.ErrCorruptLog) {
			t.Errorf("%s: the node failed with %v", name, err)
		}
		if diff := difference(d.content(t), before); diff != "" {
			t.Errorf("%s: the replica changed: %s", name, diff)
		}
	}
}

func TestMetadataThatCannotBeReadIsCorruption(t *testing.T) {
	t.Parallel()
	s := openStore(t, storage.NewMemFS())
	for i, pair := range [][2]string{{keyGlobal, "{"}, {preBroker + "1", "x"}, {preTopic + "t", "[]"}, {preGroup + "3", ""}, {keyEpoch, "abc"}} {
		id := storage.ReplicaID{Shard: uint64(i) + 1, Replica: 1}
		kv, err := s.OpenKV(id)
		if err != nil {
			t.Fatal(err)
		}
		b := kv.NewBatch()
		b.Set([]byte(pair[0]), []byte(pair[1]))
		if err := b.Commit(1); err != nil {
			t.Fatal(err)
		}
		m := &metadata{store: s, id: id, changed: func() {}}
		if _, err := m.open(); !errors.Is(err, mqerr.ErrCorruptLog) {
			t.Errorf("%s = %q: %v", pair[0], pair[1], err)
		}
	}
}

func TestCommandsOfAnotherShardsKindAreRefused(t *testing.T) {
	t.Parallel()
	s := openStore(t, storage.NewMemFS())
	for name, c := range map[string]struct {
		d     *driven
		wrong []kind
	}{
		"partition": {drivePartition(t, s, 1024), []kind{kindMeta, kindCommitOffsets, kindPurgeTopic, 99}},
		"groups":    {driveGroups(t, s, 2), []kind{kindAppend, kindTrim, kindMeta, 99}},
		"metadata":  {driveMetadata(t, s, 1), []kind{kindAppend, kindCommitOffsets, 99}},
	} {
		c.d.run(t, kindBeginEpoch, 1, nil)
		for _, k := range c.wrong {
			if res := c.d.run(t, k, 1, []byte("{}")); !errors.Is(res.err, mqerr.ErrInternal) {
				t.Errorf("kind %d in %s: %+v", k, name, res)
			}
		}
	}
}

func TestAppendTimeNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	d := drivePartition(t, openStore(t, storage.NewMemFS()), 1024)
	c := &commands{}
	c.add(kindBeginEpoch, 1, 500, nil)
	c.add(kindAppend, 1, 500, makeBatch(t, "a"))
	c.add(kindAppend, 1, 300, makeBatchFor(t, record.BuildOptions{ProducerID: 1}, "b"))
	d.update(t, c.entries...)
	if st := d.log().State(); st.AppendTime != 500 {
		t.Errorf("append time is %d, want 500", st.AppendTime)
	}
	if at := d.machine.app.(*partition).producers.byID[1].newest().Time; at != 500 {
		t.Errorf("the producer's batch has time %d, want 500", at)
	}
}
