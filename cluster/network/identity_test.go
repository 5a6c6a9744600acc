package network_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/internal/mqerr"
)

// logged is a log that tests read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// warnings counts the lines above info that hold a text.
func (l *logged) warnings(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *logged) into(c *network.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) }

func TestWrongIdentityIsRefusedOnceToldToBothSides(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		for name, c := range map[string]struct {
			to    string // whom the caller wants
			self  network.Identity
			admit func(network.Identity) error
			want  error
			says  []string
		}{
			"another cluster": {
				to: "b", self: network.Identity{ClusterID: "other", DirectoryID: "x", BrokerID: 1},
				want: network.ErrWrongCluster, says: []string{clusterID, "other", "broker 7", "broker 1"},
			},
			"a wiped disk": {
				to: "b-before", self: network.Identity{ClusterID: clusterID, DirectoryID: "x", BrokerID: 1},
				want: network.ErrWrongDirectory, says: []string{"b-before", "new broker id"},
			},
			"not admitted": {
				to: "b", self: network.Identity{ClusterID: clusterID, DirectoryID: "x", BrokerID: 1},
				admit: func(i network.Identity) error {
					if i.DirectoryID == "x" {
						return errors.New("broker 1 has directory y")
					}
					return nil
				},
				want: network.ErrNotAdmitted, says: []string{"broker 1 has directory y"},
			},
		} {
			t.Run(name, func(t *testing.T) {
				var theirs, ours logged
				refusals := make(chan error, 100)
				b := w.attach("b", theirs.into, answering(echo), func(cfg *network.Config) {
					cfg.Self.BrokerID = 7
					cfg.Handlers.Admit = c.admit
				})
				w.lives("b-before", b.Addr()) // where that one was
				a := w.attach("x", ours.into, func(cfg *network.Config) {
					cfg.Self = c.self
					cfg.Handlers.OnRefused = func(id string, err error) {
						if id != c.to {
							t.Errorf("told of %s", id)
						}
						refusals <- err
					}
				})
				lane := raftOn(t, a).lane(c.to)
				for range 20 {
					_, err := a.Call(t.Context(), c.to, "m", nil)
					var refused *network.RefusedError
					if !errors.Is(err, c.want) || !errors.As(err, &refused) || !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
						t.Fatalf("got %v", err)
					}
					if refused.By.BrokerID != 7 || refused.By.DirectoryID != "b" {
						t.Errorf("refused by %v", refused.By)
					}
					for _, s := range c.says {
						if !strings.Contains(err.Error(), s) {
							t.Errorf("%q does not name %q", err, s)
						}
					}
					if err := lane.SendMessageBatch(batch("x", 1, 1)); err != nil {
						t.Fatal(err)
					}
				}
				if err := receive(t, refusals); !errors.Is(err, c.want) {
					t.Errorf("owner is told %v", err)
				}
				// Both the calls and the raft messages were refused, at least once.
				eventually(t, "both refusals are counted", func() bool { return b.Stats().Refused >= 2 })
				if err := errors.Join(a.Close(), b.Close()); err != nil {
					t.Fatal(err)
				}
				if len(refusals) != 0 {
					t.Errorf("owner is told again: %v", <-refusals)
				}
				if n, m := ours.warnings(c.says[0]), theirs.warnings(c.says[0]); n != 1 || m != 1 {
					t.Errorf("logged %d and %d times", n, m)
				}
			})
		}
	})
}

func TestNewerProtocolIsRefusedAndToldWhatToUpgrade(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		b := w.attach("b")
		nc := dialRaw(t, w, b.Addr())
		future := network.Identity{ClusterID: clusterID, DirectoryID: "f", BrokerID: 9}
		write(t, nc, network.Hello(network.ClassRaft, future, "b", 9))
		_, err := network.ReadWelcome(nc)
		if !errors.Is(err, network.ErrNewerProtocol) || !strings.Contains(err.Error(), "upgrade broker 98") {
			t.Errorf("got %v", err)
		}
		ends(t, nc)
	})
}

// dialRaw connects without saying hello.
func dialRaw(tb testing.TB, w *world, addr string) net.Conn {
	tb.Helper()
	nc, err := w.net.Dial(tb.Context(), addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	return nc
}

func write(tb testing.TB, w io.Writer, b []byte) {
	tb.Helper()
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
}

// ends waits until the other side has closed a connection.
func ends(tb testing.TB, nc net.Conn) {
	tb.Helper()
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, context.DeadlineExceeded) {
		tb.Error(err)
	}
}

func TestStrangersAreHungUpOn(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		b := w.attach("b", answering(echo))
		nobody := network.Identity{ClusterID: clusterID}
		somebody := network.Identity{ClusterID: clusterID, DirectoryID: "s"}
		for name, hello := range map[string][]byte{
			"another protocol": []byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"),
			"no directory":     network.Hello(network.ClassCalls, nobody, "", 1),
			"no such class":    network.Hello(9, somebody, "", 1),
			"damaged":          append(network.Hello(network.ClassCalls, somebody, "", 1)[:20], make([]byte, 100)...),
		} {
			t.Run(name, func(t *testing.T) {
				nc := dialRaw(t, w, b.Addr())
				if _, err := nc.Write(hello); err != nil && w.listen != "" { // a pipe may be closed before it is read empty
					t.Fatal(err)
				}
				ends(t, nc)
			})
		}
		if _, err := b.Call(t.Context(), "b", "m", nil); err != nil {
			t.Errorf("brokers are refused now: %v", err)
		}
	})
}

func TestPeerThatSendsNonsenseIsHungUpOn(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		b := w.attach("b", answering(echo))
		raftOn(t, b)
		self := network.Identity{ClusterID: clusterID, DirectoryID: "n"}
		ping := network.Frame(network.KindPing, nil)
		damaged := network.Frame(network.KindRequest, []byte("xyz"))
		damaged[len(damaged)-1]++
		for name, c := range map[string]struct {
			class byte
			frame []byte
		}{
			"damaged frame":         {network.ClassCalls, damaged},
			"impossible size":       {network.ClassCalls, []byte("\xff\xff\xff\xffabcde")},
			"empty frame":           {network.ClassCalls, make([]byte, 9)},
			"answer to nobody":      {network.ClassCalls, network.Frame(network.KindAnswer, []byte{1, 0})},
			"request cut short":     {network.ClassCalls, network.Frame(network.KindRequest, []byte{1, 0, 200})},
			"call for raft":         {network.ClassRaft, network.Frame(network.KindRequest, []byte{1, 0, 0})},
			"no messages":           {network.ClassRaft, network.Frame(network.KindMessages, []byte("\x0a\x05hello"))},
			"messages of another":   {network.ClassRaft, network.Frame(network.KindMessages, marshal(t, batch("somebody", 1, 1)))},
			"messages to nobody":    {network.ClassRaft, network.Frame(network.KindMessages, marshal(t, toNobody("n")))},
			"no chunk":              {network.ClassSnapshot, network.Frame(network.KindChunk, []byte("\x01\xff"))},
			"messages for snapshot": {network.ClassSnapshot, network.Frame(network.KindMessages, nil)},
			"unknown kind":          {network.ClassCalls, network.Frame(99, nil)},
			"malformed cancel":      {network.ClassCalls, network.Frame(network.KindCancel, nil)},
		} {
			t.Run(name, func(t *testing.T) {
				nc := dialRaw(t, w, b.Addr())
				write(t, nc, network.Hello(c.class, self, "b", 1))
				if _, err := network.ReadWelcome(nc); err != nil {
					t.Fatal(err)
				}
				write(t, nc, ping) // it is welcome so far
				if _, err := nc.Write(c.frame); err != nil && w.listen != "" {
					t.Fatal(err)
				}
				ends(t, nc)
			})
		}
	})
}

func TestBrokersFindTheirClusterByAddress(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		member := w.attach("m", answering(func(_ context.Context, from network.Identity, _ string, _ []byte) ([]byte, error) {
			return []byte(from.ClusterID + "/" + from.DirectoryID), nil
		}), func(c *network.Config) { c.Self.Feature = 3 })
		joiner := w.attach("j", answering(echo), func(c *network.Config) { c.Self.ClusterID = "" })

		who, got, err := joiner.CallAddr(t.Context(), member.Addr(), "join", nil)
		if err != nil || string(got) != "/j" || who != member.Self() {
			t.Fatalf("got %q of %v, %v", got, who, err)
		}
		if who, _, err := member.CallAddr(t.Context(), joiner.Addr(), "ask", nil); err != nil || who.ClusterID != "" {
			t.Fatalf("the joiner says it is %v, %v", who, err)
		}
		raft := raftOn(t, joiner)
		if _, err := raft.trans.GetSnapshotConnection(t.Context(), "m"); !errors.Is(err, network.ErrNoCluster) {
			t.Errorf("snapshot before it has joined: %v", err)
		}
		if err := joiner.SetCluster(clusterID); err != nil {
			t.Fatal(err)
		}
		if got, err := joiner.Call(t.Context(), "m", "join", nil); err != nil || string(got) != clusterID+"/j" && string(got) != "/j" {
			t.Errorf("got %q, %v", got, err)
		}
		arrives(t, "j", raft.lane("m"), raftOn(t, member))
		if err := joiner.SetCluster("another"); !errors.Is(err, mqerr.ErrInvalidRequest) {
			t.Errorf("joined a second cluster: %v", err)
		}
		if err := joiner.SetCluster(clusterID); err != nil {
			t.Errorf("said again: %v", err)
		}
	})
}

func TestPeerReturnsUnderANewAddress(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		broken := make(chan string, 100)
		admitted := make(chan network.Identity, 100)
		a := w.attach("a", func(c *network.Config) {
			c.Handlers.OnBroken = func(id string) { broken <- id }
			c.Handlers.Admit = func(i network.Identity) error { admitted <- i; return nil }
		})
		from := raftOn(t, a)
		lane := from.lane("b")
		before := w.attach("b", answering(echo))
		arrives(t, "a", lane, raftOn(t, before))
		if _, err := a.Call(t.Context(), "b", "m", nil); err != nil {
			t.Fatal(err)
		}
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, broken); got != "b" {
			t.Errorf("told of %s", got)
		}
		keep, err := w.net.Listen(t.Context(), before.Addr()) // so that it can't come back there
		if err != nil {
			t.Fatal(err)
		}
		defer keep.Close()
		after := w.attach("b", answering(echo))
		arrives(t, "a", lane, raftOn(t, after))
		eventually(t, "calls reach the new address", func() bool {
			_, err := a.Call(t.Context(), "b", "m", nil)
			return err == nil
		})
		if _, err := after.Call(t.Context(), "a", "m", nil); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Fatal(err) // a has no handler
		}
		if got := receive(t, admitted); got.Addr != after.Addr() || got.DirectoryID != "b" {
			t.Errorf("%v said hello, it is at %s", got, after.Addr())
		}
	})
}

func TestPeerWithoutACertificateIsRefused(t *testing.T) {
	t.Parallel()
	accept, connect := mutualTLS(t)
	w := newWorld(t, network.TCP{Accept: accept, Connect: connect}, "127.0.0.1:0")
	w.attach("b", answering(echo))
	if _, err := w.attach("a").Call(t.Context(), "b", "m", nil); err != nil {
		t.Fatal(err)
	}
	foreignAccept, foreign := mutualTLS(t)
	without := foreign.Clone()
	without.Certificates, without.RootCAs = nil, connect.RootCAs
	for name, n := range map[string]network.TCP{
		"plain":             {},
		"no certificate":    {Accept: accept, Connect: without},
		"foreign authority": {Accept: foreignAccept, Connect: foreign},
	} {
		w.net = n
		if _, err := w.attach("c").Call(t.Context(), "b", "m", nil); !errors.Is(err, mqerr.ErrLeaderNotAvailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	resolve := func(string) (string, error) { return "", nil }
	for name, c := range map[string]network.Config{
		"no identity": {Resolve: resolve},
		"no resolver": {Self: network.Identity{DirectoryID: "a"}},
		"negative":    {Self: network.Identity{DirectoryID: "a"}, Resolve: resolve, MaxCalls: -1},
		"long name":   {Self: network.Identity{DirectoryID: strings.Repeat("a", 1000)}, Resolve: resolve},
	} {
		if _, err := network.Attach(t.Context(), &network.Mem{}, c); !errors.Is(err, mqerr.ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddressInUseIsRefused(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		a := w.attach("a")
		_, err := network.Attach(t.Context(), w.net, network.Config{
			Self: network.Identity{DirectoryID: "b"}, Listen: a.Addr(), Resolve: w.resolve,
		})
		if !errors.Is(err, mqerr.ErrAddrInUse) {
			t.Errorf("got %v", err)
		}
	})
}
