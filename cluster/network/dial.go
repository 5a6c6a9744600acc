package network

import (
	"context"
	"fmt"
	"net"

	"github.com/raftmq/mq/internal/mqerr"
)

// dial makes a connection to addr, where the broker with directory id to is
// expected, or any if to is empty.
func (l *Link) dial(ctx context.Context, addr, to string, cl class) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	defer cancel()
	way := pair{l.Self().DirectoryID, to}
	if err := l.cfg.Faults.dial(ctx, way); err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	nc, err := l.net.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	release := closeWith(ctx, nc)
	w, err := l.greet(nc, hello{class: cl, from: l.Self(), to: to})
	if !release() {
		return nil, fmt.Errorf("greeting %s: %w", addr, context.Cause(ctx))
	}
	c := newConn(l, nc, cl, w.from, true)
	if err == nil && to == "" { // only now it is known whether there is a way
		way.to = w.from.DirectoryID
		err = l.cfg.Faults.dial(ctx, way)
	}
	if err == nil {
		err = l.cfg.Faults.made(c, way)
	}
	if err == nil && to != "" {
		c.of = l.peer(to)
	}
	if err == nil && !l.add(c) {
		err = mqerr.ErrClosed
	}
	if err != nil {
		l.cfg.Faults.ended(c)
		c.end(err)
		hangUp(nc)
		return nil, fmt.Errorf("greeting %s: %w", addr, err)
	}
	return c, nil
}

// greet says hello and judges the answer.
func (l *Link) greet(nc net.Conn, h hello) (welcome, error) {
	if _, err := nc.Write(h.encode()); err != nil {
		return welcome{}, err
	}
	w, v, err := readWelcome(nc)
	if err != nil {
		return w, err
	}
	if r := w.refused(); r != nil {
		return w, r
	}
	if r := judge(w.from, hello{class: h.class, from: l.Self(), to: h.to}, v, nil); r != nil {
		return w, r // it should have said so itself
	}
	return w, nil
}
