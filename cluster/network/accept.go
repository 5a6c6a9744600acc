package network

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/raftmq/mq/internal/mqerr"
)

const (
	maxConns      = 4096 // that others made
	maxHandshakes = 256  // that others have begun
	maxStrangers  = 256  // of whose refusal the log keeps account
)

// accept takes connections until the listener is closed.
func (l *Link) accept() {
	for failures := 0; ; {
		nc, err := l.listener.Accept()
		switch {
		case l.ctx.Err() != nil:
			if err == nil {
				hangUp(nc)
			}
			return
		case err != nil: // out of file descriptors, for instance
			failures++
			l.log.Warn("can't accept connections", "error", err)
			if l.cfg.Clock.Sleep(l.ctx, retry.Delay(failures)) != nil {
				return
			}
			continue
		}
		failures = 0
		select {
		case l.handshakes <- struct{}{}:
		default:
			hangUp(nc)
			continue
		}
		if !l.start(func() {
			l.welcome(nc)
			<-l.handshakes
		}) {
			hangUp(nc)
		}
	}
}

// welcome judges who has connected and begins the connection.
func (l *Link) welcome(nc net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.DialTimeout)
	defer cancel()
	release := closeWith(ctx, nc)
	h, err := l.answerHello(nc)
	if !release() || err != nil {
		hangUp(nc)
		if err != nil {
			l.logRefusal(nc.RemoteAddr(), h.from, err)
		}
		return
	}
	c := newConn(l, nc, h.class, h.from, false)
	if h.from.ClusterID != "" && h.from.ClusterID == l.Self().ClusterID {
		c.of = l.peer(h.from.DirectoryID)
	}
	if !l.add(c) {
		c.end(mqerr.ErrClosed)
		hangUp(nc)
	}
}

func (l *Link) answerHello(nc net.Conn) (hello, error) {
	h, v, err := readHello(nc)
	if err != nil {
		return h, err
	}
	self := l.Self()
	refused := judge(self, h, v, l.cfg.Handlers.Admit)
	if l.full() {
		refused = &RefusedError{By: self, Cause: ErrTooMany, Text: ErrTooMany.Error()}
	}
	if _, err := nc.Write(welcomeOf(self, refused).encode()); err != nil {
		return h, err
	}
	if refused != nil {
		return h, refused
	}
	return h, nil
}

func (l *Link) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.accepted >= maxConns
}

// logRefusal tells the log of everybody refused once.
func (l *Link) logRefusal(addr net.Addr, from Identity, err error) {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		l.log.Debug("somebody connected who is no broker, or hung up", "remote", addr, "error", err)
		return
	}
	l.mu.Lock()
	if len(l.mu.refused) >= maxStrangers {
		clear(l.mu.refused)
	}
	known := l.mu.refused[refused.Text]
	l.mu.refused[refused.Text] = true
	l.mu.Unlock()
	l.stats.refused.Add(1)
	if !known {
		level := slog.LevelWarn
		if errors.Is(err, ErrNoCluster) {
			level = slog.LevelInfo
		}
		l.log.Log(l.ctx, level, "refused a broker", "peer", from.DirectoryID, "broker", from.BrokerID, "remote", addr, "reason", refused.Text)
	}
}
