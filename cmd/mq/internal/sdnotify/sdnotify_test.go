package sdnotify_test

import (
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/raftmq/mq/cmd/mq/internal/sdnotify"
)

func TestStatesArriveAsOneMessage(t *testing.T) {
	names := []string{filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		names = append(names, "@"+names[0])
	}
	for _, name := range names {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		if err := sdnotify.Send(sdnotify.Ready, "STATUS=fine"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, err := conn.Read(got)
		if want := "READY=1\nSTATUS=fine"; err != nil || string(got[:n]) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got[:n], err, want)
		}
		_ = conn.Close()
	}
}

func TestNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := sdnotify.Send(sdnotify.Ready); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	if err := sdnotify.Send(sdnotify.Ready); err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Errorf("with a service manager that is gone: %v", err)
	}
}
