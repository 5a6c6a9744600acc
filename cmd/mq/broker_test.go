//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := manager.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		text := make([]byte, 1000)
		n, err := manager.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}

	broker := exec.CommandContext(t.Context(), "mq", "broker", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0")
	broker.Env = append(os.Environ(), "NOTIFY_SOCKET="+manager.LocalAddr().String())
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	ready := told()
	addr := serving.FindString(ready)
	if want := "READY=1\nSTATUS=serves " + addr; addr == "" || ready != want {
		t.Errorf("at first it was told %q", ready)
	}
	conn, err := net.Dial("tcp", addr) // what is ready serves
	if err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	if err := broker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := told(); got != "STOPPING=1" {
		t.Errorf("at the end it was told %q", got)
	}
	if err := broker.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// A request that does not end holds up the drain; whoever can't wait for it
// sends a second signal.
func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir(), "127.0.0.1:0")
	conn, err := net.Dial("tcp", broker.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(halfARequest("/mq.v1.Broker/Metadata")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// The broker has taken the request when it acknowledges the ping behind it.
	readUntil(t, conn, func(kind, flags byte) bool { return kind == framePing && flags == 1 })
	if err := broker.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	readUntil(t, conn, func(kind, _ byte) bool { return kind == frameGoAway })
	if err := broker.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = broker.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the broker ended with %v", err)
	}
}

// Types of HTTP/2 frames.
const (
	frameHeaders  = 1
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
)

// halfARequest opens a connection and a call on it, without the call's message,
// and pings.
func halfARequest(path string) []byte {
	headers := []byte{0x83, 0x86} // :method POST, :scheme http
	for _, h := range []struct {
		name byte // in HPACK's static table, to be indexed
		text string
	}{{0x44, path}, {0x41, "broker"}, {0x5f, "application/grpc"}} {
		headers = append(append(headers, h.name, byte(len(h.text))), h.text...)
	}
	headers = append(headers, "\x40\x02te\x08trailers"...)
	var b bytes.Buffer
	frame := func(kind, flags, stream byte, payload []byte) {
		fmt.Fprintf(&b, "%c%c%c%c%c\x00\x00\x00%c%s", 0, 0, len(payload), kind, flags, stream, payload)
	}
	b.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame(frameSettings, 0, 0, nil)
	frame(frameHeaders, 4, 1, headers) // the headers end, the stream does not
	frame(framePing, 0, 0, make([]byte, 8))
	return b.Bytes()
}

// readUntil reads frames until one is wanted.
func readUntil(t *testing.T, r io.Reader, wanted func(kind, flags byte) bool) {
	t.Helper()
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			t.Fatal(err)
		}
		size := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, r, size); err != nil {
			t.Fatal(err)
		}
		if wanted(head[3], head[4]) {
			return
		}
	}
}
