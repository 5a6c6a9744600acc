package mq_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// door is how a program reaches a broker, and where that keeps its records.
type door struct {
	name   string
	remote bool // over gRPC; else in process, without a socket
	disk   bool // else in memory
}

var doors = []door{
	{name: "in process in memory"},
	{name: "in process on disk", disk: true},
	{name: "gRPC in memory", remote: true},
	{name: "gRPC on disk", remote: true, disk: true},
}

// TestConformance runs the same programs through every door. Tests of one door
// share a broker and keep to topics of their own.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := d.open(t, mq.BrokerConfig{})
			for _, c := range slices.Concat(
				conformProduce, conformConsume, conformGroups, conformMembers, conformWork, conformAdmin, conformReset, conformClosing,
			) {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, s)
				})
			}
		})
	}
}

// behaviour is one test of the suite.
type behaviour struct {
	name string
	run  func(*testing.T, *site)
}

// eachDoor runs a test that needs brokers of its own through all doors that are
// wanted.
func eachDoor(t *testing.T, wanted func(door) bool, run func(*testing.T, door)) {
	t.Helper()
	t.Parallel()
	for _, d := range doors {
		if !wanted(d) {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			run(t, d)
		})
	}
}

// Which doors a test is for.
func anyDoor(door) bool    { return true }
func onDisk(d door) bool   { return d.disk }
func inMemory(d door) bool { return !d.disk }
func overGRPC(d door) bool { return d.remote }

// site is a broker and a door to it.
type site struct {
	door
	cfg    mq.BrokerConfig
	broker *mq.Broker
	client *mq.Client // nil in process
}

// open starts a broker behind the door and stops it with the test.
func (d door) open(t testing.TB, cfg mq.BrokerConfig) *site {
	t.Helper()
	if d.disk && cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	if d.remote && cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	cfg.MinFreeBytes = cmp.Or(cfg.MinFreeBytes, -1) // whatever the machine has
	s := &site{door: d, cfg: cfg}
	s.start(t)
	s.cfg.Listen = s.broker.Addr() // for a restart; "" in process
	if d.remote {
		s.client = dialBroker(t, s.broker.Addr())
	}
	t.Cleanup(func() {
		if err := s.broker.Close(); err != nil {
			t.Errorf("closing the broker: %v", err)
		}
	})
	return s
}

func dialBroker(t testing.TB, addr string) *mq.Client {
	t.Helper()
	c, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("closing the client: %v", err)
		}
	})
	return c
}

func (s *site) start(t testing.TB) {
	t.Helper()
	b, err := mq.OpenBroker(soon(t), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.broker = b
}

// stop ends the broker: in order, or cutting off whoever waits for an answer.
func (s *site) stop(t testing.TB, inOrder bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(soon(t))
	if !inOrder {
		cancel()
	}
	defer cancel()
	if err := s.broker.Shutdown(ctx); err != nil && !(errors.Is(err, context.Canceled) && !inOrder) {
		t.Fatalf("shutdown: %v", err)
	}
}

// restart opens the broker anew with the same directory and address. In
// process, endpoint is another one afterwards.
func (s *site) restart(t testing.TB, inOrder bool) {
	t.Helper()
	s.stop(t, inOrder)
	s.start(t)
}

func (s *site) endpoint() mq.Endpoint {
	if s.client != nil {
		return s.client
	}
	return s.broker
}

func (s *site) admin() *mq.Admin { return mq.NewAdmin(s.endpoint()) }

// topicName makes a topic name of the test's.
func topicName(t testing.TB) string {
	name := regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(t.Name(), "_")
	return name[max(0, len(name)-200):]
}

// topic creates a topic of the test's own; configs are key=value.
func (s *site) topic(t testing.TB, partitions int, configs ...string) string {
	t.Helper()
	spec := mq.TopicSpec{Name: topicName(t), Partitions: partitions, Configs: map[string]string{}}
	for _, c := range configs {
		key, value, _ := strings.Cut(c, "=")
		spec.Configs[key] = value
	}
	if _, err := s.admin().CreateTopic(soon(t), spec); err != nil {
		t.Fatal(err)
	}
	return spec.Name
}

func (s *site) producer(t testing.TB, cfg mq.ProducerConfig) *mq.Producer {
	t.Helper()
	return newProducer(t, s.endpoint(), cfg)
}

// newProducer opens a producer and closes it with the test.
func newProducer(t testing.TB, e mq.Endpoint, cfg mq.ProducerConfig) *mq.Producer {
	t.Helper()
	p, err := mq.NewProducer(e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() }) // its error is about records; the test looked at these
	return p
}

func (s *site) consumer(t testing.TB, cfg mq.ConsumerConfig) *mq.Consumer {
	t.Helper()
	return newConsumer(t, s.endpoint(), cfg)
}

// newConsumer opens a consumer and closes it with the test.
func newConsumer(t testing.TB, e mq.Endpoint, cfg mq.ConsumerConfig) *mq.Consumer {
	t.Helper()
	c, err := mq.NewConsumer(e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// hang is when a wait counts as one that would never end, on a machine that has
// a lot else to do.
const hang = 3 * time.Minute

// soon is a context for what must not hang. Its end fails the test with
// whatever waited.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	return ctx
}

// send sends values in their order, each acknowledged, one batch each.
func send(t testing.TB, p *mq.Producer, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := p.Send(soon(t), &mq.Record{Value: []byte(v)}); err != nil {
			t.Fatalf("send %q: %v", v, err)
		}
	}
}

// take polls until there are n records.
func take(t testing.TB, c *mq.Consumer, n int) []*mq.Record {
	t.Helper()
	var got []*mq.Record
	ctx := soon(t)
	for len(got) < n {
		rs, err := c.Poll(ctx, n-len(got))
		if err != nil {
			t.Fatalf("poll after %d of %d records: %v", len(got), n, err)
		}
		got = append(got, rs...)
	}
	return got
}

// takeOne polls the next record and returns its value.
func takeOne(t testing.TB, c *mq.Consumer) string {
	t.Helper()
	return string(take(t, c, 1)[0].Value)
}

// wantRecords compares records in every field.
func wantRecords(t testing.TB, got, want []*mq.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := *got[i], *want[i]
		if !g.Timestamp.Equal(w.Timestamp) {
			t.Errorf("record %d has timestamp %v, want %v", i, g.Timestamp, w.Timestamp)
		}
		g.Timestamp, w.Timestamp = time.Time{}, time.Time{}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("record %d is\n%s, want\n%s", i, clipped(g), clipped(w))
		}
	}
}

func clipped(r mq.Record) string {
	s := fmt.Sprintf("%#v", r)
	return s[:min(len(s), 500)]
}

// eventually waits until cond holds, which nobody tells of.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(hang)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between looks; what is waited for decides
	}
}

// wantError fails unless err holds each of the targets.
func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("error is %v, want one that holds %v", err, target)
		}
	}
}
