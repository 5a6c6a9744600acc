package fetch

import (
	"testing"

	"github.com/google/uuid"
)

// lend returns a Set of one partition and the leases of its first records, each
// of one record and apart from the others.
func lend(t *testing.T, n, ahead int) (*Set, []Lease) {
	t.Helper()
	s := setAt(Config{Group: true}, led(0, 1))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 10, 1))
	c := take(t, s)
	var ls []Lease
	for i := range int64(n) {
		l, ok := s.Deliver(&c, i, i+1, ahead)
		if !ok {
			t.Fatalf("record %d is not delivered", i)
		}
		ls = append(ls, l)
	}
	return s, ls
}

func wantFinished(t *testing.T, s *Set, want int64) {
	t.Helper()
	if got := s.Progress()[0].Finished; got != want {
		t.Fatalf("finished is %d, want %d", got, want)
	}
}

func TestRecordThatIsNotFinishedHoldsTheCommitOfThoseBehind(t *testing.T) {
	s, ls := lend(t, 5, 100)
	for _, step := range []struct {
		finish int
		want   int64
	}{{3, 0}, {1, 0}, {0, 2}, {0, 2}, {4, 2}, {2, 5}} {
		s.Finish(ls[step.finish])
		wantFinished(t, s, step.want)
	}
}

func TestRecordsLentApartAreFinishedOneByOne(t *testing.T) {
	s, _ := lend(t, 3, 100)
	s.FinishAt(key(0), 3, 3)
	wantFinished(t, s, 0)
	s.FinishAt(key(0), 1, 3)
	wantFinished(t, s, 1)
	s.FinishAt(key(0), 2, 3)
	wantFinished(t, s, 3)
}

func TestWhatIsGivenBackComesAgainWithAllBehindIt(t *testing.T) {
	s, ls := lend(t, 5, 100)
	s.Finish(ls[0])
	s.Finish(ls[3])
	s.Return(ls[3]) // is finished
	s.Return(ls[4])
	s.Return(ls[1])
	s.Return(ls[2]) // went back with 1
	s.Finish(ls[2])
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 10, 1))
	c := take(t, s)
	if c.From != 1 {
		t.Fatalf("records come again from %d", c.From)
	}
	s.Deliver(&c, 1, 2, 100)
	for i, l := range ls {
		if s.Begin(l) != Void {
			t.Errorf("lease %d still counts", i)
		}
		s.Finish(l)
	}
	wantFinished(t, s, 1)
}

func TestPartitionWithEnoughLentWaitsAndOthersGoOn(t *testing.T) {
	s := setAt(Config{}, led(0, 1), led(1, 2))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 10, 1))
	c := take(t, s)
	var ls []Lease
	for i := range int64(4) {
		l, _ := s.Deliver(&c, i, i+1, 4)
		ls = append(ls, l)
	}
	if _, ok := s.Deliver(&c, 4, 5, 4); ok {
		t.Fatal("a fifth record was lent")
	}
	answer(t, s, start(t, s, 2, nothing), 1, batchOf(t, 0, 1, 1))
	if got := take(t, s); got.P.Key() != key(1) {
		t.Fatalf("got %v", got.P.Key())
	}
	woken(s.News())
	if s.Finish(ls[1]); woken(s.News()) { // it waits for 0
		t.Error("there is no room")
	}
	if s.Finish(ls[0]); !woken(s.News()) {
		t.Error("there is room, and nobody was told")
	}
	if got := take(t, s); got.P.Key() != key(0) || got.From != 4 || got.Next != 10 {
		t.Errorf("got %d to %d of %v", got.From, got.Next, got.P.Key())
	}
	if s.mu.used != s.mu.taken {
		t.Errorf("%d bytes count, %d are in hand", s.mu.used, s.mu.taken)
	}
}

func TestPausedRecordsAreHeldUntilResume(t *testing.T) {
	s, ls := lend(t, 1, 100)
	s.Pause([]Key{key(0)})
	if got := s.Begin(ls[0]); got != Held {
		t.Errorf("got %d", got)
	}
	woken(s.News())
	s.Resume([]Key{key(0)})
	if !woken(s.News()) {
		t.Error("nobody was told")
	}
	if got := s.Begin(ls[0]); got != Good {
		t.Errorf("got %d", got)
	}
}

func TestMuteSetHandsNothingOutAndLosesNothing(t *testing.T) {
	s, ls := lend(t, 1, 100)
	s.Return(ls[0])
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 3, 1), batchOf(t, 3, 3, 1))
	c := take(t, s)
	l, _ := s.Deliver(&c, 0, 1, 100)
	s.Mute(true)
	if _, ok := s.Deliver(&c, 1, 2, 100); ok {
		t.Error("a record of the batch in hand is delivered")
	}
	if _, _, ok := s.Take(); ok {
		t.Error("a batch is taken")
	}
	if got := s.Begin(l); got != Held {
		t.Errorf("what was delivered may be begun: %d", got)
	}
	woken(s.News())
	s.Mute(false)
	if !woken(s.News()) {
		t.Error("nobody was told")
	}
	if got := s.Begin(l); got != Good {
		t.Errorf("what was delivered may not be begun: %d", got)
	}
	if c := take(t, s); c.From != 1 || c.Next != 3 {
		t.Errorf("it goes on from %d to %d", c.From, c.Next)
	}
}

func TestDrainEndsWithWhatSomebodyHasBegun(t *testing.T) {
	drained := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	for name, end := range map[string]func(s *Set, l Lease){
		"finish": (*Set).Finish,
		"return": (*Set).Return,
		"seek":   func(s *Set, _ Lease) { s.Seek(led(0, 0).TopicPartition, 9) },
		"anew":   func(s *Set, _ Lease) { l := led(0, 1); l.TopicID = uuid.UUID{2}; s.Sync([]Located{l}) },
	} {
		t.Run(name, func(t *testing.T) {
			s, ls := lend(t, 5, 100)
			s.Begin(ls[0])
			s.Begin(ls[2])
			s.Pause([]Key{key(0)})
			done := s.Drain(key(0))
			for i, want := range []Standing{Good, Good, Good, Void, Void} {
				if got := s.Begin(ls[i]); got != want {
					t.Errorf("lease %d: got %d", i, got)
				}
			}
			s.Finish(ls[2])
			s.Finish(ls[0])
			if s.Resume([]Key{key(0)}); drained(done) || s.StartFetch(1, nothing) != nil {
				t.Fatal("1 is under way")
			}
			if end(s, ls[1]); !drained(done) || !drained(s.Drain(key(0))) {
				t.Fatal("nothing is under way")
			}
			if name == "finish" {
				wantFinished(t, s, 3)
			}
		})
	}
	if s, _ := lend(t, 2, 100); !drained(s.Drain(key(0))) || !drained(s.Drain(key(7))) {
		t.Error("nothing was begun")
	}
}

func TestLogCutOffUnderLentRecords(t *testing.T) {
	s := setAt(Config{Group: true}, led(0, 1))
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 10, 1))
	outOfRange(t, s)
	s.Found(lookup(t, s), 4, nil) // the log ends at 4 now
	c := take(t, s)
	first, _ := s.Deliver(&c, 0, 3, 0)
	second, _ := s.Deliver(&c, 3, 6, 0)
	third, _ := s.Deliver(&c, 6, 10, 0)
	if _, _, ok := s.Take(); ok {
		t.Fatal("got another batch")
	}
	s.Finish(third)
	s.Finish(first)
	wantFinished(t, s, 3)
	s.Finish(second)
	wantFinished(t, s, 4)
}
