package mq_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformGroups = []behaviour{
	{"Close commits what is finished, and only that", testCloseCommits},
	{"offsets are committed at the interval", testAutoCommitInterval},
	{"without auto-commit only Commit stores", testManualCommit},
	{"a record whose handler failed comes again", testHandlerFailed},
	{"groups do not share offsets", testGroupsAreApart},
	{"what a group stored can be looked at", testCommittedOffsets},
	{"the lag of a group is what it has not read", testGroupLag},
	{"Commit refuses what it can't know", testCommitRefuses},
	{"after a trim or retention the reset policy answers", testResetPolicy},
	{"without an offset reading may begin with what is not older than a duration", testResetAgo},
}

var conformReset = []behaviour{
	{"retention by size deletes the oldest", testRetentionBytes},
	{"retention by age deletes what is old", testRetentionAge},
}

// tenRecords makes a topic of one partition that holds 0 to 9, one batch each.
func tenRecords(t *testing.T, s *site) string {
	t.Helper()
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	for i := range 10 {
		send(t, p, strconv.Itoa(i))
	}
	return name
}

// beside opens a consumer of a topic with one partition that goes on where the
// group left off, and is no member of it.
func (s *site) beside(t *testing.T, topic, group string) *mq.Consumer {
	t.Helper()
	return s.consumer(t, mq.ConsumerConfig{Topics: []string{topic}, Partitions: []int32{0}, GroupID: group, AutoCommitInterval: -1})
}

func testCloseCommits(t *testing.T, s *site) {
	name := tenRecords(t, s)
	next := func(group string) string {
		t.Helper()
		return takeOne(t, s.beside(t, name, group))
	}
	open := func(group string) *mq.Consumer {
		t.Helper()
		return s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: group, AutoCommitInterval: time.Hour})
	}
	shut := func(c *mq.Consumer) {
		t.Helper()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}

	c := open(name + "-poll")
	take(t, c, 3)
	take(t, c, 2) // by now the three are finished
	shut(c)
	if got := next(name + "-poll"); got != "3" {
		t.Errorf("poll: a later consumer begins at %s, want 3", got)
	}

	c = open(name + "-messages")
	n := 0
	for _, err := range c.Messages(soon(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 6 {
			break // the sixth was not finished
		}
	}
	shut(c)
	if got := next(name + "-messages"); got != "5" {
		t.Errorf("messages: a later consumer begins at %s, want 5", got)
	}

	c = open(name + "-run")
	ctx, cancel := context.WithCancel(soon(t))
	n = 0
	if err := c.Run(ctx, mq.HandlerFunc(func(context.Context, *mq.Record) error {
		if n++; n == 8 {
			cancel() // a handler that returns nil has finished its record
		}
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	if got := next(name + "-run"); got != "8" { // Run commits when it ends
		t.Errorf("run: a later consumer begins at %s, want 8", got)
	}
	shut(c)
	shut(c) // again
}

func testAutoCommitInterval(t *testing.T, s *site) {
	name := tenRecords(t, s)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, AutoCommitInterval: time.Millisecond})
	take(t, c, 4)
	short, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(short, 1)
	take(t, c, 1)
	eventually(t, "the first four are committed", func() bool {
		stored, err := s.admin().CommittedOffsets(soon(t), name)
		if err != nil {
			t.Fatal(err)
		}
		return len(stored) == 1 && stored[0].Offset == 4
	})
}

func testManualCommit(t *testing.T, s *site) {
	name := tenRecords(t, s)
	open := func() *mq.Consumer {
		return s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, AutoCommitInterval: -1})
	}
	c := open()
	take(t, c, 5)
	take(t, c, 1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open()
	got := take(t, c, 5)
	if v := string(got[0].Value); v != "0" {
		t.Fatalf("nothing was committed, and a later consumer begins at %s", v)
	}
	// A record and all before it.
	if err := c.Commit(soon(t), got[2]); err != nil {
		t.Fatal(err)
	}
	if got := takeOne(t, s.beside(t, name, name)); got != "3" {
		t.Errorf("2 was committed, a later consumer begins at %s", got)
	}
	// Nothing named: everything finished so far, which the next poll says.
	take(t, c, 1)
	if err := c.Commit(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := takeOne(t, s.beside(t, name, name)); got != "5" {
		t.Errorf("0 to 4 were committed, a later consumer begins at %s", got)
	}
	// An iterator may commit the record in hand.
	for r, err := range c.Messages(soon(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(soon(t), r); err != nil {
			t.Fatal(err)
		}
		if string(r.Value) == "7" {
			break
		}
	}
	if got := takeOne(t, s.beside(t, name, name)); got != "8" {
		t.Errorf("7 was committed, a later consumer begins at %s", got)
	}
}

func testHandlerFailed(t *testing.T, s *site) {
	name := tenRecords(t, s)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	var seen []string
	fault := errors.New("no")
	err := c.Run(soon(t), mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
		seen = append(seen, string(r.Value))
		if len(seen) == 4 {
			return fault
		}
		return nil
	}))
	wantError(t, err, fault)
	if got := takeOne(t, s.beside(t, name, name)); got != "3" {
		t.Errorf("another consumer of the group begins at %s, want 3", got)
	}
	ctx, cancel := context.WithCancel(soon(t))
	if err := c.Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
		if seen = append(seen, string(r.Value)); len(seen) == 11 {
			cancel()
		}
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0", "1", "2", "3", "3", "4", "5", "6", "7", "8", "9"}; !slices.Equal(seen, want) {
		t.Errorf("handled %v, want %v", seen, want)
	}
}

func testGroupsAreApart(t *testing.T, s *site) {
	name := tenRecords(t, s)
	for i, group := range []string{name + "-a", name + "-b"} {
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: group, AutoCommitInterval: -1})
		if err := c.Commit(soon(t), take(t, c, 3+i)...); err != nil {
			t.Fatal(err)
		}
	}
	for i, group := range []string{name + "-a", name + "-b"} {
		if got := takeOne(t, s.beside(t, name, group)); got != strconv.Itoa(3+i) {
			t.Errorf("%s begins at %s, want %d", group, got, 3+i)
		}
	}
	if got := takeOne(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}})); got != "0" {
		t.Errorf("without a group reading begins at %s", got)
	}
}

func testCommittedOffsets(t *testing.T, s *site) {
	name := tenRecords(t, s)
	before := time.Now().Truncate(time.Millisecond)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, AutoCommitInterval: -1})
	got := take(t, c, 2)
	if err := c.Commit(soon(t), got...); err != nil {
		t.Fatal(err)
	}
	stored, err := s.admin().CommittedOffsets(soon(t), name)
	if err != nil || len(stored) != 1 {
		t.Fatalf("%d offsets, %v; want one", len(stored), err)
	}
	info, err := s.admin().DescribeTopic(soon(t), name)
	if err != nil {
		t.Fatal(err)
	}
	o := stored[0]
	if o.Topic != name || o.TopicID != info.ID || o.Partition != 0 || o.Offset != 2 || o.LeaderEpoch != got[1].LeaderEpoch {
		t.Errorf("stored %+v", o)
	}
	if o.CommitTime.Before(before) || o.CommitTime.After(time.Now()) {
		t.Errorf("committed at %v, between %v and now", o.CommitTime, before)
	}
	groups, err := s.admin().ListGroups(soon(t))
	if err != nil || !slices.Contains(groups, mq.GroupInfo{GroupID: name, State: mq.GroupStable, Members: 1}) {
		t.Errorf("groups are %v, %v", groups, err)
	}
	if stored, err := s.admin().CommittedOffsets(soon(t), name+"-nobody"); err != nil || len(stored) != 0 {
		t.Errorf("a group that nobody heard of has %v, %v", stored, err)
	}
	_, err = s.admin().CommittedOffsets(soon(t), "")
	wantError(t, err, mq.ErrInvalidGroupID)
}

func testGroupLag(t *testing.T, s *site) {
	a, name := s.admin(), s.topic(t, 3)
	for partition, n := range []int{10, 4, 0} {
		p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: mq.FixedPartition(int32(partition))})
		for i := range n {
			send(t, p, strconv.Itoa(i))
		}
	}
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{0}, GroupID: name, AutoCommitInterval: -1})
	if err := c.Commit(soon(t), take(t, c, 2)...); err != nil {
		t.Fatal(err)
	}
	want := func(committed, start, high, lag []int64) {
		t.Helper()
		got, err := a.GroupLag(soon(t), name)
		if err != nil || len(got) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		for i, g := range got {
			if g.Topic != name || g.Partition != int32(i) || g.CommittedOffset != committed[i] || g.LogStart != start[i] ||
				g.HighWatermark != high[i] || g.Lag != lag[i] || g.CommitTime.IsZero() != (committed[i] < 0) {
				t.Errorf("partition %d is %+v", i, g)
			}
		}
	}
	want([]int64{2, -1, -1}, []int64{0, 0, 0}, []int64{10, 4, 0}, []int64{8, 4, 0})
	if _, err := a.TrimTopic(soon(t), name, mq.StartAt(3), 0, 1); err != nil {
		t.Fatal(err)
	}
	want([]int64{2, -1, -1}, []int64{3, 3, 0}, []int64{10, 4, 0}, []int64{7, 1, 0})

	_, err := a.GroupLag(soon(t), name+"-nobody")
	wantError(t, err, mq.ErrUnknownGroup)
	_, err = a.GroupLag(soon(t), "")
	wantError(t, err, mq.ErrInvalidGroupID)
	if err := a.DeleteTopic(soon(t), name); err != nil {
		t.Fatal(err)
	}
	_, err = a.GroupLag(soon(t), name) // of topics that are gone nothing counts
	wantError(t, err, mq.ErrUnknownGroup)
}

func testCommitRefuses(t *testing.T, s *site) {
	name := tenRecords(t, s)
	wantError(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}).Commit(soon(t)), mq.ErrInvalidGroupID)
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	got := take(t, c, 2)
	wantError(t, c.Commit(soon(t), &mq.Record{Topic: name, Offset: 7}), mq.ErrInvalidRequest)
	wantError(t, c.Commit(soon(t), &mq.Record{Topic: "other"}), mq.ErrStaleMemberEpoch)
	wantError(t, c.Commit(soon(t), nil), mq.ErrInvalidRequest)
	if err := c.Seek(soon(t), mq.StartEarliest); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.Commit(soon(t), got[1]), mq.ErrInvalidRequest) // from before the seek
}

func testResetAgo(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	for _, ago := range []time.Duration{48 * time.Hour, 24 * time.Hour, 0} {
		if err := p.Send(soon(t), &mq.Record{Value: []byte(ago.String()), Timestamp: time.Now().Add(-ago)}); err != nil {
			t.Fatal(err)
		}
	}
	for ago, want := range map[time.Duration]string{72 * time.Hour: "48h0m0s", 30 * time.Hour: "24h0m0s", time.Hour: "0s"} {
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name + ago.String(), Reset: mq.ResetAgo(ago)})
		if got := takeOne(t, c); got != want {
			t.Errorf("%v ago: begins with %s, want %s", ago, got, want)
		}
		if err := c.Seek(soon(t), mq.StartCommitted); err != nil { // nothing is
			t.Fatal(err)
		}
		if got := takeOne(t, c); got != want {
			t.Errorf("%v ago: after a Seek begins with %s, want %s", ago, got, want)
		}
	}
}

func testResetPolicy(t *testing.T, s *site) {
	for _, c := range []struct {
		reset mq.ResetPolicy
		want  string // "" for an error
	}{{mq.ResetEarliest, "6"}, {mq.ResetLatest, "new"}, {mq.ResetNone, ""}, {mq.ResetAgo(time.Hour), "6"}} {
		t.Run(c.reset.String(), func(t *testing.T) {
			name := tenRecords(t, s)
			cfg := mq.ConsumerConfig{Topics: []string{name}, GroupID: name, Reset: mq.ResetEarliest, AutoCommitInterval: -1}
			first := s.consumer(t, cfg)
			if err := first.Commit(soon(t), take(t, first, 2)...); err != nil {
				t.Fatal(err)
			}
			if _, err := s.admin().TrimTopic(soon(t), name, mq.StartAt(6)); err != nil {
				t.Fatal(err)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			cfg.Reset = c.reset
			later := s.consumer(t, cfg)
			if c.reset == mq.ResetNone {
				_, err := later.Poll(soon(t), 1)
				wantError(t, err, mq.ErrOffsetOutOfRange)
				if start, end, ok := mq.OffsetRange(err); !ok || start != 6 || end != 10 {
					t.Errorf("the error says %d to %d (%v), want 6 to 10", start, end, ok)
				}
				return
			}
			if c.reset == mq.ResetLatest {
				// It passes over what is gone when it is read.
				eventually(t, "reading goes on at the end", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					defer cancel()
					if rs, err := later.Poll(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
						t.Fatalf("got %d records, %v", len(rs), err)
					}
					lag, err := later.Lag(soon(t))
					if err != nil {
						t.Fatal(err)
					}
					return lag[mq.TopicPartition{Topic: name}] == 0
				})
				send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "new")
			}
			if got := takeOne(t, later); got != c.want {
				t.Errorf("reading goes on at %s, want %s", got, c.want)
			}
		})
	}
}

func testRetentionBytes(t *testing.T, s *site) {
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{Topic: name, BatchSize: 1})
	for range 100 {
		p.SendAsync(soon(t), &mq.Record{Value: make([]byte, 10_000)}, nil)
	}
	if err := p.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin().AlterTopic(soon(t), name, map[string]string{mq.ConfigRetentionBytes: "50000"}); err != nil {
		t.Fatal(err)
	}
	var log mq.PartitionInfo
	eventually(t, "retention has deleted", func() bool {
		info, err := s.admin().DescribeTopic(soon(t), name)
		if err != nil {
			t.Fatal(err)
		}
		log = info.Partitions[0]
		return log.LogStart > 0
	})
	// It cuts between batches, and no more than is needed.
	if log.SizeBytes > 50_000 || log.SizeBytes < 50_000-11_000 || log.HighWatermark != 100 {
		t.Errorf("the log is %+v", log)
	}
	if got := take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}}), 1)[0].Offset; got != log.LogStart {
		t.Errorf("reading begins at %d, the log at %d", got, log.LogStart)
	}
}

func testRetentionAge(t *testing.T, s *site) {
	name := tenRecords(t, s)
	// The records' own timestamps don't count, only when they were appended.
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	if err := p.Send(soon(t), &mq.Record{Timestamp: time.Now().Add(24 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin().AlterTopic(soon(t), name, map[string]string{mq.ConfigRetentionMs: "1"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "retention has deleted everything", func() bool {
		info, err := s.admin().DescribeTopic(soon(t), name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Partitions[0].LogStart == 11
	})
	send(t, p, "after") // offsets go on
	if got := take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Start: mq.StartLatest, Reset: mq.ResetEarliest}), 0); got != nil {
		t.Errorf("took nothing and got %v", got)
	}
	info, err := s.admin().DescribeTopic(soon(t), name)
	if err != nil || info.Partitions[0].HighWatermark != 12 {
		t.Errorf("after a further record the log is %+v, %v", info.Partitions, err)
	}
}
