package fetch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

var topicID = uuid.UUID{1}

// led is partition n of topic t, led by a broker.
func led(n, leader int32) Located {
	return Located{TopicPartition: api.TopicPartition{Topic: "t", TopicID: topicID, Partition: n}, Leader: leader}
}

func key(n int32) Key { return Key{"t", n} }

// batchOf is a batch of count records with values of size bytes.
func batchOf(t *testing.T, base int64, count, size int) []byte {
	t.Helper()
	var b record.Builder
	for range count {
		b.Append(nil, make([]byte, size), nil, 0)
	}
	batch, err := b.Build(nil, record.BuildOptions{ProducerID: record.NoProducerID})
	if err != nil {
		t.Fatal(err)
	}
	record.Patch(batch, base, 3)
	return batch
}

// setAt returns a Set with partitions that stand at offset 0.
func setAt(cfg Config, located ...Located) *Set {
	cfg.MaxBytes = cmpOr(cfg.MaxBytes, 1000)
	cfg.MaxBuffered = cmpOr(cfg.MaxBuffered, 10000)
	cfg.Start = Start{Kind: AtOffset}
	s := NewSet(cfg)
	s.Sync(located)
	return s
}

func cmpOr(n, m int) int {
	if n == 0 {
		return m
	}
	return n
}

func asked(f *Flight) (ns []int32) {
	for _, p := range f.Request.Partitions {
		ns = append(ns, p.Partition)
	}
	return ns
}

// answer ends a flight with batches for one partition.
func answer(t *testing.T, s *Set, f *Flight, n int32, batches ...[]byte) []Trouble {
	t.Helper()
	r := api.FetchResult{TopicPartition: led(n, 0).TopicPartition, LeaderEpoch: 3, Batches: slices.Concat(batches...)}
	return s.EndFetch(f, &api.FetchResponse{Partitions: []api.FetchResult{r}}, nil)
}

func start(t *testing.T, s *Set, leader int32, cancel func()) *Flight {
	t.Helper()
	f := s.StartFetch(leader, cancel)
	if f == nil {
		t.Fatal("there is nothing to fetch")
	}
	return f
}

func take(t *testing.T, s *Set) Chunk {
	t.Helper()
	c, failure, ok := s.Take()
	if failure != nil || !ok {
		t.Fatalf("nothing to take: %+v", failure)
	}
	return c
}

func woken(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func nothing() {}

func TestRequestSaysWhereEachPartitionStands(t *testing.T) {
	s := setAt(Config{MinBytes: 7, MaxWait: time.Second, Isolation: api.ReadCommitted}, led(0, 1), led(1, 2), led(2, 1))
	s.Seek(led(2, 0).TopicPartition, 40)
	f := start(t, s, 1, nothing)
	req := f.Request
	if req.MinBytes != 7 || req.MaxWait != time.Second || req.MaxBytes != 1000 || req.Isolation != api.ReadCommitted || len(req.Partitions) != 2 {
		t.Fatalf("got %+v", req)
	}
	if p := req.Partitions[1]; p.TopicPartition != led(2, 0).TopicPartition || p.Offset != 40 || p.MaxBytes != 1000 {
		t.Errorf("got %+v", p)
	}
	if s.StartFetch(1, nothing) != nil {
		t.Error("a partition was asked for twice at once")
	}
}

func TestPartitionWithFullQueueIsNotFetchedUntilItIsRead(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 1))
	wake := s.Wake(1)
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 1, 800), batchOf(t, 1, 1, 800))
	ctx, cancel := context.WithCancel(t.Context())
	f := start(t, s, 1, cancel)
	if got := asked(f); !slices.Equal(got, []int32{1}) {
		t.Fatalf("asked for %v", got)
	}
	woken(wake)
	take(t, s)
	if ctx.Err() == nil || !woken(wake) {
		t.Error("the request under way must give way to one that asks for both")
	}
	s.EndFetch(f, nil, nil)
	if got := asked(start(t, s, 1, nothing)); !slices.Equal(got, []int32{1, 0}) {
		t.Errorf("asked for %v; the one that has nothing comes first", got)
	}
}

func TestPartitionsTakeTurnsToBeFirst(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 1), led(2, 1))
	first := map[int32]bool{}
	for range 3 {
		f := start(t, s, 1, nothing)
		first[asked(f)[0]] = true
		s.EndFetch(f, &api.FetchResponse{}, nil)
	}
	if len(first) != 3 {
		t.Errorf("only %v were first", first)
	}
}

func TestPartitionsTakeTurnsToBeRead(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 2))
	f0, f1 := start(t, s, 1, nothing), start(t, s, 2, nothing)
	answer(t, s, f0, 0, batchOf(t, 0, 1, 1), batchOf(t, 1, 1, 1))
	answer(t, s, f1, 1, batchOf(t, 0, 1, 1), batchOf(t, 1, 1, 1))
	var order []int32
	for range 4 {
		order = append(order, take(t, s).P.Key().Partition)
	}
	if !slices.Equal(order, []int32{0, 1, 0, 1}) {
		t.Errorf("got %v", order)
	}
}

func TestBudgetStopsFetchingAndReadingStartsItAgain(t *testing.T) {
	s := setAt(Config{MaxBuffered: 2500}, led(0, 1), led(1, 2), led(2, 3))
	f1, f2 := start(t, s, 1, nothing), start(t, s, 2, nothing)
	if s.StartFetch(3, nothing) != nil {
		t.Fatal("two requests may bring 2000 bytes, a third is too much")
	}
	woken(s.Wake(3))
	s.EndFetch(f2, &api.FetchResponse{}, nil)
	if !woken(s.Wake(3)) {
		t.Fatal("room came back and nobody was told")
	}
	answer(t, s, f1, 0, batchOf(t, 0, 1, 900), batchOf(t, 1, 1, 900))
	if s.StartFetch(3, nothing) != nil {
		t.Fatal("2000 bytes are queued")
	}
	take(t, s)
	if woken(s.Wake(3)) {
		t.Error("what the reader has in its hands still counts")
	}
	take(t, s)
	if !woken(s.Wake(3)) {
		t.Fatal("the first batch is used up and nobody was told")
	}
	start(t, s, 3, nothing)
}

func TestAnswerFromBeforeASeekIsIgnored(t *testing.T) {
	s := setAt(Config{}, led(0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	f := start(t, s, 1, cancel)
	s.Seek(led(0, 0).TopicPartition, 5)
	if ctx.Err() == nil {
		t.Error("the request under way is of no use any more")
	}
	answer(t, s, f, 0, batchOf(t, 0, 3, 1))
	if _, _, ok := s.Take(); ok {
		t.Fatal("records from before the seek")
	}
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 4, 3, 1))
	if c := take(t, s); c.From != 5 || c.Next != 7 {
		t.Errorf("got records %d to %d", c.From, c.Next)
	}
}

func TestAnswerOfAFormerLeaderIsIgnored(t *testing.T) {
	s := setAt(Config{}, led(0, 1))
	f1 := start(t, s, 1, nothing)
	s.Sync([]Located{led(0, 2)})
	f2 := start(t, s, 2, nothing)
	answer(t, s, f2, 0, batchOf(t, 0, 2, 1))
	if troubles := answer(t, s, f1, 0, batchOf(t, 0, 1, 1)); troubles != nil {
		t.Errorf("got %v", troubles)
	}
	if c := take(t, s); c.Next != 2 {
		t.Errorf("got records up to %d", c.Next)
	}
	if _, _, ok := s.Take(); ok {
		t.Error("records came twice")
	}
}

// A leader that has fallen silent would keep its part of the budget until the request
// times out.
func TestARequestToWhoLeadsNothingAnyMoreIsCancelled(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 2))
	cancelled := map[int32]bool{}
	for leader := range int32(2) {
		start(t, s, leader+1, func() { cancelled[leader+1] = true })
	}
	s.Sync([]Located{led(0, 2), led(1, 2)})
	if !cancelled[1] {
		t.Error("the request to the former leader goes on")
	}
	start(t, s, 2, nothing)
}

func TestChunkInHandEndsWithSeekPauseAndRemoval(t *testing.T) {
	for name, end := range map[string]func(s *Set, l Lease){
		"seek":   func(s *Set, _ Lease) { s.Seek(led(0, 0).TopicPartition, 1) },
		"pause":  func(s *Set, _ Lease) { s.Pause([]Key{key(0)}) },
		"anew":   func(s *Set, _ Lease) { l := led(0, 1); l.TopicID = uuid.UUID{2}; s.Sync([]Located{l}) },
		"return": func(s *Set, l Lease) { s.Return(l) },
		"drain":  func(s *Set, _ Lease) { s.Drain(key(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := setAt(Config{}, led(0, 1))
			answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 3, 1), batchOf(t, 3, 3, 1))
			c := take(t, s)
			lease, ok := s.Deliver(&c, 0, 1, 0)
			if !ok {
				t.Fatal("the first record must be delivered")
			}
			end(s, lease)
			if _, ok := s.Deliver(&c, 1, 2, 0); ok {
				t.Error("a record was delivered after it")
			}
			s.Pass(&c)
			s.Fail(&c, errors.New("late"))
			s.Finish(lease)
			for _, commit := range s.Commits() {
				if name == "seek" && commit.Offset != 1 || name == "anew" {
					t.Errorf("commits %d", commit.Offset)
				}
			}
			if _, failure, _ := s.Take(); failure != nil {
				t.Errorf("failed: %v", failure.Err)
			}
			if s.mu.used != s.mu.taken {
				t.Errorf("%d bytes are left in the budget, %d in hand", s.mu.used, s.mu.taken)
			}
		})
	}
}

func TestFinishedNeverExceedsWhatWasHandedOut(t *testing.T) {
	s := setAt(Config{Group: true}, led(0, 1))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 5, 1))
	c := take(t, s)
	first, _ := s.Deliver(&c, 0, 2, 0)
	second, _ := s.Deliver(&c, 2, 4, 0)
	finished := func(want int64) {
		t.Helper()
		if got := s.Progress()[0].Finished; got != want {
			t.Fatalf("finished is %d, want %d", got, want)
		}
	}
	finished(0)
	s.Finish(second)
	finished(0)
	s.Finish(first)
	finished(4)
	if s.FinishAt(key(0), 5, 0) || s.FinishAt(key(7), 1, 0) {
		t.Error("what was not handed out was finished")
	}
	cs := s.Commits()
	if len(cs) != 1 || cs[0].Offset != 4 || cs[0].LeaderEpoch != 3 || cs[0].TopicID != topicID {
		t.Fatalf("commits %+v", cs)
	}
	s.Committed(cs[0])
	if cs := s.Commits(); len(cs) != 0 {
		t.Errorf("commits again: %+v", cs)
	}
	third, _ := s.Deliver(&c, 4, 5, 0)
	s.Seek(led(0, 0).TopicPartition, 1)
	s.Finish(third) // of before the seek
	finished(1)
}

func TestEmptyBatchesAreFinishedByPassing(t *testing.T) {
	s := setAt(Config{}, led(0, 1))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 2, 3, 1)) // 0 and 1 were compacted away
	c := take(t, s)
	lease, _ := s.Deliver(&c, 2, 3, 0)
	if got := s.Progress()[0].Finished; got != 2 {
		t.Errorf("finished is %d, there is nothing below 2", got)
	}
	s.Finish(lease)
	s.Pass(&c)
	if got := s.Progress()[0].Finished; got != 5 {
		t.Errorf("finished is %d, the rest of the batch holds nothing", got)
	}
}

func TestNewPartitionsBeginWhereTheConfigurationSays(t *testing.T) {
	latest, earliest := api.LatestTimestamp, api.EarliestTimestamp
	for _, tt := range []struct {
		name    string
		start   Start
		group   bool
		reset   Reset
		seen    []Located // at the first Sync, or never synced when nil
		lookup  int64     // timestamp asked for, 0 none
		ask     bool      // for the committed offset
		offset  int64     // known at once
		failure bool
	}{
		{name: "earliest", start: Start{AtTime, earliest}, lookup: earliest},
		{name: "latest", start: Start{AtTime, latest}, lookup: latest},
		{name: "latest, topic came later", start: Start{AtTime, latest}, seen: []Located{}, lookup: earliest},
		{name: "latest, partition came later", start: Start{AtTime, latest}, seen: []Located{led(9, 1)}, lookup: earliest},
		{name: "time", start: Start{AtTime, 77}, lookup: 77},
		{name: "time, topic came later", start: Start{AtTime, 77}, seen: []Located{}, lookup: 77},
		{name: "time, partition came later", start: Start{AtTime, 77}, seen: []Located{led(9, 1)}, lookup: earliest},
		{name: "offset", start: Start{AtOffset, 5}, offset: 5},
		{name: "offset, topic came later", start: Start{AtOffset, 5}, seen: []Located{}, offset: 5},
		{name: "offset, partition came later", start: Start{AtOffset, 5}, seen: []Located{led(9, 1)}, lookup: earliest},
		{name: "committed", group: true, ask: true},
		{name: "committed, partition came later", group: true, seen: []Located{led(9, 1)}, ask: true},
		{name: "committed without group", reset: ResetLatest, lookup: latest},
		{name: "committed without group, came later", reset: ResetLatest, seen: []Located{}, lookup: earliest},
		{name: "committed without group, none", reset: ResetNone, failure: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewSet(Config{MaxBytes: 1, MaxBuffered: 1, Start: tt.start, Group: tt.group, Reset: tt.reset})
			if tt.seen != nil {
				s.Sync(tt.seen)
			}
			s.Sync(append(tt.seen, led(0, 1)))
			p := s.mu.parts[key(0)]
			if tt.lookup != 0 && (p.state != wantOffset || p.at != tt.lookup) ||
				tt.ask && p.state != wantCommitted ||
				tt.offset != 0 && (p.state != reading || p.position != tt.offset) ||
				tt.failure != (p.state == failed) {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func TestTroubleTakesTheLeaderAwayUntilSync(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 1))
	f := start(t, s, 1, nothing)
	refused := api.FetchResult{TopicPartition: led(0, 0).TopicPartition, Err: mqerr.ErrNotLeader}
	troubles := s.EndFetch(f, &api.FetchResponse{Partitions: []api.FetchResult{refused}}, nil)
	if len(troubles) != 1 || troubles[0].Key != key(0) || !errors.Is(troubles[0].Err, mqerr.ErrNotLeader) {
		t.Fatalf("got %+v", troubles)
	}
	if got := asked(start(t, s, 1, nothing)); !slices.Equal(got, []int32{1}) {
		t.Errorf("asked for %v", got)
	}
	if leaders := s.Sync([]Located{led(0, 2), led(1, 1)}); !slices.Equal(leaders, []int32{1, 2}) {
		t.Errorf("leaders are %v", leaders)
	}
	start(t, s, 2, nothing)
}

func TestFollowerIsFetchedFromAndTheLeaderIsAskedForOffsets(t *testing.T) {
	s := NewSet(Config{MaxBytes: 1000, MaxBuffered: 10000, Start: Start{AtTime, api.EarliestTimestamp}})
	near := led(0, 1)
	near.Near = 2
	if brokers := s.Sync([]Located{near, led(1, 1)}); !slices.Equal(brokers, []int32{1, 2}) {
		t.Errorf("it asks %v", brokers)
	}
	if len(s.Lookups(2)) != 0 || len(s.Lookups(1)) != 2 {
		t.Fatalf("the leader is asked %v, the follower %v", s.Lookups(1), s.Lookups(2))
	}
	for _, l := range s.Lookups(1) {
		s.Found(l, 0, nil)
	}
	of1, of2 := start(t, s, 1, nothing), start(t, s, 2, nothing)
	if !slices.Equal(asked(of1), []int32{1}) || of1.Request.Follower || !slices.Equal(asked(of2), []int32{0}) || !of2.Request.Follower {
		t.Errorf("the leader is asked %+v, the follower %+v", of1.Request, of2.Request)
	}
}

// Nothing that a follower says is a verdict: not even about offsets.
func TestTroubleWithAFollowerGoesOnAtTheLeader(t *testing.T) {
	for name, r := range map[string]api.FetchResult{
		"out of range": {Err: mqerr.ErrOffsetOutOfRange},
		"no leader":    {Err: mqerr.ErrLeaderNotAvailable},
		"broken":       {Batches: []byte("what is this")},
		"closed":       {Err: mqerr.ErrInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			near := led(0, 1)
			near.Near = 2
			s := setAt(Config{}, near)
			answer(t, s, start(t, s, 2, nothing), 0, batchOf(t, 0, 5, 1))
			woken(s.Wake(1))
			f := start(t, s, 2, nothing)
			r.TopicPartition = near.TopicPartition
			troubles := s.EndFetch(f, &api.FetchResponse{Partitions: []api.FetchResult{r}}, nil)
			if len(troubles) != 1 || !troubles[0].Follower || troubles[0].Key != key(0) {
				t.Fatalf("got %+v", troubles)
			}
			if !woken(s.Wake(1)) {
				t.Error("the leader is not asked")
			}
			if f := start(t, s, 1, nothing); f.Request.Partitions[0].Offset != 5 || f.Request.Follower {
				t.Errorf("the leader is asked for %+v", f.Request)
			}
			if c := take(t, s); c.Next != 5 {
				t.Errorf("what was there is gone: %+v", c)
			}
		})
	}
}

func TestAnswersAreSplitIntoWhatIsNew(t *testing.T) {
	s := setAt(Config{}, led(0, 1))
	s.Seek(led(0, 0).TopicPartition, 4)
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 3, 1), batchOf(t, 3, 3, 1), batchOf(t, 8, 1, 1))
	first, second := take(t, s), take(t, s)
	if first.From != 4 || first.Next != 6 || second.Next != 9 {
		t.Errorf("got %d to %d, then up to %d", first.From, first.Next, second.Next)
	}
	if f := start(t, s, 1, nothing); f.Request.Partitions[0].Offset != 9 {
		t.Errorf("fetches from %d", f.Request.Partitions[0].Offset)
	}
}

func TestFailureComesInItsTurnUntilSeekOrPause(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 2))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 2, 1))
	c := take(t, s)
	lease, _ := s.Deliver(&c, 0, 1, 0)
	cause := errors.New("no such codec")
	s.Fail(&c, cause)
	fails := func(want bool) {
		t.Helper()
		_, failure, ok := s.Take()
		if ok || (failure != nil) != want {
			t.Fatalf("got %+v", failure)
		}
		if want && (failure.Key != key(0) || failure.Offset != 1 || failure.Next != 2 || failure.Err != cause) {
			t.Fatalf("got %+v", failure)
		}
	}
	fails(true)
	answer(t, s, start(t, s, 2, nothing), 1, batchOf(t, 0, 2, 1))
	fails(true)
	if got := take(t, s); got.P.Key() != key(1) {
		t.Errorf("got %v", got.P.Key())
	}
	fails(true)
	s.Pause([]Key{key(0)})
	fails(false)
	s.Resume([]Key{key(0)})
	fails(true)
	s.Return(lease) // what comes before it is wanted again
	fails(false)
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 2, 1))
	c = take(t, s)
	if c.From != 0 {
		t.Errorf("got records from %d", c.From)
	}
	s.Deliver(&c, 0, 1, 0)
	s.Fail(&c, cause)
	fails(true)
	s.Seek(led(0, 0).TopicPartition, 2)
	fails(false)
}

func TestOnlyTheSameBrokenBatchAgainAndAgainIsAFailure(t *testing.T) {
	s := setAt(Config{}, led(0, 1))
	broken := func(base int64) []byte {
		b := batchOf(t, base, 1, 1)
		b[len(b)-1] ^= 1
		return b
	}
	for base := range int64(10) { // each batch breaks twice and gets through
		for range 2 {
			troubles := answer(t, s, start(t, s, 1, nothing), 0, broken(base))
			if len(troubles) != 1 || !errors.Is(troubles[0].Err, mqerr.ErrCorruptBatch) {
				t.Fatalf("got %v", troubles)
			}
			s.Sync([]Located{led(0, 1)})
		}
		answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, base, 1, 1))
		take(t, s)
	}
	for range 3 {
		answer(t, s, start(t, s, 1, nothing), 0, broken(10))
		s.Sync([]Located{led(0, 1)})
	}
	if _, failure, _ := s.Take(); failure == nil || failure.Offset != 10 || !errors.Is(failure.Err, mqerr.ErrCorruptBatch) {
		t.Errorf("got %+v", failure)
	}
}

// outOfRange makes the leader refuse the offset that is fetched.
func outOfRange(t *testing.T, s *Set) {
	t.Helper()
	f := start(t, s, 1, nothing)
	r := api.FetchResult{TopicPartition: led(0, 0).TopicPartition, Err: mqerr.ErrOffsetOutOfRange}
	s.EndFetch(f, &api.FetchResponse{Partitions: []api.FetchResult{r}}, nil)
}

func lookup(t *testing.T, s *Set) Lookup {
	t.Helper()
	ls := s.Lookups(1)
	if len(ls) != 1 {
		t.Fatalf("looks up %v", ls)
	}
	return ls[0]
}

func TestResetLetsWhatIsQueuedComeFirst(t *testing.T) {
	s := setAt(Config{Reset: ResetLatest, Group: true}, led(0, 1))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 10, 1))
	outOfRange(t, s)
	s.Found(lookup(t, s), 4, nil) // the log was cut off at 4
	c := take(t, s)
	lease, ok := s.Deliver(&c, 0, 8, 0)
	if !ok || c.Next != 10 {
		t.Fatalf("got records up to %d", c.Next)
	}
	s.Finish(lease)
	s.Deliver(&c, 8, 10, 0) // not finished
	if _, _, ok := s.Take(); ok {
		t.Error("got another batch")
	}
	if cs := s.Commits(); len(cs) != 1 || cs[0].Offset != 4 {
		t.Errorf("commits %+v", cs)
	}
	if f := start(t, s, 1, nothing); f.Request.Partitions[0].Offset != 4 {
		t.Errorf("fetches from %d", f.Request.Partitions[0].Offset)
	}
}

func TestAnswerToALookupFromBeforeASeekIsIgnored(t *testing.T) {
	s := setAt(Config{}, led(0, 1))
	outOfRange(t, s)
	old := lookup(t, s)
	s.Seek(led(0, 0).TopicPartition, 50)
	outOfRange(t, s)
	s.Found(old, 3, nil)
	s.Found(lookup(t, s), 7, nil)
	if f := start(t, s, 1, nothing); f.Request.Partitions[0].Offset != 7 {
		t.Errorf("fetches from %d", f.Request.Partitions[0].Offset)
	}
}

func TestPartitionThatMetadataForgetsStaysWhereItIs(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 1))
	s.Seek(led(0, 0).TopicPartition, 5)
	s.Sync([]Located{led(1, 1)})
	if got := asked(start(t, s, 1, nothing)); !slices.Equal(got, []int32{1}) {
		t.Errorf("asked for %v", got)
	}
	s.Sync([]Located{led(0, 1), led(1, 1)})
	if f := start(t, s, 1, nothing); f.Request.Partitions[0].Offset != 5 {
		t.Errorf("fetches from %d", f.Request.Partitions[0].Offset)
	}
}
