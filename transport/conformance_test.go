package transport_test

import (
	"context"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport"
	"github.com/raftmq/mq/transport/transporttest"
)

func TestOverGRPC(t *testing.T) {
	transporttest.Run(t, func(t *testing.T, backend api.Broker) api.Broker {
		return dial(t, serve(t, backend, transport.ServerConfig{}).Addr().String(), transport.ClientConfig{})
	})
}

// serve starts a Server on a free port and stops it with the test.
func serve(t testing.TB, b api.Broker, cfg transport.ServerConfig) *transport.Server {
	t.Helper()
	if cfg.Addr == "" && cfg.Listener == nil {
		cfg.Addr = "127.0.0.1:0"
	}
	s, err := transport.Serve(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// dial makes a Client and closes it with the test, before its Server.
func dial(t testing.TB, addr string, cfg transport.ClientConfig) *transport.Client {
	t.Helper()
	c, err := transport.Dial(t.Context(), addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// within is a context for what must not take long.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
