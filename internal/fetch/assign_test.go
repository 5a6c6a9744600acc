package fetch

import (
	"errors"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
)

// assigned returns a Set that is given what it reads, and partition 0 of it, at
// offset 0 and fetched.
func assigned(t *testing.T) (*Set, *Partition) {
	t.Helper()
	s := NewSet(Config{MaxBytes: 1000, MaxBuffered: 10000, Assigned: true})
	p := s.Assign(led(0, 0).TopicPartition, Start{Kind: AtOffset}, false)
	s.Sync([]Located{led(0, 1), led(1, 1)})
	answer(t, s, start(t, s, 1, nothing), 0, batchOf(t, 0, 2, 5))
	return s, p
}

func TestAssignedPartitionIsFetchedAndHandsOutNothingBeforeRelease(t *testing.T) {
	s, p := assigned(t)
	if ps := s.Progress(); len(ps) != 1 || ps[0].Partition != 0 {
		t.Fatalf("metadata made %+v", ps)
	}
	if _, failure, ok := s.Take(); ok || failure != nil {
		t.Fatal("it was handed out")
	}
	woken(s.News())
	s.Release(p)
	if !woken(s.News()) {
		t.Error("nobody was told")
	}
	if c := take(t, s); c.P != p {
		t.Errorf("took %+v", c)
	}
}

func TestRemovedPartitionEndsWhatWorksOnIt(t *testing.T) {
	s, p := assigned(t)
	s.Release(p)
	c := take(t, s)
	lease, ok := s.Deliver(&c, 0, 1, 0)
	if !ok {
		t.Fatal("nothing was delivered")
	}
	cause := errors.New("lost")
	s.Remove(p, cause)
	s.Remove(p, errors.New("again"))
	if p.Context().Err() == nil {
		t.Error("its context goes on")
	}
	s.Finish(lease)
	if _, ok := s.Deliver(&c, 1, 2, 0); ok || len(s.Commits()) > 0 || len(s.Progress()) > 0 {
		t.Error("it still counts")
	}
	again := s.Assign(led(0, 0).TopicPartition, Start{}, false)
	if s.Remove(p, cause); len(s.Progress()) != 1 || again.Context().Err() != nil {
		t.Error("the end of the old one ended the new one")
	}
}

func TestAssignedPartitionBeginsAgainWhereItWasTold(t *testing.T) {
	s := NewSet(Config{MaxBytes: 1000, MaxBuffered: 10000, Assigned: true, Start: Start{Kind: AtOffset, Value: 9}, Reset: ResetNone})
	s.Assign(led(0, 0).TopicPartition, Start{AtTime, api.LatestTimestamp}, false)
	s.Sync([]Located{led(0, 1)})
	ls := s.Lookups(1)
	if len(ls) != 1 || ls[0].Timestamp != api.LatestTimestamp {
		t.Fatalf("it asks %+v", ls)
	}
	other := led(0, 1)
	other.TopicID[0]++ // a topic created anew is for the coordinator to give
	s.Sync([]Located{other})
	if len(s.Lookups(1)) != 0 || len(s.Progress()) != 1 {
		t.Error("it follows another topic of the name")
	}
}

func TestPartitionThatFailedAndWentIsNotReportedWhenItIsReleased(t *testing.T) {
	s := setAt(Config{Group: true, Assigned: true})
	p := s.Assign(led(0, 1).TopicPartition, Start{}, false)
	s.FoundCommitted(s.CommittedLookups()[0], -1, mqerr.ErrInvalidRequest)
	s.Take() // passes over it
	s.Remove(p, mqerr.ErrFencedMemberEpoch)
	s.Release(p) // the hook has returned only now
	if _, failure, _ := s.Take(); failure != nil {
		t.Errorf("a partition that is gone fails: %+v", failure)
	}
}

func TestNothingIsBegunOfAPartitionWhoseTimeIsOver(t *testing.T) {
	s, ls := lend(t, 2, 100)
	s.Begin(ls[1])
	s.Drain(key(0))
	if got := s.Begin(ls[0]); got != Good {
		t.Fatalf("what somebody has begun behind: %v", got)
	}
	ls[0].P.End(mqerr.ErrStaleMemberEpoch)
	if got := s.Begin(ls[0]); got != Void {
		t.Errorf("once the time is over: %v", got)
	}
}
