package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// memberMain is a program with a member of a group in it, as users write them:
// `mq consume` handles one record after the other. It tells what it does in lines
// of a journal, and ends with SIGINT.
func memberMain() {
	var m memberProgram
	var cfg mq.ConsumerConfig
	broker := flag.String("broker", "", "address")
	flag.StringVar(&m.name, "name", "", "in the journal")
	flag.DurationVar(&m.work, "work", 0, "a record takes up to so long")
	flag.IntVar(&m.waits, "wait", 0, "before it commits this one of its records, it waits for a line")
	flag.IntVar(&cfg.Concurrency, "concurrency", 1, "records at a time")
	flag.DurationVar(&cfg.SessionTimeout, "session", 0, "session timeout")
	flag.DurationVar(&cfg.AutoCommitInterval, "commit", 100*time.Millisecond, "between commits; negative: every tenth record commits")
	flag.Parse()
	cfg.Topics, cfg.GroupID, m.commits = []string{"t"}, "g", cfg.AutoCommitInterval < 0
	if err := m.run(*broker, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "member:", err)
		os.Exit(1)
	}
}

type memberProgram struct {
	*mq.Consumer
	name    string
	work    time.Duration
	waits   int
	commits bool
	handled int // if it handles one at a time
}

func (m *memberProgram) run(broker string, cfg mq.ConsumerConfig) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := mq.Dial(ctx, mq.ClientConfig{Brokers: []string{broker}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if m.Consumer, err = mq.NewConsumer(client, cfg); err != nil {
		return err
	}
	return errors.Join(m.Run(ctx, m), m.Close())
}

// Handle implements mq.Handler.
func (m *memberProgram) Handle(ctx context.Context, r *mq.Record) error {
	m.tell(begins, r)
	if m.work > 0 {
		select {
		case <-time.After(rand.N(m.work)):
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		m.tell(abandons, r)
		return ctx.Err()
	}
	m.tell(ends, r)
	if m.commits {
		m.commit(r)
	}
	return nil
}

func (m *memberProgram) commit(r *mq.Record) {
	m.handled++
	if m.handled == m.waits {
		m.tell(awaits, r)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	} else if m.handled%10 != 0 {
		return
	}
	if err := m.Commit(context.Background(), r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		m.tell(fails, r)
	} else {
		m.tell(committed, r)
	}
}

// mark is what happens to a record.
type mark string

const (
	begins    mark = "begins"
	ends      mark = "ends"
	abandons  mark = "abandons"
	awaits    mark = "awaits"
	fails     mark = "fails" // to commit
	committed mark = "committed"
)

// journalLine is the length of a line of the journal. It divides a page, so that
// a line is there whole or not at all when whoever wrote it is killed.
const journalLine = 64

func (m *memberProgram) tell(what mark, r *mq.Record) {
	line := fmt.Sprintf("%s %s %d %d %s %s", what, m.name, r.Partition, r.Offset, r.Key, r.Value)
	if _, err := fmt.Fprintf(os.Stdout, "%-*s\n", journalLine-1, line); err != nil {
		panic(err)
	}
}

// journalEntry is a line of the journal. Each key has records with the numbers from 0.
type journalEntry struct {
	what      mark
	member    string
	partition int32
	offset    int64
	key, n    int
}

func (e journalEntry) String() string {
	return fmt.Sprintf("%s %s %d of key %d, partition %d offset %d", e.member, e.what, e.n, e.key, e.partition, e.offset)
}

// journalGroup is a group of member programs. All of them append to one file, so
// what is there is in the order in which it happened.
type journalGroup struct {
	*testing.T
	broker *brokerProcess
	client *mq.Client
	path   string
	live   []runningMember
	joined int
	sent   []int          // records by key
	read   []journalEntry // so far
}

// startJournalGroup starts a broker with a topic t.
func startJournalGroup(t *testing.T, keys int) *journalGroup {
	t.Helper()
	g := &journalGroup{T: t, path: filepath.Join(t.TempDir(), "journal"), sent: make([]int, keys)}
	g.broker = startBroker(t, t.TempDir(), "127.0.0.1:0")
	var err error
	if g.client, err = mq.Dial(t.Context(), mq.ClientConfig{Brokers: []string{g.broker.addr}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.client.Close() })
	if _, err := mq.NewAdmin(g.client).CreateTopic(t.Context(), mq.TopicSpec{Name: "t", Partitions: 6}); err != nil {
		t.Fatal(err)
	}
	return g
}

// runningMember is a member program that runs.
type runningMember struct {
	*exec.Cmd
	input io.Writer
}

// join starts a member, whose name is its number.
func (g *journalGroup) join(args ...string) runningMember {
	g.Helper()
	journal, err := os.OpenFile(g.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		g.Fatal(err)
	}
	defer func() { _ = journal.Close() }()
	g.joined++
	args = append([]string{"-broker", g.broker.addr, "-name", strconv.Itoa(g.joined)}, args...)
	m := runningMember{Cmd: exec.CommandContext(g.Context(), "member", args...)}
	m.Stdout, m.Stderr = journal, &lockedBuffer{}
	if m.input, err = m.StdinPipe(); err != nil {
		g.Fatal(err)
	}
	if err := m.Start(); err != nil {
		g.Fatal(err)
	}
	g.live = append(g.live, m)
	return m
}

// leave ends members in order.
func (g *journalGroup) leave(members ...runningMember) {
	g.Helper()
	for _, m := range members {
		if err := m.Process.Signal(os.Interrupt); err != nil {
			g.Fatal(err)
		}
	}
	for _, m := range members {
		if err := m.Wait(); err != nil {
			g.Errorf("%v: %v: %s", m.Args, err, m.Stderr)
		}
	}
}

// produce sends records, about 1,000 a second, until there are so many or ctx
// ends.
func (g *journalGroup) produce(ctx context.Context, records int) {
	p, err := mq.NewProducer(g.client, mq.ProducerConfig{Topic: "t"})
	if err != nil {
		g.Error(err)
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; n < records && ctx.Err() == nil; n++ {
		key := n % len(g.sent)
		r := &mq.Record{Key: strconv.AppendInt(nil, int64(key), 10), Value: strconv.AppendInt(nil, int64(g.sent[key]), 10)}
		g.sent[key]++
		p.SendAsync(g.Context(), r, func(_ *mq.Record, err error) {
			if err != nil {
				g.Error(err)
			}
		})
		if n%10 == 9 {
			<-tick.C
		}
	}
	if err := p.Close(); err != nil {
		g.Error(err)
	}
}

// entries reads the journal.
func (g *journalGroup) entries() []journalEntry {
	g.Helper()
	f, err := os.Open(g.path)
	if err != nil {
		g.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, int64(len(g.read))*journalLine, 1<<30))
	if err != nil {
		g.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e journalEntry
		if _, err := fmt.Sscan(line, &e.what, &e.member, &e.partition, &e.offset, &e.key, &e.n); err != nil || e.key < 0 || e.key >= len(g.sent) {
			g.Fatalf("the journal has %q: %v", line, err)
		}
		g.read = append(g.read, e)
	}
	return g.read
}

// until waits until the journal, or something else, is as it should be.
func (g *journalGroup) until(what string, holds func([]journalEntry) bool) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), 2*time.Minute)
	defer cancel()
	for !holds(g.entries()) {
		select {
		case <-ctx.Done():
			for _, cmd := range g.live {
				g.Logf("%v: %s", cmd.Args, cmd.Stderr)
			}
			all := g.entries()
			g.Fatalf("waited in vain for %s; %d entries, the last ones %v", what, len(all), all[max(0, len(all)-10):])
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// progress waits until so many records more are handled.
func (g *journalGroup) progress(n int) {
	g.Helper()
	from := handledOf(g.entries())
	g.until("records to be handled", func(all []journalEntry) bool { return handledOf(all) >= from+n })
}

func handledOf(all []journalEntry) (n int) {
	for _, e := range all {
		if e.what == ends {
			n++
		}
	}
	return n
}

// committedAll waits until the group has committed everything.
func (g *journalGroup) committedAll() {
	g.Helper()
	total := 0
	for _, n := range g.sent {
		total += n
	}
	g.until(fmt.Sprintf("%d records to be committed", total), func([]journalEntry) bool {
		sum := int64(0)
		for _, offset := range g.committed() {
			sum += offset
		}
		return sum == int64(total)
	})
}

func (g *journalGroup) committed() map[int32]int64 {
	g.Helper()
	stored, err := mq.NewAdmin(g.client).CommittedOffsets(g.Context(), "g")
	if err != nil {
		g.Fatal(err)
	}
	out := make(map[int32]int64)
	for _, c := range stored {
		out[c.Partition] = c.Offset
	}
	return out
}
