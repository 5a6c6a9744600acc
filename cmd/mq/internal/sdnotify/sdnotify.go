// Package sdnotify tells the service manager how the program is doing, as a
// systemd unit of Type=notify wants: see sd_notify(3).
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// What a service manager is told.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// Send sends states to the service manager. It does nothing when the program
// was not started by one.
func Send(states ...string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// A name that begins with @ is in Linux's abstract name space; net knows.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return nil
}
