package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Members join and leave as they should while records stream through their group:
// 1, 2, 3 and 1 of them. Each record is handled once, those of a partition in
// order, and partitions that did not move never stopped.
func TestMembersThatComeAndGoHandleEachRecordOnce(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	w := &watch{groupProcess: g, last: make(map[int32]event)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sent := make(chan int, 1)
	go func() { sent <- g.produce(ctx) }() // ends with ctx

	w.join()
	w.settle("1 member")
	w.join()
	w.settle("2 members")
	w.join()
	w.settle("3 members")
	w.leave(0)
	w.leave(0)
	w.settle("1 member")
	stop()
	total := <-sent
	g.until("everything to be committed", func(int) bool { return g.committed() == int64(total) })
	w.leave(0)
	w.check(total)
}

// watch reads what members print as they print it.
type watch struct {
	*groupProcess
	members []*exec.Cmd // that live
	names   []string
	outputs sync.WaitGroup

	mu     sync.Mutex
	came   int
	last   map[int32]event // by partition
	gaps   []gap
	faults []error
	times  []uint8 // by record
	owners map[int32]string
}

// event is a record that a member handled.
type event struct {
	member string
	offset int64
	at     time.Time
}

// gap is the time between two records of a partition that did not move.
type gap struct {
	partition int32
	before    int64
	took      time.Duration
}

func (w *watch) join() {
	w.Helper()
	cmd := w.member()
	output, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	name := fmt.Sprint("member ", len(w.names)+1)
	w.members, w.names = append(w.members, cmd), append(w.names, name)
	w.outputs.Go(func() { // ends with the process
		for s := bufio.NewScanner(output); s.Scan(); {
			w.handled(name, s.Text(), time.Now())
		}
	})
}

func (w *watch) leave(i int) {
	w.Helper()
	cmd := w.members[i]
	w.members = slices.Delete(w.members, i, i+1)
	w.interrupt(cmd)
}

func (w *watch) handled(member, line string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	partition, offset, n, ok := handledLine(line)
	if !ok {
		w.fault("%s printed %q", member, line)
		return
	}
	w.came++
	for n >= len(w.times) {
		w.times = append(w.times, 0)
	}
	if w.times[n]++; w.times[n] > 1 {
		w.fault("%s handled record %d, which was handled before", member, n)
	}
	before, ok := w.last[partition]
	if ok && offset <= before.offset {
		w.fault("%s: partition %d: %d came after %d", member, partition, offset, before.offset)
	}
	if ok && before.member == member {
		w.gaps = append(w.gaps, gap{partition, offset, at.Sub(before.at)})
	}
	w.last[partition] = event{member, offset, at}
}

func (w *watch) fault(format string, args ...any) {
	if len(w.faults) < 10 {
		w.faults = append(w.faults, fmt.Errorf(format, args...))
	}
}

// settle waits until as many members as there are handle records, and then for
// some records, and tells what has moved.
func (w *watch) settle(phase string) {
	w.Helper()
	owners := func() map[int32]string {
		w.mu.Lock()
		defer w.mu.Unlock()
		out := make(map[int32]string)
		for p, e := range w.last {
			out[p] = e.member
		}
		return out
	}
	w.until(phase, func(int) bool {
		share := make(map[string]int)
		for _, m := range owners() {
			share[m]++
		}
		fair := len(share) == len(w.members)
		for _, n := range share {
			fair = fair && n == 6/len(w.members)
		}
		return fair
	})
	w.mu.Lock()
	from := w.came
	w.mu.Unlock()
	w.until("more records with "+phase, func(int) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.came > from+1000
	})
	now := owners()
	var moved, stayed []string
	for p := range int32(6) {
		if was := w.owners[p]; was != now[p] {
			moved = append(moved, fmt.Sprintf("%d to %s", p, now[p]))
		} else {
			stayed = append(stayed, fmt.Sprint(p))
		}
	}
	w.Logf("%s: moved %s; stayed %s", phase, strings.Join(moved, ", "), strings.Join(stayed, ", "))
	if w.owners != nil && len(moved) > map[string]int{"2 members": 3, "3 members": 2, "1 member": 4}[phase] {
		w.Errorf("%s: %d partitions moved", phase, len(moved))
	}
	w.owners = now
}

func (w *watch) check(total int) {
	w.Helper()
	w.outputs.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range total {
		if n >= len(w.times) || w.times[n] == 0 {
			w.fault("record %d was never handled", n)
		}
	}
	if err := errors.Join(w.faults...); err != nil {
		w.Error(err)
	}
	widest := slices.MaxFunc(w.gaps, func(a, b gap) int { return int(a.took - b.took) })
	w.Logf("%d records; the widest gap in a partition that did not move: %v, in partition %d before offset %d",
		total, widest.took, widest.partition, widest.before)
	if os.Getenv("MQ_TEST_LONG") != "" && widest.took > 200*time.Millisecond {
		w.Errorf("a partition that did not move stopped for %v", widest.took)
	}
}
