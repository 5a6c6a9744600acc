package mq_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// stream is a producer and a consumer at work while something happens to the
// broker. Neither may notice.
type stream struct {
	t     *testing.T
	topic string
	p     *mq.Producer
	sent  int
	acked atomic.Int64
	read  chan []string // the consumer's records, when it has all that are wanted
	want  chan int
}

func startStream(t *testing.T, e mq.Endpoint, topic string) *stream {
	t.Helper()
	s := &stream{t: t, topic: topic, read: make(chan []string, 1), want: make(chan int, 1)}
	s.p = newProducer(t, e, mq.ProducerConfig{Topic: topic, BatchSize: 10, MaxInFlight: 8})
	c := newConsumer(t, e, mq.ConsumerConfig{Topics: []string{topic}, GroupID: topic, AutoCommitInterval: 5 * time.Millisecond, SessionTimeout: 10 * time.Minute})
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		var got []string
		want := -1
		for want < 0 || len(got) < want {
			select {
			case want = <-s.want:
				continue
			default:
			}
			short, done := context.WithTimeout(ctx, 50*time.Millisecond)
			rs, err := c.Poll(short, 1000)
			done()
			if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("poll after %d records: %v", len(got), err)
				break
			}
			for _, r := range rs {
				got = append(got, string(r.Value))
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("closing the consumer: %v", err)
		}
		s.read <- got
	})
	return s
}

// send sends n more records and returns when some of them, but by far not all,
// are acknowledged.
func (s *stream) send(n int) {
	s.t.Helper()
	already := s.acked.Load()
	for range n {
		s.p.SendAsync(context.Background(), &mq.Record{Value: []byte(strconv.Itoa(s.sent))}, func(_ *mq.Record, err error) {
			if err != nil {
				s.t.Errorf("a record failed: %v", err)
			}
			s.acked.Add(1)
		})
		s.sent++
	}
	eventually(s.t, "some are acknowledged", func() bool { return s.acked.Load() >= already+int64(n/20) })
}

// finish waits until everything was acknowledged and read, each once and in order.
func (s *stream) finish() {
	s.t.Helper()
	if err := s.p.Flush(soon(s.t)); err != nil {
		s.t.Error(err)
	}
	s.want <- s.sent
	got := <-s.read
	if len(got) != s.sent {
		s.t.Errorf("read %d of %d records", len(got), s.sent)
	}
	for i, v := range got {
		if v != strconv.Itoa(i) {
			s.t.Fatalf("record %d is %s", i, v)
		}
	}
}

func TestRestartsOfTheBrokerAreSurvived(t *testing.T) {
	t.Parallel()
	for _, inOrder := range []bool{true, false} {
		t.Run(map[bool]string{true: "in order", false: "cut off"}[inOrder], func(t *testing.T) {
			t.Parallel()
			s := door{remote: true, disk: true}.open(t, mq.BrokerConfig{})
			stream := startStream(t, s.endpoint(), s.topic(t, 1))
			for range 4 {
				stream.send(1000)
				s.restart(t, inOrder)
			}
			stream.send(100)
			stream.finish()
		})
	}
}

func TestKilledBrokerLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startChild(t, dir, "127.0.0.1:0")
	e := dialBroker(t, b.addr)
	stream := startStream(t, e, topicName(t))
	for range 3 {
		stream.send(1000)
		b.kill(t)
		b = startChild(t, dir, b.addr)
	}
	stream.send(100)
	stream.finish()
	// Offsets are dense, and the commits are there.
	if got := take(t, newConsumer(t, e, mq.ConsumerConfig{Topics: []string{stream.topic}}), stream.sent); got[len(got)-1].Offset != int64(stream.sent-1) {
		t.Errorf("the last of %d records has offset %d", stream.sent, got[len(got)-1].Offset)
	}
	stored, err := mq.NewAdmin(e).CommittedOffsets(soon(t), stream.topic)
	if err != nil || len(stored) != 1 || stored[0].Offset == 0 {
		t.Errorf("committed is %v, %v", stored, err)
	}
}

// awayFor closes the broker and keeps its place empty until clients have come
// in vain, so often that an absence of seconds is nothing else.
func awayFor(t *testing.T, s *site, attempts int) {
	t.Helper()
	s.stop(t, false)
	lis, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	for range attempts {
		c, err := lis.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
}

func TestAbsentBrokerIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := door{remote: true, disk: true}.open(t, mq.BrokerConfig{})
	stream := startStream(t, s.endpoint(), s.topic(t, 1))
	stream.send(500)
	awayFor(t, s, 8)
	stream.send(500)
	stream.finish()
}

func TestBrokerAbsentForHalfAMinuteIsWaitedFor(t *testing.T) {
	if os.Getenv("MQ_TEST_LONG") == "" {
		t.Skip("takes 30 seconds; run it with MQ_TEST_LONG=1 or make absence")
	}
	t.Parallel()
	s := door{remote: true, disk: true}.open(t, mq.BrokerConfig{})
	stream := startStream(t, s.endpoint(), s.topic(t, 1))
	stream.send(500)
	s.stop(t, false)
	<-time.After(31 * time.Second) // what is tested
	s.start(t)
	stream.send(500)
	stream.finish()
}

func TestBrokerThatIsNotThereYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t) // to nowhere
	dialed := make(chan error, 1)
	var c *mq.Client
	go func() {
		var err error
		c, err = mq.Dial(soon(t), mq.ClientConfig{Brokers: []string{proxy.addr()}, MaxRetries: -1})
		dialed <- err
	}()
	eventually(t, "the client has tried", func() bool { return proxy.opened.Load() >= 3 })
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{Listen: "127.0.0.1:0", Advertise: proxy.addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	proxy.forward(b.Addr())
	if err := <-dialed; err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, newProducer(t, c, mq.ProducerConfig{Topic: "t"}), "v")
}

func TestDialGivesUpAndSaysWhy(t *testing.T) {
	t.Parallel()
	silent := newProxy(t)
	silent.mute()
	for name, addrs := range map[string][]string{
		"nobody listens":   {"127.0.0.1:1"},
		"nobody of two":    {"127.0.0.1:1", "localhost:2"},
		"no such host":     {"no-such-host.invalid:50051"},
		"nobody answers":   {silent.addr()},
		"it was long gone": {newProxy(t).addr()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := mq.Dial(soon(t), mq.ClientConfig{Brokers: addrs, MaxRetries: 1, Timeout: 100 * time.Millisecond})
			if err == nil {
				c.Close()
				t.Fatal("it found somebody")
			}
			wantError(t, err, mq.ErrLeaderNotAvailable)
			for _, addr := range addrs {
				if !strings.Contains(err.Error(), addr) {
					t.Errorf("%v does not name %s", err, addr)
				}
			}
		})
	}
}

func TestLostAnswersNeitherDuplicateNorReorder(t *testing.T) {
	eachDoor(t, overGRPC, func(t *testing.T, d door) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		proxy := newProxy(t)
		s := proxy.openBehind(t, d)
		name := s.topic(t, 2)
		// Answers to it fit the few bytes that connections live for.
		reader := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, AutoCommitInterval: 10 * time.Millisecond, MaxBytes: 500})
		const cuts = 20
		proxy.cutAtRandom(rand.New(rand.NewPCG(seed, 1)), cuts)

		const producers, each = 3, 1200
		acked := map[string]int64{} // by value
		var mu sync.Mutex
		var wg sync.WaitGroup
		for id := range producers {
			p := s.producer(t, mq.ProducerConfig{
				Topic: name, Partitioner: lastByte{}, BatchSize: 5, MaxInFlight: []int{1, 5, 32}[id], Linger: -1,
			})
			wg.Go(func() {
				for i := range each {
					r := &mq.Record{Key: []byte{byte(i)}, Value: fmt.Appendf(nil, "%d/%d", id, i)}
					p.SendAsync(context.Background(), r, func(r *mq.Record, err error) {
						if err != nil {
							t.Errorf("%s: %v", r.Value, err)
						}
						mu.Lock()
						defer mu.Unlock()
						acked[fmt.Sprintf("%d:%s", r.Partition, r.Value)] = r.Offset
					})
				}
				if err := p.Flush(soon(t)); err != nil {
					t.Errorf("flush: %v", err)
				}
			})
		}
		throughProxy := take(t, reader, producers*each)
		wg.Wait()
		if n := proxy.cuts.Load(); n < cuts/2 {
			t.Errorf("only %d connections were cut: this tests little", n)
		}

		// What the broker has, looked at directly.
		stored := take(t, newConsumer(t, s.broker, mq.ConsumerConfig{Topics: []string{name}}), producers*each)
		for _, records := range [][]*mq.Record{stored, throughProxy} {
			next := map[string]int{} // by producer and partition
			for _, r := range records {
				var id, i int
				if _, err := fmt.Sscanf(string(r.Value), "%d/%d", &id, &i); err != nil {
					t.Fatal(err)
				}
				from := fmt.Sprintf("%d to %d", id, r.Partition)
				if want := next[from]*2 + int(r.Partition); i != want {
					t.Fatalf("producer %s: record %d came, want %d", from, i, want)
				}
				next[from]++
				at, ok := acked[fmt.Sprintf("%d:%s", r.Partition, r.Value)]
				if !ok || at != r.Offset && at != -1 {
					t.Fatalf("%s is at %d, acknowledged at %d (%v)", r.Value, r.Offset, at, ok)
				}
			}
		}
		info, err := mq.NewAdmin(s.broker).DescribeTopic(soon(t), name)
		if err != nil {
			t.Fatal(err)
		}
		if total := info.Partitions[0].HighWatermark + info.Partitions[1].HighWatermark; total != producers*each {
			t.Errorf("%d records are stored, %d were sent", total, producers*each)
		}
	})
}

// A broker that takes connections and never answers must not hold anybody
// beyond its context.
func TestSilentBrokerHoldsNobodyBeyondTheContext(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	s := proxy.openBehind(t, door{remote: true})
	name := s.topic(t, 1)
	p := s.producer(t, mq.ProducerConfig{CloseTimeout: time.Millisecond})
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name, CloseTimeout: time.Millisecond})
	send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "0", "1", "2")
	take(t, c, 1)
	take(t, c, 2) // so that there is something to commit
	before := proxy.opened.Load()
	proxy.mute()
	eventually(t, "the consumer has connected to nobody", func() bool { return proxy.opened.Load() > before })
	p.SendAsync(context.Background(), &mq.Record{Topic: name}, nil) // something to flush
	calls := slices.Concat(everyProducerCall(p), everyConsumerCall(c), everyAdminCall(s.admin()), []apiCall{
		{"Flush", p.Flush},
		{"Dial", func(ctx context.Context) error {
			_, err := mq.Dial(ctx, mq.ClientConfig{Brokers: []string{proxy.addr()}, MaxRetries: -1})
			return err
		}},
	})
	var wg sync.WaitGroup
	for _, call := range calls {
		if call.name == "Run" || call.name == "Messages" || call.name == "TrySend" {
			continue // the first two read as Poll does, and that has no context
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if err := call.call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want context.DeadlineExceeded", call.name, err)
			}
		})
	}
	wg.Wait()
}
