package fetch

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// storm drives a Set with everything that can happen, in random order, and
// checks what a consumer relies on: per partition, records come in order, none
// twice and none skipped except by a seek, a return or a trim; what is committed
// is all that was finished up to the first record that was not; the budget holds.
type storm struct {
	t       *testing.T
	r       *rand.Rand
	s       *Set
	logs    [3]stormLog
	flights []*Flight
	chunk   *Chunk
	ahead   int // 0: leases are not apart
	mute    bool
	leases  []*stormLease
}

type stormLease struct {
	Lease
	void, done bool
}

type stormLog struct {
	start, end int64
	leader     int32
	next       int64 // that must be handed out next
	seek       int64 // of the last seek
	paused     bool
}

const (
	stormMaxBytes = 300 // of one answer, two batches
	stormBudget   = 1200
)

func TestStorm(t *testing.T) {
	for seed := range uint64(500) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &storm{t: t, r: rand.New(rand.NewPCG(seed, 0)), ahead: int(seed%2) * 8}
			m.s = setAt(Config{MaxBytes: stormMaxBytes, MaxBuffered: stormBudget, Group: true})
			for i := range m.logs {
				m.logs[i].leader = int32(i % 2)
			}
			m.sync()
			for range 600 {
				m.step()
				m.check()
			}
			m.drain()
		})
	}
}

func (m *storm) sync() {
	var ls []Located
	for i, l := range m.logs {
		ls = append(ls, led(int32(i), l.leader))
	}
	m.s.Sync(ls)
}

func (m *storm) step() {
	n := m.r.IntN(len(m.logs))
	l := &m.logs[n]
	switch m.r.IntN(21) {
	case 0, 1, 2:
		l.end += int64(1 + m.r.IntN(8))
	case 3, 4, 5, 6:
		if f := m.s.StartFetch(int32(m.r.IntN(3)), func() {}); f != nil {
			m.flights = append(m.flights, f)
		}
	case 7, 8, 9, 10:
		m.land()
	case 11, 12, 13, 14:
		m.read()
	case 15:
		m.finish()
	case 16:
		m.lookUp()
	case 17:
		l.leader = int32(m.r.IntN(3))
		m.sync()
	case 18:
		m.disturb(n)
	case 19:
		if l.paused = !l.paused; l.paused {
			m.s.Pause([]Key{key(int32(n))})
		} else {
			m.s.Resume([]Key{key(int32(n))})
		}
	case 20:
		m.mute = !m.mute
		m.s.Mute(m.mute)
	}
}

// disturb seeks, trims or gives records back.
func (m *storm) disturb(n int) {
	l := &m.logs[n]
	switch m.r.IntN(3) {
	case 0:
		l.next = l.start + m.r.Int64N(l.end-l.start+1)
		l.seek = l.next
		m.s.Seek(led(int32(n), 0).TopicPartition, l.next)
		m.void(int32(n), 0)
	case 1:
		l.start += m.r.Int64N(l.end-l.start+1) / 4
	case 2:
		if last := m.anyLease(); last != nil {
			m.s.Return(last.Lease)
			if !last.void && !last.done {
				m.logs[last.P.key.Partition].next = last.First
				m.void(last.P.key.Partition, last.First)
			}
		}
	}
}

// anyLease returns one of those there were, or nil.
func (m *storm) anyLease() *stormLease {
	if len(m.leases) == 0 {
		return nil
	}
	return m.leases[m.r.IntN(len(m.leases))]
}

// void notes that the leases of a partition from an offset on do not count.
func (m *storm) void(n int32, first int64) {
	for _, l := range m.leases {
		l.void = l.void || l.P.key.Partition == n && l.First >= first
	}
}

// land answers a flight: with data, errors, or not at all.
func (m *storm) land() {
	if len(m.flights) == 0 {
		return
	}
	i := m.r.IntN(len(m.flights))
	f := m.flights[i]
	m.flights = append(m.flights[:i], m.flights[i+1:]...)
	if m.r.IntN(8) == 0 {
		m.s.EndFetch(f, nil, []error{nil, mqerr.ErrTimeout}[m.r.IntN(2)])
		return
	}
	resp := &api.FetchResponse{}
	room := m.r.IntN(stormMaxBytes)
	for _, q := range f.Request.Partitions {
		l := m.logs[q.Partition]
		r := api.FetchResult{TopicPartition: q.TopicPartition, HighWatermark: l.end, LogStart: l.start}
		switch {
		case l.leader != f.broker:
			r.Err = mqerr.ErrNotLeader
		case q.Offset < l.start || q.Offset > l.end:
			r.Err = mqerr.ErrOffsetOutOfRange
		default:
			// Batches of four: the first holds the offset, the log's end may cut the last.
			for base := q.Offset &^ 3; q.Offset < l.end && base < l.end; base += 4 {
				b := batchOf(m.t, base, int(min(4, l.end-base)), 5)
				if room -= len(b); room < 0 && len(resp.Partitions)+len(r.Batches) > 0 {
					break
				}
				r.Batches = append(r.Batches, b...)
			}
		}
		resp.Partitions = append(resp.Partitions, r)
	}
	m.s.EndFetch(f, resp, nil)
}

// read hands out some records of the batch in hand, or takes another one.
func (m *storm) read() {
	if m.chunk == nil {
		c, failure, ok := m.s.Take()
		if failure != nil {
			m.t.Fatalf("failure %+v", failure)
		}
		if !ok {
			return
		}
		m.chunk = &c
	}
	c := m.chunk
	l := &m.logs[c.P.key.Partition]
	info, err := record.Parse(c.Data)
	if err != nil {
		m.t.Fatal(err)
	}
	from := max(c.From, info.BaseOffset)
	to := min(from+1+m.r.Int64N(4), c.Next)
	lease, ok := m.s.Deliver(c, from, to, m.ahead)
	if !ok {
		m.chunk = nil
		return
	}
	if l.paused || m.mute {
		m.t.Fatalf("%v is paused, or all are mute", c.P.key)
	}
	if from != l.next && (from < l.next || l.next >= l.start) {
		m.t.Fatalf("%v: offset %d came, want %d; the log starts at %d", c.P.key, from, l.next, l.start)
	}
	l.next, c.From = to, to
	m.leases = append(m.leases, &stormLease{Lease: lease})
	if c.From == c.Next {
		m.chunk = nil
	}
}

// finish does so with any lease, and commits.
func (m *storm) finish() {
	if l := m.anyLease(); l != nil {
		want := Good
		if l.void || l.done {
			want = Void
		} else if m.logs[l.P.key.Partition].paused || m.mute {
			want = Held
		}
		if got := m.s.Begin(l.Lease); got != want {
			m.t.Fatalf("%v from %d may be handled: %d, want %d", l.P.key, l.First, got, want)
		}
		if m.r.IntN(3) > 0 || l.void {
			m.s.Finish(l.Lease)
			l.done = true
		} else {
			m.s.FinishAt(l.P.key, l.Next, 3)
			for _, o := range m.leases {
				o.done = o.done || o == l || m.ahead == 0 && o.P == l.P && o.Next <= l.Next
			}
		}
	}
	for _, c := range m.s.Commits() {
		m.s.Committed(c)
	}
}

func (m *storm) lookUp() {
	for leader := range int32(3) {
		for _, q := range m.s.Lookups(leader) {
			l := m.logs[q.Partition]
			if l.leader != leader {
				m.s.Found(q, -1, mqerr.ErrNotLeader)
			} else {
				m.s.Found(q, l.start, nil)
			}
		}
	}
}

func (m *storm) check() {
	s := m.s
	queued, reserved := s.mu.taken, 0
	for _, p := range s.mu.order {
		sum := 0
		for _, b := range p.queue {
			sum += b.cost()
		}
		if sum != p.queued {
			m.t.Fatalf("%v: %d bytes are queued, not %d", p.key, sum, p.queued)
		}
		queued += sum
		if m.ahead > 0 && len(p.out) > m.ahead {
			m.t.Fatalf("%v: %d records are handed out", p.key, len(p.out))
		}
		finished := p.position
		for _, l := range m.leases {
			if l.P == p && !l.void && !l.done {
				finished = min(finished, l.First)
			}
		}
		if p.finished != finished {
			m.t.Fatalf("%v: finished %d, want %d", p.key, p.finished, finished)
		}
	}
	reserved = len(m.flights) * stormMaxBytes
	if queued != s.mu.used || reserved != s.mu.reserved {
		m.t.Fatalf("%d bytes are held and %d reserved, counted %d and %d", queued, reserved, s.mu.used, s.mu.reserved)
	}
	if limit := stormBudget + len(m.logs)*2*batchOverhead; s.mu.used > limit {
		m.t.Fatalf("%d bytes are held, the budget is %d", s.mu.used, stormBudget)
	}
}

// drain lets the storm end: everything left must come.
func (m *storm) drain() {
	m.mute = false
	m.s.Mute(false)
	for i := range m.logs {
		m.logs[i].leader, m.logs[i].paused = 0, false
		m.s.Resume([]Key{key(int32(i))})
	}
	for range 5000 {
		if m.done() {
			return
		}
		if m.sync(); len(m.flights) == 0 {
			if f := m.s.StartFetch(0, func() {}); f != nil {
				m.flights = append(m.flights, f)
			}
		}
		m.lookUp()
		m.land()
		m.read()
		m.finish()
		m.check()
	}
	m.t.Errorf("it never ends: %+v", m.logs)
}

func (m *storm) done() bool {
	for _, l := range m.logs {
		if l.next != l.end && (l.next >= l.start || l.start != l.end) {
			return false
		}
	}
	return m.chunk == nil
}
