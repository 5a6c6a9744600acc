package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

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
		"partition": {drivePartition(t, s, 1024), []kind{kindMeta, kindCommitOffsets, kindPurgeTopic, kindGroup, 99}},
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
