package main

import (
	"io"
	"maps"
	"syscall"
	"testing"

	"github.com/raftmq/mq"
)

// A member's process stands still for longer than its session, in the middle of a
// record, as in a debugger or on a laptop that sleeps. Another one goes on from the
// last commit. When the process runs again its commit is refused, and it comes back
// into the group.
func TestMemberThatStoodStillCommitsNothingAndComesBack(t *testing.T) {
	t.Parallel()
	g := startJournalGroup(t, 12)
	g.produce(t.Context(), 300)
	sleeper := g.join("-session", "2s", "-commit", "-1s", "-wait", "25")
	g.until("the member to be in the middle of a record", func(all []journalEntry) bool {
		return len(all) > 0 && all[len(all)-1].what == awaits
	})
	if err := sleeper.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	before, read := g.committed(), len(g.entries()) // only the sleeper could change that
	other := g.join()
	g.committedAll()
	first := make(map[int32]int64)
	for _, e := range g.entries()[read:] {
		if _, ok := first[e.partition]; !ok && e.what == begins {
			first[e.partition] = e.offset
		}
	}
	for partition := range int32(6) {
		if first[partition] != before[partition] {
			t.Errorf("partition %d: the new owner began at %d, committed was %d", partition, first[partition], before[partition])
		}
	}

	all := g.committed()
	if _, err := io.WriteString(sleeper.input, "\n"); err != nil { // which it reads when it runs
		t.Fatal(err)
	}
	if err := sleeper.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.until("the late commit to be refused", func(all []journalEntry) bool {
		for _, e := range all[read:] {
			if e.what == committed && e.member == "1" {
				t.Fatalf("%v after others took over", e)
			}
			if e.what == fails {
				return true
			}
		}
		return false
	})
	if now := g.committed(); !maps.Equal(now, all) {
		t.Errorf("a late commit made %v of %v", now, all)
	}
	g.until("the member to be back", func([]journalEntry) bool {
		d, err := mq.NewAdmin(g.client).DescribeGroup(t.Context(), "g")
		return err == nil && d.State == mq.GroupStable && len(d.Members) == 2 &&
			len(d.Members[0].Assigned) == 3 && len(d.Members[1].Assigned) == 3
	})
	read = len(g.entries())
	g.produce(t.Context(), 300)
	g.until("both to handle records", func(all []journalEntry) bool {
		who := make(map[string]bool)
		for _, e := range all[read:] {
			who[e.member] = who[e.member] || e.what == ends
		}
		return who["1"] && who["2"]
	})
	g.leave(sleeper)
	g.committedAll()
	g.leave(other)
	c := g.check()
	t.Logf("%d records, %d handled twice", c.done, c.again)
}
