package network

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
)

// lonely attaches a broker that others can find by address only.
func lonely(t *testing.T, n Network, id string) *Link {
	t.Helper()
	l, err := Attach(t.Context(), n, Config{
		Self:     Identity{ClusterID: "c", DirectoryID: id},
		Resolve:  func(string) (string, error) { return "", errors.New("unknown") },
		Handlers: Handlers{Call: func(context.Context, Identity, string, []byte) ([]byte, error) { return []byte(id), nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestBrokerWithTooManyConnectionsSaysSo(t *testing.T) {
	t.Parallel()
	mem := &Mem{}
	a, b := lonely(t, mem, "a"), lonely(t, mem, "b")
	set := func(n int) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.mu.accepted = n
	}
	set(maxConns)
	if _, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil); !errors.Is(err, ErrTooMany) || !mqerr.Retriable(err) {
		t.Errorf("got %v", err)
	}
	set(0)
	if _, _, err := a.CallAddr(t.Context(), b.Addr(), "m", nil); err != nil {
		t.Error(err)
	}
}

func TestAcceptingGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := &Mem{}
		b := lonely(t, outOfFiles{mem}, "b")
		start := time.Now()
		if _, _, err := lonely(t, mem, "a").CallAddr(t.Context(), b.Addr(), "m", nil); err != nil {
			t.Fatal(err)
		}
		if time.Since(start) == 0 {
			t.Error("it tried again at once")
		}
	})
}

// outOfFiles is a network whose listeners fail a few times.
type outOfFiles struct{ Network }

func (n outOfFiles) Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := n.Network.Listen(ctx, addr)
	return &failing{Listener: l, times: 3}, err
}

type failing struct {
	net.Listener
	times int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.times > 0 {
		f.times--
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

// Who connects and says nothing holds a place only for a while.
func TestSilentHandshakeIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := &Mem{}
		b := lonely(t, mem, "b")
		start := time.Now()
		for range maxHandshakes {
			if _, err := mem.Dial(t.Context(), b.Addr()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		nc, err := mem.Dial(t.Context(), b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(make([]byte, 1)); err == nil || time.Since(start) != 0 {
			t.Errorf("one handshake too many goes on for %v, %v", time.Since(start), err)
		}
		time.Sleep(b.cfg.DialTimeout)
		synctest.Wait()
		if _, _, err := lonely(t, mem, "a").CallAddr(t.Context(), b.Addr(), "m", nil); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
